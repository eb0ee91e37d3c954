"""Commands in forks of a process that has imported everything: that takes a tenth of a second, not half of one."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.event_lines import check_output
from tests.support.fast import become

#: The key that tests send; it may stand nowhere but in requests to the base URL.
KEY = "wsk-canary-0123456789abcdef+/=x"

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.support.warm"])
_FOLDER = tempfile.TemporaryDirectory(prefix="flux-lora-forks-")
_NUMBERS = itertools.count()


@dataclass
class Finished:
    """A command that has ended.

    Attributes:
        code: exit code; below zero where a signal killed it.
        seconds: from its start to its end.
    """

    code: int
    out: str
    err: str
    seconds: float = field(default=0.0, compare=False)

    @property
    def lines(self) -> list[str]:
        """Standard output by lines."""
        return self.out.splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        """Standard output as NDJSON."""
        return [json.loads(line) for line in self.lines]


class Command:
    """One command that runs in a fork, used as ``subprocess.Popen`` is.

    Args:
        scale: how much faster than real the program's waits are.

    Attributes:
        megabytes: peak of resident memory, once it has ended.
    """

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes = b"", scale: float = 1.0
    ) -> None:
        self.args, self.megabytes = list(arguments), 0.0
        self.returncode: int | None = None
        self._lock = threading.Lock()  # the service, too, may kill it and wait for its end
        self._place = Path(_FOLDER.name, str(next(_NUMBERS)))
        self._place.mkdir()
        (self._place / "stdin").write_bytes(stdin)
        tracing = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COV")}
        traced = bool(tracing) and scale != 1  # what keeps real time is not slowed down
        order = (str(self._place), self.args, str(cwd), dict(env), scale, traced)
        self._process = _FORKS.Process(target=become, args=order, daemon=True)
        os.environ.update({"TRACED_FORKS": "1"} if tracing else {})
        self._process.start()
        os.environ.update(tracing)
        self.pid = self._process.pid

    def wait(self, timeout: float = 60.0) -> int:
        with self._lock:
            if self.returncode is None:
                self._process.join(timeout)
                self.returncode = self._process.exitcode
            if self.returncode is None:
                raise subprocess.TimeoutExpired(self.args, timeout)
            return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        """Standard output and error, once it has ended."""
        code = self.wait(timeout)
        if self._place.exists():
            paths = [self._place / name for name in ("stdout", "stderr", "peak")]
            out, err, peak = (path.read_text("utf-8", "surrogateescape") if path.exists() else "" for path in paths)
            self._texts, self.megabytes = (out, err), int(peak or 0) / 1024
            shutil.rmtree(self._place)
            check_output(self.args, out, code)
        return self._texts

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
