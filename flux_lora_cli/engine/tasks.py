"""Single tasks: submitted without a preset's folder, waited for by their IDs, looked up."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.engine.assemble import Observer, Result, Session, Settings, Stop
from flux_lora_cli.engine.budget import check_budget
from flux_lora_cli.engine.durable import Store, in_thread
from flux_lora_cli.engine.events import Event
from flux_lora_cli.engine.fetch import image_event
from flux_lora_cli.engine.follow import insist
from flux_lora_cli.engine.plan import BatchPlan, Work, plan_work
from flux_lora_cli.errors import FluxLoraError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.images import ImageStore
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
    confirm: Callable[[int, Decimal | None], bool] = lambda images, cost: True,
    stop: Stop | None = None,
) -> Result:
    """Submit each of the jobs: two equal requests are two tasks.

    Their intents are kept in the user's own ledger, so that a lost terminal loses no task.

    Args:
        folder: also wait for the tasks, and save their images there.
        reach: options with which another command reaches the same service, for those that hints name.
        accepted: told of each task, in the order of the jobs.
        confirm: asked with the number of images and their cost before the first submission.

    Raises:
        FolderError: the user's ledger, or the output folder, cannot be used.
        BudgetError, AuthError, ServiceError: before the first submission.
    """
    settings = replace(settings or Settings(), follow=folder is not None)
    waiting: list[JobRecord] = []

    def tell_accepted(ended: bool = False) -> None:
        for record in waiting.copy():
            if record.task_id is not None:
                waiting.remove(record)
                accepted(record)
            elif not (ended or record.state is State.FAILED or (record.error or "").startswith("held")):
                break  # its ID may come, and is told before the others

    def observe(event: Event) -> None:
        observer(event)
        tell_accepted()

    command = "submit" if folder is None else "submit --wait"
    session = Session(client, service, settings, observe, stop or Stop(), folder=folder, command=command, reach=reach)

    async def main() -> Result:
        ledger = await in_thread(state.open_user_ledger, service)
        session.closing.callback(ledger.close)
        opened = await session.open_folder(folder, exclusive=False) if folder is not None else None
        plan = BatchPlan()
        for job in jobs:
            record = JobRecord(f"submit:{uuid.uuid4()}", fingerprint=job.fingerprint)
            plan.works.append(plan_work(record, job, models or Models.builtin(), api_version))
        total = await session.price(plan.works)
        if (error := check_budget(settings.max_cost, total)) is not None:
            raise error
        if settings.max_month is not None:
            refunded = await session.refunds(await in_thread(lambda: list(ledger.records())))
            await in_thread(ledger.save, [ledger.row(record) for record in refunded])
        await session.reserve_month(plan.works, total, None)
        images_asked = sum(work.record.images_asked for work in plan.works)
        await session.ask(lambda: confirm(images_asked, total))
        waiting.extend(work.record for work in plan.works)
        images = opened.images if opened is not None else ImageStore(ledger.path.parent)
        run = await session.work_off(plan, Store(opened, ledger), images)
        tell_accepted(ended=True)
        return session.result(run, plan, total)

    return session.drive(main)


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
    session = Session(client, service, settings, observer, stop or Stop(), folder=folder, command="wait", reach=reach)

    async def main() -> Result:
        opened = await session.open_folder(folder, exclusive=False)
        ledger = None
        with suppress(FluxLoraError):  # it only helps: names, and requests for the manifest
            ledger = await in_thread(partial(state.open_user_ledger, service, create=False))
            session.closing.callback(ledger.close)
        by_task = {record.task_id: record for record in opened.records.values()}
        plan, store = BatchPlan(), Store(opened)

        def read() -> Iterator[Work]:
            """A work for each ID; a run that is ended names also those that it did not come to."""
            seen = set[str]()
            for task_id in task_ids:
                if task_id in seen:
                    continue
                seen.add(task_id)
                record = by_task.get(task_id)
                found = ledger.find(task_id) if ledger is not None and record is None else None
                if record is None:
                    copied = replace(found or JobRecord(""), state=State.SUBMITTED, error=None, outputs=[])
                    record = replace(copied, key=f"task:{task_id}", task_id=task_id, order=opened.next_order())
                record.api_version = record.api_version or api_version
                plan.works.append(Work(record, known=found is not None or task_id in by_task))
                yield plan.works[-1]

        asked_for = read()

        async def unfinished() -> AsyncIterator[Work]:
            while (work := await in_thread(next, asked_for, None)) is not None:
                record = work.record
                if await in_thread(opened.images.recover, record):
                    await store.save(record)
                for output in record.outputs:
                    if output.file is not None:
                        observer(image_event(record, output, str(folder), earlier=True))
                if record.state is State.FAILED:
                    record.state = State.SUBMITTED  # asked anew: it costs a poll, and "lost" may not be the last word
                if record.state is not State.COMPLETED or record.missing:  # an expired image's address may be fresh
                    yield work
                elif session.run is not None:
                    session.run.done += 1

        run = await session.work_off(plan, store, opened.images, unfinished())
        with suppress(TimeoutError, ValueError):  # the pipe is still open; a thread still reads it
            await asyncio.wait_for(in_thread(list, asked_for), 0.3)
        return session.result(run, plan)

    return session.drive(main)


def look_up(
    tasks: Iterable[tuple[str, Version, bool]], client: Client, service: str, stop: Stop
) -> list[Task | FluxLoraError]:
    """What the service says of tasks, in their order; an error in place of a task that it does not tell of.

    Args:
        tasks: (ID, API version, whether a ledger knows it): one that is known is asked for during a minute.
    """
    session = Session(client, service, Settings(), stop=stop)

    async def one(task_id: str, version: Version, known: bool) -> Task | FluxLoraError:
        try:
            return await insist(lambda: session.read(client.result, task_id, version), known)
        except FluxLoraError as error:
            return error

    async def main() -> list[Task | FluxLoraError]:
        return await asyncio.gather(*(one(*task) for task in tasks))

    return session.drive(main)
