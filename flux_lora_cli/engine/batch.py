"""Presets to the end: plan, price, ask, submit, wait, save. Run again to resume."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.engine import events
from flux_lora_cli.engine.assemble import (
    SANDBOX,
    Observer,
    Result,
    Session,
    check_month,
    drive,
    listed,
    namer,
    taken_names,
)
from flux_lora_cli.engine.budget import (
    Budget,
    check_budget,
    dollars,
    price_documented,
    price_earlier,
    price_not_known,
    spent,
)
from flux_lora_cli.engine.ending import ending
from flux_lora_cli.engine.fetch import image_event
from flux_lora_cli.engine.plan import (
    BatchPlan,
    Work,
    lacks_images,
    make_plan,
    parse_adoptions,
    plan_event,
    unpriced,
)
from flux_lora_cli.engine.settings import Settings, Stop
from flux_lora_cli.engine.stores import Store
from flux_lora_cli.errors import BudgetError, FluxLoraError, FolderError, UsageError
from flux_lora_cli.folder import month, state
from flux_lora_cli.folder.ledger import LEDGER_NAME
from flux_lora_cli.folder.names import DEFAULT, Template
from flux_lora_cli.folder.output import OutputFolder, read_records
from flux_lora_cli.folder.records import JobRecord, State, error_parts
from flux_lora_cli.service.models import Models

if TYPE_CHECKING:
    from flux_lora_cli.presets.job import Job, LocalImage
    from flux_lora_cli.service.client import Client
    from flux_lora_cli.service.models import Version

#: Seeds that the tool draws stay within 31 bits, which every API version takes. [SERVICE: request parameters]
SEED_BITS = 31
#: Bytes that an image takes, for the check of free space: a 1024×1024 PNG has 1 to 2 MB.
TYPICAL_BYTES = 2_000_000


def draw_seed() -> int:
    """A seed as the tool draws it."""
    return random.SystemRandom().getrandbits(SEED_BITS)


def run_batch(
    jobs: Iterable[Job],
    client: Client,
    service: str,
    folder: Path,
    settings: Settings | None = None,
    *,
    models: Models | None = None,
    api_version: Version | None = None,
    observer: Observer = lambda event: None,
    sources: Sequence[tuple[str, str]] = (),
    confirm: Callable[[events.Plan, BatchPlan], bool] = lambda event, plan: True,
    stop: Stop | None = None,
    retry_failed: bool = False,
    only_some: bool = False,
    verify: bool = False,
    shard: tuple[int, int] | None = None,
    engine: str | None = None,
    adopt: Sequence[str] = (),
    skipped: Iterable[Job] = (),
    confirm_orphans: Callable[[list[str]], bool] = lambda names: False,
) -> Result:
    """Submit what is not done, wait, save; run again to resume.

    Args:
        service: whom the folder belongs to: the base URL's origin, or ``sandbox``.
        models: the model tables at hand; None for the built-in ones.
        sources: (path, SHA-256) of the preset files, for the manifest.
        confirm: asked with the priced plan before the first submission; False ends the run before it.
        only_some: the jobs are a part of the preset's; other jobs in the folder are left alone.
        verify: read every byte of saved images first.
        shard: (K, N); ``engine``: who said so (``--shard auto``), the folder then keeps to that part.
        adopt: ``JOB=ID`` texts.
        skipped: jobs that the presets leave out, for the record.
        confirm_orphans: asked about images of these jobs in a folder without ledger and manifest; True buys anew.

    Raises:
        UsageError, NotFoundError, FolderError, FolderBusy, BudgetError, AuthError, ServiceError: before the first
            submission. Afterwards such errors are ``reasons`` of the result.
    """
    settings, jobs = settings or Settings(), list(jobs)
    session = Session(client, service, settings, observer)
    template = Template.parse(settings.filename or DEFAULT)

    async def main() -> Result:
        with ExitStack() as stack:
            opened = await session.pool.call(
                partial(
                    OutputFolder.open, folder, service, exclusive=True, sources=sources,
                    fingerprints=_fingerprints(jobs, folder), confirm_orphans=confirm_orphans,
                )
            )  # fmt: skip
            stack.callback(opened.close)
            check_part(opened, shard, engine)
            state.remember_folder(opened.path)
            if refunded := await session.refunds([] if opened.read_only else opened.records.values()):
                await session.pool.call(opened.save, [opened.row(record) for record in refunded])
                await session.pool.call(opened.write_manifest)
            plan = await session.pool.call(
                partial(
                    make_plan, jobs, opened.records, draw_seed, models or Models.builtin(), api_version,
                    retry_failed=retry_failed, shard=shard, collect_others=not (only_some or shard), skipped=skipped,
                )
            )  # fmt: skip
            _adopt(plan, adopt, opened)
            changed = await session.pool.call(partial(_check_images, plan, opened, settings, verify))
            buying = plan.priced_works(resubmit=settings.on_unknown == "resubmit")
            total = await session.price(buying)
            if settings.max_cost is not None and (earlier := unpriced(opened.records.values())):
                if await session.price(earlier) is None:
                    raise price_not_known()
                price_earlier(earlier)
                changed += [work.record for work in earlier]
            charged = spent(opened.records.values())
            event = plan_event(plan, settings, charged, total, folder=str(folder), dry_run=False)
            observer(event)
            stack.callback(await session.reserve_month(buying, total, opened.path))
            if plan.to_submit:
                await _before_buying(session, opened, plan, event, confirm)
            await _record(session, opened, plan, changed)
            _tell_earlier(plan, observer, str(folder))
            todo = _todo(plan)
            done = sum(work.record.state is State.COMPLETED and not lacks_images(work.record) for work in plan.works)
            budget = Budget(settings.max_cost, charged)
            run = await session.run_works(
                listed(todo), Store(opened), opened.images, budget,
                name_of=namer(template), shown=str(folder), taken=taken_names(opened.records.values()),
                model=plan.works[0].record.model if plan.works else None,
                counts=(len(plan.works), done, len(plan.to_submit)),
            )  # fmt: skip
            if run.submitted and service != SANDBOX:
                await session.pool.call(month.note_charges, service, opened.ledger, opened.records.values())
            records = [*(work.record for work in plan.works), *plan.skipped]
            code, reasons = ending(
                records, run.reasons, settings.fail_on_nsfw, absent=run.absent, now=run.now(),
                collected=[work.record for work in plan.collected],
            )  # fmt: skip
            return Result(
                code, reasons, records, plan, total, budget.spent - charged if total is not None else None,
                run.submitted, run.resubmitted,
            )  # fmt: skip

    return drive(session, main, stop)


def plan_batch(
    jobs: Iterable[Job],
    folder: Path,
    service: str,
    settings: Settings | None = None,
    *,
    models: Models | None = None,
    api_version: Version | None = None,
    retry_failed: bool = False,
    only_some: bool = False,
    shard: tuple[int, int] | None = None,
    adopt: Sequence[str] = (),
    skipped: Iterable[Job] = (),
) -> tuple[events.Plan, BatchPlan, BudgetError | None]:
    """What ``run_batch`` would do: no connection, no lock, nothing written.

    The cost comes from ``settings.price`` or, marked as such, from the documented price. The error says why a limit
    does not allow the plan.
    """
    settings = settings or Settings()
    known = read_records(folder, service)
    plan = make_plan(
        jobs, known, draw_seed, models or Models.builtin(), api_version,
        retry_failed=retry_failed, shard=shard, collect_others=not (only_some or shard), skipped=skipped,
    )  # fmt: skip
    parse_adoptions(adopt, plan)
    total = price_documented(plan, settings.price)
    charged = spent(known.values())
    event = plan_event(plan, settings, charged, total, folder=str(folder), dry_run=True)
    over = check_budget(settings.max_cost, total, charged)
    return event, plan, over or check_month(settings, service, total, folder)


def _fingerprints(jobs: list[Job], folder: Path) -> set[str]:
    """Of the jobs, to recognise their images in a folder whose ledger was deleted."""
    if os.path.lexists(folder / LEDGER_NAME):  # or unreadable, which opening it will say
        return set()
    return {job.fingerprint for job in jobs}


def check_part(opened: OutputFolder, shard: tuple[int, int] | None, engine: str | None) -> None:
    """Keep a folder to the part that ``--shard auto`` began in it: another would buy what other folders have.

    Raises:
        UsageError: the engine says that this is another part, or one of another number of parts.
    """
    part = None if shard is None else f"{shard[0]}/{shard[1]}"
    known = opened.ledger.meta("part")
    if engine is None or part is None or opened.read_only or known == part:
        return
    if known is not None:
        raise UsageError(
            f"--shard auto ({engine}): this is part {part}, and {opened.path} has part {known}",
            f"Submit the whole array again (finished parts cost nothing), or name the part: --shard {known}.",
        )
    opened.ledger.set_meta("part", part)


def _adopt(plan: BatchPlan, texts: Sequence[str], opened: OutputFolder) -> None:
    for work, task_id in parse_adoptions(texts, plan, opened.ledger.task_ids()):
        work.adopt = task_id


def _check_images(plan: BatchPlan, opened: OutputFolder, settings: Settings, every_byte: bool) -> list[JobRecord]:
    """Compare saved images with the disk; the records that changed."""
    changed = []
    for work in (*plan.works, *plan.collected):
        record = work.record
        touched = opened.images.recover(record, every_byte=every_byte) if record.outputs else False
        for output in record.outputs:
            skip = not settings.download or (settings.nsfw == "skip" and output.nsfw is True)
            left_out = output.file is None and skip
            touched, output.left_out = touched or left_out != output.left_out, left_out
        if touched:
            changed.append(record)
    return changed


async def _before_buying(
    session: Session,
    opened: OutputFolder,
    plan: BatchPlan,
    event: events.Plan,
    confirm: Callable[[events.Plan, BatchPlan], bool],
) -> None:
    """What is found before the first submission rather than after it: a folder that cannot be written, no credit."""
    if opened.read_only:
        raise FolderError(
            f"{opened.path} cannot be written, and the plan has images to make", "Choose another with -o."
        )
    await session.pool.call(opened.images.check_writable)
    free = opened.images.free_bytes()
    if free is not None and free < plan.images_to_submit * TYPICAL_BYTES:
        message = f"{opened.path} has {free // 1_000_000} MB free; {plan.images_to_submit} images may need more"
        session.observer(events.Warned("disk_space", message))
    try:
        balance = await session.pool.call(session.client.balance)
    except FluxLoraError:
        balance = None  # it only serves a warning
    if balance is not None and event.cost_usd is not None and balance < plan.total_price:
        message = f"the account has {dollars(balance)}, and the plan costs {dollars(plan.total_price)}"
        session.observer(events.Warned("balance", message))
    if not await session.pool.call(confirm, event, plan):
        raise BudgetError("not confirmed; nothing was submitted", "Answer y, or add --yes.")


async def _record(session: Session, opened: OutputFolder, plan: BatchPlan, changed: list[JobRecord]) -> None:
    """All that the plan knows, durable before the first submission: seeds, input images, the manifest."""
    images: dict[str, LocalImage] = {}
    for work in plan.to_submit:
        images.update(work.images)
    for image in images.values():
        await session.pool.call(opened.images.keep_input, image)
    records = {record.key: record for record in (*plan.changed, *plan.skipped, *changed)}
    if not records:
        return
    if opened.read_only:
        return
    opened.records.update(records)
    await session.pool.call(opened.save, [opened.row(record) for record in records.values()])
    await session.pool.call(opened.write_manifest)


def _tell_earlier(plan: BatchPlan, observer: Observer, shown: str) -> None:
    """What earlier runs brought: images, and what failed or is missing for good."""
    for work in plan.works:
        record = work.record
        for output in record.outputs:
            if output.file is not None:
                observer(image_event(record, output, shown, earlier=True))
        if record.state is State.FAILED:
            code, message = error_parts(record.error)
            observer(events.Failed(record.id, record.task_id, code, message, earlier=True))
        elif not lacks_images(record):
            for output in record.missing:
                code, message = error_parts(output.error)
                observer(events.Missing(record.id, record.task_id, output.index, code, message, earlier=True))


def _todo(plan: BatchPlan) -> list[Work]:
    """Works that this run can bring further."""
    ended = (State.FAILED, State.SKIPPED)
    return [
        work
        for work in (*plan.works, *plan.collected)
        if work.record.state not in ended and (work.record.state is not State.COMPLETED or lacks_images(work.record))
    ]
