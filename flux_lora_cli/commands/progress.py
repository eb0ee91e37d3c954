"""The live display on a terminal: a bar for the run, how it stands, and what has been running longest.

Where it is drawn is decided here and not by rich, so that a resize leaves no debris, nothing is drawn in the
background, and the cursor is never hidden.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from rich.cells import cell_len

from flux_lora_cli.commands.console import Console, cut, draw, plain
from flux_lora_cli.commands.reporter import clock_text, standing_words
from flux_lora_cli.engine.events import Progress

#: Seconds between two redraws: often enough for a clock, seldom enough for a slow line.
REDRAW_EVERY = 0.25
_CYAN, _DIM = "36", "2"
_DOT = " · "
#: Of a terminal that does not tell.
_COLUMNS = 80


class LiveDisplay:
    """Lines that are redrawn in place; messages and paths scroll above them. Set ``standing`` to what they show."""

    def __init__(self, console: Console, what: str, *, sandbox: bool) -> None:
        self.standing: Progress | None = None
        self._console, self._what, self._sandbox = console, what, sandbox
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._drawn: list[int] = []  # widths
        self._thread = threading.Thread(target=self._redraw, daemon=True)

    def __enter__(self) -> LiveDisplay:
        if hasattr(signal, "SIGCONT"):  # after Ctrl-Z and fg, what the shell wrote stands below the old lines
            signal.signal(signal.SIGCONT, lambda number, frame: self._drawn.clear())
        self._console.lifted = self._lifted
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=1.0)
        with self._lock:
            self._console.lifted = nullcontext
            self._replace([])

    @contextmanager
    def _lifted(self) -> Iterator[None]:
        """The lines are gone while something else is written."""
        with self._lock:
            self._replace([])
            yield
            self._replace(self._lines())

    def _redraw(self) -> None:
        while not self._ended.wait(REDRAW_EVERY):
            with self._lock:
                if not self._ended.is_set():
                    self._replace(self._lines())

    def _replace(self, lines: Sequence[tuple[str, str]]) -> None:
        """Draw lines in the place of those drawn before; nothing in the background."""
        if not _in_foreground():
            self._drawn.clear()
            return
        columns = _columns()  # a terminal that became narrower has wrapped the lines since
        rows = sum(max(1, -(-width // columns)) for width in self._drawn)
        self._drawn[:] = [cell_len(text) for text, _ in lines]
        text = f"\r\033[{rows}A\033[J" if rows else ""
        text += "".join(f"{self._console.styled(line, color)}\n" for line, color in lines)
        draw(text)

    def _lines(self) -> list[tuple[str, str]]:
        """Each line with its color, none wider than the terminal; none before the run has begun: it may ask first."""
        width, now = max(20, _columns()) - 1, self.standing
        if now is None:
            return []
        done, jobs = now.done + now.failed, max(1, now.jobs)
        tail = f" {done:,}/{now.jobs:,} {100 * done // jobs}%"
        room = max(0, width - len(self._what) - 1 - len(tail))
        bar = ("━" * (room * done // jobs)).ljust(room, "─")
        facts = [*standing_words(now, sandbox=self._sandbox), f"{now.images:,} images", clock_text(now.elapsed_seconds)]
        facts += [] if now.remaining_seconds is None else [f"{clock_text(now.remaining_seconds)} left"]
        while len(_DOT.join(facts)) > width and len(facts) > 1:
            del facts[-2]
        lines = [(f"{self._what} {bar}{tail}", _CYAN), (_DOT.join(facts), _DIM)]
        if now.oldest:
            longest = f"longest: {_DOT.join(f'{plain(name)} {clock_text(seconds)}' for name, seconds in now.oldest)}"
            lines.append((cut(longest, width).rstrip(), _DIM))
        return lines


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError, AttributeError):
        return _COLUMNS


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # not this process's terminal, or no such thing here
        return True
