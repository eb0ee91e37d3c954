"""How a command ends: the exit code, the errors behind it, and what the user may do next.

No advice leads to paying again for what may still arrive. ``batch`` may be repeated, for it goes on where it stopped;
``submit`` and ``replay`` may not, for they would buy again: their tasks are collected by ``flux-lora wait ID…``.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flux_lora_cli.engine.plan import GONE, UNKNOWN, lacks_images
from flux_lora_cli.errors import (
    PRECEDENCE,
    Advice,
    DeadlineError,
    ExitCode,
    FluxLoraError,
    FolderError,
    HeldError,
    Incomplete,
    NsfwFlagged,
)
from flux_lora_cli.folder.records import JobRecord, State
from flux_lora_cli.service.wire import parse_time
from flux_lora_cli.text import counted

#: Days after which the service deletes outputs. [SERVICE: limits and money]
KEPT_DAYS = 7
#: Names and IDs that a message lists, at most; ``tasks`` of the error has them all.
MAX_NAMED = 20
_COUNTED = {State.PLANNED: "pending", State.SUBMITTED: "running", State.FAILED: "failed"}


@dataclass(frozen=True)
class Left:
    """What is not done, by what may come of it. Counts are of jobs, for images of images.

    Attributes:
        paid: (job, task ID) of what is paid for, may still arrive, and is not collected.
        held: names of jobs whose submission is of unknown outcome.
        absent: all of these are surely not in the account's list, so that sending them again is a way out.
        late: images that the service may still have; ``expired``: that it has deleted, their time being over;
            ``lost``: that it does not have, though it keeps them for KEPT_DAYS, or that it never delivered.
    """

    paid: tuple[tuple[str | None, str], ...] = ()
    held: tuple[str, ...] = ()
    absent: bool = False
    running: int = 0
    late: int = 0
    expired: int = 0
    lost: int = 0
    failed: int = 0
    pending: int = 0
    flagged: int = 0

    @classmethod
    def of(
        cls, records: Collection[JobRecord], absent: Collection[str] = (), collected: Collection[JobRecord] = ()
    ) -> Left:
        """Count what records of the jobs that were asked for leave undone.

        Args:
            absent: keys of held jobs whose task the account's list surely does not have.
            collected: of jobs no longer asked for: named where they are paid for and not there, and not counted.
        """
        counts = Counter(_COUNTED[record.state] for record in records if record.state in _COUNTED)
        counts.update(_fate(record, output.error or "") for record in records for output in record.missing)
        counts["flagged"] = sum(output.nsfw is True for record in records for output in record.outputs)
        held = [record for record in records if record.state in UNKNOWN]
        paid = [
            (record.id, record.task_id)
            for record in (*records, *collected)
            if record.task_id is not None and (record.state is State.SUBMITTED or lacks_images(record))
        ]
        surely = bool(held) and all(record.key in absent for record in held)
        return cls(tuple(paid), tuple(record.name for record in held), surely, **counts)

    @property
    def missing(self) -> int:
        """Images that were asked for and are not there."""
        return self.late + self.expired + self.lost

    @property
    def resumable(self) -> bool:
        """Whether a rerun of a batch brings more."""
        return bool(self.late or self.pending or self.running)


def _fate(record: JobRecord, error: str) -> str:
    if not error.startswith(GONE):
        return "late"
    made = parse_time(record.task_created_at or record.intent_at)
    old = made is not None and datetime.now(UTC) - made >= timedelta(days=KEPT_DAYS)
    return "expired" if old and error.startswith("output_expired") else "lost"


def exit_code(reasons: Collection[ExitCode]) -> ExitCode:
    """The code of the first reason by precedence; OK where there is none."""
    return next((code for code in PRECEDENCE if code in reasons), ExitCode.OK)


def ending(
    left: Left,
    reasons: Mapping[ExitCode, FluxLoraError],
    fail_on_nsfw: bool = False,
    *,
    command: str = "batch",
    reach: Sequence[str] = (),
    folder: Path | None = None,
) -> tuple[ExitCode, dict[ExitCode, FluxLoraError]]:
    """The exit code, and an error for each reason behind it; the deciding one names what is paid and not collected.

    Args:
        reasons: errors of the run itself.
        command: ``batch``, ``wait``, ``submit`` (and ``replay``), or ``submit --wait``.
        reach: options with which commands that hints name reach the same service (``--sandbox``).
        folder: where such commands save images.
    """
    told = dict(reasons)
    run_ended = exit_code(reasons)
    for error in _errors(left, fail_on_nsfw, awaited=command != "submit"):
        # What was only left undone because the run ended needs no words of its own.
        only_pending = error.exit_code is ExitCode.INCOMPLETE and not left.failed + left.missing
        follows = run_ended is not ExitCode.OK and (only_pending or error.exit_code is ExitCode.DEADLINE)
        if not (follows and exit_code({run_ended, error.exit_code}) is run_ended):
            told.setdefault(error.exit_code, error)
    decided = exit_code(told)
    for code, error in told.items():
        if error.advice is not Advice.REPORT:
            _advise(error, left, command)
            _add_hints(error, left, _ways(error, left, command, reach, folder))
        error.tasks = error.tasks or (left.paid if code is decided else ())
    return decided, told


def with_tasks(error: FluxLoraError, records: Collection[JobRecord]) -> FluxLoraError:
    """An error that ends a command before its run, with what earlier runs paid for and did not collect."""
    left = Left.of(records)
    _add_hints(error, left)
    error.tasks = error.tasks or left.paid
    return error


def _add_hints(error: FluxLoraError, left: Left, ways: Sequence[str] = ()) -> None:
    """Name the submissions of unknown outcome, unless the message does; then tell what may be done."""
    unknown = f"Of unknown outcome: {_named(left.held)}." if left.held and left.held[0] not in error.message else ""
    error.hint = " ".join(filter(None, [error.hint, unknown, *ways]))


def _errors(left: Left, fail_on_nsfw: bool, *, awaited: bool) -> Iterator[FluxLoraError]:
    """What the final states alone say; of a command that does not wait, a running task is as it should be."""
    if left.held:
        what = counted(len(left.held), "submission")
        yield HeldError(f"{what} of unknown outcome held, and not paid for again: {_named(left.held)}")
    if left.running and awaited:
        yield DeadlineError(f"{counted(left.running, 'task')} not finished in time, and still running")
    if left.flagged and fail_on_nsfw:
        what = f"{counted(left.flagged, 'image')} flagged as NSFW by the service (--fail-on-nsfw)"
        yield NsfwFlagged(what, "Look at what is flagged in the manifest; --nsfw quarantine sorts new images out.")
    counts = [(left.failed, "failed"), (left.missing, "missing"), (left.pending, "not submitted")]
    if undone := ", ".join(f"{number:,} {what}" for number, what in counts if number):
        yield Incomplete(f"not everything is done: {undone}")


def _advise(error: FluxLoraError, left: Left, command: str) -> None:
    """Set the advice to what does not pay again."""
    incomplete = error.exit_code is ExitCode.INCOMPLETE
    if command != "batch" and (left.paid or left.held):
        # The same command would pay again, so what its error says about repeating it does not hold.
        keep = error.advice is Advice.FIX and not isinstance(error, FolderError)
        error.hint = error.hint if keep else ""
        error.advice = Advice.DECIDE if error.exit_code is ExitCode.UNKNOWN else Advice.WAIT
    elif incomplete and (not left.resumable if command == "batch" else command != "wait"):
        error.advice = Advice.FIX


def _ways(error: FluxLoraError, left: Left, command: str, reach: Sequence[str], folder: Path | None) -> list[str]:
    """What may be done next, none of which pays again; commands to be copied come last."""
    incomplete, unknown = error.exit_code is ExitCode.INCOMPLETE, error.exit_code is ExitCode.UNKNOWN
    batch, buys = command == "batch", command.startswith("submit")
    repeated = buys and bool(left.paid or left.held)
    other = not (incomplete or unknown or error.hint or error.exit_code is ExitCode.NSFW)
    rerun = batch and (other or (incomplete and left.resumable))
    expired = counted(left.expired, "image")
    output = ["-o", str(folder)] if folder is not None else []
    wait = shlex.join(["flux-lora", "wait", *reach, *output, *(task for _, task in left.paid)])  # whole, to be copied
    status = shlex.join(["flux-lora", "status", *reach])
    ways = (
        (repeated, "Do not repeat this command: it would submit, and pay for, everything again."),
        (batch and unknown, "Run the same command again to look once more, or read the bill: flux-lora audit DIR."),
        (batch and unknown, "--adopt JOB=ID takes a task that was found."),
        (batch and unknown and left.absent, "--on-unknown resubmit looks once more, then submits what is not there."),
        (rerun, "Run the same command again: it goes on where this one stopped."),
        (batch and incomplete and left.failed, "--retry-failed submits failed jobs again."),
        (not batch and incomplete and left.failed, "Submit only what failed again."),
        (incomplete and left.expired, f"{expired} gone after {KEPT_DAYS} days: flux-lora replay buys them again."),
        (incomplete and left.lost, "Ask the service's support for what it did not deliver; it is not bought again."),
        (repeated and left.pending, f"Submit only what is left ({counted(left.pending, 'prompt')} not submitted)."),
        (buys and left.held, f"See what became of the rest: {status}"),
        (not batch and left.paid, f"To collect what is paid for: {wait}"),
    )
    return [words for applies, words in ways if applies]


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
