"""Single tasks: submitted without a preset's folder, waited for by their IDs, looked up."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.engine import events
from flux_lora_cli.engine.assemble import Observer, Result, Session, drive, listed, require_confirmation
from flux_lora_cli.engine.budget import Budget, check_budget
from flux_lora_cli.engine.durable import Store, in_thread, opened_folder
from flux_lora_cli.engine.fetch import image_event
from flux_lora_cli.engine.follow import LOST_AFTER, NO_SUCH_TASK_AFTER
from flux_lora_cli.engine.plan import Work, describe, draw_seed, plan_work
from flux_lora_cli.engine.settings import Settings, Stop
from flux_lora_cli.errors import FluxLoraError, TaskNotFound
from flux_lora_cli.folder import state
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.ledger import Ledger
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord, State
from flux_lora_cli.service.models import Models

if TYPE_CHECKING:
    from flux_lora_cli.presets.job import Job
    from flux_lora_cli.service.client import Client
    from flux_lora_cli.service.models import Version
    from flux_lora_cli.service.wire import Task


def submit_jobs(
    jobs: Iterable[Job],
    client: Client,
    service: str,
    settings: Settings | None = None,
    *,
    models: Models | None = None,
    api_version: Version | None = None,
    folder: Path | None = None,
    reach: Sequence[str] = (),
    observer: Observer = lambda event: None,
    accepted: Callable[[JobRecord], None] = lambda record: None,
    confirm: Callable[[list[Work]], bool] = lambda works: True,
    stop: Stop | None = None,
) -> Result:
    """Submit each of the jobs: two equal requests are two tasks.

    Their intents are kept in the user's own ledger, so that a lost terminal loses no task.

    Args:
        folder: also wait for the tasks, and save their images there.
        reach: options with which another command reaches the same service, for those that hints name.
        accepted: told of each task, in the order of the jobs.

    Raises:
        FolderError: the user's ledger, or the output folder, cannot be used.
        BudgetError, AuthError, ServiceError: before the first submission.
    """
    settings = replace(settings or Settings(), follow=folder is not None)
    session = Session(client, service, settings, observer)
    tables = models or Models.builtin()

    async def main() -> Result:
        with ExitStack() as stack:
            ledger = await in_thread(state.open_user_ledger, service)
            stack.callback(ledger.close)
            opened = None
            if folder is not None:
                opened = await opened_folder(partial(OutputFolder.open, folder, service, exclusive=False))
                stack.callback(opened.close)
            works = [_planned(job, tables, api_version) for job in jobs]
            total = await session.price(works)
            if (error := check_budget(settings.max_cost, total)) is not None:
                raise error
            if settings.max_month is not None:
                refunded = await session.refunds(await in_thread(lambda: list(ledger.records())))
                await in_thread(ledger.save, [ledger.row(record) for record in refunded])
            stack.callback(await session.reserve_month(works, total, None))
            require_confirmation(await in_thread(confirm, works))
            images = opened.images if opened is not None else ImageStore(ledger.path.parent)
            await session.keep_inputs(works, images)
            waiting = [work.record for work in works]
            session.observer = _in_order(waiting, accepted, observer)
            budget, counts = Budget(settings.max_cost), (len(works), 0, len(works))
            store = Store(opened, ledger)
            run = await session.run_works(listed(works), store, images, budget, str(folder), counts)
            for record in waiting:  # behind one that was never accepted
                if record.task_id is not None:
                    accepted(record)
            records = [work.record for work in works]
            command = "submit" if folder is None else "submit --wait"
            return session.result(run, records, command=command, reach=reach, folder=folder, estimated=total)

    return drive(session, main, stop)


def wait_for(
    task_ids: Iterable[str],
    client: Client,
    service: str,
    folder: Path,
    settings: Settings | None = None,
    *,
    api_version: Version | None = None,
    reach: Sequence[str] = (),
    observer: Observer = lambda event: None,
    stop: Stop | None = None,
) -> Result:
    """Wait for tasks and save their images.

    Args:
        task_ids: may come slowly (a pipe): each is waited for as soon as it is there.
        reach: as of ``submit_jobs``.

    Raises:
        FolderError: the output folder cannot be used.
    """
    settings = settings or Settings()
    session = Session(client, service, settings, observer)

    async def main() -> Result:
        with ExitStack() as stack:
            opened = await opened_folder(partial(OutputFolder.open, folder, service, exclusive=False))
            stack.callback(opened.close)
            ledger = None
            with suppress(FluxLoraError):  # it only helps: names, and requests for the manifest
                ledger = await in_thread(partial(state.open_user_ledger, service, create=False))
                stack.callback(ledger.close)
            state.remember_folder(opened.path)
            waited: dict[str, Work] = {}
            read: list[str] = []
            ids = _noted(task_ids, read)
            works = _asked_for(session, ids, opened, str(folder), ledger, api_version, waited)
            store = Store(opened)
            run = await session.run_works(works, store, opened.images, Budget(None), str(folder))
            records = [work.record for work in waited.values() if not work.no_such_task]
            with suppress(TimeoutError, ValueError):  # the pipe is still open; a thread still reads it
                await asyncio.wait_for(in_thread(list, ids), 0.3)
            by_task = {record.task_id: record for record in opened.records.values()}
            left = (task_id for task_id in dict.fromkeys(read) if task_id not in waited)
            records += [by_task.get(task_id) or _adopted(None, task_id, 0) for task_id in left]
            return session.result(run, records, command="wait", reach=reach, folder=folder)

    return drive(session, main, stop)


def look_up(
    tasks: Iterable[tuple[str, Version, bool]],
    client: Client,
    service: str,
    stop: Stop,
) -> list[Task | FluxLoraError]:
    """What the service says of tasks, in their order; an error in place of a task that it does not tell of.

    Args:
        tasks: (ID, API version, whether a ledger knows it): one that is known is asked for during a minute.
    """
    session = Session(client, service, Settings(), lambda event: None)

    async def one(task_id: str, version: Version, known: bool) -> Task | FluxLoraError:
        loop = asyncio.get_running_loop()
        until = loop.time() + (LOST_AFTER if known else NO_SUCH_TASK_AFTER)
        while True:
            try:
                return await session.read(client.result, task_id, version)
            except TaskNotFound as error:
                if loop.time() >= until:
                    return error
            except FluxLoraError as error:
                return error
            await asyncio.sleep(5.0 if known else 1.0)

    async def main() -> list[Task | FluxLoraError]:
        return await asyncio.gather(*(one(*task) for task in tasks))

    return drive(session, main, stop)


def _planned(job: Job, models: Models, api_version: Version | None) -> Work:
    record = JobRecord(f"submit:{uuid.uuid4()}", fingerprint=job.fingerprint)
    describe(record, job)
    return plan_work(record, job, models, api_version, draw_seed())


async def _asked_for(
    session: Session,
    task_ids: Iterator[str],
    opened: OutputFolder,
    shown: str,
    ledger: Ledger | None,
    api_version: Version | None,
    waited: dict[str, Work],
) -> AsyncIterator[Work]:
    """A work for each ID that is not done yet; what is, is told, in the folder as it is ``shown``."""
    by_task = {record.task_id: record for record in opened.records.values() if record.task_id}
    while (task_id := await in_thread(next, task_ids, None)) is not None:
        if task_id in waited:
            continue
        record = by_task.get(task_id)
        known = record is not None
        if record is None:
            found = await in_thread(ledger.find, task_id) if ledger is not None else None
            known = found is not None
            record = _adopted(found, task_id, opened.next_order())
        record.api_version = record.api_version or api_version
        waited[task_id] = work = Work(record, known=known)
        assert session.run is not None
        session.run.expected += 1
        if await in_thread(opened.images.recover, record):
            await session.run.save(record)
        for output in record.outputs:
            if output.file is not None:
                session.observer(image_event(record, output, shown, earlier=True))
        if record.state is State.FAILED:
            record.state = State.SUBMITTED  # asked anew: it costs a poll, and "lost" may not be the last word
        if record.state is not State.COMPLETED or record.missing:  # what had expired, too: the address may be fresh
            yield work
        else:
            session.run.done += 1


def _noted(task_ids: Iterable[str], read: list[str]) -> Iterator[str]:
    """The IDs, each put into ``read`` first: a run that is ended names also those that it did not come to."""
    for task_id in task_ids:
        read.append(task_id)
        yield task_id


def _adopted(found: JobRecord | None, task_id: str, order: int) -> JobRecord:
    """A record for the output folder, of what the user's ledger knows of a task."""
    if found is None:
        return JobRecord(f"task:{task_id}", order=order, task_id=task_id, state=State.SUBMITTED)
    return replace(found, key=f"task:{task_id}", order=order, state=State.SUBMITTED, error=None, outputs=[])


def _in_order(waiting: list[JobRecord], accepted: Callable[[JobRecord], None], observer: Observer) -> Observer:
    """An observer that also tells of accepted tasks, in the order of ``waiting``, which it empties as they settle."""

    def observe(event: events.Event) -> None:
        observer(event)
        if not isinstance(event, (events.Submitted, events.Adopted, events.Failed, events.Held)):
            return
        while waiting and _settled(waiting[0]):
            record = waiting.pop(0)
            if record.task_id is not None:
                accepted(record)

    return observe


def _settled(record: JobRecord) -> bool:
    held = record.state is State.UNKNOWN and (record.error or "").startswith("held")
    return record.task_id is not None or record.state is State.FAILED or held
