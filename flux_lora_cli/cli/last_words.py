"""Why a run's exit code is not 0, where no error has said so: the final state of what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flux_lora_cli.cli.reporter import counted
from flux_lora_cli.domain.manifest import summary
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.errors import DeadlineError, ExitCode, FluxLoraError, HeldError, ImageError, NsfwFlagged

Reasons = dict[ExitCode, FluxLoraError | None]


@dataclass(frozen=True)
class Ways:
    """How to go on, a sentence for each thing that may be left: the commands differ."""

    failed: str
    missing: str
    pending: str
    held: str
    expired: str = "What has expired is gone; flux-lora replay makes it again."
    running: str = "They are paid for: the same command picks them up."


BATCH = Ways(
    failed="Failed jobs are submitted again with --retry-failed.",
    missing="Run again to fetch what is missing.",
    pending="Run again to submit the rest.",
    held="Run again to look once more; name the task with --adopt JOB=ID; or, where no candidates were named, "
    "submit them again with --on-unknown resubmit.",
)
WAIT = Ways(
    failed="What failed has to be submitted again.",
    missing="Run again to fetch what is missing.",
    pending="Run again to wait for the rest.",
    held="",
)


def told_reasons(
    code: ExitCode, reasons: Mapping[ExitCode, FluxLoraError | None], records: Sequence[JobRecord], ways: Ways
) -> Reasons:
    """``reasons``, with an error for the exit code itself where it has none yet."""
    if code is ExitCode.OK or reasons.get(code) is not None:
        return dict(reasons)
    return {**reasons, code: _unsaid(code, records, ways)}


def _unsaid(code: ExitCode, records: Sequence[JobRecord], ways: Ways) -> FluxLoraError | None:
    if code is HeldError.exit_code:
        return HeldError(_held(records), ways.held)
    if code is ImageError.exit_code:
        return _incomplete(records, ways)
    if code is NsfwFlagged.exit_code:
        return NsfwFlagged.counted(int(summary(records)["nsfw"]))
    if code is DeadlineError.exit_code:
        return DeadlineError("tasks are still running", ways.running)
    return None


def _held(records: Sequence[JobRecord]) -> str:
    # One that was cut off by a deadline is still called "submitting".
    held = sum(1 for record in records if record.state in (State.UNKNOWN, State.SUBMITTING))
    were = "was" if held == 1 else "were"
    return f"{counted(held, 'submit')} of unknown outcome {were} held, and not paid for again"


def _incomplete(records: Sequence[JobRecord], ways: Ways) -> ImageError:
    counts = summary(records)
    marks = [f"{counts[name]} {name}" for name in ("failed", "missing", "pending") if counts[name]]
    expired = sum(_expired(record) for record in records) if counts["missing"] else 0
    left = (
        (counts["missing"] - expired, ways.missing),
        (expired, ways.expired),
        (counts["failed"], ways.failed),
        (counts["pending"], ways.pending),
    )
    hint = " ".join(way for number, way in left if number and way)
    return ImageError(f"not everything is done: {', '.join(marks) or 'jobs are left'}", hint)


def _expired(record: JobRecord) -> int:
    """How many images of a completed job the service has no more."""
    if record.state is not State.COMPLETED:
        return 0
    lost = [output.error or "" for output in record.awake().outputs if output.file is None and not output.left_out]
    return sum(error.startswith("output_expired") for error in lost)
