"""The live display on a terminal: a bar for the run, how it stands, and what has been running longest.

rich draws the lines; where they are drawn is decided here, so that a resize leaves no debris, nothing is drawn in
the background, and the cursor is never hidden.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.progress_bar import ProgressBar
from rich.text import Text

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.reporter import clock_text
from flux_lora_cli.engine.events import Event, Image, Plan, Progress, Waiting

#: Seconds between two redraws: often enough for a clock, seldom enough for a slow line.
REDRAW_EVERY = 0.25
#: Seconds over which the rate is taken: long enough to be steady, short enough to show a change.
_WINDOW = 60.0
#: Seconds for which a note stays at least, so that it can be read.
_NOTE = 3.0
_DOT = " · "


class LiveDisplay:
    """Shows the events of a run as lines that are redrawn in place; messages and paths scroll above them."""

    def __init__(self, console: Console, what: str = "jobs", *, sandbox: bool = False) -> None:
        self._console, self._what, self._sandbox = console, what, sandbox
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._drawn: list[int] = []  # widths
        self._standing: Progress | None = None
        self._done = 0
        self._total: int | None = None
        self._note, self._note_until = "", 0.0
        self._started = time.monotonic()
        self._saved: deque[float] = deque()
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

    def __call__(self, event: Event) -> None:
        """Take one event of the run."""
        match event:
            case Plan():
                self._total, self._done = event.jobs, event.done
            case Progress():
                self._standing = event
                self._total, self._done = event.jobs, event.done + event.failed
            case Waiting():
                self._note, self._note_until = event.message, time.monotonic() + max(_NOTE, event.seconds)
            case Image() if not event.earlier:
                self._saved.append(time.monotonic())

    # ---- the terminal ----

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

    def _replace(self, lines: Sequence[str]) -> None:
        """Draw lines in the place of those drawn before; none while a question is open, nothing in the background."""
        if not _in_foreground():
            self._drawn.clear()
            return
        columns = self._console.columns  # a terminal that became narrower has wrapped the lines since
        rows = sum(max(1, -(-width // columns)) for width in self._drawn)
        shown = [] if self._console.asking else lines
        self._drawn[:] = [cell_len(Text.from_ansi(line).plain) for line in shown]
        text = (f"\r\033[{rows}A\033[J" if rows else "") + "".join(f"{line}\n" for line in shown)
        if text:
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.buffer.write(text.encode("utf-8", "replace"))
                sys.stderr.buffer.flush()

    # ---- the lines ----

    def _lines(self) -> list[str]:
        width = max(20, self._console.columns) - 1
        rich = RichConsole(
            width=width,
            force_terminal=True,
            color_system="standard" if self._console.color else None,
            legacy_windows=False,
        )
        texts = [self._facts(width), *self._oldest()]
        if self._note and time.monotonic() < self._note_until:
            texts.append(Text(self._note, style="yellow"))
        with rich.capture() as drawn:
            self._print_bar(rich, width)
            for text in texts:
                rich.print(text, no_wrap=True, overflow="ellipsis", crop=True, highlight=False)
        return drawn.get().splitlines()

    def _print_bar(self, rich: RichConsole, width: int) -> None:
        total = self._total
        share = f" {100 * self._done // total}%" if total else ""
        tail = f" {self._done:,}/{total:,}{share}" if total is not None else " …"
        room = width - len(self._what) - 1 - len(tail)
        rich.print(Text(f"{self._what} "), end="")
        if room >= 5:
            rich.print(ProgressBar(total=total or 1, completed=self._done, width=room, complete_style="cyan"), end="")
        rich.print(Text(tail))

    def _facts(self, width: int) -> Text:
        standing, now = self._standing, time.monotonic()
        if standing is None:
            return Text(f"starting{_DOT}{clock_text(now - self._started)}", style="dim")
        rate = self._per_minute(now)
        # From the most to the least missed, where a narrow terminal has no room for all.
        facts = {
            "left": "" if standing.remaining_seconds is None else f"{clock_text(standing.remaining_seconds)} left",
            "failed": f"{standing.failed:,} failed" if standing.failed else "",
            "flight": f"{standing.in_flight:,} in flight",
            "money": "" if standing.cost_usd is None or self._sandbox else f"${standing.cost_usd}",
            "images": f"{standing.images:,} images",
            "elapsed": clock_text(now - self._started),
            "rate": f"{rate:.0f}/min" if rate else "",
            "saving": f"{standing.saving:,} saving" if standing.saving else "",
        }
        while len(_DOT.join(filter(None, facts.values()))) > width and len(facts) > 1:
            facts.popitem()
        line = Text(style="dim")
        for name in ("flight", "saving", "failed", "images", "rate", "money", "elapsed", "left"):
            if facts.get(name):
                line.append(_DOT if line else "").append(facts[name], style="not dim red" if name == "failed" else "")
        return line

    def _oldest(self) -> list[Text]:
        """What has been running longest."""
        oldest = self._standing.oldest if self._standing is not None else ()
        names = [f"{name} {clock_text(seconds)}" for name, seconds in oldest]
        return [Text(f"longest: {_DOT.join(names)}", style="dim")] if names else []

    def _per_minute(self, now: float) -> float:
        """Images saved, over the last minute or since the start."""
        while self._saved and self._saved[0] < now - _WINDOW:
            self._saved.popleft()
        elapsed = min(_WINDOW, now - self._started)
        return len(self._saved) / elapsed * 60 if elapsed > 2 else 0.0


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # not this process's terminal, or no such thing here
        return True
