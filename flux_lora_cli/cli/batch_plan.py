"""A batch's plan in words."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.reporter import clock_text, counted
from flux_lora_cli.domain.budget import dollars

if TYPE_CHECKING:
    from flux_lora_cli.assembly import batches
    from flux_lora_cli.domain.events import Plan
    from flux_lora_cli.domain.presets.loading import Loaded
    from flux_lora_cli.workflow.context import Settings
    from flux_lora_cli.workflow.planning import BatchPlan

#: Duplicates named one by one.
_NAMED = 5


def dry_run(
    loaded: Loaded, folder: Path, service: str, settings: Settings, options: batches.BatchOptions, console: Console
) -> int:
    """Print the plan; connect to nothing. Raises BudgetError where it is over ``--max-cost``."""
    from flux_lora_cli.assembly.dry_runs import plan_dry
    from flux_lora_cli.workflow.batch import over_budget

    event, plan, priced, charged = plan_dry(loaded.jobs, folder, service, settings, options)
    console.event(event)
    for line in plan_lines(event, plan, loaded):
        console.result(line)
    console.summary.update({k: v for k, v in event.as_dict().items() if k != "event"})
    problem = over_budget(settings, priced, charged)
    if problem is not None:
        raise problem
    return 0


def tell_plan(event: Plan, plan: BatchPlan, loaded: Loaded, console: Console) -> None:
    """The plan as messages, before the first submit."""
    if console.json:
        return
    for line in plan_lines(event, plan, loaded):
        console.info(line)


def plan_lines(event: Plan, plan: BatchPlan, loaded: Loaded) -> list[str]:
    """The plan, a fact a line."""
    how = f" ({loaded.multiplication})" if "=" in loaded.multiplication else ""
    lines = [f"{counted(event.jobs, 'job')}{how}" if event.jobs else "no jobs"]
    states = [
        (event.done, "done"),
        (event.in_flight, "in flight"),
        (event.unknown, "of unknown outcome"),
        (event.failed, "failed (submitted again with --retry-failed)"),
        (event.to_submit, "to submit"),
    ]
    lines.append("  " + ", ".join(f"{count} {what}" for count, what in states if count or what == "to submit"))
    lines += duplicate_lines(plan)
    if event.to_submit:
        lines.append(f"  {counted(event.images, 'image')}{_cost(event)}")
    if event.charged_usd not in (None, "0"):
        lines.append(f"  charged so far: {dollars(Decimal(event.charged_usd))}")
    if event.expected_seconds:
        lines.append(f"  about {clock_text(event.expected_seconds)}")
    lines.append(f"  folder: {event.folder}")
    return lines


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
    marks = {
        "documented": " (at the documented price; the service may charge another)",
        "--price": " (at --price)",
    }
    return f", {dollars(Decimal(event.cost_usd))}{marks.get(event.price_source or '', '')}"


def duplicate_lines(plan: BatchPlan) -> list[str]:
    """Which jobs were asked for more than once."""
    counts: dict[str, int] = {}
    for _, original in plan.duplicates:
        counts[original] = counts.get(original, 0) + 1
    lines = [
        f"  {counted(count, 'duplicate')} of {name}; use repeat to make more of the same"
        for name, count in list(counts.items())[:_NAMED]
    ]
    if len(counts) > _NAMED:
        lines.append(f"  and duplicates of {len(counts) - _NAMED} more jobs")
    return lines
