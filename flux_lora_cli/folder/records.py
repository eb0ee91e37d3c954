"""What a folder knows of its jobs and their images: the rows of the ledger, the entries of the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any


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

    task_id: str | None
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
