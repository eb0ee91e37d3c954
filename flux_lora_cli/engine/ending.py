"""How a command ends: the exit code, the errors behind it, and what the user may do next.

No advice leads to paying again for what may still arrive. ``batch`` may be repeated, for it goes on where it stopped;
``submit`` and ``replay`` may not, for they would buy again: their tasks are collected by ``flux-lora wait ID…``.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from flux_lora_cli.engine.plan import lacks_images
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
E = TypeVar("E", bound=FluxLoraError)
_COUNTED = {State.PLANNED: "pending", State.SUBMITTED: "running", State.FAILED: "failed"}


@dataclass(frozen=True)
class Left:
    """What is not done, by what may come of it. Counts are of jobs, for images of images.

    Attributes:
        paid: (job, task ID) of what is paid for, may still arrive, and is not collected.
        held: names of jobs whose submission is of unknown outcome.
        absent: all of these are surely not in the account's list, so that sending them again is a way out.
        late: images that the service may still have.
        expired: images that it has deleted, their time being over.
        lost: images that it does not have, though it keeps them for KEPT_DAYS, or that it never delivered.
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
    def of(cls, records: Iterable[JobRecord], absent: Collection[str] = (), now: datetime | None = None) -> Left:
        """Count what records leave undone; ``absent`` and ``now`` as in ``ending``."""
        counts: Counter[str] = Counter()
        held: list[JobRecord] = []
        paid: list[tuple[str | None, str]] = []
        for record in records:
            if record.state in (State.UNKNOWN, State.SUBMITTING):
                held.append(record)
            elif record.state is State.COMPLETED:
                counts.update(_fate(record, output.error or "", now) for output in record.missing)
                counts["flagged"] += sum(output.nsfw is True for output in record.outputs)
            elif record.state in _COUNTED:
                counts[_COUNTED[record.state]] += 1
            if record.task_id is not None and (record.state is State.SUBMITTED or lacks_images(record)):
                paid.append((record.id, record.task_id))
        surely = bool(held) and all(record.key in absent for record in held)
        return cls(tuple(paid), tuple(record.name for record in held), surely, **counts)

    @property
    def missing(self) -> int:
        """Images that were asked for and are not there."""
        return self.late + self.expired + self.lost


def _fate(record: JobRecord, error: str, now: datetime | None) -> str:
    if error.startswith("not_delivered"):
        return "lost"
    if not error.startswith("output_expired"):
        return "late"
    made = parse_time(record.task_created_at or record.intent_at)
    old = made is not None and now is not None and now - made >= timedelta(days=KEPT_DAYS)
    return "expired" if old else "lost"


def exit_code(reasons: Collection[ExitCode]) -> ExitCode:
    """The code of the first reason by precedence; OK where there is none."""
    return next((code for code in PRECEDENCE if code in reasons), ExitCode.OK)


def ending(
    records: Iterable[JobRecord],
    reasons: Mapping[ExitCode, FluxLoraError],
    fail_on_nsfw: bool = False,
    *,
    command: str = "batch",
    reach: Sequence[str] = (),
    folder: Path | None = None,
    absent: Collection[str] = (),
    now: datetime | None = None,
    collected: Iterable[JobRecord] = (),
) -> tuple[ExitCode, dict[ExitCode, FluxLoraError]]:
    """The exit code, and an error for each reason behind it; the deciding one names what is paid and not collected.

    Args:
        records: of the jobs that were asked for.
        reasons: errors of the run itself.
        command: ``batch``, ``wait``, or ``submit`` and ``replay``, with or without ``--wait`` behind.
        reach: options with which commands that hints name reach the same service (``--sandbox``).
        folder: where such commands save images.
        absent: keys of held jobs whose task the account's list surely does not have.
        now: the wall clock; without it, no output is taken to be past its time.
        collected: of jobs no longer asked for: named where they are paid for and not there, and not counted.
    """
    left = Left.of(records, absent, now)
    left = replace(left, paid=left.paid + Left.of(collected).paid)
    told = dict(reasons)
    run_ended = exit_code(reasons)
    for error in _errors(left, fail_on_nsfw, awaited=command not in ("submit", "replay")):
        # What was only left undone because the run ended needs no words of its own.
        only_pending = error.exit_code is ExitCode.INCOMPLETE and not left.failed + left.missing
        follows = (only_pending or error.exit_code is ExitCode.DEADLINE) and run_ended is not ExitCode.OK
        if not (follows and exit_code({run_ended, error.exit_code}) is run_ended):
            told.setdefault(error.exit_code, error)
    decided = exit_code(told)
    for code, error in told.items():
        if error.advice is not Advice.REPORT:
            if command == "batch":
                ways = _ways_of_batch(error, left)
            else:
                ways = _ways_of_tasks(error, left, command, reach, folder)
            error.hint = " ".join(filter(None, [error.hint, _unknown(error, left), *ways]))
        error.tasks = error.tasks or (left.paid if code is decided else ())
    return decided, told


def with_tasks(error: E, records: Iterable[JobRecord]) -> E:
    """An error that ends a command before its run, with what earlier runs paid for and did not collect."""
    left = Left.of(records)
    error.hint = " ".join(filter(None, [error.hint, _unknown(error, left)]))
    error.tasks = error.tasks or left.paid
    return error


def _unknown(error: FluxLoraError, left: Left) -> str:
    """The names of submissions of unknown outcome, unless the message has them."""
    return f"Of unknown outcome: {_named(left.held)}." if left.held and left.held[0] not in error.message else ""


def _errors(left: Left, fail_on_nsfw: bool, *, awaited: bool) -> Iterable[FluxLoraError]:
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


def _ways_of_batch(error: FluxLoraError, left: Left) -> list[str]:
    if error.exit_code is ExitCode.UNKNOWN:
        look = "Run the same command again to look once more, or look in the bill with flux-lora audit DIR."
        ways = [look, "--adopt JOB=ID takes a task that was found."]
        resubmit = "--on-unknown resubmit looks once more, then submits what is still not there."
        return [*ways, resubmit] if left.absent else ways
    if error.exit_code is ExitCode.INCOMPLETE:
        ways = []
        if left.late or left.pending or left.running:
            what = [(left.late, "fetch what is missing"), (left.pending, "submit the rest")]
            todo = " and ".join(words for number, words in what if number) or "pick up what is running"
            ways.append(f"Run the same command again to {todo}.")
        else:
            error.advice = Advice.FIX
        if left.failed:
            ways.append("--retry-failed submits failed jobs again.")
        return [*ways, *_ways_of_lost(left)]
    if error.hint or error.exit_code is ExitCode.NSFW:
        return []
    return ["Run the same command again: it goes on where this one stopped."]


def _ways_of_tasks(
    error: FluxLoraError, left: Left, command: str, reach: Sequence[str], folder: Path | None
) -> list[str]:
    """What may be done after a command that would pay again, or only waits; commands to be copied come last."""
    paid_twice = command != "wait" and bool(left.paid or left.held)
    if left.paid or left.held:
        # The same command would pay again, so what its error says about repeating it does not hold.
        keep = error.advice is Advice.FIX and not isinstance(error, FolderError)
        error.hint = error.hint if keep else ""
        error.advice = Advice.DECIDE if error.exit_code is ExitCode.UNKNOWN else Advice.WAIT
    elif error.exit_code is ExitCode.INCOMPLETE and command != "wait":
        error.advice = Advice.FIX
    ways = []
    if paid_twice:
        ways.append("Do not repeat this command: it would submit, and pay for, everything again.")
    if error.exit_code is ExitCode.INCOMPLETE:
        ways += [*(["Submit only what failed again."] if left.failed else []), *_ways_of_lost(left)]
    if left.pending and paid_twice:
        ways.append(f"Submit only what is left ({counted(left.pending, 'prompt')} not submitted).")
    if left.held and command != "wait":
        ways.append(f"See what became of the rest: {shlex.join(['flux-lora', 'status', *reach])}")
    if left.paid:
        ids = [task for _, task in left.paid]
        output = ["-o", str(folder)] if folder is not None else []
        wait = shlex.join(["flux-lora", "wait", *reach, *output, *ids])  # all of them: it is there to be copied
        ways.append(f"To collect what is paid for: {wait}")
    return ways


def _ways_of_lost(left: Left) -> list[str]:
    ways = []
    if left.expired:
        what = counted(left.expired, "image")
        ways.append(f"{what} gone after {KEPT_DAYS} days at the service: only flux-lora replay makes them again.")
    if left.lost:
        ways.append("Ask the service's support for images that it did not deliver; they are not bought again.")
    return ways


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
