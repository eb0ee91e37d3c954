"""The live display on a terminal: one bar for the run, and what it is doing right now."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.reporter import clock_text
from flux_lora_cli.domain.events import Event, Image, Plan, Waiting
from flux_lora_cli.domain.events import Progress as Standing

#: Seconds over which the rate is taken: long enough to be steady, short enough to show a change.
_WINDOW = 60.0
#: Seconds for which a note stays at least, so that it can be read.
_NOTE = 3.0
_DOT = " · "
#: Redraws a second: enough for a smooth bar, few enough for a slow line.
_FRAMES = 8


class LiveDisplay:
    """Shows the events of a run as lines that are redrawn in place; messages and paths scroll above them.

    Nothing of it is left on the screen at the end.
    """

    def __init__(self, console: Console, what: str = "jobs") -> None:
        self._console = console
        self._rich = RichConsole(stderr=True, no_color=not console.color, highlight=False, markup=False)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),  # copes with a total that is not known yet
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            console=self._rich,
            expand=True,
        )
        self._task = self._bar.add_task(what, total=None)
        self._standing: Standing | None = None
        self._note = ""
        self._note_until = 0.0
        self._started = time.monotonic()
        self._saved: deque[float] = deque()
        # Last: it renders once as it is made.
        self._live = Live(console=self._rich, refresh_per_second=_FRAMES, get_renderable=self._render, transient=True)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        self._console.print_above = self._print
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console.print_above = None
        self._live.stop()

    def pause(self) -> None:
        """Give the terminal back for a question."""
        self.__exit__(None, None, None)

    def resume(self) -> None:
        """Take it again."""
        self.__enter__()

    def __call__(self, event: Event) -> None:
        """Take one event of the run."""
        if isinstance(event, Plan):
            self._bar.update(self._task, total=event.jobs, completed=event.done)
        elif isinstance(event, Standing):
            self._standing = event
            self._bar.update(self._task, total=event.jobs, completed=event.done + event.failed)
        elif isinstance(event, Waiting):
            self._note, self._note_until = event.message, time.monotonic() + max(_NOTE, event.seconds)
        elif isinstance(event, Image) and not event.earlier:
            self._saved.append(time.monotonic())

    def _print(self, text: str) -> None:
        self._rich.print(Text(text), soft_wrap=True)

    def _render(self) -> RenderableType:
        lines: list[RenderableType] = [self._bar.get_renderable(), self._facts()]
        if self._note and time.monotonic() < self._note_until:
            lines.append(Text(self._note, style="yellow", overflow="ellipsis", no_wrap=True))
        return Group(*lines)

    def _facts(self) -> Text:
        line = Text(style="dim", overflow="ellipsis", no_wrap=True)
        standing, now = self._standing, time.monotonic()
        if standing is None:
            return line.append("starting")
        saving = f"{standing.saving} saving" if standing.saving else ""
        rate = self._per_minute(now)
        money = "" if standing.cost_usd is None else f"${standing.cost_usd}"
        left = "" if standing.remaining_seconds is None else f"{clock_text(standing.remaining_seconds)} left"
        before = [f"{standing.in_flight} in flight", saving]
        failed = f"{standing.failed} failed"
        after = [f"{standing.images} images", f"{rate:.0f}/min" if rate else "", money, clock_text(now - self._started)]
        after.append(left)
        # What a narrow terminal has no room for, the least missed first.
        for missed in (after[1], after[3], saving):
            if len(_joined([*before, failed, *after])) > self._rich.width:
                before, after = ([part for part in parts if part != missed] for parts in (before, after))
        line.append("".join(f"{part}{_DOT}" for part in before if part))
        line.append(failed, style="not dim red" if standing.failed else "")
        return line.append("".join(f"{_DOT}{part}" for part in after if part))

    def _per_minute(self, now: float) -> float:
        """Images saved, over the last minute or since the start."""
        while self._saved and self._saved[0] < now - _WINDOW:
            self._saved.popleft()
        elapsed = min(_WINDOW, now - self._started)
        return len(self._saved) / elapsed * 60 if elapsed > 2 else 0.0


def _joined(parts: list[str]) -> str:
    return _DOT.join(part for part in parts if part)
