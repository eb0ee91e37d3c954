"""What a report says of one job: passed, failed, not finished, or left out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flux_lora_cli.domain.outcome import FAILED, code_and_message, exit_code
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.errors import ExitCode, FluxLoraError

#: Why a job has not come to an end, where the run's own reasons do not say.
_UNFINISHED = {
    State.PLANNED: "not submitted",
    State.SUBMITTING: "whether it was submitted is not known; it is held, and not paid for again",
    State.UNKNOWN: "whether it was submitted is not known; it is held, and not paid for again",
    State.SUBMITTED: "still running; the same command picks it up",
}


@dataclass(frozen=True)
class Verdict:
    """``kind``: ``passed``, ``failure`` (it ended badly), ``error`` (it did not end) or ``skipped``."""

    kind: str
    code: str = ""
    message: str = ""


def verdict(record: JobRecord, run_ended: FluxLoraError | None, fail_on_nsfw: bool = False) -> Verdict:
    """The verdict on one job.

    Args:
        run_ended: why the run stopped before its jobs were done, if it did; a job's own reason says more.
    """
    if record.state is State.SKIPPED:
        return Verdict("skipped", "skipped", record.error or "left out")
    if record.state is State.FAILED:
        return Verdict("failure", *code_and_message(record.error, FAILED))
    if record.state in _UNFINISHED:
        why = _own_reason(record) or (run_ended.message if run_ended is not None else "")
        return Verdict("error", record.state.value, _UNFINISHED[record.state] + (f" ({why})" if why else ""))
    missing = [output for output in record.outputs if output.file is None and not output.left_out]
    if missing:
        code, message = code_and_message(missing[0].error, "missing: the image is missing")
        return Verdict("failure", code, f"{len(missing)} of {len(record.outputs)} images missing: {message}")
    if fail_on_nsfw and any(output.nsfw for output in record.outputs):
        return Verdict("failure", "nsfw", "an image was flagged NSFW")
    return Verdict("passed")


def _own_reason(record: JobRecord) -> str:
    return code_and_message(record.error, "")[1]


def why_ended(reasons: Mapping[ExitCode, FluxLoraError | None]) -> FluxLoraError | None:
    """Of the reasons that have something to tell the one that counts most, as for the exit code."""
    told = {code: error for code, error in reasons.items() if error is not None}
    return told.get(exit_code(told))
