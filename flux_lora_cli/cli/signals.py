"""Ctrl-C and SIGTERM during a run: the first ends it in good order, the second at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flux_lora_cli.cli.console import Console
from flux_lora_cli.errors import FluxLoraError, Interrupted, OutputClosed, Terminated

_SIGNALS: tuple[tuple[str, type[FluxLoraError]], ...] = (
    ("SIGINT", Interrupted),
    ("SIGTERM", Terminated),
    ("SIGHUP", Terminated),
)


@contextmanager
def interrupting(stop: Callable[[FluxLoraError], None], console: Console, resume: str) -> Iterator[None]:
    """While this is entered, a signal or a closed standard output calls ``stop`` once.

    Args:
        stop: ends the run; called from a signal handler.
        resume: the command that goes on from there.
    """
    hit = signalled = False

    def handle(number: int, frame: object) -> None:
        nonlocal hit, signalled
        error = next(kind for name, kind in _SIGNALS if getattr(signal, name, None) == number)
        if hit:
            os._exit(int(error.exit_code))
        hit = signalled = True
        word = "interrupted" if error is Interrupted else "terminated"
        stop(error(f"{word}; everything so far is saved", f"To go on: {resume}" if resume else ""))

    def closed() -> None:
        nonlocal hit
        hit = True
        stop(OutputClosed("standard output was closed"))

    previous = {}
    for name, _ in _SIGNALS:
        number = getattr(signal, name, None)
        # What the parent chose to ignore (nohup) stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, handle)
    console.on_closed = closed
    if console.closed:
        closed()
    try:
        yield
    finally:
        console.on_closed = None
        if not signalled:  # else the next one still ends the program at once, and with its own exit code
            for number, handler in previous.items():
                signal.signal(number, handler)
