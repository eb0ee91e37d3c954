"""What a run's events look like: results on standard output, everything else on standard error."""

from __future__ import annotations

from collections.abc import Callable

from flux_lora_cli.commands.console import Console
from flux_lora_cli.engine.events import (
    Adopted,
    Event,
    Explained,
    Failed,
    Held,
    Image,
    Missing,
    Overdue,
    Plan,
    PollFailed,
    Progress,
    Submitted,
    Unknown,
    Waiting,
    Warned,
)
from flux_lora_cli.text import counted, printable

#: Failures of earlier runs that are told one by one in text; of the others there is the number.
MAX_EARLIER = 10


class Reporter:
    """An observer that writes to the console.

    Args:
        display: also gets every event (the live display).
        github: write failures as workflow annotations, too.
        sandbox: money is not real.
    """

    def __init__(
        self,
        console: Console,
        display: Callable[[Event], None] | None = None,
        *,
        github: bool = False,
        sandbox: bool = False,
    ) -> None:
        self._console = console
        self._display = display
        self._github = github
        self._sandbox = sandbox
        self._failed_earlier = self._told_earlier = 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        console = self._console
        if self._display is not None:
            self._display(event)
        if isinstance(event, Explained):
            console.explain(event.message)
        elif isinstance(event, Warned):
            console.warn(event.message, event.code)
        else:
            console.event(event)
            self._tell(event)

    def _tell(self, event: Event) -> None:
        console = self._console
        match event:
            case Image():
                console.result(event.path)
            case Progress():
                if self._display is None:
                    console.info(progress_line(event, sandbox=self._sandbox))
            case Plan():
                self._failed_earlier = event.failed
            case Failed():
                self._tell_failed(event)
            case Overdue():
                self._complain(f"{event.job or event.task}: overdue (task {event.task}): {event.message}")
            case PollFailed():
                self._complain(f"{event.job or event.task}: task {event.task}: {event.message}")
            case Missing():
                self._complain(f"{event.job or event.task}: image {event.index} is missing: {event.message}")
            case Unknown() | Waiting():
                console.info(event.message)
            case Held():
                names = f"; candidates: {', '.join(event.candidates)}" if event.candidates else ""
                self._complain(f"{event.message}{names}")
            case Adopted():
                console.info(f"{event.job or 'a submission'}: found as task {event.task} ({event.matched_by})")
            case Submitted() if console.verbose:
                console.info(f"{event.job}: submitted as {event.task}, seed {event.seed}")

    def _tell_failed(self, event: Failed) -> None:
        self._told_earlier += event.earlier
        if event.earlier and self._told_earlier > MAX_EARLIER:
            if self._told_earlier == MAX_EARLIER + 1:
                more = counted(self._failed_earlier - MAX_EARLIER, "more job")
                self._complain(f"and {more} failed in an earlier run; the manifest names them")
            return
        task = f" (task {event.task})" if event.task else ""
        what = ("lost" if event.code == "lost" else "failed") + (" in an earlier run" if event.earlier else "")
        self._complain(f"{event.job or event.task}: {what}{task}: {event.message}")

    def _complain(self, text: str) -> None:
        self._console.complain(text)
        if self._github:
            from flux_lora_cli.commands.ci import annotation

            self._console.annotate(annotation("error", printable(text)))


def progress_line(event: Progress, *, sandbox: bool = False) -> str:
    """Where the run stands, as one plain line."""
    parts = [f"{event.done:,} of {counted(event.jobs, 'job')} done"]
    if event.failed:
        parts.append(f"{event.failed:,} failed")
    parts.append(f"{event.in_flight:,} in flight")
    if event.saving:
        parts.append(f"{event.saving:,} being saved")
    if event.cost_usd is not None and not sandbox:
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
