"""What a run's events look like: results on standard output, everything else on standard error."""

from __future__ import annotations

from collections.abc import Callable

from flux_lora_cli.cli.console import Console
from flux_lora_cli.domain.events import (
    Adopted,
    Event,
    Explained,
    Failed,
    Held,
    Image,
    Missing,
    Overdue,
    Plan,
    Progress,
    Submitted,
    Unknown,
    Unseen,
    Waiting,
    Warned,
)
from flux_lora_cli.domain.text import printable

#: Failures of former runs that are told one by one, in text; of more than these there is the number.
EARLIER_SHOWN = 10


class Reporter:
    """An observer that writes to the console.

    Args:
        display: also gets every event (the live display).
        github: write failures as workflow annotations, too.
    """

    def __init__(self, console: Console, display: Callable[[Event], None] | None = None, github: bool = False) -> None:
        self._console = console
        self._display = display
        self._github = github
        self._failed_earlier = self._told_earlier = 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._display is not None:
            self._display(event)
        console = self._console
        if isinstance(event, Explained):
            console.explain(event.message)
            return
        if isinstance(event, Warned):
            console.warn(event.message, event.code)
            return
        console.event(event)
        if isinstance(event, Image):
            console.result(event.path)
        elif isinstance(event, Progress):
            if self._display is None:
                console.info(progress_line(event))
        else:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        console = self._console
        if isinstance(event, Plan):
            self._failed_earlier = event.failed
        elif isinstance(event, Failed):
            self._tell_failed(event)
        elif isinstance(event, Overdue):
            self._complain(f"{event.job or event.task}: overdue (task {event.task}): {event.message}")
        elif isinstance(event, Unseen):
            self._complain(f"{event.job or event.task}: task {event.task} {event.message}")
        elif isinstance(event, Missing):
            self._complain(f"{event.job or event.task}: image {event.index} is missing: {event.message}")
        elif isinstance(event, (Unknown, Waiting)):
            console.info(event.message)
        elif isinstance(event, Held):
            names = f" Candidates: {', '.join(event.candidates)}." if event.candidates else ""
            self._complain(f"{event.message}.{names}")
        elif isinstance(event, Adopted):
            console.info(f"{event.job}: found: task {event.task} ({event.matched_by})")
        elif isinstance(event, Submitted) and console.verbose:
            console.info(f"{event.job}: submitted as {event.task}, seed {event.seed}")

    def _tell_failed(self, event: Failed) -> None:
        self._told_earlier += event.earlier
        more = self._failed_earlier - EARLIER_SHOWN
        if event.earlier and self._told_earlier > EARLIER_SHOWN:
            if self._told_earlier == EARLIER_SHOWN + 1:
                self._complain(f"and {counted(more, 'more job')} failed in an earlier run; the manifest names them")
            return
        task = f" (task {event.task})" if event.task else ""
        what = ("lost" if event.code == "lost" else "failed") + (" in an earlier run" if event.earlier else "")
        self._complain(f"{event.job or event.task}: {what}{task}: {event.message}")

    def _complain(self, text: str) -> None:
        text = printable(text)
        self._console.complain(text)
        if self._github:
            from flux_lora_cli.cli.github import annotation

            self._console.annotate(annotation("error", text))


def progress_line(event: Progress) -> str:
    """Where the run stands, as one plain line."""
    parts = [f"{event.done} of {event.jobs} jobs done"]
    if event.failed:
        parts.append(f"{event.failed} failed")
    parts.append(f"{event.in_flight} in flight")
    if event.saving:
        parts.append(f"{event.saving} being saved")
    if event.cost_usd is not None:
        parts.append(f"${event.cost_usd}")
    if event.remaining_seconds is not None:
        parts.append(f"about {clock_text(event.remaining_seconds)} left")
    return ", ".join(parts)


def clock_text(seconds: float) -> str:
    """A duration as people read it: 45 s, 3:20, 1:02:05."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
