"""Looking at tasks without waiting for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flux_lora_cli.domain.backoff import LOOK, Draw
from flux_lora_cli.domain.task import TERMINAL, Task
from flux_lora_cli.errors import TaskNotFound
from flux_lora_cli.workflow.asking import ask
from flux_lora_cli.workflow.ports import Clock, Service

#: Looks at a task that the service does not know: "a few seconds". [CONTRACT: waiting]
NOT_FOUND_TRIES = 3
NOT_FOUND_EVERY = 1.5
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one task; ``missing`` where the service knows none of that id."""

    task_id: str | None
    status: str
    error: str = ""
    model: str | None = None
    created_at: str | None = None
    missing: bool = False

    @property
    def terminal(self) -> bool:
        """Whether it will not change any more."""
        return self.missing or self.status in TERMINAL


def standing_of(task: Task) -> Standing:
    """A task as one line."""
    return Standing(task.id, task.status, task.error, task.model, task.created_at)


def look(service: Service, task_id: str, clock: Clock, draw: Draw) -> Standing:
    """Look at one task; asked a few times before it is called missing.

    Raises what ``ask`` raises.
    """
    for attempt in range(NOT_FOUND_TRIES):
        try:
            return standing_of(ask(lambda: service.result(task_id), clock, draw, LOOK))
        except TaskNotFound:  # noqa: PERF203 - each turn is a request; what a try costs is nothing beside it
            if attempt + 1 < NOT_FOUND_TRIES:
                clock.sleep(NOT_FOUND_EVERY)
    return Standing(task_id, "", missing=True)


def look_at(service: Service, ids: Sequence[str], clock: Clock, draw: Draw) -> Iterator[Standing]:
    """Look at tasks, several at once; in the order of ``ids``."""
    if len(ids) == 1:
        yield look(service, ids[0], clock, draw)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda task_id: look(service, task_id, clock, draw), ids)


def watched(service: Service, ids: Sequence[str], clock: Clock, draw: Draw, every: float) -> Iterator[Standing]:
    """Look again and again until all tasks have ended; each change is told once."""
    told: dict[str, str] = {}
    open_ids = list(ids)
    while open_ids:
        began = clock.monotonic()
        still = []
        for standing in look_at(service, open_ids, clock, draw):
            task_id = standing.task_id or ""
            if told.get(task_id) != standing.status or standing.missing:
                told[task_id] = standing.status
                yield standing
            if not standing.terminal:
                still.append(task_id)
        open_ids = still
        if open_ids:
            clock.sleep(max(0.0, every - (clock.monotonic() - began)))
