"""Ctrl-C, SIGTERM and their like: the first ends a run in good order, the next one the process at once."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flux_lora_cli.errors import FluxLoraError, Interrupted, OutputClosed, Terminated

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Stop

#: Seconds within which further signals belong to the first: a wrapper and the terminal both pass on one Ctrl-C.
TOGETHER = 0.5
#: What ends a process that does not handle it; batch systems announce the end of a job's time by the last four.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU")


def this_command() -> str:
    """The command line, to be pasted into a shell."""
    return shlex.join(["flux-lora", *sys.argv[1:]])


class Ended(BaseException):
    """A signal while no run is there to end in good order."""

    def __init__(self, error: FluxLoraError) -> None:
        super().__init__(error.message)
        self.error = error


class Signals:
    """What the process does about signals; what its parent chose to ignore (nohup) stays ignored."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._stop: Stop | None = None
        self._hint = ""

    def catch(self) -> None:
        """Take over the signals of NAMES."""
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        kind, what = (Interrupted, "interrupted") if number == signal.SIGINT else (Terminated, "terminated")
        now = time.monotonic()
        if self._first is not None:
            if now - self._first > TOGETHER:
                os._exit(kind.exit_code)
            return
        self._first = now
        if self._stop is None:
            raise Ended(kind(what, self._hint or f"Nothing was submitted. To start again: {this_command()}"))
        self._stop.request(kind(f"{what}; state is saved", self._hint))

    def output_closed(self) -> None:
        """End a run whose results nobody reads any more."""
        if self._stop is not None:
            self._stop.request(OutputClosed("standard output was closed; state is saved", self._hint))

    @contextmanager
    def stopping(self, hint: str, closed: bool) -> Iterator[Stop]:
        """A ``Stop`` that the first signal, or a standard output that is ``closed``, requests; ``hint``: what then."""
        from flux_lora_cli.engine.assemble import Stop

        self._hint, self._stop = hint, Stop()
        if closed:
            self.output_closed()
        try:
            yield self._stop
        finally:
            if self._first is None:  # else a signal that comes while the end is reported ends nothing anew
                self._stop = None
