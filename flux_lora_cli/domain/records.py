"""What a folder knows of its jobs and their images: the rows of the ledger, the entries of the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import Enum
from typing import Any

from flux_lora_cli.domain.field_values import FieldValues
from flux_lora_cli.domain.packed import pack, unpack


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

    Of 100,000 jobs few are on their way: a record that nothing will happen to for a while is laid to ``rest``. It
    reads and changes like any other, and is awake from then on. Who goes through all records reads their ``awake``
    copies, or all would be awake at once.

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
    resting: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def rest(self) -> None:
        """Keep what is seldom asked for packed, in a third of the memory; not so with an image on its way."""
        self.wake()
        if any(output.temp for output in self.outputs):
            return
        values = _SELDOM.differing(self)
        if self.input is not None:
            values["input"] = dict(self.input)
        if self.outputs:
            values["outputs"] = [OUTPUT_VALUES.differing(output) for output in self.outputs]
        self.resting = pack(values)
        for name in _AT_REST:
            delattr(self, name)

    def wake(self) -> None:
        """Unpack what ``rest`` has packed."""
        if self.resting is not None:
            for name, value in self._laid_down().items():
                setattr(self, name, value)
            self.resting = None

    def awake(self) -> JobRecord:
        """To read from: itself, or a copy while this one stays at rest."""
        if self.resting is None:
            return self
        copy = JobRecord(self.key)
        for name in _ALWAYS:
            setattr(copy, name, getattr(self, name))
        for name, value in self._laid_down().items():
            setattr(copy, name, value)
        return copy

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is not there: a field of a record at rest.
        if name not in _AT_REST or self.resting is None:
            raise AttributeError(f"a job record has no {name!r}")
        self.wake()
        return getattr(self, name)

    def _laid_down(self) -> dict[str, Any]:
        """What this record at rest says of the fields in ``_AT_REST``."""
        assert self.resting is not None
        values = unpack(self.resting)
        values["outputs"] = [OutputRecord(**output) for output in values.get("outputs", ())]
        for name, default in _AT_REST.items():
            values[name] = self._written(name, values.get(name, default))
        return values

    def _written(self, name: str, laid_down: Any) -> Any:
        """The value of a field that was written while the record was at rest, else the one that was laid down."""
        try:
            return object.__getattribute__(self, name)
        except AttributeError:
            return laid_down

    @property
    def cost(self) -> Decimal | None:
        """USD that this job counts against the folder's budget; zero before any submit, None where not known."""
        if self.task_id is not None and not self.attempts:
            return self.price  # somebody else submitted it
        return self.price if self.attempts else Decimal(0)


#: Fields of an output that differ from their defaults.
OUTPUT_VALUES = FieldValues(OutputRecord)
#: What a record at rest has packed, with the defaults; the rest is asked for often, or shared with others anyway.
_AT_REST: dict[str, Any] = {
    f.name: f.default
    for f in fields(JobRecord)
    if f.name
    in {
        "id", "input", "task_model", "task_status", "task_created_at", "task_error", "execution_ms", "matched_by",
        "intent_at", "error", "outputs",
    }
}  # fmt: skip
_ALWAYS = tuple(f.name for f in fields(JobRecord) if f.name not in _AT_REST and f.name not in ("key", "resting"))
_SELDOM = FieldValues(JobRecord, {"key", "resting", "input", "outputs", *_ALWAYS})
