"""What ``batch``, ``submit``, ``wait`` and ``replay`` share: one assembly of a run, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flux_lora_cli.engine.audit import look_up_refunds
from flux_lora_cli.engine.budget import ZERO, check_budget, plain, price_kind, sum_prices
from flux_lora_cli.engine.calls import Calls
from flux_lora_cli.engine.durable import Store, in_thread, opened_folder
from flux_lora_cli.engine.ending import Left, ending, with_tasks
from flux_lora_cli.engine.events import Event, Progress, Warned
from flux_lora_cli.engine.plan import BatchPlan, Work, lacks_images
from flux_lora_cli.engine.run import Run
from flux_lora_cli.errors import (
    BadAnswer,
    BudgetError,
    DeadlineError,
    ExitCode,
    FluxLoraError,
    FolderError,
    Rejected,
    Uncertain,
)
from flux_lora_cli.folder import state
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord, OutputRecord, State

if TYPE_CHECKING:
    from flux_lora_cli.service.client import Client

T = TypeVar("T")
Observer = Callable[[Event], None]

#: Seconds that an interrupted run waits for the answers of submissions in flight, so that their IDs are kept; and at
#: the run's deadline, when nobody sits at a terminal.
GRACE, DEADLINE_GRACE = 1.2, 5.0
#: Seconds between two looks for a signal or another request to stop.
LOOK_EVERY = 0.1
#: The name of the service that charges nobody.
SANDBOX = "sandbox"


@dataclass(frozen=True)
class Settings:
    """How a run behaves. Durations are in seconds, money in USD.

    Attributes:
        concurrency: tasks in flight, those in the service's queue included.
        poll_interval: least seconds between two polls of one task.
        task_timeout: of one task, from its submission.
        rate: images per second; None for no limit.
        max_cost: limit on what the folder is charged in all.
        max_month: limit on what this user is charged at the service in a calendar month (UTC), over all folders.
        price: per image, where the service does not report one.
        progress_every: seconds between two ``Progress`` events.
    """

    concurrency: int = 16
    poll_interval: float = 2.0
    timeout: float | None = None
    task_timeout: float = 1800.0
    rate: float | None = None
    max_cost: Decimal | None = None
    max_month: Decimal | None = None
    price: Decimal | None = None
    on_unknown: Literal["reconcile", "hold", "resubmit"] = "reconcile"
    nsfw: Literal["keep", "quarantine", "skip"] = "keep"
    fail_on_nsfw: bool = False
    download: bool = True
    filename: str | None = None
    follow: bool = True
    progress_every: float = 30.0

    def leaves_out(self, output: OutputRecord) -> bool:
        """Whether an image is not asked for."""
        return not self.download or (self.nsfw == "skip" and output.nsfw is True)


class Stop:
    """Ends a run from outside: from a signal handler, or from another thread.

    The run then sends no further submission, waits a moment for the answers of those in flight, saves its state and
    returns within 2 seconds; ``error`` becomes its reason.
    """

    error: FluxLoraError | None = None

    def request(self, error: FluxLoraError) -> None:
        """End the run; the first request counts."""
        self.error = self.error or error


@dataclass(repr=False)  # asyncio's runner makes two of it where SIGINT is its own: a second for 10,000 jobs [3.11]
class Result:
    """How a run ended.

    Attributes:
        reasons: why the exit code is not 0: an error for each code that applies.
        records: of the jobs that were asked for.
        estimated, charged: USD that the submissions of this run were expected to cost, and were charged; None where
            a price is not known.
    """

    exit_code: ExitCode
    reasons: Mapping[ExitCode, FluxLoraError]
    records: list[JobRecord]
    plan: BatchPlan
    estimated: Decimal | None = None
    charged: Decimal | None = None
    submitted: int = 0
    resubmitted: int = 0


@dataclass(eq=False)
class Session:
    """One command's way through the engine.

    Attributes:
        folder: where images are saved; ``command``, ``reach``: as of ``ending``.
        closing: what is closed when the command ends.
        run: once it exists, what an interrupt ends.
        known: the folder's records, once it is open: what an end before the run names as paid.
    """

    client: Client
    service: str
    settings: Settings
    observer: Observer = lambda event: None
    stop: Stop = field(default_factory=Stop)
    folder: Path | None = None
    command: str = "batch"
    reach: Sequence[str] = ()
    run: Run | None = None
    known: Mapping[str, JobRecord] = field(default_factory=dict)
    ended_by: FluxLoraError | None = None

    def __post_init__(self) -> None:
        self.calls = Calls(self.client, self.settings, self.observer)
        self.closing = ExitStack()

    @staticmethod
    def now() -> datetime:
        return datetime.now(UTC)

    # ---- from the first to the last ----

    def drive(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run the coroutine of a command to its end; ``stop`` and ``--timeout`` end it earlier."""
        return asyncio.run(self._driven(main))

    async def _driven(self, main: Callable[[], Awaitable[T]]) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def end(error: FluxLoraError, grace: float) -> None:
            self.ended_by = self.ended_by or error
            if self.run is not None:
                self.run.abort(error, grace)
            elif task is not None:
                task.cancel()

        async def watch() -> None:
            """End the run where that is asked for; the main thread looks for signals only while it does something."""
            while self.stop.error is None:
                await asyncio.sleep(LOOK_EVERY)
            end(self.stop.error, GRACE)
            while True:
                await asyncio.sleep(LOOK_EVERY)

        watching = asyncio.create_task(watch())
        if self.settings.timeout is not None:
            late = DeadlineError("the run's time (--timeout) is over")
            loop.call_later(self.settings.timeout, end, late, DEADLINE_GRACE)
        try:
            with self.closing:
                return await main()
        except asyncio.CancelledError:
            if self.ended_by is None:
                raise
            self.ended_by.hint = self.ended_by.hint or "Run the same command again: this time it submitted nothing."
            raise with_tasks(self.ended_by, self.known.values()) from None
        except FluxLoraError as error:
            raise with_tasks(error, self.known.values()) from error.__cause__
        finally:
            watching.cancel()

    # ---- before the run ----

    async def open_folder(self, folder: Path, **options: Any) -> OutputFolder:
        """An output folder, until the command ends; ``options``: as of ``OutputFolder.open``."""
        opened = await opened_folder(partial(OutputFolder.open, folder, self.service, **options))
        self.closing.callback(opened.close)
        state.remember_folder(opened.path)
        return opened

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        """The answer to a request that is made before the run begins."""
        return await self.calls.get(function, *args, patient=False)

    async def price(self, works: Sequence[Work]) -> Decimal | None:
        """Put a price on each work, by one request for each kind; the sum, None where a price is not known."""
        known: dict[str, Decimal | None] = {}
        for work in works:
            kind = price_kind(work.record)
            if kind not in known:
                known[kind] = await self._ask_price(work.record)
            work.unit_price, work.price_source = known[kind], "service"
            if work.unit_price is None and self.settings.price is not None:
                work.unit_price, work.price_source = self.settings.price * work.record.images_asked, "--price"
        return sum_prices(work.unit_price for work in works)

    async def _ask_price(self, record: JobRecord) -> Decimal | None:
        try:
            price = await self.read(self.client.price, record.model, record.input)
        except (Uncertain, BadAnswer, Rejected) as error:  # it is up, but tells no price: a limit cannot be kept then
            self.observer(Warned("price", f"the service does not tell the price: {error.message}"))
            return None
        if self.client.price_note:
            self.observer(Warned("price", self.client.price_note))
        return price

    async def refunds(self, records: Iterable[JobRecord]) -> list[JobRecord]:
        """Note on records what the bill shows as refunded, where a limit counts failed tasks; those that changed."""
        if self.settings.max_cost is None and self.settings.max_month is None:
            return []
        try:
            return await in_thread(look_up_refunds, self.client, list(records))
        except FluxLoraError as error:
            message = f"the bill cannot be read, so failed tasks count in full: {error.message}"
            self.observer(Warned("refunds", message))
            return []

    async def reserve_month(self, works: Sequence[Work], total: Decimal | None, folder: Path | None) -> None:
        """Set the cost of a plan aside under ``--max-month``, for a folder or (None) the user's own ledger, until the
        command ends. Raises BudgetError, FolderError."""
        if self.settings.max_month is None or self.service == SANDBOX or not works:
            return

        def check() -> None:
            if (error := check_month(self.settings, self.service, total, folder)) is not None:
                raise error

        parts = {state.submission(folder, work.record): work.unit_price or ZERO for work in works}
        self.closing.callback(await in_thread(state.reserve, self.service, parts, check))

    async def ask(self, confirm: Callable[[], bool]) -> None:
        """Raise BudgetError where the user says no."""
        if not await in_thread(confirm):
            raise BudgetError("not confirmed; nothing was submitted", "Answer y, or add --yes.")

    # ---- the run ----

    async def work_off(
        self, plan: BatchPlan, store: Store, images: ImageStore, works: AsyncIterator[Work] | None = None
    ) -> Run:
        """Bring a plan's works (or ``works``, as they come) as far as they can be brought; the run that has ended."""
        for image in {digest: image for work in plan.to_submit for digest, image in work.images.items()}.values():
            await in_thread(images.keep_input, image)
        run = Run(self, store, images, str(self.folder))
        run.task_ids |= await in_thread(store.task_ids)
        run.done = sum(w.record.state is State.COMPLETED and not lacks_images(w.record) for w in plan.works)
        if self.ended_by is not None:
            raise asyncio.CancelledError
        self.run = run
        beside = [asyncio.create_task(_tell_progress(run, plan)), asyncio.create_task(_keep_manifest(run))]
        try:
            await run.work_off(works or _listed(plan.unfinished))
        finally:
            for task in beside:
                task.cancel()
        if ExitCode.FOLDER not in run.reasons:
            with suppress(FolderError):
                await store.write_manifest()
        return run

    def result(
        self, run: Run, plan: BatchPlan, estimated: Decimal | None = None, charged_before: Decimal = ZERO
    ) -> Result:
        """How a run has ended; USD that its plan was to cost, and that had been charged before it."""
        records = [work.record for work in plan.works if not work.no_such_task] + plan.skipped
        left = Left(records, run.absent, [work.record for work in plan.collected])
        code, reasons = ending(
            left, run.reasons, self.settings.fail_on_nsfw, command=self.command, reach=self.reach, folder=self.folder,
            paid="submitted" if self.service == SANDBOX else "paid",
        )  # fmt: skip
        charged = run.calls.spent - charged_before if estimated is not None else None
        return Result(code, reasons, records, plan, estimated, charged, run.submitted, run.resubmitted)


async def _listed(works: Sequence[Work]) -> AsyncIterator[Work]:
    """Works that are known beforehand; those that the service has already come first."""
    for work in sorted(works, key=lambda work: work.record.state is State.PLANNED):
        yield work


async def _keep_manifest(run: Run) -> None:
    try:
        await run.store.keep_manifest()
    except FolderError as error:
        run.abort(error)


async def _tell_progress(run: Run, plan: BatchPlan) -> None:
    """Tell where the run stands, now and then. The time left is this run's own: earlier ones do not count."""
    done_before = run.done
    while True:
        await asyncio.sleep(run.settings.progress_every)
        now, ended = run.time(), run.done + run.failed
        elapsed, left = now - run.began, len(plan.works) - ended
        oldest = sorted((since, name) for name, since in run.calls.in_flight.values())[:3]
        run.emit(
            Progress(
                jobs=len(plan.works),
                done=run.done,
                failed=run.failed,
                in_flight=len(run.calls.in_flight),
                saving=run.fetcher.fetching,
                images=run.fetcher.saved,
                cost_usd=plain(run.calls.spent),
                elapsed_seconds=round(elapsed, 1),
                remaining_seconds=round(left * elapsed / (ended - done_before), 1) if ended > done_before else None,
                oldest=tuple((name, round(now - since, 1)) for since, name in oldest),
            )
        )


def check_month(
    settings: Settings, service: str, planned: Decimal | None, folder: Path | None = None
) -> BudgetError | None:
    """Why ``--max-month`` does not allow a plan (USD; None: not known). The sandbox charges nobody: no limit there."""
    if settings.max_month is None or service == SANDBOX or planned == 0:
        return None
    return check_budget(settings.max_month, planned, state.charged(service, settings.price, folder), "--max-month")
