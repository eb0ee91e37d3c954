"""From jobs and what the folder knows to what a run has to do, and what that costs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from flux_lora_cli.engine.budget import plain
from flux_lora_cli.engine.events import Plan
from flux_lora_cli.engine.settings import Settings
from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.folder.records import JobRecord, State, present_task
from flux_lora_cli.presets.job import Job, LocalImage
from flux_lora_cli.service.models import Models, Version
from flux_lora_cli.service.wire import is_task_id
from flux_lora_cli.text import quoted

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
        adopt: a task that the user named as this job's (``--adopt``).
        known: a ledger knows the task, so it is asked for longer before it is called lost.
        no_such_task: the service does not know it, and nobody else does.
        resubmitted: it was sent once more in this run, as asked.
    """

    record: JobRecord
    counts: bool = True
    images: Mapping[str, LocalImage] = field(default_factory=dict)
    unit_price: Decimal | None = None
    price_source: str | None = None
    documented_price: Decimal | None = None
    price_is_floor: bool = False
    adopt: str | None = None
    known: bool = True
    no_such_task: bool = False
    resubmitted: bool = False


@dataclass
class BatchPlan:
    """What a run has to do.

    Attributes:
        works: one for each distinct job asked for, in order.
        collected: tasks of jobs that are no longer asked for, paid for and not collected yet.
        skipped: records of jobs that are left out.
        duplicates: (ID of the duplicate, ID of the job that it repeats).
        changed: of the jobs asked for, the records that are not as the folder knew them.
    """

    works: list[Work] = field(default_factory=list)
    collected: list[Work] = field(default_factory=list)
    skipped: list[JobRecord] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    changed: list[JobRecord] = field(default_factory=list)

    def those(self, *states: State) -> list[Work]:
        """Of the jobs asked for, those in one of these states."""
        return [work for work in self.works if work.record.state in states]

    @property
    def to_submit(self) -> list[Work]:
        return self.those(State.PLANNED)

    @property
    def unfinished(self) -> list[Work]:
        """Works that a run can bring further."""
        ended = (State.FAILED, State.SKIPPED, State.COMPLETED)
        works = (*self.works, *self.collected)
        return [work for work in works if work.record.state not in ended or lacks_images(work.record)]

    @property
    def images_to_submit(self) -> int:
        return sum(work.record.images_asked for work in self.to_submit)

    @property
    def total_price(self) -> Decimal:
        """USD of all submissions whose price is known."""
        return sum((work.unit_price or Decimal(0) for work in self.to_submit), Decimal(0))

    def priced_works(self, *, resubmit: bool) -> list[Work]:
        """What this run may pay for; ``resubmit``: also what is of unknown outcome (``--on-unknown resubmit``)."""
        return self.to_submit + (self.those(*UNKNOWN) if resubmit else [])


def draw_seed() -> int:
    """A seed as the tool draws it: within 31 bits, which every API version takes. [SERVICE: request parameters]"""
    return random.SystemRandom().getrandbits(31)


def make_plan(
    jobs: Iterable[Job],
    known: Mapping[str, JobRecord],
    models: Models,
    api_version: Version | None,
    *,
    retry_failed: bool = False,
    shard: tuple[int, int] | None = None,
    collect_others: bool = True,
    skipped: Iterable[Job] = (),
    draw_seed: Callable[[], int] = draw_seed,
) -> BatchPlan:
    """Match jobs with the folder's records; new ones get a record with a drawn seed.

    Args:
        known: the folder's records by key; those of jobs asked for are brought up to date in place.
        api_version: where requests are sent; None for each model's own.
        shard: (K, N): only the K-th of N parts by fingerprint.
        collect_others: also pick up what jobs no longer asked for have in flight.
        skipped: jobs that are left out (``skip: true``): recorded, and not submitted.
    """
    plan = BatchPlan()
    order = itertools.count(max((record.order for record in known.values()), default=-1) + 1)
    by_key: dict[str, Work] = {}
    before: dict[str, tuple[object, ...]] = {}

    def record_of(job: Job) -> JobRecord:
        key = job.fingerprint
        return known.get(key) or JobRecord(key, order=next(order), fingerprint=key, model=job.model)

    def make_request(record: JobRecord, job: Job) -> None:
        kept = (record.input or {}).get("seed")
        drawn = kept if isinstance(kept, int) and kept >= 0 else draw_seed() if job.seed is None else 0
        record.state = State.PLANNED
        record.model, record.api_version, record.input = request_of(job, models, api_version, drawn)

    for job in jobs:
        key = job.fingerprint
        if shard is not None and not in_shard(key, shard):
            continue
        if (first := by_key.get(key)) is not None:
            plan.duplicates.append((job.id, first.record.id or key))
            first.record.aliases = (*first.record.aliases, job.id)
            continue
        record = record_of(job)
        before[key] = _described(record)
        _describe(record, job)
        if record.state is State.FAILED and retry_failed:
            _retire(record)
        work = Work(record, images=job.images)
        if record.state in (State.PLANNED, State.SKIPPED):
            make_request(record, job)
            model = models.find(job.model, api_version, allow_unknown=True)
            work.documented_price, work.price_is_floor = model.price_of(record.input or {}), model.price_is_floor
        by_key[key] = work
        plan.works.append(work)
    for job in skipped:
        record = record_of(job)
        if record.key not in by_key and record.state in (State.PLANNED, State.SKIPPED):
            _describe(record, job)
            make_request(record, job)
            record.state = State.SKIPPED
            plan.skipped.append(record)
    records = [work.record for work in plan.works]
    plan.changed = [r for r in records if r.state is State.PLANNED or before[r.key] != _described(r)]
    if collect_others:
        others = [record for key, record in known.items() if key not in by_key]
        plan.collected = [
            Work(record, counts=False) for record in others if record.state is State.SUBMITTED or lacks_images(record)
        ]
    return plan


def _describe(record: JobRecord, job: Job) -> None:
    record.id, record.preset, record.aliases, record.axes = job.id, job.preset, (), job.axes
    record.seed_drawn = job.seed is None


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


def request_of(
    job: Job, models: Models, api_version: Version | None, drawn: int
) -> tuple[str, Version, dict[str, Any]]:
    """A job's request as it is recorded: model ID, API version, input; a local image as ``inputs/SHA256.ext``.

    Args:
        drawn: the seed of a job without one, within what its model takes.
    """

    def shown(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [shown(each) for each in value]
        image = job.images.get(value) if isinstance(value, str) else None
        return value if image is None else f"inputs/{image.sha256}.{image.extension}"

    model = models.find(job.model, api_version, allow_unknown=True)
    params = {key: shown(value) for key, value in job.params.items()}
    seed = drawn % (model.max_seed + 1) if job.seed is None else job.seed
    return model.id, model.version, model.request(params, seed)


def in_shard(key: str, shard: tuple[int, int]) -> bool:
    """Whether a fingerprint belongs to part K of N (1-based): its first 64 bits, modulo N."""
    part, parts = shard
    return int(key[:16], 16) % parts == part - 1


def lacks_images(record: JobRecord) -> bool:
    """Whether an image of a completed job is missing that the service may still have."""
    return any(not (output.error or "").startswith(GONE) for output in record.missing)


def parse_adoptions(texts: Collection[str], plan: BatchPlan, claimed: Collection[str] = ()) -> list[tuple[Work, str]]:
    """``JOB=ID`` texts (``--adopt``) as works and the task that each is to take.

    Args:
        claimed: IDs of tasks that belong to other jobs.

    Raises:
        UsageError: not of that form, the job's outcome is not unknown, or the task is another job's.
        NotFoundError: no such job.
    """
    by_name = {name: work for work in plan.works for name in (work.record.id, *work.record.aliases)} if texts else {}
    adopted: dict[str, Work] = {}  # by the task
    for text in texts:
        name, _, task_id = text.rpartition("=")
        if not name or not is_task_id(task_id):
            raise UsageError(f"--adopt {quoted(text, 200)}: not of the form JOB=ID", "Give a job's ID and a task's ID.")
        if (work := by_name.get(name)) is None:
            raise NotFoundError(f"--adopt {quoted(text, 200)}: there is no job {quoted(name, 200)} in this batch")
        if work.record.task_id == task_id:
            continue  # the command that adopted it, run again
        if work.record.state not in UNKNOWN:
            message = f"--adopt {quoted(text, 200)}: {name} is {work.record.state.value}"
            raise UsageError(message, "Only a job of unknown outcome takes a task.")
        if task_id in claimed or adopted.setdefault(task_id, work) is not work:
            raise UsageError(f"--adopt {quoted(text, 200)}: task {task_id} belongs to another job already")
    return [(work, task_id) for task_id, work in adopted.items()]


def plan_event(
    plan: BatchPlan, settings: Settings, charged: Decimal, total: Decimal | None, *, folder: str, dry_run: bool
) -> Plan:
    """The plan as an event.

    Args:
        charged: USD that the folder was charged before.
        total: USD that the plan costs; None where a price is not known.
    """
    to_submit = plan.to_submit
    first = to_submit[0].unit_price if to_submit else None
    in_flight = len(plan.those(State.SUBMITTED))
    # Roughly: by concurrency, or by the rate where that is slower.
    seconds = TYPICAL_SECONDS * -(-(len(to_submit) + in_flight) // settings.concurrency)
    seconds = max(seconds, plan.images_to_submit / settings.rate) if settings.rate else seconds
    sources = {work.price_source for work in to_submit if work.unit_price is not None}
    return Plan(
        jobs=len(plan.works),
        done=len(plan.those(State.COMPLETED)),
        failed=len(plan.those(State.FAILED)),
        unknown=len(plan.those(*UNKNOWN)),
        in_flight=in_flight,
        to_submit=len(to_submit),
        images=plan.images_to_submit,
        duplicates=len(plan.duplicates),
        price_usd=None if first is None else plain(first),
        price_source=sources.pop() if len(sources) == 1 else None,
        cost_usd=None if total is None else plain(total),
        charged_usd=plain(charged),
        expected_seconds=round(seconds, 1),
        folder=folder,
        dry_run=dry_run,
    )
