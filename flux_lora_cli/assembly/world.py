"""The real world of a run: client, threads, clock, names, and what earlier runs learned."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_lora_cli.adapters.inputs import image_reference
from flux_lora_cli.adapters.ledger import claimed_task_ids
from flux_lora_cli.adapters.state_dir import Notes, state_dir, user_ledger_dir
from flux_lora_cli.adapters.workers import QueueInbox, ThreadWorkers
from flux_lora_cli.domain.filenames import Template
from flux_lora_cli.domain.pacing import LookPlanner
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.domain.text import slug
from flux_lora_cli.errors import FluxLoraError
from flux_lora_cli.workflow.context import NameOf, Work
from flux_lora_cli.workflow.planning import SEED_BITS
from flux_lora_cli.workflow.ports import Clock, Observer
from flux_lora_cli.workflow.runner import World

if TYPE_CHECKING:
    from datetime import datetime

    from flux_lora_cli.adapters.client import Client
    from flux_lora_cli.domain.records import OutputRecord
    from flux_lora_cli.domain.task import Task
    from flux_lora_cli.workflow.ports import Records, Store

#: Threads that call the API, and that fetch images, at most. Both grow only as calls pile up.
CALLERS, FETCHERS = 32, 16


@dataclass(frozen=True)
class ServicePort:
    """``workflow.ports.Service`` over the client: a local image goes inline or through an upload."""

    client: Client

    def submit(self, model: str, request_input: Mapping[str, Any]) -> Task:
        """Submit a task."""
        return self.client.submit(model, request_input)

    def result(self, task_id: str) -> Task:
        """Look at a task."""
        return self.client.result(task_id)

    def predictions(
        self,
        *,
        page: int = 1,
        page_size: int = 100,
        model: str | None = None,
        created_after: datetime | None = None,
    ) -> Sequence[Task]:
        """One page of recent tasks, newest first."""
        return self.client.predictions(page, page_size, model, created_after)

    def price(self, model: str, request_input: Mapping[str, Any]) -> Decimal | None:
        """USD for the whole request."""
        return self.client.price(model, request_input)

    def balance(self) -> Decimal | None:
        """USD left."""
        return self.client.balance()

    def upload(self, path: str, media_type: str) -> str:
        """The reference under which the service reads a local file."""
        return image_reference(self.client, path, media_type)


def draw_seed() -> int:
    """A seed as the tool draws it."""
    return random.SystemRandom().getrandbits(SEED_BITS)


def make_world(client: Client, store: Store, records: Records, clock: Clock, observer: Observer) -> World:
    """The real world of a run."""
    return World(
        clock,
        QueueInbox(),
        ServicePort(client),
        store,
        records,
        ThreadWorkers(CALLERS, "api"),
        ThreadWorkers(FETCHERS, "image"),
        observer,
        random.random,
    )


def name_by(template: Template, clock: Clock, fallback: Template | None = None) -> NameOf:
    """Names after a template; ``fallback`` for tasks whose request is not known."""
    day = clock.now().astimezone().date().isoformat()

    def name_of(record: JobRecord, output: OutputRecord, extension: str) -> str:
        request = record.input or {}
        chosen = template if record.input is not None or fallback is None else fallback
        return chosen.render(
            {
                "preset": record.preset,
                "job": record.id,
                "slug": slug(str(request.get("prompt") or "")),
                "seed": request.get("seed"),
                "index": output.index,
                "fingerprint": record.fingerprint,
                "task": record.task_id,
                "ext": extension,
                "date": day,
            }
        )

    return name_of


def planner_for(service: str, works: Sequence[Work], floor: float) -> LookPlanner:
    """A planner that starts with what earlier runs learned of the works' model."""
    return LookPlanner.restore(_pace(service, works[0].record.model) if works else {}, floor)


def claimed_elsewhere(service: str, opened: Collection[Path]) -> set[str]:
    """Ids of tasks that the user's own ledger, or the ledger of another folder at hand, already has.

    Args:
        opened: folders whose ledgers this process has open; the caller knows what they claim.
    """
    here = {folder.resolve() for folder in opened}
    claimed: set[str] = set()
    for place in (user_ledger_dir(service), *Notes(state_dir()).folders()):
        if place.resolve() in here:
            continue
        try:
            claimed |= claimed_task_ids(place)
        except (FluxLoraError, OSError):
            continue  # what cannot be read claims nothing
    return claimed


def typical_seconds(service: str, works: Sequence[Work]) -> float | None:
    """What recent tasks of the first work's model took, in the middle; None where nothing is known."""
    if not works:
        return None
    times = sorted(_pace(service, works[0].record.model).get("service_s") or [])
    return float(times[len(times) // 2]) if times else None


def pace_note(service: str, model: str | None) -> str:
    return f"pace-{slug(f'{service} {model}', 100)}"


def _pace(service: str, model: str | None) -> Mapping[str, Any]:
    note = Notes(state_dir()).read(pace_note(service, model))
    return note if isinstance(note, Mapping) else {}
