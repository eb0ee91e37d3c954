"""Wires the parts of a run together and drives it to its end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from flux_lora_cli.domain.backoff import Draw, Outage
from flux_lora_cli.domain.budget import Budget, plain
from flux_lora_cli.domain.events import Progress
from flux_lora_cli.domain.matching import parse_time
from flux_lora_cli.domain.pacing import LookPlanner
from flux_lora_cli.domain.rate import RateGate
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import (
    DeadlineError,
    ExitCode,
    FluxLoraError,
    FolderError,
    HeldError,
    ImageError,
    NsfwFlagged,
)
from flux_lora_cli.workflow.book import Book
from flux_lora_cli.workflow.calls import Calls
from flux_lora_cli.workflow.collector import Collector
from flux_lora_cli.workflow.context import Context, NameOf, Settings, Work
from flux_lora_cli.workflow.follower import Follower
from flux_lora_cli.workflow.ports import Clock, Inbox, Observer, Records, Service, Store, Workers
from flux_lora_cli.workflow.reactor import Reactor
from flux_lora_cli.workflow.reconciler import BY_USER, Reconciler, adopt
from flux_lora_cli.workflow.submitter import Submitter

#: Seconds for which an interrupted run waits for submits on their way, so that their ids are kept.
GRACE = 1.2
#: The same at the run's deadline, when nobody is waiting at a terminal.
DEADLINE_GRACE = 5.0


@dataclass(frozen=True)
class World:
    """What a run needs of the outside."""

    clock: Clock
    inbox: Inbox
    service: Service
    store: Store
    records: Records
    callers: Workers
    fetchers: Workers
    observer: Observer
    draw: Draw


@dataclass(frozen=True)
class Naming:
    """How images are called: see ``Collector``."""

    name_of: NameOf
    case_key: Callable[[str], str]
    path_of: Callable[[str], str]
    taken: Collection[str] = ()


class Runner:
    """One run: works in, images and records out.

    Args:
        claimed: ids of tasks that some ledger at hand has; asked when a list is read.
        keep: told of every group of records that became durable (for the manifest); returns the monotonic
            time at which it wants ``tick`` to be called, None for never.
        tick: writes the manifest where it is due.
        follow: whether accepted tasks are waited for (not so: ``submit`` without ``--wait``).
    """

    def __init__(
        self,
        settings: Settings,
        world: World,
        naming: Naming,
        *,
        budget: Budget,
        planner: LookPlanner,
        claimed: Callable[[], set[str]] = set,
        keep: Callable[[list[JobRecord]], float | None] = lambda changed: None,
        tick: Callable[[], None] = lambda: None,
        follow: bool = True,
    ) -> None:
        self.settings = settings
        self._keep, self._tick, self._follow = keep, tick, follow
        self._tick_at: float | None = None
        self.book = Book(world.records, world.clock, self._committed)
        self.reactor = Reactor(world.clock, world.inbox, self.book.flush)
        self.ctx = Context(
            settings,
            world.clock,
            self.reactor,
            self.book,
            world.service,
            world.store,
            world.callers,
            world.fetchers,
            world.observer,
            world.draw,
        )
        self.planner = planner
        self.budget = budget
        self.calls = Calls(self.ctx, Outage())
        self.collector = Collector(self.ctx, self.calls, naming.name_of, naming.taken, naming.case_key, naming.path_of)
        self.follower = Follower(
            self.ctx,
            self.calls,
            planner,
            self.collector.completed,
            self._pump,
            lambda: self.submitter.waiting,
            lambda: self.submitter.paced,
        )
        self.reconciler = Reconciler(
            self.ctx, self.calls, claimed, lambda work: self._accepted(work, None), self._resubmit
        )
        self.submitter = Submitter(
            self.ctx,
            self.calls,
            budget,
            RateGate(settings.rate),
            self._accepted,
            lambda work, error: self.reconciler.add(work),
            lambda: self.follower.in_flight,
        )
        self._started = world.clock.monotonic()
        self._stop_at: float | None = None
        self._feeds = 0

    # ---- works in ----

    def start(self, work: Work) -> None:
        """Take a work, whatever state it is in."""
        self.ctx.open_work(work)
        state = work.record.state
        if state is State.PLANNED:
            self.submitter.add(work)
        elif state in (State.SUBMITTING, State.UNKNOWN):
            work.record.state = State.UNKNOWN
            self.book.change(work.record)
            self.reconciler.add(work)
        elif state is State.SUBMITTED:
            work.record.error = None  # that it was overdue in an earlier run
            self._begin(work)
            self.follower.follow(work)
        elif state is State.COMPLETED:
            self.collector.refetch(work)
        else:
            self.ctx.settle(work)

    def adopt(self, work: Work, task_id: str) -> None:
        """Take a task that the user named as the work's."""
        self.ctx.open_work(work)
        adopt(self.ctx, work, task_id, BY_USER, lambda: self._accepted(work, None))

    def hold_open(self) -> Callable[[], None]:
        """Keep the run going for works that come later; call the result, on the loop's thread, when none will."""
        self._feeds += 1

        def close() -> None:
            self._feeds -= 1

        return close

    def _begin(self, work: Work) -> None:
        """Count the time of a task of an earlier run from its submit, as far as that is known."""
        meant = parse_time(work.record.intent_at)
        age = 0.0 if meant is None else (self.ctx.clock.now() - meant).total_seconds()
        work.submitted_at = self.ctx.clock.monotonic() - max(0.0, age)

    def _accepted(self, work: Work, task: Task | None) -> None:
        if not work.submitted:
            self._begin(work)
        if self._follow:
            self.follower.follow(work, task)
        else:
            self.ctx.settle(work)

    def _resubmit(self, work: Work) -> None:
        self.submitter.add(work, first=True)
        self._pump()

    def _pump(self) -> None:
        self.submitter.pump()

    # ---- the loop ----

    def run(self) -> None:
        """Drive all works to where this run can bring them. Never raises FolderError: it becomes a reason."""
        if self.settings.timeout is not None:
            self.ctx.ends_at = self.ctx.clock.monotonic() + self.settings.timeout
            self.reactor.at(self.ctx.ends_at, self._out_of_time)
        self.reactor.after(self.settings.progress_every, self._progress)
        self.reactor.soon(self._pump)
        try:
            self.reactor.run(self._done)
            self.collector.finish()
            self.book.flush(everything=True)
        except FolderError as error:
            self.ctx.abort(error)
        self.ctx.tally.in_flight = self.follower.in_flight

    def interrupt(self, reason: FluxLoraError) -> None:
        """Stop submits, keep the ids of those on their way, and end; from a signal handler."""
        self.reactor.soon(lambda: self._stop(reason, GRACE))

    def _stop(self, reason: FluxLoraError, grace: float) -> None:
        if self._stop_at is None:
            self._stop_at = self.ctx.clock.monotonic() + grace
            self.reactor.after(grace, lambda: None)
        self.ctx.abort(reason)

    def _done(self) -> bool:
        ctx = self.ctx
        if ctx.aborted:
            late = self._stop_at is None or ctx.clock.monotonic() >= self._stop_at
            return late or self.submitter.sending == 0
        return ctx.open == 0 and self._feeds == 0

    def _out_of_time(self) -> None:
        if self.ctx.open or self._feeds:
            self._stop(
                DeadlineError(
                    "the run's time (--timeout) is over",
                    "Tasks that still run are paid for: the same command picks them up.",
                ),
                DEADLINE_GRACE,
            )

    @property
    def _price_unknown(self) -> bool:
        """Whether something was submitted at a price that nobody knows: its sum is no sum."""
        return any(work.submitted and work.record.cost is None for work in self.ctx.works)

    def _progress(self) -> None:
        ctx, tally = self.ctx, self.ctx.tally
        elapsed = ctx.clock.monotonic() - self._started
        ended = tally.done + tally.failed
        left = (tally.jobs - ended) * elapsed / ended if ended and elapsed > 0 else None
        ctx.emit(
            Progress(
                tally.jobs,
                tally.done,
                tally.failed,
                self.follower.in_flight + self.submitter.sending,
                self.collector.fetching,
                tally.images,
                None if self._price_unknown else plain(self.budget.spent),
                round(elapsed, 1),
                None if left is None else round(left, 1),
            )
        )
        self.reactor.after(self.settings.progress_every, self._progress)

    def _committed(self, changed: list[JobRecord]) -> None:
        due = self._keep(changed)
        if due is not None and self._tick_at is None:
            self._tick_at = due
            self.reactor.at(due, self._ticked)

    def _ticked(self) -> None:
        self._tick_at = None
        try:
            self._tick()
        except FolderError as error:
            self.ctx.abort(error)

    # ---- how it ended ----

    def outcome(self, fail_on_nsfw: bool = False) -> dict[ExitCode, FluxLoraError | None]:
        """Why the run's exit code is not 0: each reason, with its message where there is one to tell."""
        reasons: dict[ExitCode, FluxLoraError | None] = dict(self.ctx.reasons)
        for work in self.ctx.works:
            if work.counts:
                add_reasons(work.record, reasons, fail_on_nsfw)
        return reasons


def add_reasons(record: JobRecord, reasons: dict[ExitCode, FluxLoraError | None], fail_on_nsfw: bool = False) -> None:
    """Add what the final state of one job that was asked for says about the exit code."""
    if record.state in (State.UNKNOWN, State.SUBMITTING):
        reasons.setdefault(HeldError.exit_code, None)
    elif record.state is State.FAILED:
        reasons.setdefault(ImageError.exit_code, None)
    elif record.state is State.SUBMITTED:
        reasons.setdefault(DeadlineError.exit_code, None)
    elif record.state is State.PLANNED:
        reasons.setdefault(ExitCode.INCOMPLETE, None)
    elif any(o.file is None and not o.left_out for o in record.awake().outputs):
        reasons.setdefault(ImageError.exit_code, None)
    if fail_on_nsfw and any(o.nsfw for o in record.awake().outputs):
        reasons.setdefault(NsfwFlagged.exit_code, None)
