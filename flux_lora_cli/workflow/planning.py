"""From jobs and what the folder knows to what this run has to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flux_lora_cli.domain.fingerprint import fingerprint
from flux_lora_cli.domain.job import Job
from flux_lora_cli.domain.parameters import find_model, request_input
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State
from flux_lora_cli.workflow.context import Work, crowded

#: Seeds that the tool draws stay within 31 bits, which every API version takes. [SERVICE: request parameters]
SEED_BITS = 31


@dataclass(slots=True)
class BatchPlan:
    """What a run has to do.

    Attributes:
        works: one for each distinct job asked for, in order.
        collected: tasks of jobs that are no longer asked for, paid for and not collected yet.
        skipped: records of jobs that are left out.
        duplicates: (id of the duplicate, id of the job that it repeats).
        changed: of the jobs asked for, the records that are not as the folder knew them.
        expanded: jobs as expanded, duplicates included.
        images_to_submit: images that the submits ask for.
    """

    works: list[Work] = field(default_factory=list)
    collected: list[Work] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[JobRecord] = field(default_factory=list)
    changed: list[JobRecord] = field(default_factory=list)
    expanded: int = 0
    images_to_submit: int = 0

    def count(self, *states: State) -> int:
        """How many of the jobs asked for are in one of these states."""
        return sum(work.record.state in states for work in self.works)

    @property
    def to_submit(self) -> list[Work]:
        """What will be submitted."""
        return [work for work in self.works if work.record.state is State.PLANNED]

    @property
    def unknown(self) -> list[Work]:
        """What was submitted by an earlier run, with unknown outcome."""
        return [work for work in self.works if work.record.state in (State.UNKNOWN, State.SUBMITTING)]


def make_plan(
    jobs: Iterable[Job],
    known: Mapping[str, JobRecord],
    draw_seed: Callable[[], int],
    *,
    api_version: str = "v2",
    retry_failed: bool = False,
    shard: tuple[int, int] | None = None,
    collect_others: bool = True,
    skipped: Iterable[Job] = (),
) -> BatchPlan:
    """Match jobs with the folder's records; new ones get a record with a drawn seed.

    Args:
        known: the folder's records by key; those of jobs asked for are brought up to date in place.
        draw_seed: a whole number of at most SEED_BITS bits.
        shard: (K, N): only the K-th of N parts by fingerprint.
        collect_others: also pick up what jobs no longer asked for have in flight.
        skipped: jobs that are left out (``skip: true``): recorded, and not submitted.
    """
    plan = BatchPlan()
    before: dict[str, tuple[object, ...]] = {}
    order = max((record.order for record in known.values()), default=-1) + 1
    by_key: dict[str, Work] = {}
    for job in jobs:
        key = fingerprint(job)
        if shard is not None and not in_shard(key, shard):
            continue
        plan.expanded += 1
        first = by_key.get(key)
        if first is not None:
            plan.duplicates.append((job.id, first.record.id or key))
            first.record.aliases = (*first.record.aliases, job.id)
            continue
        record = known.get(key)
        if record is None:
            record = JobRecord(key, order=order, fingerprint=key, model=job.model)
            order += 1
        else:
            before[key] = _what_a_plan_changes(record)
        _bring_up_to_date(record, job, draw_seed, api_version, retry_failed)
        if record.state is State.PLANNED:
            plan.images_to_submit += images_of(record)
            if crowded(len(plan.works)):
                record.rest()  # until it is its turn
        by_key[key] = work = Work(record, image=job.image)
        plan.works.append(work)
    for job in skipped:
        key = fingerprint(job)
        record = known.get(key)
        if key in by_key or (record is not None and record.state not in (State.PLANNED, State.SKIPPED)):
            continue
        if record is None:
            record = JobRecord(key, order=order, fingerprint=key, model=job.model)
            order += 1
        _bring_up_to_date(record, job, draw_seed, api_version, retry_failed=False)
        record.state = State.SKIPPED
        plan.skipped.append(record)
    for work in plan.works:
        record = work.record
        if record.state is State.PLANNED or before.get(record.key) != _what_a_plan_changes(record):
            plan.changed.append(record)
    if collect_others:
        plan.collected = [
            Work(record, counts=False)
            for key, record in known.items()
            if key not in by_key and (record.state is State.SUBMITTED or lacks_images(record))
        ]
    return plan


def _what_a_plan_changes(record: JobRecord) -> tuple[object, ...]:
    """Of a record that is not planned: ``input`` is made anew for those that are, and they count as changed."""
    return record.id, record.preset, record.aliases, record.state


def in_shard(key: str, shard: tuple[int, int]) -> bool:
    """Whether a fingerprint belongs to part K of N: its first 64 bits, modulo N."""
    part, parts = shard
    return int(key[:16], 16) % parts == part - 1


def _bring_up_to_date(
    record: JobRecord, job: Job, draw_seed: Callable[[], int], api_version: str, retry_failed: bool
) -> None:
    record.id, record.preset, record.aliases = job.id, job.preset, ()
    if record.state is State.FAILED and retry_failed:
        record.state, record.error, record.task_error = State.PLANNED, None, ""
        if record.task_id is not None:
            record.earlier_tasks = (*record.earlier_tasks, record.task_id)
        record.task_id = record.task_status = record.task_model = record.task_created_at = None
        record.execution_ms, record.matched_by, record.outputs = None, None, []
    if record.state is State.SKIPPED:
        record.state = State.PLANNED
    if record.state is State.PLANNED:
        seed = job.seed if job.seed is not None and job.seed != -1 else _kept_seed(record)
        record.input = request_for(job, draw_seed() if seed is None else seed, api_version)


def _kept_seed(record: JobRecord) -> int | None:
    seed = (record.input or {}).get("seed")
    return seed if isinstance(seed, int) and seed >= 0 else None


def request_for(job: Job, seed: int, api_version: str) -> Mapping[str, Any]:
    """The request of a job as it is recorded: defaults explicit, a local image by its hash."""
    params: Mapping[str, Any] = job.params
    if job.image is not None:
        params = {**params, "image": f"inputs/{job.image.sha256}.{job.image.extension}"}
    return request_input(find_model(job.model), params, seed, api_version)


def images_of(record: JobRecord) -> int:
    """How many images the job's request asks for."""
    value = (record.awake().input or {}).get("num_images", 1)
    return value if isinstance(value, int) and value > 0 else 1


def wanted(output: OutputRecord, nsfw: str, download: bool) -> bool:
    """Whether an image is asked for."""
    return download and not (nsfw == "skip" and output.nsfw is True)


def lacks_images(record: JobRecord) -> bool:
    """Whether a completed job has an image that was asked for and is not there, and could be fetched."""
    return record.state is State.COMPLETED and any(
        o.file is None and not o.left_out and not (o.error or "").startswith("output_expired") for o in record.outputs
    )
