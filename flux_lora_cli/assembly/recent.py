"""The recent tasks of this user: what the account lists, and what the user's own ledger remembers."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.state_dir import user_ledger_dir
from flux_lora_cli.domain.backoff import Policy
from flux_lora_cli.domain.matching import find, parse_time
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import FluxLoraError, NotFoundError, Rejected
from flux_lora_cli.workflow.asking import ask
from flux_lora_cli.workflow.inquiry import Standing, look_at, standing_of

if TYPE_CHECKING:
    from flux_lora_cli.workflow.ports import Clock, Service

#: Tasks shown at most, of the account's list and of the ledger each.
MOST = 50
#: The service deletes predictions after this time. [documentation]
KEPT = timedelta(days=7)
_TRIES = Policy(tries=4, base=1.0, cap=20.0)


def recent_tasks(service: Service, name: str, clock: Clock) -> list[Standing]:
    """The newest last. Raises AuthError, ServiceError."""
    try:
        listed = list(
            ask(lambda: service.predictions(page=1, page_size=MOST), clock, random.random, Policy(4, 1.0, 20.0))
        )
    except Rejected:
        listed = []  # not every account has the list; the ledger still knows what was submitted from here
    standings = {task.id: standing_of(task) for task in reversed(listed)}
    remembered = [r for r in _remembered(name) if _is_recent(r, clock)]
    unseen = [r.task_id for r in remembered if r.task_id and r.task_id not in standings]
    for standing in look_at(service, unseen, clock, random.random) if unseen else ():
        if not standing.missing and standing.task_id:
            standings[standing.task_id] = standing
    lost = [_lost(record, listed) for record in remembered if record.state in (State.UNKNOWN, State.SUBMITTING)]
    return [*lost, *standings.values()]


def _remembered(name: str) -> list[JobRecord]:
    try:
        with Ledger.snapshot(user_ledger_dir(name)) as ledger:
            return [] if ledger is None else list(reversed(ledger.recent(MOST)))
    except NotFoundError:
        return []
    except FluxLoraError:
        return []  # a damaged ledger is told of by what writes it


def _is_recent(record: JobRecord, clock: Clock) -> bool:
    meant = parse_time(record.intent_at)
    return meant is not None and clock.now() - meant < KEPT


def _lost(record: JobRecord, listed: list[Task]) -> Standing:
    """A submit whose outcome is not known, with the task that it probably became."""
    found = find(record, listed, ())
    names = (*found.matches, *found.candidates)
    what = f"submitted at {record.intent_at}, outcome not known"
    hint = f"; it may be {', '.join(names[:3])}" if names else "; not in the account's list"
    return Standing(None, "unknown", what + hint, record.model, record.intent_at)
