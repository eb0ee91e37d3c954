"""The manifest: the readable picture of a folder's records (CONTRACT: ``manifest.json``, version 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from flux_lora_cli.domain.records import JobRecord, OutputRecord, State

#: Version of the document.
VERSION = 1
#: Seconds between two writes while a run goes on; and the share of the time that writing may take (1/20).
SECONDS_BETWEEN_WRITES = 5.0
TIMES_THE_LAST_WRITE = 20.0

_PENDING = frozenset({State.PLANNED, State.SUBMITTING, State.SUBMITTED})


@dataclass(frozen=True, slots=True)
class Source:
    """A preset file that jobs came from; ``path`` as the user named it, ``-`` for standard input."""

    path: str
    sha256: str


@dataclass(slots=True)
class Head:
    """What the manifest says of the folder as a whole.

    Attributes:
        created_at, updated_at: UTC ISO times.
    """

    service: str
    sandbox: bool
    tool_version: str
    created_at: str
    updated_at: str
    sources: list[Source] = field(default_factory=list)


@dataclass(slots=True)
class Cadence:
    """When to write the manifest again: at most 5 s behind, or 20 times what the last write took.

    All times are seconds of the monotonic clock, handed in.
    """

    dirty: bool = False
    _last_end: float | None = None
    _last_took: float = 0.0

    def touch(self) -> None:
        """Note that something changed."""
        self.dirty = True

    def wrote(self, began: float, ended: float) -> None:
        """Note a write."""
        self.dirty = False
        self._last_end, self._last_took = ended, ended - began

    def due_at(self) -> float | None:
        """Return when the next write is due: None while nothing changed, at once (0) before the first."""
        if not self.dirty:
            return None
        if self._last_end is None:
            return 0.0
        # A little early: what changed right after the last write began is that much older.
        pause = max(SECONDS_BETWEEN_WRITES - 2 * self._last_took, TIMES_THE_LAST_WRITE * self._last_took)
        return self._last_end + pause

    def due(self, now: float) -> bool:
        """Tell whether to write now."""
        at = self.due_at()
        return at is not None and now >= at


def entry(record: JobRecord) -> dict[str, Any]:
    """Return the manifest's entry of a job."""
    record = record.awake()
    return {
        "id": record.id,
        "aliases": list(record.aliases),
        "preset": record.preset,
        "fingerprint": record.fingerprint,
        "state": record.state.value,
        "request": {"model": record.model, "input": None if record.input is None else dict(record.input)},
        "task": {
            "id": record.task_id,
            "model": record.task_model,
            "status": record.task_status,
            "created_at": record.task_created_at,
            "execution_ms": record.execution_ms,
            "error": record.task_error,
            "matched_by": record.matched_by,
        },
        "outputs": [_output(output) for output in record.outputs],
        "attempts": record.attempts,
        "cost_usd": decimal_text(record.cost),
        "error": record.error,
    }


def _output(output: OutputRecord) -> dict[str, Any]:
    return {
        "index": output.index,
        "url": output.url,
        "nsfw": output.nsfw,
        "file": output.file,
        "sha256": output.sha256,
        "bytes": output.bytes,
        "width": output.width,
        "height": output.height,
        "media_type": output.media_type,
        "saved_at": output.saved_at,
        "error": output.error,
    }


@lru_cache(maxsize=256)
def decimal_text(amount: Decimal | None) -> str | None:
    """Return an amount as plain digits without exponent or trailing zeros: ``0.015``."""
    return None if amount is None else format(amount.normalize() + 0, "f")


_COUNTED = (
    "jobs", "completed", "failed", "unknown", "pending", "skipped", "images", "missing", "nsfw", "nsfw_unknown",
)  # fmt: skip


class Summary:
    """The manifest's ``summary``, a record at a time.

    ``images`` are those saved; ``missing`` those of completed jobs that were asked for and have no file;
    ``nsfw`` and ``nsfw_unknown`` count every output of completed jobs; ``cost_usd`` is the sum of the
    costs that are known, None where there are some and none is known.
    """

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._cost, self._known_costs, self._unknown_costs = Decimal(0), 0, 0

    def add(self, record: JobRecord) -> None:
        """Count a record."""
        counts = self._counts
        counts["jobs"] += 1
        counts["pending" if record.state in _PENDING else record.state.value] += 1
        known = record.cost
        if known:
            self._cost += known
            self._known_costs += 1
        elif known is None and record.attempts:
            self._unknown_costs += 1
        if record.state is State.COMPLETED:
            for output in record.awake().outputs:
                self._add_output(output)

    def _add_output(self, output: OutputRecord) -> None:
        counts = self._counts
        if output.file is not None:
            counts["images"] += 1
        elif not output.left_out:
            counts["missing"] += 1
        if output.nsfw is None:
            counts["nsfw_unknown"] += 1
        elif output.nsfw:
            counts["nsfw"] += 1

    def document(self) -> dict[str, Any]:
        """What was counted, as it is written."""
        some = self._known_costs or not self._unknown_costs
        return {**self._counts, "cost_usd": decimal_text(self._cost) if some else None}


def summary(records: Iterable[JobRecord]) -> dict[str, Any]:
    """Count the records as the manifest's ``summary`` does."""
    counts = Summary()
    for record in records:
        counts.add(record)
    return counts.document()


def head_document(head: Head, counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything of the manifest but its jobs, in the order in which it is written."""
    return {
        "version": VERSION,
        "tool": {"name": "flux-lora", "version": head.tool_version},
        "service": head.service,
        "sandbox": head.sandbox,
        "created_at": head.created_at,
        "updated_at": head.updated_at,
        "sources": [{"path": source.path, "sha256": source.sha256} for source in head.sources],
        "summary": dict(counts),
    }


def document(head: Head, records: Iterable[JobRecord]) -> dict[str, Any]:
    """Return the whole manifest; for small folders and tests: writing streams it."""
    listed = list(records)
    return {**head_document(head, summary(listed)), "jobs": [entry(record) for record in listed]}
