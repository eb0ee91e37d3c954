"""What a folder knows of its jobs and their images: the rows of the ledger, the entries of the manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

_MASKED = re.compile(r"://\*\*\*@|=\*\*\*")


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
        costs = [task.cost - task.refunded if task.cost is not None else None for task in self.history]
        if self.attempts or self.task_id is not None:
            costs.append(self.price - self.refunded if self.price is not None else None)
        known = [cost for cost in costs if cost is not None]
        return sum(known, Decimal(0)) if len(known) == len(costs) else None

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

#: From least to most worth keeping. What may still turn out paid for is kept over what was not.
_WORTH = (
    State.PLANNED, State.SKIPPED, State.FAILED, State.SUBMITTING, State.UNKNOWN, State.SUBMITTED, State.COMPLETED,
)  # fmt: skip


def worth(record: JobRecord) -> tuple[int, int]:
    """A measure to choose between two records of one job: by state, then by images saved."""
    return _WORTH.index(record.state), sum(output.file is not None for output in record.outputs)


def newer(shown: JobRecord, mine: JobRecord) -> bool:
    """Whether ``shown`` (of a manifest) knows of a purchase, or of a result of it, that ``mine`` does not."""
    if not _tasks(shown) <= _tasks(mine):
        return True
    if shown.task_id == mine.task_id and worth(shown) > worth(mine):
        return bool(shown.attempts or shown.task_id)
    return shown.attempts > mine.attempts


def caught_up(mine: JobRecord, shown: JobRecord) -> JobRecord:
    """The record of an older copy of a ledger, brought to where the manifest beside it shows the job (``newer``)."""
    if mine.task_id is None or mine.task_id in _tasks(shown):
        return _joined(mine, shown, mine, lesser_counts=False)
    return join(mine, shown)


def join(kept: JobRecord, other: JobRecord) -> JobRecord:
    """The one record of a job that two folders have; ``kept`` keeps its place and name.

    Tasks of either that are not the present one of the result become history: each was charged.
    """
    better, lesser = (other, kept) if worth(other) > worth(kept) else (kept, other)
    return _joined(kept, better, lesser, lesser_counts=True)


def _joined(kept: JobRecord, better: JobRecord, lesser: JobRecord, *, lesser_counts: bool) -> JobRecord:
    other = lesser if better is kept else better
    one_task = None not in (better.task_id, lesser.task_id)
    same = better.task_id == lesser.task_id if one_task else better.intent_at == lesser.intent_at
    charged = bool(lesser.attempts or lesser.task_id) and lesser_counts and not same
    history = {_charge(past): past for past in (*better.history, _as_past(better))}
    for past in (*lesser.history, *([_as_past(lesser)] if charged else [])):
        history.setdefault(_charge(past), past)
    del history[_charge(_as_past(better))]
    names = [*dict.fromkeys(name for name in (kept.id, *kept.aliases, other.id, *other.aliases) if name)]
    return replace(
        better,
        key=kept.key,
        order=kept.order,
        id=names[0] if names else None,
        aliases=tuple(names[1:]),
        attempts=max(kept.attempts, other.attempts, len(history) + bool(better.attempts)),
        history=tuple(history.values()),
        price=lesser.price if same and better.price is None else better.price,
        refunded=max(better.refunded, lesser.refunded) if same else better.refunded,
        intent_at=better.intent_at or (None if charged else lesser.intent_at),
        api_version=better.api_version or lesser.api_version,
        input=_fuller(better.input, lesser.input),
    )


def _tasks(record: JobRecord) -> set[str]:
    return {task for task in (record.task_id, *(past.task_id for past in record.history)) if task is not None}


def _charge(past: PastTask) -> str:
    """What tells one charge for a job from another."""
    return past.task_id or f"intent {past.intent_at}"


def _as_past(record: JobRecord) -> PastTask:
    """The present task of a record, as the history of another has it."""
    return PastTask(record.task_id, record.error, record.price, record.refunded, record.intent_at)


def _fuller(better: Mapping[str, Any] | None, lesser: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The request in which no secret is masked, where both are of one seed."""
    if better is None or lesser is None or not is_masked(better) or is_masked(lesser):
        return better
    return lesser if better.get("seed") == lesser.get("seed") else better
