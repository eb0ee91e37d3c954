"""What a folder knows of its jobs and their images: the rows of the ledger, the entries of the manifest.

The dataclasses tell how each field is kept as JSON: ``entries`` reads that from their annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from flux_lora_cli.folder.entries import (
    KINDS,
    EntryError,
    ImageName,
    Sha256,
    TaskId,
    Whole,
    dumps,
    kept,
    many,
    read_fields,
    whole,
    word_of,
    write_fields,
)
from flux_lora_cli.text import may_hold_secrets

_MASKED = re.compile(r":(?:\\?/){2}\*\*\*@|(?:=|%3[Dd])\*\*\*")


class State(str, Enum):
    """Where a job stands."""

    PLANNED = "planned"
    SUBMITTING = "submitting"
    UNKNOWN = "unknown"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class OutputRecord:
    """One image of a job.

    Attributes:
        index: 0-based, in the order of the service's ``outputs``.
        file: path relative to the folder, with ``/``; None until the image is surely on disk.
        error: why there is no file: an error code of ``errors`` (``output_expired``), then ``: message``.
        mtime_ns: modification time that the ledger saw when it saved the file.
        writing: the final name that the image is about to get; its bytes are complete in ``temp``.
        left_out: not asked for (``--no-download``, ``--nsfw skip``).
    """

    index: Whole
    url: str | None = None
    nsfw: bool | None = None
    file: ImageName | None = None
    sha256: Sha256 | None = None
    bytes: Whole | None = None
    width: Whole | None = None
    height: Whole | None = None
    media_type: str | None = None
    saved_at: str | None = None
    error: str | None = None
    mtime_ns: int | None = kept("")
    writing: ImageName | None = kept("")
    temp: str | None = kept("")
    left_out: bool = kept("", False)


@dataclass(frozen=True, slots=True)
class PastTask:
    """An earlier task of a job: what the service charged for it, and why the job was submitted anew.

    Attributes:
        error: as the record had it: an error code, then ``: message``.
        cost: USD it was charged; None where no price is known.
        refunded: USD of it that the bill shows as given back.
    """

    task_id: TaskId | None = None
    error: str | None = None
    cost: Decimal | None = kept("cost_usd")
    refunded: Decimal = kept("refunded_usd", Decimal(0))
    intent_at: str | None = kept("submitted_at")

    @property
    def net(self) -> Decimal | None:
        """USD that it costs, refunds taken off; None where no price is known."""
        return None if self.cost is None else self.cost - self.refunded


KINDS |= {
    "State": word_of(State),
    "list[OutputRecord]": many(OutputRecord),
    "tuple[PastTask, ...]": many(PastTask, tuple),
}


@dataclass(slots=True)
class JobRecord:
    """One job (or one task that this folder did not submit).

    Attributes:
        key: the fingerprint; ``task:ID`` for a task that this folder did not submit; ``submit:UUID`` in the ledger
            of ``submit``.
        order: position in the manifest; later runs append.
        input: the request as sent, every documented default explicit, ``seed`` the drawn number, a local image as
            ``inputs/SHA256.ext``.
        attempts: POSTs whose intent was recorded.
        price: USD reserved for, and once submitted charged to, the present task; None where no price is known. The
            entry shows ``cost``.
        error: why it failed: an error code of ``errors`` or of the service, then ``: message``.
        history: earlier tasks of this job, oldest first.
        axes: the job's choices by the names that the preset gave its axes.
        refunded: USD of ``price`` that the bill shows as given back.
        intent_at: UTC ISO time of the last intent to submit, by this machine's clock.
        api_version: ``v2`` or ``v3``: where the request was, or will be, sent.
        service_clock: seconds by which the service's clock was ahead of this machine's at that time; None: unknown.
        seed_drawn: whether the tool drew the seed; None where that is not known (each plan tells it; it is not stored).
    """

    key: str = kept(None, MISSING)
    order: int = kept(None, 0)
    id: str | None = None
    aliases: tuple[str, ...] = ()
    preset: str | None = None
    fingerprint: Sha256 | None = None
    state: State = State.PLANNED
    model: str | None = kept("request.model")
    input: Mapping[str, Any] | None = kept("request.input")
    task_id: TaskId | None = kept("task.id")
    task_model: str | None = kept("task.model")
    task_status: str | None = kept("task.status")
    task_created_at: str | None = kept("task.created_at")
    execution_ms: Whole | None = kept("task.execution_ms")
    task_error: str = kept("task.error", "")
    matched_by: str | None = kept("task.matched_by")
    outputs: list[OutputRecord] = field(default_factory=list)
    attempts: Whole = 0
    price: Decimal | None = kept("cost_usd")
    error: str | None = None
    history: tuple[PastTask, ...] = ()
    axes: Mapping[str, str] = kept("axes", dict, rare=True)
    refunded: Decimal = kept("refunded_usd", Decimal(0), rare=True)
    intent_at: str | None = kept("submitted_at", rare=True)
    api_version: str | None = kept("")
    service_clock: float | None = kept("")
    seed_drawn: bool | None = kept(None)

    @property
    def name(self) -> str:
        """What messages call it: the job ID, else the task ID."""
        return self.id or self.task_id or self.key

    @property
    def cost(self) -> Decimal | None:
        """USD that this job counts against the folder's budget, refunds taken off.

        Zero before any submission; None where a price is not known.
        """
        nets = [task.net for task in purchases(self)]
        return None if None in nets else sum(filter(None, nets), Decimal(0))

    @property
    def images_asked(self) -> int:
        """How many images the request asks for."""
        value = (self.input or {}).get("num_images", 1)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1

    @property
    def missing(self) -> list[OutputRecord]:
        """Outputs of a completed job that were asked for and are not saved."""
        if self.state is not State.COMPLETED:
            return []
        return [output for output in self.outputs if output.file is None and not output.left_out]


def present_task(record: JobRecord) -> PastTask:
    """The present task of a job, or its submission without one, as it goes into the history."""
    return PastTask(record.task_id, record.error, record.price, record.refunded, record.intent_at)


def purchases(record: JobRecord) -> list[PastTask]:
    """What a job was charged for, or may have been, oldest first; ``error`` only of what has failed."""
    present = _present(record)
    return [*record.history, *([present] if present else [])]


def _present(record: JobRecord) -> PastTask | None:
    """The present charge for a job; None where there is none."""
    if record.task_id is None and (not record.attempts or record.state is State.PLANNED):
        return None
    error = record.error if record.state is State.FAILED else None
    return PastTask(record.task_id, error, record.price, record.refunded, record.intent_at)


def error_parts(error: str | None, default: str = "failed: the task failed") -> tuple[str, str]:
    """The code and the message of a record's ``error``."""
    code, _, message = (error or default).partition(": ")
    return code, message or code


def iso(moment: datetime) -> str:
    """A time as ledger and manifest have it: UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def is_masked(value: Any) -> bool:
    """Whether a request came from a manifest, with a secret masked: it names the job, but cannot be sent."""
    if isinstance(value, str):
        return _MASKED.search(value) is not None
    if isinstance(value, Mapping):
        return any(map(is_masked, value.values()))
    return isinstance(value, (list, tuple)) and any(map(is_masked, value))


# ---- the manifest's entry, and the ledger's row ----


def entry_and_rest(record: JobRecord, cost: Decimal | None) -> tuple[str, str]:
    """The manifest's entry of a job, and what it leaves out of the record, as JSON."""
    for mask in (False, True):
        entry, rest = write_fields(record, mask)
        text = dumps({**entry, "cost_usd": cost})
        if not may_hold_secrets(text):
            break
    return text, dumps({**rest, "cost_usd": record.price})


def of_row(entry: Any, rest: Any, key: str, order: int) -> JobRecord:
    """The record of what ``entry_and_rest`` wrote. Raises EntryError."""
    return JobRecord(key, order, **read_fields(JobRecord, whole(entry, rest), "a row"))


def record_of(value: Any, at: str, order: int = 0) -> JobRecord:
    """The record of an entry.

    The key is the fingerprint, or ``task:ID`` without one. Paths lie inside the folder as far as their text tells;
    links are for ``files.inside`` to check, and hashes for whoever uses the file.

    Args:
        at: its place, for messages: ``jobs[3]``.

    Raises EntryError: something is not as the format says. Nothing is left out, for such a job would be paid again.
    """
    found = read_fields(JobRecord, value, at)
    for name in ("state", "outputs"):
        if name not in found:
            raise EntryError(f"{at}.{name} is missing")
    cost, task_id, fingerprint = found.pop("price", None), found.get("task_id"), found.get("fingerprint")
    if fingerprint is None and task_id is None:
        raise EntryError(f"{at} has neither a fingerprint nor a task")
    record = JobRecord(fingerprint or f"task:{task_id}", order, **found)
    if len({output.index for output in record.outputs}) != len(record.outputs):
        raise EntryError(f"{at}.outputs has one index twice")
    if cost is not None and (record.attempts or task_id):
        earlier = sum((past.net or Decimal(0) for past in record.history), Decimal(0))
        record.price = max(cost - earlier, Decimal(0)) + record.refunded
    for output in record.outputs:  # of files on their way, and of where to send it, only a ledger may tell
        output.mtime_ns = output.writing = output.temp = None
        output.left_out = False
    record.api_version = record.service_clock = None
    return record


# ---- two records of one job become one: the better result stays, and every charge counts ----

#: How far a submission has come; and, of two different ones, which result is worth more. What may still turn out paid
#: for is kept over what was not.
_PROGRESS = (
    State.PLANNED, State.SKIPPED, State.SUBMITTING, State.UNKNOWN, State.SUBMITTED, State.FAILED, State.COMPLETED,
)  # fmt: skip
_WORTH = (
    State.PLANNED, State.SKIPPED, State.FAILED, State.SUBMITTING, State.UNKNOWN, State.SUBMITTED, State.COMPLETED,
)  # fmt: skip


def join(mine: JobRecord, other: JobRecord) -> JobRecord:
    """The one record of a job that two folders (or a ledger and a manifest) have; ``mine`` keeps its place and name.

    Charges of either that are not the present one of the result become history. Equal to ``mine`` where ``other`` has
    nothing new.
    """
    better, lesser = (other, mine) if _is_better(other, mine) else (mine, other)
    past = [charge for charge in purchases(lesser) if not _in(charge, purchases(better))]
    twin = lesser if _in(_present(lesser), [_present(better)]) else better  # of one charge, it may know what is missing
    names = [*dict.fromkeys(name for name in (mine.id, *mine.aliases, other.id, *other.aliases) if name)]
    return replace(
        better,
        key=mine.key,
        order=mine.order,
        id=names[0] if names else None,
        aliases=tuple(names[1:]),
        attempts=max(mine.attempts, other.attempts, len(better.history) + len(past) + bool(better.attempts)),
        history=(*better.history, *past),
        price=twin.price if better.price is None else better.price,
        refunded=max(better.refunded, twin.refunded),
        intent_at=better.intent_at or twin.intent_at,
        api_version=better.api_version or lesser.api_version,
        input=_fuller(better.input, lesser.input),
    )


def _is_better(other: JobRecord, mine: JobRecord) -> bool:
    """Whether ``other`` is a later state of the job than ``mine``, or a better result of another submission."""
    theirs, ours = _present(other), _present(mine)
    if _in(theirs, mine.history) or _in(ours, other.history):
        return _in(ours, other.history)
    if theirs is None:
        return False
    order = _PROGRESS if _in(theirs, [ours]) else _WORTH
    worth = [
        (order.index(record.state), sum(output.file is not None for output in record.outputs))
        for record in (other, mine)
    ]
    return worth[0] > worth[1]


def _in(charge: PastTask | None, charges: Iterable[PastTask | None]) -> bool:
    """Whether a charge is one of several: known by its task, or by its intent where a task is not known yet."""
    return charge is not None and any(
        charge.task_id == each.task_id if charge.task_id and each.task_id else charge.intent_at == each.intent_at
        for each in charges
        if each is not None
    )


def _fuller(better: Mapping[str, Any] | None, lesser: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The request in which no secret is masked, where both are of one seed."""
    if better is None or lesser is None or not is_masked(better) or is_masked(lesser):
        return better
    return lesser if better.get("seed") == lesser.get("seed") else better
