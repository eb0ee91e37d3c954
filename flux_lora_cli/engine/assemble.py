"""What ``batch``, ``submit``, ``wait`` and ``replay`` share: one assembly of a run, and how it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flux_lora_cli.engine.audit import claimed_tasks, look_up_refunds
from flux_lora_cli.engine.budget import Budget, check_budget, lacks_refund, price_kind
from flux_lora_cli.engine.calls import PASSING, check_wait
from flux_lora_cli.engine.events import Event, Warned
from flux_lora_cli.engine.fetch import Fetcher, NameOf
from flux_lora_cli.engine.limits import LIST, Draw
from flux_lora_cli.engine.pacing import PollPlanner
from flux_lora_cli.engine.run import Run
from flux_lora_cli.engine.settings import Settings, Stop
from flux_lora_cli.engine.stores import Store
from flux_lora_cli.engine.threads import Pool
from flux_lora_cli.errors import (
    BadAnswer,
    BudgetError,
    DeadlineError,
    ExitCode,
    FluxLoraError,
    FolderError,
    RateLimited,
    Rejected,
    Uncertain,
)
from flux_lora_cli.folder import month, state
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.names import Template
from flux_lora_cli.folder.records import JobRecord, OutputRecord, State
from flux_lora_cli.text import slug

if TYPE_CHECKING:
    from flux_lora_cli.engine.plan import BatchPlan, Work
    from flux_lora_cli.service.client import Client

T = TypeVar("T")
Observer = Callable[[Event], None]

#: Seconds that an interrupted run waits for the answers of submissions in flight, so that their IDs are kept; and at
#: the run's deadline, when nobody sits at a terminal.
GRACE, DEADLINE_GRACE = 1.2, 5.0
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


@dataclass(frozen=True)
class World:
    """What a run touches besides the service; handed in, so that tests can run in simulated time.

    Attributes:
        claimed: the task IDs of all ledgers at hand; blocking.
        now: the wall clock, aware.
    """

    store: Store
    pool: Pool
    observer: Callable[[Event], None]
    claimed: Callable[[], set[str]]
    draw: Draw
    now: Callable[[], datetime]


@dataclass
class Session:
    """One command's way through the engine: the run, once it exists, is what an interrupt ends."""

    client: Client
    service: str
    settings: Settings
    observer: Observer
    pool: Pool = field(default_factory=Pool)
    run: Run | None = None
    ended_by: FluxLoraError | None = None

    def end(self, task: asyncio.Task[Any], error: FluxLoraError, grace: float) -> None:
        """End the run, or what is done before it begins."""
        self.ended_by = self.ended_by or error
        if self.run is not None:
            self.run.abort(error, grace)
        else:
            task.cancel()

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        """The answer to a request that is made before the run begins."""
        failures = 0
        while True:
            try:
                return await self.pool.call(function, *args)
            except FluxLoraError as error:
                failures += 1
                asked = getattr(error, "retry_after", None)
                check_wait(asked or 0.0)
                if not isinstance(error, (*PASSING, RateLimited)) or failures >= 3:
                    raise
                await asyncio.sleep(LIST.delay(failures - 1, random.random, asked))

    async def price(self, works: Iterable[Work]) -> Decimal | None:
        """Put a price on each work, by one request for each kind; the sum, None where a price is not known."""
        total: Decimal | None = Decimal(0)
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
            return await self.pool.call(look_up_refunds, self.client, failed) if failed else []
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

        parts = {month.submission(folder, work.record): work.unit_price or Decimal(0) for work in works}
        return await self.pool.call(month.reserve, service, parts, check)

    async def run_works(
        self,
        works: AsyncIterator[Work],
        store: Store,
        images: ImageStore | None,
        budget: Budget,
        *,
        name_of: NameOf,
        shown: str,
        taken: Iterable[str] = (),
        model: str | None = None,
        counts: tuple[int, int, int] = (0, 0, 0),
    ) -> Run:
        """Run works to where they can be brought; returns the run that has ended.

        Args:
            counts: jobs asked for, those of them that are done already, and those to submit.
        """
        note = "pace-" + slug(f"{self.service} {model or 'any'}", 100)
        planner = PollPlanner.restore(state.read_note(note) or {}, self.settings.poll_interval)
        fetcher = Fetcher(images, name_of, shown, taken, self.settings.nsfw, self.settings.download)
        world = World(store, self.pool, self.observer, self._claimed(store), random.random, _now)
        run = Run(self.client, world, self.settings, budget, planner, fetcher)
        run.expected, run.done_before, run.turns.to_submit = counts
        if self.ended_by is not None:
            raise asyncio.CancelledError
        self.run = run
        await run.work_off(works)
        with suppress(FolderError):
            if ExitCode.FOLDER not in run.reasons:
                await store.write_manifest(self.pool, run.time)
        state.write_note(note, planner.export())
        return run

    def _claimed(self, store: Store) -> Callable[[], set[str]]:
        """The task IDs of all ledgers at hand: this run's, the user's, and the folders that it remembers."""
        folder = store.folder
        if folder is None:
            return lambda: claimed_tasks(self.service)
        return lambda: folder.ledger.task_ids() | claimed_tasks(self.service, besides=folder.path)


def check_month(
    settings: Settings, service: str, planned: Decimal | None, folder: Path | None = None
) -> BudgetError | None:
    """Why ``--max-month`` does not allow a plan (USD; None: not known). The sandbox charges nobody: no limit there."""
    if settings.max_month is None or service == SANDBOX or planned == 0:
        return None
    charged = month.charged(service, settings.price, folder)
    planned = None if charged is None else planned
    return check_budget(settings.max_month, planned, charged or Decimal(0), "--max-month")


def drive(session: Session, main: Callable[[], Awaitable[T]], stop: Stop | None) -> T:
    """Run the coroutine of a command to its end; ``stop`` and ``--timeout`` end it earlier."""

    async def driven() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
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
            raise session.ended_by from None
        finally:
            if stop is not None:
                stop.listen(lambda error: None)

    return asyncio.run(driven())


def namer(template: Template, fallback: Template | None = None) -> NameOf:
    """Names of images after a template; ``fallback`` for tasks whose request is not known."""
    day = _now().astimezone().date().isoformat()

    def name_of(record: JobRecord, output: OutputRecord, extension: str) -> str:
        request = record.input or {}
        chosen = template if record.input is not None or fallback is None else fallback
        return chosen.render(
            {
                "preset": record.preset,
                "job": record.id,
                "slug": slug(str(request.get("prompt") or "")),
                "seed": request.get("seed"),
                "index": output.index,
                "fingerprint": record.fingerprint,
                "task": record.task_id,
                "ext": extension,
                "date": day,
            }
        )

    return name_of


def taken_names(records: Iterable[JobRecord]) -> list[str]:
    """Names in a folder that belong to images already."""
    return [name for record in records for output in record.outputs for name in (output.file, output.writing) if name]


async def listed(works: Sequence[Work]) -> AsyncIterator[Work]:
    """Works that are known beforehand; those that the service has already come first."""
    for work in sorted(works, key=lambda work: work.record.state is State.PLANNED):
        yield work


def _now() -> datetime:
    return datetime.now(UTC)
