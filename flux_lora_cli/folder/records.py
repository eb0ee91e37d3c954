"""What a folder knows of its jobs and their images: the rows of the ledger, the entries of the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

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
        writing: the final name that the image is about to get; its bytes are complete in ``temp``.
        mtime_ns: modification time that the ledger saw when it saved the file.
        error: why there is no file: an error code of ``errors`` (``output_expired``), then ``: message``.
        left_out: not asked for (``--no-download``, ``--nsfw skip``).
    """

    index: int
    url: str | None = None
    nsfw: bool | None = None
    file: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    media_type: str | None = None
    saved_at: str | None = None
    error: str | None = None
    mtime_ns: int | None = None
    writing: str | None = None
    temp: str | None = None
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class PastTask:
    """An earlier task of a job: what the service charged for it, and why the job was submitted anew.

    Attributes:
        cost: USD it was charged; None where no price is known.
        refunded: USD of it that the bill shows as given back.
        error: as the record had it: an error code, then ``: message``.
    """

    task_id: str | None = None
    error: str | None = None
    cost: Decimal | None = None
    refunded: Decimal = Decimal(0)
    intent_at: str | None = None


@dataclass(slots=True)
class JobRecord:
    """One job (or one task that this folder did not submit).

    Attributes:
        key: the fingerprint; ``task:ID`` for a task that this folder did not submit; ``submit:UUID`` in the ledger
            of ``submit``.
        order: position in the manifest; later runs append.
        input: the request as sent, every documented default explicit, ``seed`` the drawn number, a local image as
            ``inputs/SHA256.ext``.
        api_version: ``v2`` or ``v3``: where the request was, or will be, sent.
        axes: the job's choices by the names that the preset gave its axes.
        intent_at: UTC ISO time of the last intent to submit, by this machine's clock.
        service_clock: seconds by which the service's clock was ahead of this machine's at that time; None: unknown.
        seed_drawn: whether the tool drew the seed; None where that is not known (each plan tells it; it is not stored).
        price: USD reserved for, and once submitted charged to, the present task; None where no price is known.
        refunded: USD of ``price`` that the bill shows as given back.
        attempts: POSTs whose intent was recorded.
        history: earlier tasks of this job, oldest first.
        error: why it failed: an error code of ``errors`` or of the service, then ``: message``.
    """

    key: str
    id: str | None = None
    order: int = 0
    aliases: tuple[str, ...] = ()
    preset: str | None = None
    fingerprint: str | None = None
    state: State = State.PLANNED
    model: str | None = None
    input: Mapping[str, Any] | None = None
    api_version: str | None = None
    axes: Mapping[str, str] = field(default_factory=dict)
    task_id: str | None = None
    task_model: str | None = None
    task_status: str | None = None
    task_created_at: str | None = None
    task_error: str = ""
    execution_ms: int | None = None
    matched_by: str | None = None
    intent_at: str | None = None
    service_clock: float | None = None
    seed_drawn: bool | None = None
    attempts: int = 0
    price: Decimal | None = None
    refunded: Decimal = Decimal(0)
    history: tuple[PastTask, ...] = ()
    error: str | None = None
    outputs: list[OutputRecord] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What messages call it: the job ID, else the task ID."""
        return self.id or self.task_id or self.key

    @property
    def cost(self) -> Decimal | None:
        """USD that this job counts against the folder's budget, refunds taken off.

        Zero before any submission; None where a price is not known.
        """
        bought = purchases(self)
        known = [task.cost - task.refunded for task in bought if task.cost is not None]
        return sum(known, Decimal(0)) if len(known) == len(bought) else None

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
    task = present_task(record)
    return task if record.state is State.FAILED else replace(task, error=None)


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


# ---- two records of one job become one: the better result stays, and every charge counts ----

#: How far a submission has come; and, of two different ones, which result is worth more. What may still turn out paid
#: for is kept over what was not.
_PROGRESS = (
    State.PLANNED, State.SKIPPED, State.SUBMITTING, State.UNKNOWN, State.SUBMITTED, State.FAILED, State.COMPLETED,
)  # fmt: skip
_WORTH = (
    State.PLANNED, State.SKIPPED, State.FAILED, State.SUBMITTING, State.UNKNOWN, State.SUBMITTED, State.COMPLETED,
)  # fmt: skip


def join(kept: JobRecord, other: JobRecord) -> JobRecord:
    """The one record of a job that two folders (or a ledger and a manifest) have; ``kept`` keeps its place and name.

    Charges of either that are not the present one of the result become history. Equal to ``kept`` where ``other`` has
    nothing new.
    """
    better, lesser = (other, kept) if is_better(other, kept) else (kept, other)
    past = [charge for charge in purchases(lesser) if not _in(charge, purchases(better))]
    same = _in(_present(lesser), [_present(better)])
    names = [*dict.fromkeys(name for name in (kept.id, *kept.aliases, other.id, *other.aliases) if name)]
    return replace(
        better,
        key=kept.key,
        order=kept.order,
        id=names[0] if names else None,
        aliases=tuple(names[1:]),
        attempts=max(kept.attempts, other.attempts, len(better.history) + len(past) + bool(better.attempts)),
        history=(*better.history, *past),
        price=lesser.price if same and better.price is None else better.price,
        refunded=max(better.refunded, lesser.refunded) if same else better.refunded,
        intent_at=better.intent_at or (lesser.intent_at if same else None),
        api_version=better.api_version or lesser.api_version,
        input=_fuller(better.input, lesser.input),
    )


def is_better(other: JobRecord, kept: JobRecord) -> bool:
    """Whether ``other`` is a later state of the job than ``kept``, or a better result of another submission."""
    theirs, ours = _present(other), _present(kept)
    if _in(theirs, kept.history) or _in(ours, other.history):
        return _in(ours, other.history)
    if theirs is None:
        return False
    order = _PROGRESS if _in(theirs, [ours]) else _WORTH
    worth = [
        (order.index(record.state), sum(output.file is not None for output in record.outputs))
        for record in (other, kept)
    ]
    return worth[0] > worth[1]


def adds_to(kept: JobRecord, other: JobRecord) -> bool:
    """Whether ``other`` knows of a purchase, or of a result of one, that ``kept`` does not."""
    ours = purchases(kept)
    return is_better(other, kept) or not all(_in(charge, ours) for charge in purchases(other))


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
