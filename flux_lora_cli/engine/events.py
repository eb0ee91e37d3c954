"""The one vocabulary of what happens: progress display, NDJSON, JUnit and logs all read these.

Each class is one ``"event"`` of ``--json``; its fields are the line's fields. Times are seconds,
money is a decimal string in USD, paths are as printed on standard output.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class Event:
    """Base of all events; ``class X(Event, event="x")`` is a frozen dataclass, and names the line."""

    event: ClassVar[str] = ""

    def __init_subclass__(cls, event: str = "") -> None:
        cls.event = event
        dataclass(frozen=True)(cls)

    def as_dict(self) -> dict[str, Any]:
        """The event as the object of one NDJSON line."""
        return {"event": self.event, **{field.name: getattr(self, field.name) for field in fields(self)}}


class OfTask(Event):
    """Base of what happens to a job's task, as far as there is one."""

    job: str | None
    task: str | None


class Plan(Event, event="plan"):
    """What a batch is about to do. ``in_flight`` counts tasks that an earlier run submitted."""

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


class Submitted(OfTask, event="submitted"):
    """A task was accepted."""

    task: str
    model: str | None
    seed: int | None


class TaskStatus(OfTask, event="status"):
    """What a poll of a task found (``status``, ``wait``)."""

    status: str
    error: str
    model: str | None = None
    created_at: str | None = None


class Completed(OfTask, event="completed"):
    """A task ended well; its images follow as ``image`` events."""

    task: str
    outputs: int
    execution_ms: int | None


class Image(OfTask, event="image"):
    """An image is surely on disk. ``earlier`` where a former run saved it."""

    index: int
    path: str
    sha256: str
    bytes: int
    width: int
    height: int
    media_type: str
    nsfw: bool | None
    earlier: bool = False


class Missing(OfTask, event="missing"):
    """An image that was asked for could not be saved. ``earlier`` where a former run said so, and none will come."""

    index: int
    code: str
    message: str
    earlier: bool = False


class Failed(OfTask, event="failed"):
    """A job failed, or its task was lost. ``earlier`` where that was in a former run."""

    code: str
    message: str
    earlier: bool = False


class PollFailed(OfTask, event="unseen"):
    """A task could not be polled, however often. It is paid for, and a rerun polls it again."""

    code: str
    message: str


class Overdue(OfTask, event="overdue"):
    """A task was not finished in its time (``--task-timeout``). It is paid for, and a rerun picks it up."""

    message: str


class Unknown(Event, event="unknown"):
    """Whether a submission was accepted is not known."""

    job: str | None
    message: str


class Held(Event, event="held"):
    """A submission of unknown outcome was not resolved. ``candidates`` are task ids that could be it."""

    job: str | None
    message: str
    candidates: tuple[str, ...] = ()


class Adopted(OfTask, event="adopted"):
    """A task found in the account was recognised as a job's."""

    task: str
    matched_by: str


class Waiting(Event, event="waiting"):
    """Why nothing is sent for a while. ``what`` is ``rate``, ``outage`` or ``reconcile``."""

    what: str
    seconds: float
    message: str


class Progress(Event, event="progress"):
    """Where a run stands, now and then.

    ``saving``: images on their way to the disk. ``oldest``: (job or task, seconds since its submission) of the tasks
    that have been running longest.
    """

    jobs: int
    done: int
    failed: int
    in_flight: int
    saving: int
    images: int
    cost_usd: str | None
    elapsed_seconds: float
    remaining_seconds: float | None
    oldest: tuple[tuple[str, float], ...] = ()


class Warned(Event, event="warning"):
    """Something the user should know that stops nothing."""

    code: str
    message: str


class Explained(Event, event="explained"):
    """A decision, told under ``-v`` only (why it waits, why it polls again)."""

    message: str


class Problem(Event, event="problem"):
    """One problem of a preset."""

    file: str
    line: int
    column: int
    key: str
    message: str


class Note(Event, event="note"):
    """Something in a preset that is valid and probably not meant; ``kind`` names the rule."""

    file: str
    line: int
    column: int
    kind: str
    message: str


class Error(Event, event="error"):
    """Why the command ends."""

    code: str
    message: str
    hint: str
    advice: str = ""
    tasks: tuple[dict[str, str | None], ...] = ()


class Record(Event, event="record"):
    """One result of a command that lists things; ``kind`` says which (``job``, ``preset``, ``file``, ``check`` …)."""

    kind: str
    data: dict[str, Any]
