"""What ``batch``, ``submit``, ``wait`` and ``replay`` share: one assembly of a run, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flux_lora_cli.engine.audit import look_up_refunds
from flux_lora_cli.engine.budget import ZERO, Budget, check_budget, lacks_refund, plain, price_kind, price_not_known
from flux_lora_cli.engine.calls import Calls
from flux_lora_cli.engine.durable import Store, in_thread
from flux_lora_cli.engine.ending import ending, with_tasks
from flux_lora_cli.engine.events import Event, Progress, Warned
from flux_lora_cli.engine.fetch import Fetcher, namer
from flux_lora_cli.engine.limits import START
from flux_lora_cli.engine.plan import Work
from flux_lora_cli.engine.run import Run
from flux_lora_cli.engine.settings import Settings, Stop
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
from flux_lora_cli.folder import month
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.records import JobRecord, State

if TYPE_CHECKING:
    from flux_lora_cli.engine.plan import BatchPlan
    from flux_lora_cli.service.client import Client

T = TypeVar("T")
Observer = Callable[[Event], None]

#: Seconds that an interrupted run waits for the answers of submissions in flight, so that their IDs are kept; and at
#: the run's deadline, when nobody sits at a terminal.
GRACE, DEADLINE_GRACE = 1.2, 5.0
#: Seconds after which the main thread looks for signals again.
WAKE_EVERY = 0.25
#: The name of the service that charges nobody.
SANDBOX = "sandbox"


@dataclass
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
    plan: BatchPlan | None = None
    estimated: Decimal | None = None
    charged: Decimal | None = None
    submitted: int = 0
    resubmitted: int = 0


class Session:
    """One command's way through the engine.

    Attributes:
        run: once it exists, what an interrupt ends.
        known: the folder's records, once it is open: what an end before the run names as paid.
    """

    def __init__(self, client: Client, service: str, settings: Settings, observer: Observer) -> None:
        self.client, self.service, self.settings, self.observer = client, service, settings, observer
        self.calls = Calls(observer)
        self.run: Run | None = None
        self.known: Mapping[str, JobRecord] = {}
        self.ended_by: FluxLoraError | None = None
        self._name_of = namer(settings.filename)

    def end(self, task: asyncio.Task[Any], error: FluxLoraError, grace: float) -> None:
        """End the run, or what is done before it begins."""
        self.ended_by = self.ended_by or error
        if self.run is not None:
            self.run.abort(error, grace)
        else:
            task.cancel()

    @staticmethod
    def now() -> datetime:
        """The wall clock."""
        return datetime.now(UTC)

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        """The answer to a request that is made before the run begins."""
        return await self.calls.get(function, *args, retry=START)

    async def price(self, works: Iterable[Work]) -> Decimal | None:
        """Put a price on each work, by one request for each kind; the sum, None where a price is not known."""
        total: Decimal | None = ZERO
        known: dict[str, Decimal | None] = {}
        for work in works:
            record = work.record
            kind = price_kind(record)
            if kind not in known:
                known[kind] = await self._ask_price(record)
            price, per_image = known[kind], self.settings.price
            if price is None and per_image is not None:
                price = per_image * record.images_asked
            work.unit_price, work.price_source = price, "service" if known[kind] is not None else "--price"
            total = None if total is None or price is None else total + price
        return total

    async def price_earlier(self, records: Iterable[JobRecord]) -> list[JobRecord]:
        """Count what was submitted at an unknown price at today's; those records. Raises BudgetError: not known."""
        works = [Work(record, counts=False) for record in records if record.cost is None]
        if await self.price(works) is None:
            raise price_not_known()
        for work in works:
            record, price = work.record, work.unit_price
            record.price = price if record.price is None else record.price
            record.history = tuple(replace(past, cost=price) if past.cost is None else past for past in record.history)
        return [work.record for work in works]

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
        limited = self.settings.max_cost is not None or self.settings.max_month is not None
        failed = [record for record in records if lacks_refund(record)] if limited else []
        try:
            return await in_thread(look_up_refunds, self.client, failed) if failed else []
        except FluxLoraError as error:
            message = f"the bill cannot be read, so failed tasks count in full: {error.message}"
            self.observer(Warned("refunds", message))
            return []

    async def reserve_month(
        self, works: Sequence[Work], total: Decimal | None, folder: Path | None
    ) -> Callable[[], None]:
        """Set the cost of a plan aside under ``--max-month``; returns what ends that. Raises BudgetError, FolderError.

        Args:
            folder: whose records the works are; None for those of the user's own ledger.
        """
        settings, service = self.settings, self.service
        if settings.max_month is None or service == SANDBOX or not works:
            return lambda: None

        def check() -> None:
            if (error := check_month(settings, service, total, folder)) is not None:
                raise error

        parts = {month.submission(folder, work.record): work.unit_price or ZERO for work in works}
        return await in_thread(month.reserve, service, parts, check)

    async def keep_inputs(self, works: Iterable[Work], images: ImageStore) -> None:
        """Keep the local images that requests name. Raises FolderError."""
        kept = {digest: image for work in works for digest, image in work.images.items()}
        for image in kept.values():
            await in_thread(images.keep_input, image)

    async def run_works(
        self,
        works: AsyncIterator[Work],
        store: Store,
        images: ImageStore,
        budget: Budget,
        shown: str,
        counts: tuple[int, int, int] = (0, 0, 0),
        late: FluxLoraError | None = None,
    ) -> Run:
        """Run works to where they can be brought; returns the run that has ended.

        Args:
            shown: how the folder's path is printed.
            counts: jobs asked for, those of them that are done already, and those to submit.
            late: why nothing is submitted, and only collected what is in flight.
        """
        claimed = await in_thread(store.task_ids)
        outputs = (o for record in (store.folder.records.values() if store.folder else ()) for o in record.outputs)
        taken = [name for output in outputs for name in (output.file, output.writing) if name]
        run = Run(self, store, budget, Fetcher(images, self.settings, self._name_of, shown, taken))
        run.task_ids, (run.expected, run.done_before, run.turns.to_submit) = claimed, counts
        if late is not None:
            run.stop_submissions(late)
        if self.ended_by is not None:
            raise asyncio.CancelledError
        self.run = run
        beside = [asyncio.create_task(_tell_progress(run)), asyncio.create_task(_keep_manifest(run))]
        try:
            await run.work_off(works)
        finally:
            for task in beside:
                task.cancel()
        with suppress(FolderError):
            if ExitCode.FOLDER not in run.reasons:
                await store.write_manifest()
        return run

    def result(
        self,
        run: Run,
        records: list[JobRecord],
        *,
        command: str = "batch",
        reach: Sequence[str] = (),
        folder: Path | None = None,
        plan: BatchPlan | None = None,
        estimated: Decimal | None = None,
        before: Decimal = ZERO,
    ) -> Result:
        """How a run has ended.

        Args:
            command, reach, folder: as of ``ending``.
            estimated: USD that the plan costs; ``before``: what had been charged before it.
        """
        code, reasons = ending(
            records, run.reasons, self.settings.fail_on_nsfw, command=command, reach=reach, folder=folder,
            absent=run.absent, now=self.now(), collected=[work.record for work in plan.collected] if plan else (),
        )  # fmt: skip
        charged = run.turns.budget.spent - before if estimated is not None else None
        return Result(code, reasons, records, plan, estimated, charged, run.submitted, run.resubmitted)


async def _keep_manifest(run: Run) -> None:
    try:
        await run.store.keep_manifest()
    except FolderError as error:
        run.abort(error)


async def _tell_progress(run: Run) -> None:
    """Tell where the run stands, now and then. The time left is this run's own: earlier ones do not count."""
    while True:
        await asyncio.sleep(run.settings.progress_every)
        now, ended = run.time(), run.done + run.failed
        elapsed, left = now - run.began, run.expected - run.done_before - ended
        oldest = sorted((since, name) for name, since in run.turns.in_flight.values())[:3]
        run.emit(
            Progress(
                jobs=run.expected,
                done=run.done_before + run.done,
                failed=run.failed,
                in_flight=len(run.turns.in_flight),
                saving=run.fetcher.fetching,
                images=run.fetcher.saved,
                cost_usd=plain(run.turns.budget.spent),
                elapsed_seconds=round(elapsed, 1),
                remaining_seconds=round(left * elapsed / ended, 1) if ended else None,
                oldest=tuple((name, round(now - since, 1)) for since, name in oldest),
            )
        )


def check_month(
    settings: Settings, service: str, planned: Decimal | None, folder: Path | None = None
) -> BudgetError | None:
    """Why ``--max-month`` does not allow a plan (USD; None: not known). The sandbox charges nobody: no limit there."""
    if settings.max_month is None or service == SANDBOX or planned == 0:
        return None
    charged = month.charged(service, settings.price, folder)
    planned = None if charged is None else planned
    return check_budget(settings.max_month, planned, charged or ZERO, "--max-month")


def _wake(loop: asyncio.AbstractEventLoop) -> None:
    """Keep the loop from sleeping long: a signal that the system hands to another thread does not wake it."""
    loop.call_later(WAKE_EVERY, _wake, loop)


def drive(session: Session, main: Callable[[], Awaitable[T]], stop: Stop | None) -> T:
    """Run the coroutine of a command to its end; ``stop`` and ``--timeout`` end it earlier."""

    async def driven() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        _wake(loop)
        if session.settings.timeout is not None:
            late = DeadlineError("the run's time (--timeout) is over")
            loop.call_later(session.settings.timeout, session.end, task, late, DEADLINE_GRACE)
        if stop is not None:
            stop.listen(lambda error: loop.call_soon_threadsafe(session.end, task, error, GRACE))
        try:
            return await main()
        except asyncio.CancelledError:
            if session.ended_by is None:
                raise
            ended_by = session.ended_by
            ended_by.hint = ended_by.hint or "Run the same command again: this time it submitted nothing."
            raise with_tasks(ended_by, session.known.values()) from None
        except FluxLoraError as error:
            raise with_tasks(error, session.known.values()) from error.__cause__
        finally:
            if stop is not None:
                stop.listen(lambda error: None)

    return asyncio.run(driven())


def require_confirmation(confirmed: bool) -> None:
    """Raise BudgetError where the user said no."""
    if not confirmed:
        raise BudgetError("not confirmed; nothing was submitted", "Answer y, or add --yes.")


async def listed(works: Sequence[Work]) -> AsyncIterator[Work]:
    """Works that are known beforehand; those that the service has already come first."""
    for work in sorted(works, key=lambda work: work.record.state is State.PLANNED):
        yield work
