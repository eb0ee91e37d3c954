"""Presets into jobs, and jobs to the end: what ``batch`` does, as functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.adapters.clock import SystemClock
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.preset_files import FolderPresetFiles
from flux_lora_cli.adapters.run_folder import RunFolder
from flux_lora_cli.adapters.state_dir import Notes, state_dir
from flux_lora_cli.assembly.folder_part import check_part, part_to_remember
from flux_lora_cli.assembly.forewarning import warn_of_balance, warn_of_room
from flux_lora_cli.assembly.pricing import price_plan
from flux_lora_cli.assembly.world import (
    claimed_elsewhere,
    draw_seed,
    make_world,
    name_by,
    pace_note,
    planner_for,
    typical_seconds,
)
from flux_lora_cli.domain.events import Plan
from flux_lora_cli.domain.filenames import DEFAULT, Template, case_key
from flux_lora_cli.domain.presets.loading import Loaded, LoadOptions, load_sources
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.errors import BudgetError
from flux_lora_cli.workflow.asking import out_of_time
from flux_lora_cli.workflow.batch import (
    Batch,
    Outcome,
    check_images,
    expected_seconds,
    parse_adoptions,
    plan_event,
    spent,
)
from flux_lora_cli.workflow.context import Settings, Work, iso
from flux_lora_cli.workflow.planning import BatchPlan, make_plan
from flux_lora_cli.workflow.pricing import Priced
from flux_lora_cli.workflow.runner import Naming, Runner

if TYPE_CHECKING:
    from flux_lora_cli.adapters.client import Client
    from flux_lora_cli.domain.job import Job
    from flux_lora_cli.workflow.ports import Clock, Observer


@dataclass(frozen=True)
class BatchOptions:
    """How a batch runs, besides ``Settings``.

    Attributes:
        filename: template of the images' names; None for the default.
        price: USD an image, where the service does not say.
        shard: (K, N).
        engine: who said which part this is (``--shard auto``): the folder then keeps to that part; None where the
            user named it.
        only_some: the jobs are a part of the preset's (``--only``): others in the folder are left alone.
        verify: read every byte of saved images.
        adopt: ``JOB=ID`` texts.
        skipped: jobs that the presets leave out, for the record.
    """

    filename: str | None = None
    price: Decimal | None = None
    shard: tuple[int, int] | None = None
    engine: str | None = None
    only_some: bool = False
    retry_failed: bool = False
    verify: bool = False
    adopt: Sequence[str] = ()
    skipped: Sequence[Job] = ()
    fail_on_nsfw: bool = False
    api_version: str = "v2"
    #: How a folder's path is printed before a file's: as the user wrote it.
    shown_folder: str | None = None


@dataclass
class BatchResult:
    """A batch that has ended, with the records of the jobs that were asked for."""

    outcome: Outcome
    plan: BatchPlan
    priced: Priced
    records: list[JobRecord] = field(default_factory=list)


def load_presets(*paths: str | Path, options: LoadOptions | None = None, allow: Sequence[str | Path] = ()) -> Loaded:
    """Preset files into jobs.

    Args:
        allow: folders below which presets may name files, besides their own.

    Raises:
        NotFoundError: a path does not exist.
        PresetError: with every problem of every file.
    """
    return load_sources([str(path) for path in paths], FolderPresetFiles(allow), options)


def run_batch(
    jobs: Iterable[Job],
    client: Client,
    service: str,
    folder: Path,
    settings: Settings | None = None,
    options: BatchOptions | None = None,
    *,
    observer: Observer = lambda event: None,
    sources: Sequence[tuple[str, str]] = (),
    confirm: Callable[[Plan, BatchPlan], bool] = lambda event, plan: True,
    on_runner: Callable[[Runner], None] = lambda runner: None,
    clock: Clock | None = None,
) -> BatchResult:
    """Submit what is not done, wait, save; run again to resume.

    Args:
        service: whom the folder belongs to: the base URL's origin, or ``sandbox``.
        sources: (path, SHA-256) of the preset files, for the manifest.
        confirm: asked with the priced plan before the first submit; False ends the run before it.
        on_runner: gets the runner before it starts (to interrupt it).

    Raises:
        UsageError, NotFoundError, FolderError, FolderBusy, BudgetError, AuthError, ServiceError: before the
            first submit. Afterwards such errors are ``reasons`` of the outcome.
    """
    settings, options, clock = settings or Settings(), options or BatchOptions(), clock or SystemClock()
    template = Template.parse(options.filename or DEFAULT)
    fetch = client.download

    def check(ledger: Ledger) -> None:
        check_part(folder, ledger, options.shard, options.engine)

    with RunFolder(folder, service, clock, fetch=fetch, sources=sources, check=check) as opened:
        run = _Run(client, service, opened, settings, options, observer, clock, template)
        return run.run(jobs, confirm, on_runner)


class _Run:
    """``run_batch`` over its opened folder, step by step."""

    def __init__(
        self,
        client: Client,
        service: str,
        opened: RunFolder,
        settings: Settings,
        options: BatchOptions,
        observer: Observer,
        clock: Clock,
        template: Template,
    ) -> None:
        self._service_name = service
        self._opened = opened
        self._settings = settings
        self._options = options
        self._observer = observer
        self._clock = clock
        self._notes = Notes(state_dir())
        self._world = make_world(client, opened.store, opened.ledger, clock, observer)
        self._template = template
        self._repriced: list[JobRecord] = []
        self._ends_at: float | None = None

    def run(
        self,
        jobs: Iterable[Job],
        confirm: Callable[[Plan, BatchPlan], bool],
        on_runner: Callable[[Runner], None],
    ) -> BatchResult:
        opened, options = self._opened, self._options
        plan = make_plan(
            jobs,
            opened.records,
            draw_seed,
            api_version=options.api_version,
            retry_failed=options.retry_failed,
            shard=options.shard,
            collect_others=not (options.only_some or options.shard),
            skipped=options.skipped,
        )
        adoptions = parse_adoptions(options.adopt, plan, self._claimed() if options.adopt else ())
        now = iso(self._clock.now())
        changed = check_images(plan, self._world, self._settings, now, options.verify)
        priced = self._in_time(lambda: self._price(plan))
        charged = spent(opened.records.values())
        typical = typical_seconds(self._service_name, plan.works)
        event = plan_event(
            plan, priced, charged, expected_seconds(plan, self._settings, typical), str(opened.folder), False
        )
        self._observer(event)
        if plan.to_submit:
            opened.store.check_writable()
            warn_of_room(opened.store.free_bytes(), plan.images_to_submit, opened.folder, self._observer)
            if not confirm(event, plan):
                raise BudgetError("not confirmed; nothing was submitted", "Answer y, or add --yes.")
        self._keep_inputs(plan)
        self._record(plan, changed)
        planner = planner_for(self._service_name, plan.works, self._settings.poll_interval)
        batch = Batch(
            plan,
            opened.records,
            self._settings,
            self._world,
            self._naming(),
            planner,
            claimed=self._claimed,
            keep=opened.keeper.keep,
            tick=opened.keeper.tick,
            adoptions=adoptions,
        )
        batch.runner.ctx.task_ids.update(r.task_id for r in opened.records.values() if r.task_id)
        on_runner(batch.runner)
        outcome = batch.run(priced, options.fail_on_nsfw)
        opened.keeper.finish()
        if plan.works:
            self._notes.write(pace_note(self._service_name, plan.works[0].record.model), planner.export())
        return BatchResult(outcome, plan, priced, [*(work.record for work in plan.works), *plan.skipped])

    def _naming(self) -> Naming:
        """Asked for after the images were checked: one that is missing leaves its name to its successor."""
        shown = self._options.shown_folder
        shown = str(self._opened.folder) if shown is None else shown
        taken = self._opened.taken_names(case_key)
        return Naming(name_by(self._template, self._clock), case_key, lambda path: f"{shown}/{path}", taken)

    def _in_time(self, work: Callable[[], Priced]) -> Priced:
        """What is asked before the run counts as its time (``--timeout``)."""
        if self._settings.timeout is None:
            return work()
        self._ends_at = self._clock.monotonic() + self._settings.timeout
        result = work()
        left = self._ends_at - self._clock.monotonic()
        if left <= 0:
            raise out_of_time()
        self._settings = replace(self._settings, timeout=left)
        return result

    def _price(self, plan: BatchPlan) -> Priced:
        again = plan.unknown if self._settings.on_unknown == "resubmit" else []
        if self._settings.max_cost is not None and (plan.to_submit or again):
            self._price_earlier()
        self._ask_prices(again)
        if not plan.to_submit:
            return Priced(Decimal(0), None)
        priced = self._ask_prices(plan.to_submit)
        warn_of_balance(priced, self._world.service, self._clock, self._observer)
        return priced

    def _ask_prices(self, works: Sequence[Work]) -> Priced:
        return price_plan(works, self._world.service, self._clock, self._options.price, self._ends_at)

    def _price_earlier(self) -> None:
        """What earlier runs submitted at an unknown price counts against ``--max-cost`` at today's."""
        works = [Work(record) for record in self._opened.records.values() if record.attempts and record.cost is None]
        if self._ask_prices(works).total is None:
            raise BudgetError(
                f"what {len(works)} earlier jobs of this folder cost is not known, so --max-cost cannot be kept",
                "Name the price of an image with --price.",
            )
        for work in works:
            assert work.unit_price is not None
            work.record.price = work.unit_price * work.record.attempts
            self._repriced.append(work.record)

    def _keep_inputs(self, plan: BatchPlan) -> None:
        """Each once, before its first submit; also one that somebody deleted, and with ``verify`` one that was altered.

        Without it, a job that is done could not be made again.
        """
        inputs = {work.image.sha256: work.image for work in plan.works if work.image is not None}
        needed = {work.image.sha256 for work in plan.to_submit if work.image is not None}
        for digest, image in inputs.items():
            kept = self._opened.folder / "inputs" / f"{digest}.{image.extension}"
            if digest in needed or self._options.verify or not kept.is_file():
                self._opened.store.keep_input(Path(image.path), digest, image.extension)

    def _record(self, plan: BatchPlan, changed: list[JobRecord]) -> None:
        """Everything the run knows is durable, and the manifest valid, before the first submit."""
        records = self._opened.records
        for work in plan.works:
            records[work.record.key] = work.record
        records.update((record.key, record) for record in plan.skipped)
        touched = {id(r): r for some in (changed, plan.skipped, plan.changed, self._repriced) for r in some}
        self._opened.keeper.own()
        part = part_to_remember(self._opened.ledger, self._options.shard, self._options.engine)
        if touched or part:  # a rerun of what is done changes neither
            self._opened.ledger.save(touched.values(), part)
            self._opened.keeper.write()
        self._notes.remember_folder(self._opened.folder.resolve())

    def _claimed(self) -> set[str]:
        return claimed_elsewhere(self._service_name, [self._opened.folder]) | {
            task
            for record in self._opened.records.values()
            for task in (record.task_id, *record.earlier_tasks)
            if task is not None
        }
