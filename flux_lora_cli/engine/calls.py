"""Which request may leave, and when: GETs, repeated as the retry policy says, and submissions, each in its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from flux_lora_cli.engine.budget import ZERO, check_budget
from flux_lora_cli.engine.durable import in_thread
from flux_lora_cli.engine.events import Event, Explained, Waiting
from flux_lora_cli.engine.limits import GIVE_UP_AFTER, POLL, PROBE_EVERY, START, Outage, RateGate, next_try, too_long
from flux_lora_cli.errors import (
    BadAnswer,
    ExitCode,
    FluxLoraError,
    InsecureConnection,
    KeyRefused,
    NeverSent,
    ProxyFailed,
    RateLimited,
    Redirected,
    ServiceError,
    Uncertain,
)
from flux_lora_cli.folder.records import JobRecord

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Settings
    from flux_lora_cli.service.client import Client

T = TypeVar("T")

#: Failures of one request that say nothing about what was asked: worth repeating.
PASSING = (NeverSent, Uncertain, BadAnswer, ProxyFailed)
#: Answers after which no other request would fare better.
FATAL = (KeyRefused, InsecureConnection, Redirected)
#: Requests to the API that are in flight at once, at most.
MAX_REQUESTS = 40


class Stopped(Exception):
    """No further request of this kind leaves in this run; the reason is noted."""


class Calls:
    """What all requests of a command share, and why none is sent any more.

    GETs are repeated. Submissions leave one by one, as soon as concurrency, rate, window and budget allow it, and no
    outage is on.

    Attributes:
        outage: the retry budget of the process, and the switch that it throws.
        reasons: why the run does not end well, beyond what the records say; the first error of each kind.
        closed: no further submission; ``stopped``: no further request to the API, images aside.
        failures: of requests, since the last success, newest last.
        in_flight: tasks that the service has, or may have, of ours: record key to name and loop time of the submission.
        spent: USD charged to the folder so far, or reserved, so that tasks in flight cannot overshoot the limit.
    """

    def __init__(self, client: Client, settings: Settings, observer: Callable[[Event], None]) -> None:
        self.emit = observer
        self.outage = Outage()
        self.reasons: dict[ExitCode, FluxLoraError] = {}
        self.closed = self.stopped = False
        self.failures: list[FluxLoraError] = []
        self.in_flight: dict[str, tuple[str, float]] = {}
        self.spent = ZERO
        self._settings, self._probe = settings, client.balance
        self._gate = RateGate(settings.rate)
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._door = asyncio.Lock()
        self._changed = asyncio.Event()
        self._sending = 0  # submissions whose answer has not come
        self._stuck: set[str] = set()

    # ---- requests ----

    async def get(
        self, function: Callable[..., T], *args: Any, patient: bool = True, floor: float = 0.0, why: str = "request"
    ) -> T:
        """The answer to a request that changes nothing at the service.

        Args:
            patient: an outage is waited out, and a 429, which is no failure, obeyed for as long as it takes.
            floor: least seconds between two tries.
            why: whose request it is, for explanations.

        Raises:
            Stopped: nothing is asked any more.
            DeadlineError, FluxLoraError: as of ``next_try``.
        """
        failures = 0
        while True:
            if patient:
                await self._service_up()
            try:
                return await self.send(function, *args)
            except (*PASSING, RateLimited) as error:
                if self.stopped and patient:
                    raise Stopped from error
                failures += not (patient and isinstance(error, RateLimited))
                await self.pause(why, error, max(floor, next_try(error, failures, POLL if patient else START)))

    async def pause(self, why: str, error: FluxLoraError, seconds: float) -> None:
        """Wait before something that failed is tried again, and tell so."""
        self.emit(Explained(f"{why}: {error.message}; trying again in {seconds:.1f} s"))
        await asyncio.sleep(seconds)

    async def send(self, function: Callable[..., T], *args: Any) -> T:
        """One try of one request. Where it shows that no other would fare better, none is sent any more."""
        try:
            async with self._requests:
                answer = await in_thread(function, *args)
        except PASSING as error:
            self._failed(error)
            raise
        except FluxLoraError as error:
            self._succeeded()
            if isinstance(error, FATAL):
                self.stop(error)
            raise
        self._succeeded()
        return answer

    async def _service_up(self) -> None:
        """Wait while the service is taken to be down; one caller at a time is let through as a probe."""
        while not self.stopped and (seconds := self.outage.probe(_time())):
            await self._change(seconds)
        if self.stopped:
            raise Stopped

    def _succeeded(self) -> None:
        """An answer came that shows the service to be up, also where it refuses."""
        if self.outage.probing:
            self._changed.set()
        self.outage.success()
        self.failures.clear()

    def _failed(self, error: FluxLoraError) -> None:
        """A request failed on its way, or with a 5xx."""
        now = _time()
        self.failures.append(error)
        if self.outage.failure(now, timed_out=error.timed_out):
            message = f"the service seems to be down ({error.message}); submissions pause, and it is tried every"
            self.emit(Waiting("outage", PROBE_EVERY, f"{message} {PROBE_EVERY:.0f} s"))
        if self.outage.given_up(now):
            message = f"the service could not be reached for {GIVE_UP_AFTER / 60:.0f} minutes"
            self.stop(ServiceError(f"{message}: {error.message}", "Run the same command again later."))

    # ---- submissions ----

    async def turn(self, record: JobRecord, price: Decimal | None) -> None:
        """Wait for the record's turn, reserve its price and count it as in flight.

        Raises:
            Stopped: its turn never comes in this run.
            BudgetError, DeadlineError, KeyRefused, …: nor does that of any other.
        """
        async with self._door:
            while True:
                self.check_open()
                while self.outage.probing:  # something cheap is the probe, never a submission
                    with suppress(ServiceError):
                        await self.get(self._probe, why="probe")
                now = _time()
                vacancies = self._settings.concurrency - len(self.in_flight)
                ready = self._gate.ready_at(now)
                over = check_budget(self._settings.max_cost, price, self.spent)
                if vacancies <= 0 or self._sending >= self._gate.in_flight(vacancies):
                    await self._change()
                elif ready > now:
                    await self._change(ready - now)
                elif over is None:
                    break
                elif self._sending:  # one of those may be refused, and leave its price to this one
                    await self._change()
                else:
                    raise over
            self._gate.take(now, record.images_asked)
            self._sending += 1
            self.spent += price or ZERO
            self.take_off(record, now)

    def accepted(self, record: JobRecord) -> None:
        """A submission was accepted."""
        now = _time()
        latency = now - self.in_flight[record.key][1]  # from its turn on: the intent's commit counts
        self._gate.accepted(now, record.images_asked, latency)
        self._answered()

    def refused(self, record: JobRecord, price: Decimal | None) -> None:
        """A submission was certainly not taken: it leaves its price and its place to others."""
        self.spent -= price or ZERO
        self.land(record)
        self._answered()

    def lost(self, error: FluxLoraError) -> None:
        """The answer to a submission was lost."""
        self.slow_down(error)
        self._answered()

    def slow_down(self, error: FluxLoraError) -> None:
        """After a 429, or a lost answer: the next submissions wait, longer each time in a row, and as was asked."""
        now = _time()
        if (late := too_long(error)) is not None:
            self.close(late)
        elif isinstance(error, RateLimited):
            seconds = max(0.0, self._gate.refused(now, error.retry_after) - now)
            message = f"the service asks to slow down; submissions resume in {seconds:.0f} s"
            self.emit(Waiting("rate", round(seconds, 1), message))
        else:
            self._gate.lost(now, error.retry_after)

    def _answered(self) -> None:
        self._sending -= 1
        self._changed.set()

    def take_off(self, record: JobRecord, submitted_at: float) -> float:
        """Count a task as in flight, from its submission (loop time) on, unless it is already; that time."""
        return self.in_flight.setdefault(record.key, (record.name, submitted_at))[1]

    def land(self, record: JobRecord) -> None:
        """The task is not in flight any more, unless it is stuck."""
        if record.key not in self._stuck and self.in_flight.pop(record.key, None) is not None:
            self._changed.set()

    def stuck(self, record: JobRecord, why: str) -> None:
        """A task that cannot be polled keeps its place, or more would be bought blindly; when all do, none is."""
        self._stuck.add(record.key)
        if len(self._stuck) >= self._settings.concurrency:
            self.close(ServiceError(f"tasks cannot be polled, so no more are bought: {why}"))

    # ---- the end ----

    def note(self, reason: FluxLoraError) -> None:
        """Remember why the run does not end well; the first error of a kind is the one that is told."""
        self.reasons.setdefault(reason.exit_code, reason)

    def close(self, reason: FluxLoraError | None) -> None:
        """No further submission leaves; what is in flight is followed and saved."""
        if reason is not None:
            self.note(reason)
        self.closed = True
        self._changed.set()

    def stop(self, reason: FluxLoraError) -> None:
        """No further request goes to the API; images whose URLs are known are still fetched."""
        self.stopped = True
        self.close(reason)

    def check_open(self) -> None:
        """Raise Stopped where no submission leaves any more."""
        if self.closed:
            raise Stopped

    async def _change(self, seconds: float | None = None) -> None:
        """Wait until something changes, or so many seconds."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


def ask(function: Callable[..., T], *args: Any) -> T:
    """The answer to a request that changes nothing at the service, for a command that does nothing else meanwhile.

    Raises:
        DeadlineError, FluxLoraError: as of ``next_try``.
    """
    failures = 0
    while True:
        try:
            return function(*args)
        except (NeverSent, Uncertain, RateLimited) as error:
            failures += 1
            time.sleep(next_try(error, START if error.timed_out else failures, START))  # somebody has waited enough


def _time() -> float:
    return asyncio.get_running_loop().time()
