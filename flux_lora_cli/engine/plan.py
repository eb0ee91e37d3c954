"""From jobs and what the folder knows to what a run has to do, and what that costs."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from flux_lora_cli.engine.budget import plain
from flux_lora_cli.engine.events import Plan
from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.folder.records import JobRecord, State, present_task, purchases
from flux_lora_cli.presets.job import Job, LocalImage
from flux_lora_cli.service.models import Models, Version
from flux_lora_cli.service.wire import is_task_id
from flux_lora_cli.text import quoted

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Settings

#: Seconds that a task takes where nothing is known yet. [measured at the real service: 2 to 6 s]
TYPICAL_SECONDS = 4.0
#: Codes of outputs that never come, however often they are asked for.
GONE = ("output_expired", "not_delivered")
#: What an earlier run submitted, with unknown outcome.
UNKNOWN = (State.UNKNOWN, State.SUBMITTING)


@dataclass(eq=False)
class Work:
    """A job on its way through a run.

    Attributes:
        counts: it was asked for; False for a task that is only collected.
        images: local images that the request names, by SHA-256.
        unit_price: USD for the whole request; None where no price is known. ``price_source``: who said so
            (``service``, ``--price``, ``documented``).
        documented_price: USD by the model's documentation: for estimates only. ``price_is_floor``: it may cost more.
        known: a ledger knows the task, so it is asked for longer before it is called lost.
        no_such_task: the service does not know it, and nobody else does.
    """

    record: JobRecord
    counts: bool = True
    images: Mapping[str, LocalImage] = field(default_factory=dict)
    unit_price: Decimal | None = None
    price_source: str | None = None
    documented_price: Decimal | None = None
    price_is_floor: bool = False
    known: bool = True
    no_such_task: bool = False


@dataclass
class BatchPlan:
    """What a run has to do.

    Attributes:
        works: one for each distinct job asked for, in order.
        collected: tasks of jobs that are no longer asked for, paid for and not collected yet.
        skipped: records of jobs that are left out.
        changed: of the jobs asked for, the records that are not as the folder knew them.
    """

    works: list[Work] = field(default_factory=list)
    collected: list[Work] = field(default_factory=list)
    skipped: list[JobRecord] = field(default_factory=list)
    changed: list[JobRecord] = field(default_factory=list)

    def those(self, *states: State) -> list[Work]:
        """Of the jobs asked for, those in one of these states."""
        return [work for work in self.works if work.record.state in states]

    @property
    def duplicates(self) -> list[tuple[str, str]]:
        """(ID of the duplicate, ID of the job that it repeats)."""
        return [(alias, work.record.name) for work in self.works for alias in work.record.aliases]

    @property
    def to_submit(self) -> list[Work]:
        return self.those(State.PLANNED)

    @property
    def unfinished(self) -> list[Work]:
        """Works that a run can bring further."""
        ended = (State.FAILED, State.SKIPPED, State.COMPLETED)
        works = (*self.works, *self.collected)
        return [work for work in works if work.record.state not in ended or lacks_images(work.record)]


def draw_seed() -> int:
    """A seed as the tool draws it: within 31 bits, which every API version takes. [SERVICE: request parameters]"""
    return random.SystemRandom().getrandbits(31)


def make_plan(
    jobs: Iterable[Job],
    known: Mapping[str, JobRecord],
    models: Models | None = None,
    api_version: Version | None = None,
    *,
    retry_failed: bool = False,
    shard: tuple[int, int] | None = None,
    only_some: bool = False,
    adopt: Collection[str] = (),
    skipped: Iterable[Job] = (),
    draw_seed: Callable[[], int] = draw_seed,
) -> BatchPlan:
    """Match jobs with the folder's records; new ones get a record with a drawn seed.

    Args:
        known: the folder's records by key; those of jobs asked for are brought up to date in place.
        models: the model tables at hand; None for the built-in ones.
        api_version: where requests are sent; None for each model's own.
        shard: (K, N): only the K-th of N parts by fingerprint: its first 64 bits, modulo N.
        only_some: the jobs are a part of the preset's, so what others have in flight is left alone.
        skipped: jobs that are left out (``skip: true``): recorded, and not submitted.

    Raises UsageError, NotFoundError: an ``adopt`` (``JOB=ID``) that cannot be meant.
    """
    plan, models = BatchPlan(), models or Models.builtin()
    order = itertools.count(max((record.order for record in known.values()), default=-1) + 1)

    def record_of(key: str) -> JobRecord:
        return known.get(key) or JobRecord(key, order=next(order), fingerprint=key)

    alike: dict[str, list[Job]] = {}
    for job in jobs:
        key = job.fingerprint
        if shard is None or int(key[:16], 16) % shard[1] == shard[0] - 1:
            alike.setdefault(key, []).append(job)
    for key, (job, *twins) in alike.items():
        record = record_of(key)
        before = _described(record)
        if record.state is State.FAILED and retry_failed:
            _retire(record)
        plan.works.append(plan_work(record, job, models, api_version, draw_seed, [twin.id for twin in twins]))
        if record.state is State.PLANNED or before != _described(record):
            plan.changed.append(record)
    for job in skipped:
        record = record_of(job.fingerprint)
        if record.key not in alike and record.state in (State.PLANNED, State.SKIPPED):
            plan_work(record, job, models, api_version, draw_seed)
            record.state = State.SKIPPED
            plan.skipped.append(record)
    if not (only_some or shard):
        others = [record for key, record in known.items() if key not in alike]
        plan.collected = [
            Work(record, counts=False) for record in others if record.state is State.SUBMITTED or lacks_images(record)
        ]
    _adopt(plan, adopt, known.values())
    return plan


def _described(record: JobRecord) -> tuple[object, ...]:
    """What a plan changes of a record that is not planned; the request of one that is, is made anew."""
    return record.id, record.preset, record.aliases, record.axes, record.state


def _retire(record: JobRecord) -> None:
    """A failed job is planned anew; what its task was, cost and told stays in its history."""
    if record.attempts or record.task_id is not None:
        record.history = (*record.history, present_task(record))
    record.state, record.error, record.task_error, record.outputs = State.PLANNED, None, "", []
    record.price = record.refunded = Decimal(0)
    record.task_id = record.task_status = record.task_model = record.task_created_at = None
    record.execution_ms = record.matched_by = record.intent_at = record.service_clock = None


def plan_work(
    record: JobRecord,
    job: Job,
    models: Models,
    api_version: Version | None,
    draw_seed: Callable[[], int] = draw_seed,
    aliases: Iterable[str] = (),
) -> Work:
    """The work of making a job; its record gets what the preset says of it.

    Unless it was submitted, that is also the request as it is kept: a local image as ``inputs/SHA256.ext``, and a seed,
    which is drawn once, within what the model takes, for a job without one.
    """
    record.id, record.preset, record.aliases, record.axes = job.id, job.preset, tuple(aliases), job.axes
    record.seed_drawn, work = job.seed is None, Work(record, images=job.images)
    if record.state not in (State.PLANNED, State.SKIPPED):
        return work

    def name(image: LocalImage) -> str:
        return f"inputs/{image.sha256}.{image.extension}"

    model = models.find(job.model, api_version, allow_unknown=True)
    seed = job.seed
    if seed is None:
        kept = (record.input or {}).get("seed")
        seed = (kept if isinstance(kept, int) and kept >= 0 else draw_seed()) % (model.max_seed + 1)
    request = model.request({key: job.with_images(value, name) for key, value in job.params.items()}, seed)
    record.state, record.model, record.api_version, record.input = State.PLANNED, model.id, model.version, request
    work.documented_price, work.price_is_floor = model.price_of(request), model.price_is_floor
    return work


def lacks_images(record: JobRecord) -> bool:
    """Whether an image of a completed job is missing that the service may still have."""
    return any(not (output.error or "").startswith(GONE) for output in record.missing)


def _adopt(plan: BatchPlan, texts: Collection[str], known: Iterable[JobRecord]) -> None:
    """Give jobs of unknown outcome the tasks that ``JOB=ID`` texts (``--adopt``) name."""
    if not texts:
        return
    by_name = {name: work.record for work in plan.works for name in (work.record.id, *work.record.aliases)}
    owners = {task.task_id: record.key for record in known for task in purchases(record)}
    for text in texts:
        said = f"--adopt {quoted(text, 200)}"
        name, _, task_id = text.rpartition("=")
        if not name or not is_task_id(task_id):
            raise UsageError(f"{said}: not of the form JOB=ID", "Give a job's ID and a task's ID.")
        if (record := by_name.get(name)) is None:
            raise NotFoundError(f"{said}: there is no job {quoted(name, 200)} in this batch")
        if record.task_id == task_id:
            continue  # the command that adopted it, run again
        if record.state not in UNKNOWN:
            raise UsageError(f"{said}: {name} is {record.state.value}", "Only a job of unknown outcome takes a task.")
        if owners.setdefault(task_id, record.key) != record.key:
            raise UsageError(f"{said}: task {task_id} belongs to another job already")
        record.state, record.task_id, record.matched_by, record.error = State.SUBMITTED, task_id, "user", None
        record.attempts = max(1, record.attempts)
        plan.changed.append(record)


def plan_event(
    plan: BatchPlan, settings: Settings, charged: Decimal | None, total: Decimal | None, *, folder: str, dry_run: bool
) -> Plan:
    """The plan as an event; USD that the folder was charged before, and that the plan costs in all."""
    to_submit = plan.to_submit
    first = to_submit[0].unit_price if to_submit else None
    images = sum(work.record.images_asked for work in to_submit)
    states = Counter(work.record.state for work in plan.works)
    # Roughly: by concurrency, or by the rate where that is slower.
    seconds = TYPICAL_SECONDS * -(-(len(to_submit) + states[State.SUBMITTED]) // settings.concurrency)
    seconds = max(seconds, images / settings.rate) if settings.rate else seconds
    sources = {work.price_source for work in to_submit if work.unit_price is not None}
    return Plan(
        jobs=len(plan.works),
        done=states[State.COMPLETED],
        failed=states[State.FAILED],
        unknown=sum(states[state] for state in UNKNOWN),
        in_flight=states[State.SUBMITTED],
        to_submit=len(to_submit),
        images=images,
        duplicates=len(plan.duplicates),
        price_usd=None if first is None else plain(first),
        price_source=sources.pop() if len(sources) == 1 else None,
        cost_usd=None if total is None else plain(total),
        charged_usd=None if charged is None else plain(charged),
        expected_seconds=round(seconds, 1),
        folder=folder,
        dry_run=dry_run,
    )
