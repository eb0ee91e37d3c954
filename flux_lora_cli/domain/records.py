"""What a folder knows of its jobs and their images: the rows of the ledger, the entries of the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


class Finding(str, Enum):
    """How a saved file was found."""

    SOUND = "sound"
    MISSING = "missing"
    ALTERED = "altered"


#: States in which the service was, or may have been, asked to work, and so may charge.
CHARGED = frozenset({State.SUBMITTING, State.UNKNOWN, State.SUBMITTED, State.COMPLETED, State.FAILED})


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


@dataclass(slots=True)
class JobRecord:
    """One job (or one task that this folder did not submit).

    Attributes:
        key: the fingerprint; ``task:ID`` for a task that this folder did not submit.
        order: position in the manifest; later runs append.
        input: the request as sent, every documented default explicit, ``seed`` the drawn number,
            a local image as ``inputs/SHA256.ext``.
        intent_at: UTC ISO time of the last intent to submit.
        price: USD reserved for, and once submitted charged to, all attempts that were not refused;
            None where no price is known.
        attempts: POSTs whose intent was recorded.
        earlier_tasks: ids of tasks that failed before this job was submitted anew: a list still shows them.
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
    task_id: str | None = None
    task_model: str | None = None
    task_status: str | None = None
    task_created_at: str | None = None
    task_error: str = ""
    execution_ms: int | None = None
    matched_by: str | None = None
    intent_at: str | None = None
    attempts: int = 0
    earlier_tasks: tuple[str, ...] = ()
    price: Decimal | None = None
    error: str | None = None
    outputs: list[OutputRecord] = field(default_factory=list)

    @property
    def cost(self) -> Decimal | None:
        """USD that this job counts against the folder's budget; zero before any submit, None where not known."""
        if self.task_id is not None and not self.attempts:
            return self.price  # somebody else submitted it
        return self.price if self.attempts else Decimal(0)
