"""How a batch ended, in words and as a summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.cli.batch_plan import duplicate_lines
from flux_lora_cli.cli.ci_reports import annotate, write_reports
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.last_words import BATCH, told_reasons
from flux_lora_cli.cli.reporter import counted
from flux_lora_cli.cli.request_options import BatchOptions
from flux_lora_cli.domain.budget import dollars, plain
from flux_lora_cli.domain.manifest import summary
from flux_lora_cli.errors import ExitCode

if TYPE_CHECKING:
    from flux_lora_cli.assembly.batches import BatchResult


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
    for reason in told_reasons(outcome.exit_code, outcome.reasons, result.records, BATCH).values():
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
