"""Presets to the end: plan, price, ask, submit, wait, save. Run again to resume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_lora_cli.engine import events
from flux_lora_cli.engine.assemble import SANDBOX, Observer, Result, Session, Settings, Stop, check_month
from flux_lora_cli.engine.budget import ZERO, check_budget, dollars, price_documented, price_not_known, spent
from flux_lora_cli.engine.durable import Store, in_thread
from flux_lora_cli.engine.ending import with_tasks
from flux_lora_cli.engine.fetch import image_event
from flux_lora_cli.engine.plan import UNKNOWN, BatchPlan, lacks_images, make_plan, plan_event
from flux_lora_cli.errors import DeadlineError, ExitCode, FluxLoraError, FolderError, FolderMoved, UsageError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.output import OutputFolder, check_orphans, is_new, read_records
from flux_lora_cli.folder.records import JobRecord, State, error_parts
from flux_lora_cli.service.models import Models
from flux_lora_cli.text import counted, printable

if TYPE_CHECKING:
    from flux_lora_cli.presets.job import Job
    from flux_lora_cli.service.client import Client
    from flux_lora_cli.service.models import Version


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
        confirm_orphans: asked about images of these jobs that neither ledger nor manifest knows; True buys anew.

    Raises:
        UsageError, NotFoundError, FolderError, FolderBusy, BudgetError, AuthError, ServiceError: before the first
            submission. Afterwards such errors are ``reasons`` of the result.
    """
    settings, jobs = settings or Settings(), list(jobs)
    session = Session(client, service, settings, observer, stop or Stop(), folder=folder)
    plan_jobs = partial(
        make_plan, jobs, models=models, api_version=api_version, retry_failed=retry_failed, shard=shard,
        only_some=only_some, adopt=adopt, skipped=skipped,
    )  # fmt: skip

    async def main() -> Result:
        if is_new(folder):
            await in_thread(check_orphans, folder, (), [job.fingerprint for job in jobs], confirm_orphans)
        opened = await session.open_folder(folder, exclusive=True, sources=sources)
        session.known = opened.records
        check_part(opened, shard, engine)
        await in_thread(_write, opened, await session.refunds(opened.records.values()))
        await in_thread(_take_over_left, opened, observer)
        plan = await in_thread(plan_jobs, opened.records)
        changed = await in_thread(_check_images, plan, opened, settings, verify)
        buying = plan.to_submit + (plan.those(*UNKNOWN) if settings.on_unknown == "resubmit" else [])
        total = None
        try:
            total = await session.price(buying)
        except DeadlineError as come_back_later:  # what is in flight is still collected
            session.calls.close(come_back_later)
            buying = []
        charged = spent(opened.records.values(), settings.price)
        if charged is None and settings.max_cost is not None and buying:
            raise price_not_known()
        event = plan_event(plan, settings, charged, total, folder=str(folder), dry_run=False)
        observer(event)
        await session.reserve_month(buying, total, opened.path)
        session.calls.spent = charged or ZERO
        if plan.to_submit and not session.calls.closed:
            fingerprints = [work.record.fingerprint or "" for work in plan.to_submit]
            await in_thread(check_orphans, opened.path, opened.records.values(), fingerprints, confirm_orphans)
            await _before_buying(session, opened, total)
            await session.ask(lambda: confirm(event, plan))
        # All that the plan knows is durable before the first submission: seeds, input images, the manifest.
        await in_thread(_write, opened, [*plan.changed, *plan.skipped, *changed])
        for record in plan.changed:
            if record.matched_by == "user" and record.state is State.SUBMITTED:  # --adopt named its task
                observer(events.Adopted(record.id, str(record.task_id), "user"))
        _tell_earlier(plan, observer, str(folder))
        run = await session.work_off(plan, Store(opened), opened.images)
        error = run.reasons.get(ExitCode.FOLDER)
        kept = opened.records if error is None else await in_thread(_leave, error, opened)
        if service != SANDBOX:  # submitted now, or by a run that was killed
            await in_thread(state.note_charges, service, opened.ledger, kept.values())
        return session.result(run, plan, total, charged or ZERO)

    return session.drive(main)


def plan_batch(
    jobs: Iterable[Job], folder: Path, service: str, settings: Settings, **how: Any
) -> tuple[events.Plan, BatchPlan, FluxLoraError | None]:
    """What ``run_batch`` would do: no connection, no lock, nothing written; ``how``: as of ``make_plan``.

    The cost comes from ``settings.price`` or, marked as such, from the documented price. The error says why a limit
    does not allow the plan.
    """
    known = read_records(folder, service, _left_for(folder.absolute(), service))
    plan = make_plan(jobs, known, **how)
    total = price_documented(plan, settings.price)
    charged = spent(known.values(), settings.price)
    event = plan_event(plan, settings, charged, total, folder=str(folder), dry_run=True)
    over = check_budget(settings.max_cost, total, charged) or check_month(settings, service, total, folder)
    return event, plan, over and with_tasks(over, known.values())


def check_part(opened: OutputFolder, shard: tuple[int, int] | None, engine: str | None) -> None:
    """Keep a folder to the part that ``--shard auto`` began in it: another would buy what other folders have.

    Raises:
        UsageError: the engine says that this is another part, or one of another number of parts.
    """
    if engine is None or shard is None or opened.read_only:
        return
    part, known = f"{shard[0]}/{shard[1]}", opened.ledger.meta("part")
    if known is None:
        opened.ledger.set_meta("part", part)
    elif known != part:
        raise UsageError(
            f"--shard auto ({engine}): this is part {part}, and {opened.path} has part {known}",
            f"Submit the whole array again (finished parts cost nothing), or name the part: --shard {known}.",
        )


def _check_images(plan: BatchPlan, opened: OutputFolder, settings: Settings, every_byte: bool) -> list[JobRecord]:
    """Compare saved images with the disk; the records that changed."""
    changed = []
    for work in (*plan.works, *plan.collected):
        record = work.record
        touched = opened.images.recover(record, every_byte=every_byte) if record.outputs else False
        for output in record.outputs:
            left_out = output.file is None and settings.leaves_out(output)
            touched, output.left_out = touched or left_out != output.left_out, left_out
        if touched:
            changed.append(record)
    return changed


async def _before_buying(session: Session, opened: OutputFolder, total: Decimal | None) -> None:
    """What is found before the first submission rather than after it: a folder that cannot be written, no credit."""
    if opened.read_only:
        message = f"{opened.path} cannot be written, and the plan has images to make"
        raise FolderError(message, "Choose another with -o.")
    with suppress(FluxLoraError):  # it only serves a warning
        balance = await in_thread(session.client.balance)
        if balance is not None and total is not None and balance < total:
            message = f"the account has {dollars(balance)}, and the plan costs {dollars(total)}"
            session.observer(events.Warned("balance", message))


def _write(opened: OutputFolder, changed: Iterable[JobRecord]) -> None:
    """Make records and the manifest durable."""
    records = {record.key: record for record in changed}
    if records and not opened.read_only:
        opened.records.update(records)
        opened.save(map(opened.row, records.values()))
        opened.write_manifest()


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


# ---- tasks of a folder that went away ----


def _leave(error: FluxLoraError, opened: OutputFolder) -> dict[str, JobRecord]:
    """Where the folder is gone: keep in the user's own ledger what it has paid for and not collected.

    The next batch into the same path takes that over. Returns the other records.
    """
    kept, mark = opened.records, _mark(opened.path)
    try:
        opened.ledger.check_place()
    except FolderMoved:
        left = {
            key: record
            for key, record in kept.items()
            if record.state in (*UNKNOWN, State.SUBMITTED) or lacks_images(record)
        }
        with suppress(FluxLoraError), state.open_user_ledger(opened.ledger.service) as ledger:
            for record in left.values():
                stage = record.state if record.task_id is None else State.SUBMITTED
                copied = replace(record, key=mark + record.key, state=stage, outputs=[], error=None)
                ledger.save([ledger.row(copied)])
            ledger.set_meta(mark, "left")
            kept = {key: record for key, record in kept.items() if key not in left}
            way = "run the same command again as it is: it collects the paid tasks into a new folder."
            error.hint = f"Put it back, or {way}"
    return kept


def _mark(path: Path) -> str:
    """What the keys of tasks begin with that were left when the folder at ``path`` went away."""
    return f"left:{printable(str(path))}:"


def _left_for(path: Path, service: str) -> list[JobRecord]:
    """What ``_leave`` kept for the folder at ``path``."""
    with suppress(FluxLoraError), state.open_user_ledger(service, create=False) as ledger:
        if ledger.meta(mark := _mark(path)) is not None:
            left = [record for record in ledger.records() if record.key.startswith(mark)]
            return [replace(each, key=each.key.removeprefix(mark)) for each in left if each.state is not State.SKIPPED]
    return []


def _take_over_left(opened: OutputFolder, observer: Observer) -> None:
    """Make tasks that were left when this folder went away its own again: to be collected, not bought again."""
    service = opened.ledger.service
    taken = [] if opened.read_only else opened.take_over(_left_for(opened.path, service))
    if not taken:
        return
    with suppress(FluxLoraError), state.open_user_ledger(service) as ledger:
        mark = _mark(opened.path)
        ledger.save([ledger.row(replace(each, key=mark + each.key, state=State.SKIPPED)) for each in taken])
    message = f"taken over from an earlier run whose folder went away: {counted(len(taken), 'paid task')}"
    observer(events.Warned("taken_over", message))
