"""How a command ends: the exit code, the errors behind it, and what the user may do next.

No advice leads to paying again for what may still arrive. ``batch`` may be repeated, for it goes on where it stopped;
``submit`` and ``replay`` may not, for they would buy again: their tasks are collected by ``flux-lora wait ID…``.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
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
_AGAIN = "Run the same command again: it goes on where this one stopped."


class Left:
    """What records of the jobs that were asked for leave undone, by what may come of it.

    Args:
        absent: keys of held jobs whose task the account's list surely does not have.
        collected: of jobs no longer asked for: named where they are paid for and not there, and not counted.

    Attributes:
        paid: (job, task ID) of what is paid for, may still arrive, and is not collected.
        held: names of jobs whose submission is of unknown outcome.
        absent: none of these is in the account's list, so that sending them again is a way out.
        running, failed, pending: jobs. ``flagged``: images.
        late: images that the service may still have; ``expired``: that it has deleted, their time being over;
            ``lost``: that it does not have, though it keeps them for KEPT_DAYS, or that it never delivered.
    """

    def __init__(
        self, records: Collection[JobRecord], absent: Collection[str] = (), collected: Collection[JobRecord] = ()
    ) -> None:
        self.paid = tuple(
            (record.id, record.task_id)
            for record in (*records, *collected)
            if record.task_id is not None and (record.state is State.SUBMITTED or lacks_images(record))
        )
        held = [record for record in records if record.state in UNKNOWN]
        self.held = [record.name for record in held]
        self.absent = all(record.key in absent for record in held)
        states = Counter(record.state for record in records)
        self.running, self.failed, self.pending = states[State.SUBMITTED], states[State.FAILED], states[State.PLANNED]
        self.flagged = sum(output.nsfw is True for record in records for output in record.outputs)
        fates = Counter(_fate(record, output.error or "") for record in records for output in record.missing)
        self.late, self.expired, self.lost = fates["late"], fates["expired"], fates["lost"]


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
    paid: str = "paid",
) -> tuple[ExitCode, dict[ExitCode, FluxLoraError]]:
    """The exit code, and an error for each reason behind it; the deciding one names what is paid and not collected.

    Args:
        reasons: errors of the run itself.
        command: ``batch``, ``wait``, ``submit`` (and ``replay``), or ``submit --wait``.
        reach: options with which commands that hints name reach the same service (``--sandbox``).
        folder: where such commands save images.
        paid: what a task is, once it was submitted.
    """
    told = dict(reasons)
    for error in _undone(left, fail_on_nsfw, command, exit_code(reasons)):
        told.setdefault(error.exit_code, error)
    decided = exit_code(told)
    if decided >= ExitCode.INTERRUPTED:  # that something is left goes without saying
        told = {code: error for code, error in told.items() if code not in (ExitCode.DEADLINE, ExitCode.INCOMPLETE)}
        if decided is not ExitCode.CLOSED_OUTPUT:
            told[decided].message += _standing(left, paid)
    if ExitCode.AUTH in told:
        told.pop(ExitCode.SERVICE, None)  # that is why
    ways = _ways(left, command, reach, folder)
    for error in told.values():
        if ways and (error.advice is not Advice.FIX or isinstance(error, FolderError)):
            error.hint = ""  # it may speak of the same command, which would pay again
        if ways:
            error.advice = Advice.DECIDE if error.exit_code is ExitCode.UNKNOWN else Advice.WAIT
        elif command == "batch":
            error.hint = error.hint or _AGAIN
        _add_hints(error, left, ways)
    if decided in told:
        told[decided].tasks = told[decided].tasks or left.paid
    return decided, told


def with_tasks(error: FluxLoraError, records: Collection[JobRecord]) -> FluxLoraError:
    """An error that ends a command before its run, with what earlier runs paid for and did not collect."""
    left = Left(records)
    _add_hints(error, left)
    error.tasks = error.tasks or left.paid
    return error


def _add_hints(error: FluxLoraError, left: Left, ways: Sequence[str] = ()) -> None:
    """Name the submissions of unknown outcome, unless the message does; then tell what may be done."""
    names = _named(left.held)
    unknown = f"Of unknown outcome: {names}." if names and not error.message.endswith(f": {names}") else ""
    error.hint = " ".join(filter(None, [error.hint, unknown, *ways]))


def _undone(left: Left, fail_on_nsfw: bool, command: str, ended: ExitCode) -> Iterator[FluxLoraError]:
    """What the final states alone say, but for what was left undone because the run ended with another code."""
    batch, missing = command == "batch", left.late + left.expired + left.lost
    if left.held:
        what = f"{counted(len(left.held), 'submission')} of unknown outcome held, and not paid for again"
        look = "Run the same command again to look once more, or read the bill: flux-lora audit DIR."
        adopt = "--adopt JOB=ID takes a task that was found."
        resubmit = " --on-unknown resubmit looks once more, then submits what is not there." if left.absent else ""
        yield HeldError(f"{what}: {_named(left.held)}", f"{look} {adopt}{resubmit}" if batch else "")
    if left.running and command != "submit" and exit_code({ended, ExitCode.DEADLINE}) is not ended:
        yield DeadlineError(f"{counted(left.running, 'task')} not finished in time, and still running")
    if left.flagged and fail_on_nsfw:
        what = f"{counted(left.flagged, 'image')} flagged as NSFW by the service (--fail-on-nsfw)"
        yield NsfwFlagged(what, "Look at what is flagged in the manifest; --nsfw quarantine sorts new images out.")
    if left.failed or missing or (left.pending and exit_code({ended, ExitCode.INCOMPLETE}) is not ended):
        counts = [(left.failed, "failed"), (missing, "missing"), (left.pending, "not submitted")]
        undone = ", ".join(f"{number:,} {what}" for number, what in counts if number)
        more = batch and (left.late or left.pending or left.running)
        expired = f"{counted(left.expired, 'image')} gone after {KEPT_DAYS} days: flux-lora replay buys them again."
        hints = [
            (more, _AGAIN),
            (left.failed, "--retry-failed submits failed jobs again." if batch else "Submit only what failed again."),
            (left.expired, expired),
            (left.lost, "Ask the service's support for what it did not deliver; it is not bought again."),
        ]
        error = Incomplete(f"not everything is done: {undone}", " ".join(words for applies, words in hints if applies))
        error.advice = Advice.RERUN if more else Advice.FIX
        yield error


def _ways(left: Left, command: str, reach: Sequence[str], folder: Path | None) -> list[str]:
    """What may be done where the same command would pay again; commands to be copied come last."""
    ways = []
    if command.startswith("submit") and (left.paid or left.held):
        ways.append("Do not repeat this command: it would submit, and pay for, everything again.")
        if left.pending:
            ways.append(f"Submit only what is left ({counted(left.pending, 'prompt')} not submitted).")
        if left.held:
            ways.append(f"See what became of the rest: {shlex.join(['flux-lora', 'status', *reach])}")
    if command != "batch" and left.paid:  # whole, however many tasks it names
        output = ["-o", str(folder)] if folder is not None else []
        wait = shlex.join(["flux-lora", "wait", *reach, *output, *(task for _, task in left.paid)])
        ways.append(f"To collect what is paid for: {wait}")
    return ways


def _standing(left: Left, paid: str) -> str:
    """What an interrupt says beside its cause."""
    running = f"{counted(left.running, 'task')} {paid} and still running" if left.running else "no task is running"
    held = f", {counted(len(left.held), 'submission')} of unknown outcome" if left.held else ""
    return f"; {running}{held}" + (f", {counted(left.pending, 'job')} never sent" if left.pending else "")


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
