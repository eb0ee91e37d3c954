"""A run in words: its plan, its events, its end. Results go to standard output, everything else to standard error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flux_lora_cli.commands.console import Console
from flux_lora_cli.engine import events
from flux_lora_cli.text import counted, printable

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result
    from flux_lora_cli.engine.events import Event, Failed, Plan, Progress
    from flux_lora_cli.engine.plan import BatchPlan
    from flux_lora_cli.presets.load import Loaded

#: Failures of earlier runs that are told one by one in text; of the others there is the number.
MAX_EARLIER = 10
#: Duplicates and sums that are named one by one.
MAX_NAMED = 5
#: Counts of the summary that are told only where there are any.
_MARKS = {"failed": "failed", "unknown": "unknown", "pending": "pending", "missing": "missing", "nsfw": "flagged NSFW"}
_SOURCES = {
    "documented": " (at the documented price; the service may charge another)",
    "--price": " (at --price)",
}


# ---- events ----------------------------------------------------------------------------------


class Reporter:
    """An observer that writes to the console.

    Args:
        display: also gets every event (the live display).
        what: is counted in lines about progress, once it is ``end``.
        github: write failures as workflow annotations, too.
        sandbox: money is not real.
    """

    def __init__(
        self,
        console: Console,
        display: Callable[[Event], None] | None = None,
        *,
        what: str = "job",
        end: str = "done",
        github: bool = False,
        sandbox: bool = False,
    ) -> None:
        self._console, self._display, self._what, self._end = console, display, what, end
        self._github, self._sandbox = github, sandbox
        self._failed_earlier = self._told_earlier = 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        console = self._console
        if self._display is not None:
            self._display(event)
        if isinstance(event, events.Explained):
            console.explain(event.message)
        elif isinstance(event, events.Warned):
            console.warn(event.message, event.code)
        else:
            console.event(event)
            self._tell(event)

    def _tell(self, event: Event) -> None:
        console = self._console
        match event:
            case events.Image():
                console.result(event.path)
            case events.Progress():
                if self._display is None:
                    self._tell_progress(event)
            case events.Plan():
                self._failed_earlier = event.failed
            case events.Failed():
                self._tell_failed(event)
            case events.Overdue():
                self._complain(f"{event.job or event.task}: overdue (task {event.task}): {event.message}")
            case events.PollFailed():
                self._complain(f"{event.job or event.task}: task {event.task}: {event.message}")
            case events.Missing():
                self._complain(f"{event.job or event.task}: image {event.index} is missing: {event.message}")
            case events.Unknown() | events.Waiting():
                console.info(event.message)
            case events.Held():
                names = f"; candidates: {', '.join(event.candidates)}" if event.candidates else ""
                self._complain(f"{event.message}{names}")
            case events.Adopted():
                console.info(f"{event.job or 'a submission'}: found as task {event.task} ({event.matched_by})")
            case events.Submitted() if console.verbose:
                console.info(f"{event.job}: submitted as {event.task}, seed {event.seed}")

    def _tell_progress(self, event: Progress) -> None:
        parts = [
            f"{event.done:,} of {counted(event.jobs, self._what)} {self._end}",
            f"{event.failed:,} failed" if event.failed else "",
            f"{event.in_flight:,} in flight",
            f"{event.saving:,} being saved" if event.saving else "",
            "" if event.cost_usd is None or self._sandbox else f"${event.cost_usd}",
            "" if event.remaining_seconds is None else f"about {clock_text(event.remaining_seconds)} left",
        ]
        self._console.info(", ".join(filter(None, parts)))

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


def clock_text(seconds: float) -> str:
    """A duration as people read it: 45 s, 3:20, 1:02:05."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


# ---- the plan --------------------------------------------------------------------------------


def plan_lines(event: Plan, plan: BatchPlan, loaded: Loaded, *, sandbox: bool = False) -> list[str]:
    """The plan, one fact per line."""
    how = f" ({loaded.multiplication})" if "=" in loaded.multiplication else ""
    part = f" of {loaded.total:,}" if event.jobs < loaded.total else ""
    lines = [f"{counted(event.jobs, 'job')}{part}{how}" if event.jobs else "no jobs"]
    if 1 < len(loaded.sums) <= MAX_NAMED or (loaded.sums and not how):
        lines += [f"  {text}" for text in loaded.sums[:MAX_NAMED]]
    states = [
        f"{event.done:,} done" if event.done else "",
        f"{event.in_flight:,} in flight" if event.in_flight else "",
        f"{event.unknown:,} of unknown outcome" if event.unknown else "",
        f"{event.failed:,} failed (--retry-failed submits them again)" if event.failed else "",
        f"{event.to_submit:,} to submit",
    ]
    lines += ["  " + ", ".join(filter(None, states)), *duplicate_lines(plan)]
    if event.to_submit:
        cost = ", price not known (name it with --price)"
        if event.cost_usd is not None:
            floor = event.price_source == "documented" and any(work.price_is_floor for work in plan.to_submit)
            cost = f", {'from ' if floor else ''}{_usd(event.cost_usd)}{_SOURCES.get(event.price_source or '', '')}"
        lines.append(f"  {counted(event.images, 'image')}{cost}")
    if event.charged_usd not in (None, "0") and not sandbox:
        lines.append(f"  charged so far: {_usd(event.charged_usd or '0')}")
    if event.expected_seconds:
        lines.append(f"  about {clock_text(event.expected_seconds)}")
    return [*lines, f"  folder: {event.folder}"]


def multiplied(event: Plan, loaded: Loaded) -> str:
    """How the number of images comes about: ``2 × 40 × 12 = 960 images``; the bare number where it does not show."""
    factors, equals, _ = loaded.multiplication.partition(" = ")
    each, rest = divmod(event.images, max(1, loaded.total))
    if not equals or rest or event.to_submit != loaded.total:
        return counted(event.images, "image")
    if each > 1:
        factors = f"({factors}) × {each}" if "+" in factors else f"{factors} × {each}"
    return f"{factors} = {counted(event.images, 'image')}"


def duplicate_lines(plan: BatchPlan | None) -> list[str]:
    """Which jobs were asked for more than once."""
    counts = Counter(original for _, original in (plan.duplicates if plan is not None else ()))
    lines = [
        f"  {counted(number, 'duplicate')} of {name}; use repeat to make more of the same"
        for name, number in list(counts.items())[:MAX_NAMED]
    ]
    if len(counts) > MAX_NAMED:
        lines.append(f"  and duplicates of {counted(len(counts) - MAX_NAMED, 'more job')}")
    return lines


def _usd(amount: str) -> str:
    from flux_lora_cli.engine.budget import dollars

    return dollars(Decimal(amount))


# ---- the end ---------------------------------------------------------------------------------


def summary_line(counts: Mapping[str, Any], result: Result, *, sandbox: bool) -> str:
    """How a batch ended, in one line."""
    asked = counts["jobs"] - counts["skipped"]
    parts = [f"{counts['completed']:,} of {counted(asked, 'job')} done", counted(counts["images"], "image")]
    parts += [f"{counts[key]:,} {words}" for key, words in _MARKS.items() if counts[key]]
    again = f"{counted(result.resubmitted, 'job')} submitted once more, as asked" if result.resubmitted else ""
    return "; ".join(filter(None, [", ".join(parts), money_words(result, sandbox=sandbox), again]))


def money_words(result: Result, *, sandbox: bool) -> str:
    """What a run cost. The sandbox charges nobody."""
    from flux_lora_cli.engine.budget import dollars

    if result.charged is None:
        return "charged at a price that is not known" if result.submitted and not sandbox else ""
    if not result.submitted and not result.charged:
        return "" if sandbox else "nothing charged"
    estimated = result.estimated if result.submitted else None
    estimate = f" (estimated {dollars(estimated)})" if estimated not in (None, result.charged) else ""
    return f"would have cost {dollars(result.charged)}" if sandbox else f"charged {dollars(result.charged)}{estimate}"
