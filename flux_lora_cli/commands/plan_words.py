"""A batch's plan and its end, in words."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flux_lora_cli.commands.reporter import clock_text
from flux_lora_cli.commands.running import money_words
from flux_lora_cli.engine.budget import dollars
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result
    from flux_lora_cli.engine.events import Plan
    from flux_lora_cli.engine.plan import BatchPlan
    from flux_lora_cli.presets.load import Loaded

#: Duplicates and sums that are named one by one.
MAX_NAMED = 5
#: Counts of the summary that are told only where there are any.
_MARKS = {"failed": "failed", "unknown": "unknown", "pending": "pending", "missing": "missing", "nsfw": "flagged NSFW"}
_SOURCES = {
    "documented": " (at the documented price; the service may charge another)",
    "--price": " (at --price)",
}


def plan_lines(event: Plan, plan: BatchPlan, loaded: Loaded, *, sandbox: bool = False) -> list[str]:
    """The plan, one fact per line."""
    how = f" ({loaded.multiplication})" if "=" in loaded.multiplication else ""
    lines = [f"{counted(event.jobs, 'job')}{how}" if event.jobs else "no jobs"]
    if 1 < len(loaded.sums) <= MAX_NAMED or (loaded.sums and not how):
        lines += [f"  {text}" for text in loaded.sums[:MAX_NAMED]]
    states = [
        (event.done, "done"),
        (event.in_flight, "in flight"),
        (event.unknown, "of unknown outcome"),
        (event.failed, "failed (--retry-failed submits them again)"),
    ]
    lines.append("  " + "".join(f"{number:,} {what}, " for number, what in states if number))
    lines[-1] += f"{event.to_submit:,} to submit"
    lines += duplicate_lines(plan)
    if event.to_submit:
        lines.append(f"  {counted(event.images, 'image')}{_cost(event)}")
    if event.charged_usd not in (None, "0") and not sandbox:
        lines.append(f"  charged so far: {dollars(Decimal(event.charged_usd or 0))}")
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


def _cost(event: Plan) -> str:
    if event.cost_usd is None:
        return ", price not known (name it with --price)"
    return f", {dollars(Decimal(event.cost_usd))}{_SOURCES.get(event.price_source or '', '')}"


def duplicate_lines(plan: BatchPlan | None) -> list[str]:
    """Which jobs were asked for more than once."""
    counts: dict[str, int] = {}
    for _, original in plan.duplicates if plan is not None else ():
        counts[original] = counts.get(original, 0) + 1
    lines = [
        f"  {counted(number, 'duplicate')} of {name}; use repeat to make more of the same"
        for name, number in list(counts.items())[:MAX_NAMED]
    ]
    if len(counts) > MAX_NAMED:
        lines.append(f"  and duplicates of {counted(len(counts) - MAX_NAMED, 'more job')}")
    return lines


def summary_line(counts: Mapping[str, Any], result: Result, *, sandbox: bool) -> str:
    """How a batch ended, in one line."""
    asked = counts["jobs"] - counts["skipped"]
    parts = [f"{counts['completed']:,} of {counted(asked, 'job')} done", counted(counts["images"], "image")]
    parts += [f"{counts[key]:,} {words}" for key, words in _MARKS.items() if counts[key]]
    again = f"{counted(result.resubmitted, 'job')} submitted once more, as asked" if result.resubmitted else ""
    return "; ".join(filter(None, [", ".join(parts), money_words(result, sandbox=sandbox), again]))
