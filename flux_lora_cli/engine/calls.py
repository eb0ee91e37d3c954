"""Which request may leave, and when: GETs, repeated as the retry policy says, and submissions, each in its turn."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from flux_lora_cli.engine.budget import Budget
from flux_lora_cli.engine.durable import in_thread
from flux_lora_cli.engine.events import Event, Explained, Waiting
from flux_lora_cli.engine.limits import POLL, START, Outage, RateGate, Retry, too_long
from flux_lora_cli.engine.settings import Settings
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

T = TypeVar("T")

#: Failures of one request that say nothing about what was asked: worth repeating.
PASSING = (NeverSent, Uncertain, BadAnswer)
#: Answers after which no other request would fare better.
FATAL = (KeyRefused, InsecureConnection, ProxyFailed, Redirected)
#: Requests to the API that are in flight at once, at most.
MAX_REQUESTS = 40


class Stopped(Exception):
    """No further request of this kind leaves in this run; the reason is noted."""


class Calls:
    """What all requests of a command share: retries, the outage switch, and why nothing is sent any more.

    Attributes:
        outage: the retry budget of the process, and the switch that it throws.
        reasons: why the run does not end well, beyond what the records say; the first error of each kind.
        closed: no further submission; ``stopped``: no further request to the API, images aside.
        failing: the last failure, where three requests or more in a row have failed.
    """

    def __init__(self, observer: Callable[[Event], None]) -> None:
        self.emit = observer
        self.outage = Outage()
        self.reasons: dict[ExitCode, FluxLoraError] = {}
        self.closed = self.stopped = False
        self.failing: FluxLoraError | None = None
        self._in_row = 0
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._changed = asyncio.Event()

    async def get(
        self, function: Callable[..., T], *args: Any, retry: Retry = POLL, floor: float = 0.0, why: str = "request"
    ) -> T:
        """The answer to a request that changes nothing at the service.

        Args:
            floor: least seconds between two tries.
            why: whose request it is, for explanations.

        Raises:
            Stopped: nothing is asked any more.
            DeadlineError, FluxLoraError: as of ``Retry.pause``.
        """
        failures = 0
        while True:
            if retry.patient:
                await self._service_up()
            try:
                return await self.send(function, *args)
            except (*PASSING, RateLimited) as error:
                if self.stopped and retry.patient:
                    raise Stopped from error
                failures += not (retry.patient and isinstance(error, RateLimited))
                await self.pause(why, error, max(floor, retry.pause(error, failures)))

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
        while self.outage.probing and not self.stopped:
            now = _time()
            ready = self.outage.ready_at(now)
            if ready <= now:
                self.outage.probed(now)
                break
            await self.change(ready - now)
        if self.stopped:
            raise Stopped

    def _succeeded(self) -> None:
        """An answer came that shows the service to be up, also where it refuses."""
        if self.outage.probing:
            self.changed()
        self.outage.success()
        self._in_row, self.failing = 0, None

    def _failed(self, error: FluxLoraError) -> None:
        """A request failed on its way, or with a 5xx."""
        now, before, every = _time(), self.outage.probing, self.outage.PROBE_EVERY
        self._in_row += 1
        self.failing = error if self._in_row >= 3 else None
        self.outage.failure(now, timed_out=error.timed_out)
        if self.outage.given_up(now):
            message = f"the service could not be reached for {self.outage.GIVE_UP_AFTER / 60:.0f} minutes"
            self.stop(ServiceError(f"{message}: {error.message}", "Run the same command again later."))
        elif self.outage.probing and not before:
            message = f"the service seems to be down ({error.message}); submissions pause, and it is tried every"
            self.emit(Waiting("outage", every, f"{message} {every:.0f} s"))

    # ---- why nothing is sent any more ----

    def note(self, reason: FluxLoraError) -> None:
        """Remember why the run does not end well; the first error of a kind is the one that is told."""
        self.reasons.setdefault(reason.exit_code, reason)

    def close(self, reason: FluxLoraError | None) -> None:
        """No further submission leaves; what is in flight is followed and saved."""
        if reason is not None:
            self.note(reason)
        self.closed = True
        self.changed()

    def stop(self, reason: FluxLoraError) -> None:
        """No further request goes to the API; images whose URLs are known are still fetched."""
        self.stopped = True
        self.close(reason)

    def check_open(self) -> None:
        """Raise Stopped where no submission leaves any more."""
        if self.closed:
            raise Stopped

    # ---- those who wait ----

    def changed(self) -> None:
        """Let all that wait look again whether they may go on."""
        self._changed.set()

    async def change(self, seconds: float | None = None) -> None:
        """Wait until something changes, or so many seconds."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


class Turns:
    """Lets submissions leave one by one, as soon as concurrency, rate, window and budget allow it, and no outage is on.

    Args:
        probe: the cheapest request, to see whether the service is back.

    Attributes:
        in_flight: tasks that the service has, or may have, of ours: record key to name and loop time of the submission.
        to_submit: jobs of the run that are not submitted yet.
    """

    def __init__(self, calls: Calls, settings: Settings, budget: Budget, probe: Callable[[], object]) -> None:
        self.in_flight: dict[str, tuple[str, float]] = {}
        self.to_submit = 0
        self.budget = budget
        self._calls, self._probe = calls, probe
        self._concurrency, self._gate = settings.concurrency, RateGate(settings.rate)
        self._door = asyncio.Lock()
        self._sending = 0  # submissions whose answer has not come
        self._lost_in_row = 0
        self._not_before = 0.0
        self._stuck: set[str] = set()

    async def wait(self, record: JobRecord, price: Decimal | None) -> None:
        """Wait for the record's turn, reserve its price and count it as in flight.

        Raises:
            Stopped: its turn never comes in this run.
            BudgetError, DeadlineError, KeyRefused, …: nor does that of any other.
        """
        async with self._door:
            while True:
                self._calls.check_open()
                while self._calls.outage.probing:  # something cheap is the probe, never a submission
                    with contextlib.suppress(ServiceError):
                        await self._calls.get(self._probe, why="probe")
                now = _time()
                vacancies = self._concurrency - len(self.in_flight)
                ready = max(self._not_before, self._gate.ready_at(now))
                if vacancies <= 0 or self._sending >= self._gate.in_flight(vacancies):
                    await self._calls.change()
                elif ready > now:
                    await self._calls.change(ready - now)
                elif self.budget.reserve(price):
                    break
                elif self._sending:  # one of those may be refused, and leave its price to this one
                    await self._calls.change()
                else:
                    raise self.budget.refusal(price, self.to_submit)
            self._gate.take(now, record.images_asked)
            self._sending += 1
            self.take_off(record, now)

    def accepted(self, record: JobRecord) -> None:
        """A submission was accepted."""
        now = _time()
        latency = now - self.in_flight[record.key][1]  # from its turn on: the intent's commit counts
        self._gate.accepted(now, record.images_asked, latency)
        self._lost_in_row = 0
        self.to_submit -= 1
        self._answered()

    def refused(self, record: JobRecord, price: Decimal | None, error: Exception) -> None:
        """A submission was certainly not taken: it leaves its price and its place to others; after a 429, later."""
        self.budget.release(price)
        self.land(record)
        self._answered()
        if isinstance(error, RateLimited) and self._has_time(error):
            now = _time()
            seconds = max(0.0, self._gate.refused(now, error.retry_after, random.random) - now)
            message = f"the service asks to slow down; submissions resume in {seconds:.0f} s"
            self._calls.emit(Waiting("rate", round(seconds, 1), message))

    def lost(self, error: FluxLoraError) -> None:
        """The answer to a submission was lost: the next ones wait, longer each time in a row, and as was asked."""
        self._has_time(error)
        self._not_before = _time() + POLL.delay(self._lost_in_row, retry_after=error.retry_after)
        self._lost_in_row += 1
        self._answered()

    def _answered(self) -> None:
        self._sending -= 1
        self._calls.changed()

    def _has_time(self, error: FluxLoraError) -> bool:
        """Whether the run has the patience that the service asks for."""
        if (late := too_long(error)) is not None:
            self._calls.close(late)
        return late is None

    def take_off(self, record: JobRecord, submitted_at: float) -> float:
        """Count a task as in flight, from its submission (loop time) on, unless it is already; that time."""
        return self.in_flight.setdefault(record.key, (record.name, submitted_at))[1]

    def land(self, record: JobRecord) -> None:
        """The task is not in flight any more, unless it is stuck."""
        if record.key not in self._stuck and self.in_flight.pop(record.key, None) is not None:
            self._calls.changed()

    def stuck(self, record: JobRecord, why: str) -> None:
        """A task that cannot be polled keeps its place, or more would be bought blindly; when all do, none is."""
        self._stuck.add(record.key)
        if len(self._stuck) >= self._concurrency:
            self._calls.close(ServiceError(f"tasks cannot be polled, so no more are bought: {why}"))


def ask(function: Callable[..., T], *args: Any, retry: Retry = START) -> T:
    """The answer to a request that changes nothing at the service, for a command that does nothing else meanwhile.

    Raises:
        DeadlineError, FluxLoraError: as of ``Retry.pause``.
    """
    failures = 0
    while True:
        try:
            return function(*args)
        except (NeverSent, Uncertain, RateLimited) as error:
            failures += 1
            time.sleep(retry.pause(error, failures))


def _time() -> float:
    return asyncio.get_running_loop().time()
