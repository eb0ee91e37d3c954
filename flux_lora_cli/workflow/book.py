"""The run's records, made durable in groups before anything is done that relies on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.workflow.ports import Clock, Records

#: Seconds that a change may wait for others where nothing depends on it: a commit is a disk flush.
LINGER = 0.1
#: Seconds that a change may wait which the same record's next change will carry.
LATER = 2.0


@dataclass
class Book:
    """Collects changed records and commits them together.

    ``change(record, then)`` promises that ``then`` runs after the record is durable, and never before. An urgent
    change is committed at the end of the loop's turn, others within LINGER seconds. ``later(record)`` is for what a
    rerun would learn again by itself: it goes with the record's next change, or alone after LATER seconds.
    """

    records: Records
    clock: Clock
    on_commit: Callable[[list[JobRecord]], None] = lambda changed: None
    _dirty: dict[str, JobRecord] = field(default_factory=dict)
    _then: list[Callable[[], None]] = field(default_factory=list)
    _due: float | None = None
    _later: dict[str, tuple[float, JobRecord]] = field(default_factory=dict)

    def change(self, record: JobRecord, then: Callable[[], None] | None = None, *, urgent: bool = False) -> None:
        """Note that ``record`` changed."""
        self._dirty[record.key] = record
        self._later.pop(record.key, None)
        if then is not None:
            self._then.append(then)
        due = self.clock.monotonic() + (0.0 if urgent else LINGER)
        self._due = due if self._due is None else min(self._due, due)

    def later(self, record: JobRecord) -> None:
        """Note that ``record`` changed, and will soon change again."""
        if record.key not in self._dirty:
            self._later.setdefault(record.key, (self.clock.monotonic() + LATER, record))

    def flush(self, everything: bool = False) -> float | None:
        """Commit what is due; returns the seconds until more is due, None where nothing waits."""
        while True:
            self._bring_forward(everything)
            if self._due is None:
                return None
            wait = self._due - self.clock.monotonic()
            if wait > 0 and not everything:
                return wait
            self._commit()

    def _bring_forward(self, everything: bool) -> None:
        """Changes that were put off for long enough become like others."""
        now = self.clock.monotonic()
        while self._later:
            due, record = next(iter(self._later.values()))  # the oldest
            if due > now and not everything:
                self._due = due if self._due is None else min(self._due, due)
                return
            self.change(record, urgent=True)

    def _commit(self) -> None:
        changed, then = list(self._dirty.values()), self._then
        # A failing commit must leave the changes noted: nothing that relies on them may run.
        self.records.save(changed)
        self._dirty, self._then, self._due = {}, [], None
        self.on_commit(changed)
        for action in then:
            action()
