"""Reports of a batch for CI services: JUnit, GitHub's annotations, GitHub's step summary."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.github import annotation
from flux_lora_cli.cli.job_verdict import why_ended
from flux_lora_cli.cli.request_options import BatchOptions
from flux_lora_cli.domain.manifest import summary
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import ExitCode, FluxLoraError

if TYPE_CHECKING:
    from flux_lora_cli.workflow.batch import Outcome

#: Names the file that GitHub Actions shows on the run's page.
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


def write_reports(
    records: Sequence[JobRecord], outcome: Outcome, folder: Path, options: BatchOptions, money: str, console: Console
) -> None:
    """Write those that are asked for; one that cannot be written is a warning, for the run is over.

    Args:
        money: what it cost, in words.
    """
    # The flag of the command line matters only where it found something.
    how: Any = {"run_ended": why_ended(outcome.reasons), "fail_on_nsfw": ExitCode.NSFW in outcome.reasons}
    if options.junit is not None:
        from flux_lora_cli.cli.junit import junit_report

        _write_junit(options.junit, junit_report(records, folder, _now(), **how), console)
    if os.environ.get(STEP_SUMMARY):
        from flux_lora_cli.cli.step_summary import step_summary

        counts = summary(records)
        cost = f"Cost: ${counts['cost_usd']}" + (f"; this run: {money}" if money else "")
        text = step_summary(records, counts, folder, outcome.exit_code, cost, **how)
        _append_summary(text, console)


@contextmanager
def reporting_errors(options: BatchOptions, console: Console) -> Iterator[None]:
    """The same reports for a batch that an error ends before any job of it; the error goes on its way."""
    if options.junit is not None:
        from flux_lora_cli.cli.junit import check_place

        check_place(options.junit)
    try:
        yield
    except FluxLoraError as error:
        annotate(error, options, console)
        if options.junit is not None:
            from flux_lora_cli.cli.junit import junit_of_error

            _write_junit(options.junit, junit_of_error(error, _now()), console)
        if os.environ.get(STEP_SUMMARY):
            from flux_lora_cli.cli.step_summary import summary_of_error

            _append_summary(summary_of_error(error), console)
        raise


def annotate(error: FluxLoraError, options: BatchOptions, console: Console) -> None:
    """An error, each problem of a preset at its place, as GitHub's workflow commands, where that is asked for."""
    if options.format != "github":
        return
    problems: tuple[Any, ...] = error.problems
    for problem in problems:
        place = (printable(problem.file), problem.line, problem.column)
        console.annotate(annotation("error", printable(problem.text, keep_newlines=True), *place))
    if not problems:
        console.annotate(annotation("error", printable(f"{error.message} {error.hint}".strip(), keep_newlines=True)))


def _write_junit(path: Path, text: str, console: Console) -> None:
    from flux_lora_cli.cli.junit import write_report

    try:
        write_report(path, text)
    except OSError as error:
        console.warn(f"--junit {path}: not written: {error.strerror or error}", "junit")


def _append_summary(text: str, console: Console) -> None:
    from flux_lora_cli.cli.step_summary import append

    try:
        append(os.environ[STEP_SUMMARY], text)
    except OSError as error:
        console.warn(f"{STEP_SUMMARY}: not written: {error.strerror or error}", "step_summary")


def _now() -> datetime:
    return datetime.now(timezone.utc)
