"""A run in words: its plan, its events, its end. Results go to standard output, everything else to standard error."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flux_lora_cli.commands.console import Console, counts_text, some
from flux_lora_cli.engine import events
from flux_lora_cli.engine.budget import dollars
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.commands.progress import LiveDisplay
    from flux_lora_cli.engine.assemble import Result
    from flux_lora_cli.engine.events import Event, Plan, Progress
    from flux_lora_cli.engine.plan import BatchPlan
    from flux_lora_cli.presets.load import Loaded

#: Sums and duplicates that are named one by one.
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
        display: shows progress instead of lines.
        what: is counted in lines about progress, once it is ``end``.
        sandbox: money is not real.
    """

    def __init__(self, console: Console, display: LiveDisplay | None, *, what: str, end: str, sandbox: bool) -> None:
        self._console, self._display, self._what, self._end = console, display, what, end
        self._sandbox = sandbox

    def __call__(self, event: Event) -> None:
        """Show one event."""
        console = self._console
        match event:
            case events.Explained():
                return console.explain(event.message)
            case events.Warned():
                return console.warn(event.message, event.code)
        console.event(event)
        match event:
            case events.Image():
                console.result(event.path)
            case events.Progress():
                self._tell_progress(event)
            case events.Failed() | events.Overdue() | events.PollFailed() | events.Missing():
                console.complain(_trouble(event))
            case events.Held():
                names = f"; candidates: {', '.join(event.candidates)}" if event.candidates else ""
                console.complain(f"{event.message}{names}")
            case events.Unknown() | events.Waiting():
                console.info(event.message)
            case events.Adopted():
                console.info(f"{event.job or 'a submission'}: found as task {event.task} ({event.matched_by})")
            case events.Submitted() if console.verbose:
                console.info(f"{event.job}: submitted as {event.task}, seed {event.seed}")
        return None

    def _tell_progress(self, event: Progress) -> None:
        if self._display is not None:
            self._display.standing = event
            return
        left = "" if event.remaining_seconds is None else f"about {clock_text(event.remaining_seconds)} left"
        done = f"{event.done:,} of {counted(event.jobs, self._what)} {self._end}"
        self._console.info(", ".join(filter(None, [done, *standing_words(event, sandbox=self._sandbox), left])))


def _trouble(event: events.Failed | events.Overdue | events.PollFailed | events.Missing) -> str:
    what = "lost" if getattr(event, "code", "") == "lost" else event.event
    image = f"image {event.index} " if isinstance(event, events.Missing) else ""
    earlier = " in an earlier run" if getattr(event, "earlier", False) else ""
    task = f" (task {event.task})" if event.task else ""
    return f"{event.job or event.task}: {image}{what}{earlier}{task}: {event.message}"


def standing_words(event: Progress, *, sandbox: bool) -> list[str]:
    """How a run stands, but for what is done and what is left."""
    counts = {"failed": event.failed, "being saved": event.saving}
    money = [] if event.cost_usd is None or sandbox else [f"${event.cost_usd}"]
    return [f"{event.in_flight:,} in flight", *money, *(f"{n:,} {what}" for what, n in counts.items() if n)]


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
    part = f" of {loaded.total:,}" if event.jobs < loaded.total else ""
    lines = [f"{counted(event.jobs, 'job')}{part}{loaded.how}" if event.jobs else "no jobs"]
    lines += [f"  {text}" for text in loaded.sums[:MAX_NAMED]]
    states = {
        "done": event.done,
        "in flight": event.in_flight,
        "of unknown outcome": event.unknown,
        "failed (--retry-failed submits them again)": event.failed,
    }
    standing = filter(None, [counts_text(states), f"{event.to_submit:,} to submit"])
    lines += [f"  {', '.join(standing)}", *duplicate_lines(plan)]
    if event.to_submit:
        lines.append(f"  {counted(event.images, 'image')}, {cost_words(event, plan)}")
    if event.charged_usd not in (None, "0") and not sandbox:
        lines.append(f"  charged so far: {dollars(Decimal(event.charged_usd or 0))}")
    if event.expected_seconds:
        lines.append(f"  about {clock_text(event.expected_seconds)}")
    return [*lines, f"  folder: {event.folder}"]


def cost_words(event: Plan, plan: BatchPlan) -> str:
    """What a plan costs, and who says so."""
    if event.cost_usd is None:
        return "price not known (name it with --price)"
    floor = event.price_source == "documented" and any(work.price_is_floor for work in plan.to_submit)
    return f"{'from ' if floor else ''}{dollars(Decimal(event.cost_usd))}{_SOURCES.get(event.price_source or '', '')}"


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
    """How many jobs were asked for more than once, and which."""
    originals = [original for _, original in (plan.duplicates if plan is not None else ())]
    names = some(list(dict.fromkeys(originals)), MAX_NAMED)
    duplicates = counted(len(originals), "duplicate")
    return [f"  {duplicates} of {names}; use repeat to make more of the same"] if originals else []


# ---- the end ---------------------------------------------------------------------------------


def summary_line(counts: Mapping[str, Any], result: Result, *, sandbox: bool) -> str:
    """How a batch ended, in one line."""
    asked = counts["jobs"] - counts["skipped"]
    done = f"{counts['completed']:,} of {counted(asked, 'job')} done, {counted(counts['images'], 'image')}"
    marks = counts_text({words: counts[key] for key, words in _MARKS.items()})
    again = f"{counted(result.resubmitted, 'job')} submitted once more, as asked" if result.resubmitted else ""
    words = [f"{done}, {marks}" if marks else done, money_words(result, sandbox=sandbox), again]
    return "; ".join(filter(None, words))


def money_words(result: Result, *, sandbox: bool) -> str:
    """What a run cost. The sandbox charges nobody."""
    if result.charged is None:
        return "charged at a price that is not known" if result.submitted and not sandbox else ""
    if not result.submitted and not result.charged:
        return "" if sandbox else "nothing charged"
    return f"{'would have cost' if sandbox else 'charged'} {dollars(result.charged)}"
