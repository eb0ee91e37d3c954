"""Commands in the test's own process, for tables of wrong usage; on a pseudo-terminal; and presets to run."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.sandbox import Sandbox
from tests.conftest import KEY, PROGRAM, Finished
from tests.support.event_lines import check_output

Run = Callable[..., Finished]

PRESET = """\
version: 1
name: cats
matrix:
  seed: [1, 2]
jobs:
  - {id: dawn, prompt: a cat at dawn}
  - {id: dusk, prompt: a cat at dusk}
"""


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams as they usually are: what cannot be written stays in their buffers to the end."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    """``cats.yaml``: four jobs."""
    path = tmp_path / "cats.yaml"
    path.write_text(PRESET)
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run ``flux-lora`` in this process, which takes a tenth of the time."""
    from flux_lora_cli.commands import app

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.chdir(tmp_path)

    def go(*arguments: object, stdin: str | bytes = b"") -> Finished:
        words = [str(argument) for argument in arguments]
        (tmp_path / ".stdin").write_bytes(stdin if isinstance(stdin, bytes) else stdin.encode())
        monkeypatch.setattr(sys, "stdin", (tmp_path / ".stdin").open())
        monkeypatch.setattr(sys, "argv", ["flux-lora", *words])
        capfd.readouterr()
        code = app.run(words)
        out, err = capfd.readouterr()
        assert "internal error" not in err, err
        check_output(words, out, code)
        return Finished(code, out, err)

    yield go
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Terminal:
    """``flux-lora`` with its three streams on a pseudo-terminal, but for those that a shell is told to redirect."""

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        columns: int = 80,
        env: dict[str, str] | None = None,
        redirect: str = "",
    ) -> None:
        self.text = ""
        self._pid, self._handle = pty.fork()
        if self._pid == 0:
            import fcntl
            import struct
            import termios

            os.chdir(folder)
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            command = shlex.join([*PROGRAM, *map(str, arguments)])
            script = ["sh", "-c", f"exec {command} {redirect}"]
            os.execve("/bin/sh", script, {**os.environ, "TERM": "xterm-256color", **(env or {})})

    def read_until(self, wanted: str, seconds: float = 30.0) -> str:
        """What came so far, once it holds ``wanted``."""
        end = time.monotonic() + seconds
        while wanted not in self.text:
            assert time.monotonic() < end, f"{wanted!r} did not come: {self.text!r}"
            if not self._more(end - time.monotonic()):
                break
        assert wanted in self.text, self.text
        return self.text

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._handle, text.encode())

    def finish(self) -> tuple[int, str]:
        """The exit code, and all that was written."""
        while self._more(60.0):
            pass
        os.close(self._handle)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]), self.text

    def _more(self, seconds: float) -> bool:
        if not select.select([self._handle], [], [], max(0.0, seconds))[0]:
            return True
        try:
            piece = os.read(self._handle, 65536)
        except OSError:
            return False
        self.text += piece.decode("utf-8", "replace")
        return bool(piece)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sandbox]]:
    """Start a sandbox that behaves as asked; commands find it and a key in their environment."""
    with ExitStack() as stack:

        def start(**behavior: Any) -> Sandbox:
            sandbox = stack.enter_context(Sandbox(**{"service_time": 0.01, **behavior}))
            monkeypatch.setenv("WAVESPEED_BASE_URL", sandbox.base_url)
            monkeypatch.setenv("WAVESPEED_API_KEY", KEY)
            return sandbox

        yield start


@pytest.fixture
def terminal(tmp_path: Path) -> Callable[..., Terminal]:
    """Start the program on a terminal, in the test's folder."""

    def start(*arguments: object, **how: Any) -> Terminal:
        return Terminal(tmp_path, *arguments, **how)

    return start
