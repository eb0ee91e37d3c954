"""Single tasks: submit them, wait for them; what ``submit`` and ``wait`` do, as functions."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli import api
from flux_lora_cli.adapters.clock import SystemClock
from flux_lora_cli.adapters.image_store import ImageStore
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.run_folder import RunFolder
from flux_lora_cli.adapters.state_dir import user_ledger_dir
from flux_lora_cli.domain.budget import Budget
from flux_lora_cli.domain.events import Warned
from flux_lora_cli.domain.filenames import DEFAULT_UNKNOWN, Template, case_key
from flux_lora_cli.domain.fingerprint import fingerprint
from flux_lora_cli.domain.matching import parse_time
from flux_lora_cli.domain.outcome import exit_code
from flux_lora_cli.domain.pacing import LookPlanner
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.domain.wire import is_task_id
from flux_lora_cli.errors import BudgetError, ExitCode, FluxLoraError, FolderError, NotFoundError
from flux_lora_cli.workflow.collector import image_event
from flux_lora_cli.workflow.context import Settings, Work, iso
from flux_lora_cli.workflow.planning import request_for, wanted
from flux_lora_cli.workflow.recovery import recover
from flux_lora_cli.workflow.runner import Naming, Runner, add_reasons

if TYPE_CHECKING:
    from flux_lora_cli.adapters.client import Client
    from flux_lora_cli.domain.job import Job
    from flux_lora_cli.workflow.ports import Clock, Observer
    from flux_lora_cli.workflow.pricing import Priced


@dataclass(frozen=True)
class SaveTo:
    """Where images go. ``shown``: how the folder is printed before a file's name."""

    folder: Path
    filename: str | None = None
    fail_on_nsfw: bool = False
    shown: str | None = None


@dataclass
class TasksResult:
    """How submitting or waiting ended; the records in the order in which they were asked for."""

    exit_code: ExitCode
    reasons: dict[ExitCode, FluxLoraError | None]
    records: list[JobRecord] = field(default_factory=list)


# ---- submit -------------------------------------------------------------------------------


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
            Template.parse(save_to.filename or api.DEFAULT_TEMPLATE)
            opened = stack.enter_context(
                RunFolder(save_to.folder, service, clock, fetch=client.download, exclusive=False)
            )
        store = opened.store if opened is not None else ImageStore(ledger.path.parent)
        works = [_planned(job, ledger.next_order() + n, api_version) for n, job in enumerate(jobs)]
        world = api.make_world(client, store, _Both(ledger, opened), clock, observer)
        priced = api.price_plan(works, world.service, clock, price)
        _refuse_over_budget(settings, priced)
        if not confirm(works, priced):
            raise FluxLoraError("not confirmed; nothing was submitted", "Answer y, or add --yes.")
        for work in works:
            if work.image is not None:
                store.keep_input(Path(work.image.path), work.image.sha256, work.image.extension)
        runner = Runner(
            settings,
            world,
            _naming(save_to, opened, clock),
            budget=Budget(settings.max_cost, Decimal(0)),
            planner=api.planner_for(service, works, settings.poll_interval),
            claimed=lambda: (
                ledger.claimed_task_ids()
                | api.claimed_elsewhere(service, [ledger.path.parent, *([save_to.folder] if save_to else [])])
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
        return _result(runner, works, save_to)


def _user_ledger(service: str) -> Ledger:
    folder = user_ledger_dir(service)
    try:
        return Ledger.open(folder, service)
    except FolderError as error:
        if not error.hint:
            error.hint = "The state folder can be named with FLUX_LORA_STATE_DIR."
        raise


def _planned(job: Job, order: int, api_version: str) -> Work:
    seed = job.seed if job.seed is not None and job.seed != -1 else api.draw_seed()
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


def as_task(record: JobRecord) -> JobRecord:
    """The record as the folder keeps it: by its task, since equal requests are distinct tasks there."""
    from dataclasses import replace

    return replace(record, key=f"task:{record.task_id}")


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


# ---- wait ---------------------------------------------------------------------------------


def wait_for(
    task_ids: Iterable[str],
    client: Client,
    service: str,
    settings: Settings,
    save_to: SaveTo,
    *,
    streamed: bool = False,
    observer: Observer = lambda event: None,
    on_runner: Callable[[Runner], None] = lambda runner: None,
    clock: Clock | None = None,
) -> TasksResult:
    """Wait for tasks and save their images.

    Args:
        streamed: ``task_ids`` is read on a thread while the first of them are already waited for.

    Raises:
        NotFoundError: there are no ids, or one that can be no id.
        FolderError: the folder cannot be used.
    """
    clock = clock or SystemClock()
    ids = task_ids if streamed else _checked(list(task_ids))
    with RunFolder(save_to.folder, service, clock, fetch=client.download, exclusive=False) as opened:
        waiter = _Waiter(client, service, settings, save_to, opened, observer, clock)
        on_runner(waiter.runner)
        result = waiter.run(ids, streamed)
        opened.keeper.write()
        return result


def _checked(ids: list[str]) -> list[str]:
    if not ids:
        raise NotFoundError("no task id was given", "Task ids are what submit prints, one a line.")
    for task_id in ids:
        if not is_task_id(task_id):
            raise NotFoundError(f"{task_id!r} is no task id", "Task ids are what submit prints, one a line.")
    return ids


class _Waiter:
    def __init__(
        self,
        client: Client,
        service: str,
        settings: Settings,
        save_to: SaveTo,
        opened: RunFolder,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._service = service
        self._settings = settings
        self._save_to = save_to
        self._opened = opened
        self._observer = observer
        self._clock = clock
        self._works: dict[str, Work] = {}
        self._naming = _naming(save_to, opened, clock)
        self._bad: list[str] = []
        world = api.make_world(client, opened.store, opened.ledger, clock, observer)
        self.runner = Runner(
            settings,
            world,
            self._naming,
            budget=Budget(None, Decimal(0)),
            planner=LookPlanner(settings.poll_interval),
            keep=opened.keeper.keep,
            tick=opened.keeper.tick,
        )

    def run(self, ids: Iterable[str], streamed: bool) -> TasksResult:
        if streamed:
            close = self.runner.hold_open()
            threading.Thread(target=self._read, args=(ids, close), daemon=True, name="ids").start()
        else:
            for task_id in ids:
                self._add(task_id)
        self.runner.run()
        if streamed and not self._works and not self._bad and not self.runner.ctx.reasons:
            raise NotFoundError("no task id came in", "The command before may have failed; see what it said.")
        result = _result(self.runner, list(self._works.values()), self._save_to)
        if self._bad:
            error = NotFoundError(f"no task id: {', '.join(map(repr, self._bad[:5]))}")
            result.reasons[error.exit_code] = error
            result.exit_code = exit_code(result.reasons)
        return result

    def _read(self, ids: Iterable[str], close: Callable[[], None]) -> None:
        soon = self.runner.reactor.soon
        try:
            for line in ids:
                task_id = line.strip()
                if task_id:
                    soon(lambda task_id=task_id: self._add(task_id))  # type: ignore[misc]
        finally:
            soon(close)

    def _add(self, task_id: str) -> None:
        if task_id in self._works:
            return
        if not is_task_id(task_id):
            self._bad.append(task_id)
            return
        opened, now = self._opened, iso(self._clock.now())
        record = opened.ledger.find_task(task_id) or self._new_record(task_id)
        record = opened.records.setdefault(record.key, record)
        if record.state is State.FAILED:
            # The service is asked anew: what is called lost or failed here may have been a passing fault.
            record.state, record.error = State.SUBMITTED, None
        recover(record, opened.store, now)
        for output in record.outputs:
            output.left_out = output.file is None and not wanted(output, self._settings.nsfw, self._settings.download)
        work = self._works[task_id] = Work(record)
        work.submitted_at = self._clock.monotonic() - self._age(record)
        self.runner.book.change(record)
        for output in record.outputs:
            if output.file is not None:
                self._observer(image_event(record, output, self._naming.path_of, earlier=True))
        self.runner.start(work)

    def _age(self, record: JobRecord) -> float:
        """Seconds since the submit, as far as it is known."""
        meant = parse_time(record.intent_at)
        return max(0.0, (self._clock.now() - meant).total_seconds()) if meant is not None else 0.0

    def _new_record(self, task_id: str) -> JobRecord:
        """What the user's ledger knows of a task; else only its id."""
        order = self._opened.next_order()
        try:
            with Ledger.snapshot(user_ledger_dir(self._service)) as ledger:
                known = ledger.find_task(task_id) if ledger is not None else None
        except FluxLoraError as error:
            self._observer(Warned(error.code, error.message))
            known = None
        if known is None:
            return JobRecord(f"task:{task_id}", order=order, task_id=task_id, state=State.SUBMITTED)
        record = as_task(known)
        record.order, record.outputs = order, []
        record.state = State.SUBMITTED
        self._keep_input(record)
        return record

    def _keep_input(self, record: JobRecord) -> None:
        image = (record.input or {}).get("image")
        if isinstance(image, str) and image.startswith("inputs/"):
            digest, _, extension = image.partition("/")[2].partition(".")
            source = user_ledger_dir(self._service) / image
            if source.is_file():
                self._opened.store.keep_input(source, digest, extension)


def _naming(save_to: SaveTo | None, opened: RunFolder | None, clock: Clock) -> Naming:
    template = Template.parse((save_to.filename if save_to else None) or api.DEFAULT_TEMPLATE)
    fallback = Template.parse(DEFAULT_UNKNOWN) if save_to is None or save_to.filename is None else None
    shown = "" if save_to is None else save_to.shown or str(save_to.folder)
    taken = opened.taken_names(case_key) if opened is not None else set()
    return Naming(
        api.name_by(template, clock, fallback), case_key, lambda path: f"{shown}/{path}" if shown else path, taken
    )


def _result(runner: Runner, works: list[Work], save_to: SaveTo | None) -> TasksResult:
    if save_to is not None:
        reasons = runner.outcome(save_to.fail_on_nsfw)
    else:
        reasons = dict(runner.ctx.reasons)
        for work in works:
            if work.record.state is not State.SUBMITTED:
                add_reasons(work.record, reasons)
    return TasksResult(exit_code(reasons), reasons, [work.record for work in works])
