"""What submitting and waiting for single tasks share: where images go, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.adapters.run_folder import RunFolder
from flux_lora_cli.assembly.world import name_by
from flux_lora_cli.domain.filenames import DEFAULT, DEFAULT_UNKNOWN, Template, case_key
from flux_lora_cli.domain.outcome import exit_code
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.errors import ExitCode, FluxLoraError
from flux_lora_cli.workflow.context import Work
from flux_lora_cli.workflow.runner import Naming, Runner, add_reasons

if TYPE_CHECKING:
    from flux_lora_cli.workflow.ports import Clock


@dataclass(frozen=True)
class SaveTo:
    """Where images go. ``shown``: how the folder is printed before a file's name."""

    folder: Path
    filename: str | None = None
    fail_on_nsfw: bool = False
    shown: str | None = None


@dataclass
class TasksResult:
    """How submitting or waiting ended; the records in the order in which they were asked for."""

    exit_code: ExitCode
    reasons: dict[ExitCode, FluxLoraError | None]
    records: list[JobRecord] = field(default_factory=list)


def as_task(record: JobRecord) -> JobRecord:
    """The record as the folder keeps it: by its task, since equal requests are distinct tasks there."""
    from dataclasses import replace

    return replace(record, key=f"task:{record.task_id}")


def naming(save_to: SaveTo | None, opened: RunFolder | None, clock: Clock) -> Naming:
    template = Template.parse((save_to.filename if save_to else None) or DEFAULT)
    fallback = Template.parse(DEFAULT_UNKNOWN) if save_to is None or save_to.filename is None else None
    shown = "" if save_to is None else save_to.shown or str(save_to.folder)
    taken = opened.taken_names(case_key) if opened is not None else set()
    return Naming(
        name_by(template, clock, fallback), case_key, lambda path: f"{shown}/{path}" if shown else path, taken
    )


def result_of(runner: Runner, works: list[Work], save_to: SaveTo | None) -> TasksResult:
    if save_to is not None:
        reasons = runner.outcome(save_to.fail_on_nsfw)
    else:
        reasons = dict(runner.ctx.reasons)
        for work in works:
            if work.record.state is not State.SUBMITTED:
                add_reasons(work.record, reasons)
    return TasksResult(exit_code(reasons), reasons, [work.record for work in works])
