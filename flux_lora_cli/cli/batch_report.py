"""How a batch ended, in words and as a summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.cli.batch_plan import duplicate_lines
from flux_lora_cli.cli.ci_reports import annotate, write_reports
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.reporter import counted
from flux_lora_cli.cli.request_options import BatchOptions
from flux_lora_cli.domain.budget import dollars, plain
from flux_lora_cli.domain.manifest import summary
from flux_lora_cli.domain.records import State
from flux_lora_cli.errors import DeadlineError, ExitCode, FluxLoraError, HeldError, ImageError, NsfwFlagged

if TYPE_CHECKING:
    from flux_lora_cli.assembly.batches import BatchResult
    from flux_lora_cli.workflow.batch import Outcome


#: Counts that are told only where there are any.
_MARKS = {
    "failed": "failed",
    "unknown": "unknown",
    "pending": "pending",
    "missing": "missing",
    "nsfw": "flagged NSFW",
}


def report(result: BatchResult, folder: Path, options: BatchOptions, console: Console) -> int:
    """Tell the summary and every reason why the exit code is not 0; write the reports that were asked for."""
    counts = summary(result.records)
    outcome = result.outcome
    console.summary.update(counts)
    console.summary.update(
        duplicates=len(result.plan.duplicates),
        submitted=outcome.submitted,
        resubmitted=outcome.resubmitted,
        estimated_usd=None if outcome.estimated is None else plain(outcome.estimated),
        charged_usd=None if outcome.charged is None else plain(outcome.charged),
        folder=str(folder),
    )
    console.info(_line(counts, result))
    console.info(f"  {folder}/manifest.json")
    for line in duplicate_lines(result.plan):
        console.info(line)
    # One that was cut off by a deadline is still called "submitting".
    held = sum(1 for record in result.records if record.state in (State.UNKNOWN, State.SUBMITTING))
    for reason in (*outcome.reasons.values(), _unsaid(outcome, counts, held)):
        if reason is not None and reason.exit_code is not ExitCode.CLOSED_OUTPUT:
            console.error(reason)
            annotate(reason, options, console)
    write_reports(result.records, outcome, folder, options, _money(result), console)
    return int(outcome.exit_code)


def _line(counts: dict[str, object], result: BatchResult) -> str:
    asked = int(str(counts["jobs"])) - int(str(counts["skipped"]))
    parts = [f"{counts['completed']} of {counted(asked, 'job')} done", counted(int(str(counts["images"])), "image")]
    parts += [f"{counts[key]} {words}" for key, words in _MARKS.items() if counts[key]]
    money = _money(result)
    again = f"; {result.outcome.resubmitted} submitted once more, as asked" if result.outcome.resubmitted else ""
    return f"{', '.join(parts)}{'; ' if money else ''}{money}{again}"


def _money(result: BatchResult) -> str:
    charged, estimated = result.outcome.charged, result.outcome.estimated
    if charged is None:
        return "charged at a price that is not known"
    estimate = f" (estimated {dollars(estimated)})" if estimated is not None and result.outcome.submitted else ""
    return f"charged {dollars(charged)}{estimate}"


def _unsaid(outcome: Outcome, counts: Mapping[str, object], held: int = 0) -> FluxLoraError | None:
    """Why the exit code is not 0, where no error has said so: the final state of the jobs."""
    code = outcome.exit_code
    if outcome.reasons.get(code) is not None:
        return None
    if code is HeldError.exit_code:
        return HeldError(
            f"{counted(held, 'submit')} of unknown outcome {'was' if held == 1 else 'were'} held,"
            " and not paid for again",
            "Run again to look once more; name the task with --adopt JOB=ID; or, where no candidates were named, "
            "submit them again with --on-unknown resubmit.",
        )
    if code is ImageError.exit_code:
        marks = [f"{counts[key]} {key}" for key in ("failed", "missing", "pending") if counts[key]]
        return ImageError(
            f"not everything is done: {', '.join(marks) or 'jobs are left'}",
            "Run again to fetch what is missing; failed jobs are submitted again with --retry-failed.",
        )
    if code is NsfwFlagged.exit_code:
        return NsfwFlagged.counted(int(str(counts["nsfw"])))
    if code is DeadlineError.exit_code:
        return DeadlineError("tasks are still running", "They are paid for: the same command picks them up.")
    return None
