"""Commands in forks of a process that has imported everything: that takes a tenth of a second, not half of one."""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tests.support.event_lines import check_output

FAST = Path(__file__).parent / "fast.py"


class Forks:
    """The process that is forked; one for each process of pytest."""

    _one: ClassVar[Forks | None] = None

    def __init__(self) -> None:
        self.folder, self._number = Path(tempfile.mkdtemp(prefix="flux-lora-forks-")), 0
        self._process = subprocess.Popen(
            [sys.executable, str(FAST), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            encoding="utf-8",
            env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
        )
        atexit.register(self.close)

    @classmethod
    def get(cls) -> Forks:
        if cls._one is None or cls._one._process.poll() is not None:
            cls._one = cls()
        return cls._one

    def place(self) -> Path:
        """Where the streams of one more command may lie, as the beginning of their names."""
        self._number += 1
        return self.folder / str(self._number)

    def order(self, **order: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(5)
        shutil.rmtree(self.folder, ignore_errors=True)


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
        self.arguments, self.megabytes = list(arguments), 0.0
        self.returncode: int | None = None
        self._lock = threading.Lock()  # the service, too, may kill it and wait for its end
        self._forks = Forks.get()
        place = self._forks.place()
        self._files = {name: place.with_suffix(f".{name}") for name in ("stdin", "stdout", "stderr", "peak", "fifo")}
        self._files["stdin"].write_bytes(stdin)
        os.mkfifo(self._files["fifo"])
        self._fifo, self._said = os.open(self._files["fifo"], os.O_RDONLY | os.O_NONBLOCK), b""
        paths = {name: str(path) for name, path in self._files.items()}
        self._forks.order(arguments=self.arguments, cwd=str(cwd), env=dict(env), scale=scale, **paths)
        self.pid = self._line(60.0)
        self.began = time.monotonic()

    def _line(self, timeout: float) -> int:
        """The next number that is told of the command."""
        end = time.monotonic() + timeout
        while b"\n" not in self._said:
            left = end - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(self.arguments, timeout)
            if select.select([self._fifo], [], [], min(left, 1.0))[0]:
                self._said += os.read(self._fifo, 100)
            assert self._said or Forks.get() is self._forks, "the program cannot be imported"
        line, _, self._said = self._said.partition(b"\n")
        return int(line)

    def wait(self, timeout: float = 60.0) -> int:
        with self._lock:
            if self.returncode is None:
                self.returncode = self._line(timeout)
                self.seconds = time.monotonic() - self.began
                os.close(self._fifo)
            return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0.0001)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        """Standard output and error, once it has ended."""
        self.wait(timeout)
        if self._files["stdout"].exists():
            out, err = (self._files[name].read_bytes() for name in ("stdout", "stderr"))
            self._texts = tuple(text.decode("utf-8", "surrogateescape") for text in (out, err))
            peak = self._files["peak"]
            self.megabytes = int(peak.read_text()) / 1024 if peak.exists() else 0.0
            for path in self._files.values():
                path.unlink(missing_ok=True)
            check_output(self.arguments, self._texts[0], self.wait())
        return self._texts[0], self._texts[1]

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def to_its_end(self, timeout: float) -> tuple[str, str]:
        """As ``communicate``; what takes longer hangs, which fails the test."""
        try:
            return self.communicate(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.arguments} hangs: {self.communicate()}") from None
