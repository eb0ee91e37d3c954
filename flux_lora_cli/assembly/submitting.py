"""Submit single tasks: what ``submit`` does, as a function."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.adapters.clock import SystemClock
from flux_lora_cli.adapters.image_store import ImageStore
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.run_folder import RunFolder
from flux_lora_cli.adapters.state_dir import user_ledger_dir
from flux_lora_cli.assembly.pricing import price_plan
from flux_lora_cli.assembly.task_runs import SaveTo, TasksResult, as_task, naming, result_of
from flux_lora_cli.assembly.world import claimed_elsewhere, draw_seed, make_world, planner_for
from flux_lora_cli.domain.budget import Budget
from flux_lora_cli.domain.filenames import DEFAULT, Template
from flux_lora_cli.domain.fingerprint import fingerprint
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.errors import BudgetError, DiskFull, FolderError
from flux_lora_cli.workflow.context import Settings, Work
from flux_lora_cli.workflow.planning import request_for
from flux_lora_cli.workflow.runner import Runner

if TYPE_CHECKING:
    from flux_lora_cli.adapters.client import Client
    from flux_lora_cli.domain.job import Job
    from flux_lora_cli.workflow.ports import Clock, Observer
    from flux_lora_cli.workflow.pricing import Priced


def submit_jobs(
    jobs: Iterable[Job],
    client: Client,
    service: str,
    settings: Settings,
    *,
    price: Decimal | None = None,
    api_version: str = "v2",
    save_to: SaveTo | None = None,
    observer: Observer = lambda event: None,
    accepted: Callable[[JobRecord], None] = lambda record: None,
    confirm: Callable[[list[Work], Priced], bool] = lambda works, priced: True,
    on_runner: Callable[[Runner], None] = lambda runner: None,
    clock: Clock | None = None,
) -> TasksResult:
    """Submit jobs, each of them: two equal requests are two tasks.

    Their intents are kept in the user's own ledger, so that a lost terminal loses no task.

    Args:
        price: USD an image, where the service does not say.
        save_to: also wait for the tasks and save their images there.
        accepted: told of each task, in the order of the jobs.

    Raises:
        FolderError: the user's ledger, or the output folder, cannot be used.
        BudgetError, AuthError, ServiceError: before the first submit.
    """
    clock = clock or SystemClock()
    with ExitStack() as stack:
        ledger = stack.enter_context(_user_ledger(service))
        opened = None
        if save_to is not None:
            Template.parse(save_to.filename or DEFAULT)
            opened = stack.enter_context(
                RunFolder(save_to.folder, service, clock, fetch=client.download, exclusive=False)
            )
        store = opened.store if opened is not None else ImageStore(ledger.path.parent)
        works = [_planned(job, ledger.next_order() + n, api_version) for n, job in enumerate(jobs)]
        world = make_world(client, store, _Both(ledger, opened), clock, observer)
        priced = price_plan(works, world.service, clock, price)
        _refuse_over_budget(settings, priced)
        if not confirm(works, priced):
            raise BudgetError("not confirmed; nothing was submitted", "Answer y, or add --yes.")
        for work in works:
            if work.image is not None:
                store.keep_input(Path(work.image.path), work.image.sha256, work.image.extension)
        runner = Runner(
            settings,
            world,
            naming(save_to, opened, clock),
            budget=Budget(settings.max_cost, Decimal(0)),
            planner=planner_for(service, works, settings.poll_interval),
            claimed=lambda: (
                ledger.claimed_task_ids()
                | claimed_elsewhere(service, [ledger.path.parent, *([save_to.folder] if save_to else [])])
                | (opened.ledger.claimed_task_ids() if opened else set())
                | {work.record.task_id for work in works if work.record.task_id}
            ),
            keep=opened.keeper.keep if opened else lambda changed: None,
            tick=opened.keeper.tick if opened else lambda: None,
            follow=save_to is not None,
        )
        _InOrder(works, accepted).watch(runner)
        ledger.save(work.record for work in works)
        on_runner(runner)
        for work in works:
            runner.start(work)
        runner.run()
        if opened is not None:
            opened.keeper.write()
        return result_of(runner, works, save_to)


def _user_ledger(service: str) -> Ledger:
    folder = user_ledger_dir(service)
    try:
        return Ledger.open(folder, service)
    except FolderError as error:
        if type(error) is FolderError or isinstance(error, DiskFull):
            error.hint = "Name another state folder with FLUX_LORA_STATE_DIR."
        raise


def _planned(job: Job, order: int, api_version: str) -> Work:
    seed = job.seed if job.seed is not None and job.seed != -1 else draw_seed()
    record = JobRecord(
        f"submit:{uuid.uuid4()}",
        id=job.id,
        order=order,
        preset=job.preset,
        fingerprint=fingerprint(job),
        model=job.model,
        input=request_for(job, seed, api_version),
    )
    return Work(record, image=job.image)


def _refuse_over_budget(settings: Settings, priced: Priced) -> None:
    if settings.max_cost is None:
        return
    if priced.total is None:
        raise BudgetError(
            "the price of an image is not known, so --max-cost cannot be kept", "Name it with --price USD."
        )


class _Both:
    """Records of ``submit``: intents in the user's ledger first, accepted tasks in the output folder, too."""

    def __init__(self, ledger: Ledger, opened: RunFolder | None) -> None:
        self._ledger = ledger
        self._opened = opened

    def save(self, records: Iterable[JobRecord]) -> None:
        """Write, durably."""
        records = list(records)
        self._ledger.save(records)
        if self._opened is None:
            return
        copies = [as_task(record) for record in records if record.task_id]
        if copies:
            known = self._opened.records
            for copy in copies:
                copy.order = known[copy.key].order if copy.key in known else self._opened.next_order()
                known[copy.key] = copy
            self._opened.ledger.save(copies)


class _InOrder:
    """Tells of accepted tasks in the order of the jobs, each as soon as it and all before it are settled."""

    def __init__(self, works: list[Work], accepted: Callable[[JobRecord], None]) -> None:
        self._works = works
        self._accepted = accepted
        self._next = 0

    def watch(self, runner: Runner) -> None:
        """Look after each commit: only what is durable is told."""
        before = runner.book.on_commit

        def committed(changed: list[JobRecord]) -> None:
            before(changed)
            self._tell()

        runner.book.on_commit = committed

    def _tell(self) -> None:
        while self._next < len(self._works):
            work = self._works[self._next]
            if work.record.task_id is not None:
                self._accepted(work.record)
            elif work.record.state is not State.FAILED and not work.settled:
                return
            self._next += 1
