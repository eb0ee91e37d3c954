"""The one vocabulary of what happens: progress display, NDJSON, JUnit and logs all read these.

Each class is one ``"event"`` of ``--json``; its fields are the line's fields. Times are seconds,
money is a decimal string in USD, paths are as printed on standard output.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    event: ClassVar[str] = ""

    def as_dict(self) -> dict[str, Any]:
        """The event as the object of one NDJSON line."""
        return {"event": self.event, **{f.name: getattr(self, f.name) for f in fields(self)}}


@dataclass(frozen=True)
class Plan(Event):
    """What a batch is about to do. ``in_flight`` counts tasks that an earlier run submitted."""

    event: ClassVar[str] = "plan"
    jobs: int
    done: int
    failed: int
    unknown: int
    in_flight: int
    to_submit: int
    images: int
    duplicates: int
    price_usd: str | None
    price_source: str | None
    cost_usd: str | None
    charged_usd: str | None
    expected_seconds: float | None
    folder: str | None
    dry_run: bool


@dataclass(frozen=True)
class Submitted(Event):
    """A task was accepted."""

    event: ClassVar[str] = "submitted"
    job: str | None
    task: str
    model: str | None
    seed: int | None


@dataclass(frozen=True)
class TaskStatus(Event):
    """What a look at a task found (``status``, ``wait``)."""

    event: ClassVar[str] = "status"
    job: str | None
    task: str | None
    status: str
    error: str
    model: str | None = None
    created_at: str | None = None


@dataclass(frozen=True)
class Completed(Event):
    """A task ended well; its images follow as ``image`` events."""

    event: ClassVar[str] = "completed"
    job: str | None
    task: str
    outputs: int
    execution_ms: int | None


@dataclass(frozen=True)
class Image(Event):
    """An image is surely on disk. ``earlier`` where a former run saved it."""

    event: ClassVar[str] = "image"
    job: str | None
    task: str | None
    index: int
    path: str
    sha256: str
    bytes: int
    width: int
    height: int
    media_type: str
    nsfw: bool | None
    earlier: bool = False


@dataclass(frozen=True)
class Missing(Event):
    """An image that was asked for could not be saved. ``earlier`` where a former run said so, and none will come."""

    event: ClassVar[str] = "missing"
    job: str | None
    task: str | None
    index: int
    code: str
    message: str
    earlier: bool = False


@dataclass(frozen=True)
class Failed(Event):
    """A job failed, or its task was lost. ``earlier`` where that was in a former run."""

    event: ClassVar[str] = "failed"
    job: str | None
    task: str | None
    code: str
    message: str
    earlier: bool = False


@dataclass(frozen=True)
class Unseen(Event):
    """A task could not be looked at, however often. It is paid for, and a rerun looks again."""

    event: ClassVar[str] = "unseen"
    job: str | None
    task: str | None
    code: str
    message: str


@dataclass(frozen=True)
class Overdue(Event):
    """A task was not finished in its time (``--task-timeout``). It is paid for, and a rerun picks it up."""

    event: ClassVar[str] = "overdue"
    job: str | None
    task: str | None
    message: str


@dataclass(frozen=True)
class Unknown(Event):
    """Whether a submit was accepted is not known."""

    event: ClassVar[str] = "unknown"
    job: str | None
    message: str


@dataclass(frozen=True)
class Held(Event):
    """A submit of unknown outcome was not resolved. ``candidates`` are task ids that could be it."""

    event: ClassVar[str] = "held"
    job: str | None
    message: str
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adopted(Event):
    """A task found in the account was recognised as a job's."""

    event: ClassVar[str] = "adopted"
    job: str | None
    task: str
    matched_by: str


@dataclass(frozen=True)
class Waiting(Event):
    """Why nothing is sent for a while. ``what`` is ``rate``, ``outage`` or ``reconcile``."""

    event: ClassVar[str] = "waiting"
    what: str
    seconds: float
    message: str


@dataclass(frozen=True)
class Progress(Event):
    """Where a run stands, now and then. ``saving``: images on their way to the disk."""

    event: ClassVar[str] = "progress"
    jobs: int
    done: int
    failed: int
    in_flight: int
    saving: int
    images: int
    cost_usd: str | None
    elapsed_seconds: float
    remaining_seconds: float | None


@dataclass(frozen=True)
class Warned(Event):
    """Something the user should know that stops nothing."""

    event: ClassVar[str] = "warning"
    code: str
    message: str


@dataclass(frozen=True)
class Explained(Event):
    """A decision, told under ``-v`` only (why it waits, why it looks again)."""

    event: ClassVar[str] = "explained"
    message: str


@dataclass(frozen=True)
class Problem(Event):
    """One problem of a preset."""

    event: ClassVar[str] = "problem"
    file: str
    line: int
    column: int
    key: str
    message: str


@dataclass(frozen=True)
class Error(Event):
    """Why the command ends."""

    event: ClassVar[str] = "error"
    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Record(Event):
    """One result of a command that lists things; ``kind`` says which (``job``, ``preset``, ``file``, ``check`` …)."""

    event: ClassVar[str] = "record"
    kind: str
    data: dict[str, Any]
