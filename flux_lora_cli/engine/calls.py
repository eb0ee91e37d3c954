"""Which request may leave, and when: GETs, repeated as the retry policy says, and submissions, each in its turn."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from flux_lora_cli.engine.budget import Budget
from flux_lora_cli.engine.durable import in_thread
from flux_lora_cli.engine.events import Event, Explained, Waiting
from flux_lora_cli.engine.limits import POLL, START, Outage, RateGate, Retry
from flux_lora_cli.errors import (
    BadAnswer,
    DeadlineError,
    FluxLoraError,
    KeyRefused,
    NeverSent,
    RateLimited,
    Redirected,
    ServiceError,
    Uncertain,
)
from flux_lora_cli.folder.records import JobRecord

T = TypeVar("T")

#: Failures of one request that say nothing about what was asked: worth repeating.
PASSING = (NeverSent, Uncertain, BadAnswer)
#: Seconds of Retry-After that are waited for. [FAULTS: retry policy]
LONGEST_WAIT = 300.0
#: Seconds of pause after a 429 to a GET that does not say how long.
PAUSE = 5.0
#: Requests to the API that are in flight at once, at most.
MAX_REQUESTS = 40


class CallsStopped(Exception):
    """No further request goes to the API in this run."""


class SubmissionsStopped(Exception):
    """No further submission leaves in this run."""


class Calls:
    """What all requests of a command share.

    Attributes:
        outage: the retry budget of the process, and the switch that it throws.
        failing: the last failure, where three requests or more in a row have failed.
        stopped: no further request to the API (the key was refused, the service is down for good).
        on_fatal: told of an error after which none should be sent.
    """

    def __init__(self, observer: Callable[[Event], None]) -> None:
        self.outage = Outage()
        self.stopped = False
        self.failing: FluxLoraError | None = None
        self.on_fatal: Callable[[FluxLoraError], None] = lambda error: None
        self._in_row = 0
        self._emit = observer
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._ended = asyncio.Event()  # an outage ended, or calls stopped

    async def get(
        self, function: Callable[..., T], *args: Any, retry: Retry = POLL, floor: float = 0.0, why: str = "request"
    ) -> T:
        """The answer to a request that changes nothing at the service.

        Args:
            floor: least seconds between two tries.
            why: whose request it is, for explanations.

        Raises:
            CallsStopped: nothing is asked any more.
            DeadlineError: the service asks for more patience than a run has.
            FluxLoraError: the last failure, when the policy allows no further try.
        """
        failures = 0
        while True:
            if retry.patient:
                await self.service_up()
            try:
                result = await self.send(function, *args)
            except RateLimited as error:
                self.succeeded()
                failures += not retry.patient
                failure: FluxLoraError = error
                asked = PAUSE if error.retry_after is None else error.retry_after
            except PASSING as error:
                self.failed(error)
                failures += 1
                failure, asked = error, error.retry_after or 0.0
                if self.stopped:
                    raise CallsStopped from error
            except FluxLoraError as error:
                self.succeeded()
                if isinstance(error, (KeyRefused, Redirected)):
                    self.on_fatal(error)
                raise
            else:
                self.succeeded()
                return result
            check_wait(asked)
            if not retry.more(failures):
                raise failure
            delay = max(floor, retry.delay(max(0, failures - 1), random.random, asked or None))
            self._emit(Explained(f"{why}: {failure.message}; trying again in {delay:.1f} s"))
            await asyncio.sleep(delay)

    async def send(self, function: Callable[..., T], *args: Any) -> T:
        """One try of one request."""
        async with self._requests:
            return await in_thread(function, *args)

    async def service_up(self) -> None:
        """Wait while the service is taken to be down; one caller at a time is let through as a probe."""
        while not self.stopped and self.outage.probing:
            now = _time()
            ready = self.outage.ready_at(now)
            if ready <= now:
                self.outage.probed(now)
                return
            await _wait(self._ended, ready - now)
        if self.stopped:
            raise CallsStopped

    def succeeded(self) -> None:
        """An answer came that shows the service to be up, also where it refuses."""
        if self.outage.probing:
            self._ended.set()
        self.outage.success()
        self._in_row, self.failing = 0, None

    def failed(self, error: FluxLoraError) -> None:
        """A request failed on its way, or with a 5xx."""
        now, before, every = _time(), self.outage.probing, self.outage.PROBE_EVERY
        self._in_row += 1
        self.failing = error if self._in_row >= 3 else None
        self.outage.failure(now, timed_out=error.timed_out)
        if self.outage.given_up(now):
            message = f"the service could not be reached for {self.outage.GIVE_UP_AFTER / 60:.0f} minutes"
            self.on_fatal(ServiceError(f"{message}: {error.message}", "Run the same command again later."))
        elif self.outage.probing and not before:
            message = f"the service seems to be down ({error.message}); submissions pause, and it is tried every"
            self._emit(Waiting("outage", every, f"{message} {every:.0f} s"))

    def stop(self) -> None:
        """No further request."""
        self.stopped = True
        self._ended.set()


class Turns:
    """Lets submissions leave one by one, as soon as concurrency, rate, window and budget allow it, and no outage is on.

    Args:
        probe: the cheapest request, to see whether the service is back.
        on_refusal: told why no further submission leaves.

    Attributes:
        closed: why no submission leaves any more; None while they may.
        in_flight: tasks that the service has, or may have, of ours: record key to name and loop time of the submission.
        to_submit: jobs of the run that are not submitted yet.
    """

    def __init__(
        self,
        concurrency: int,
        rate: float | None,
        budget: Budget,
        calls: Calls,
        observer: Callable[[Event], None],
        probe: Callable[[], object],
        on_refusal: Callable[[FluxLoraError], None],
    ) -> None:
        self.closed: FluxLoraError | None = None
        self.in_flight: dict[str, tuple[str, float]] = {}
        self.to_submit = 0
        self.budget = budget
        self._concurrency = concurrency
        self._gate = RateGate(rate)
        self._calls, self._emit, self._probe, self._on_refusal = calls, observer, probe, on_refusal
        self._door = asyncio.Lock()
        self._changed = asyncio.Event()
        self._sending = 0  # submissions whose answer has not come
        self._lost_in_row = 0
        self._not_before = 0.0
        self._stuck: set[str] = set()

    async def wait(self, record: JobRecord, price: Decimal | None) -> None:
        """Wait for the record's turn, reserve its price and count it as in flight.

        Raises:
            SubmissionsStopped: its turn never comes in this run.
            CallsStopped: as in ``Calls``.
        """
        async with self._door:
            while True:
                self.check_open()
                await self._service_up()
                now = _time()
                vacancies = self._concurrency - len(self.in_flight)
                ready = max(self._not_before, self._gate.ready_at(now))
                if vacancies <= 0 or self._sending >= self._gate.in_flight(vacancies):
                    await _wait(self._changed)
                elif ready > now:
                    await _wait(self._changed, ready - now)
                elif self.budget.reserve(price):
                    break
                elif self._sending:  # one of those may be refused, and leave its price to this one
                    await _wait(self._changed)
                else:
                    self._on_refusal(self.budget.refusal(price, self.to_submit))
                    raise SubmissionsStopped
            self._gate.take(now, record.images_asked)
            self._sending += 1
            self.take_off(record, now)

    def check_open(self) -> None:
        """Raise SubmissionsStopped where no submission leaves any more."""
        if self.closed is not None:
            raise SubmissionsStopped

    async def _service_up(self) -> None:
        while self._calls.outage.probing:  # something cheap is the probe, never a submission
            try:
                await self._calls.get(self._probe, why="probe")
            except ServiceError:
                continue
            except DeadlineError as too_long:
                self._on_refusal(too_long)
                raise SubmissionsStopped from too_long

    def answered(self) -> None:
        """A submission's answer came, or never will."""
        self._sending -= 1
        self._changed.set()

    def accepted(self, record: JobRecord) -> None:
        """A submission was accepted."""
        now = _time()
        _, since = self.in_flight.get(record.key, ("", None))  # an abort lands it before its answer comes
        latency = None if since is None else now - since  # from its turn on: the intent's commit counts
        self._gate.accepted(now, record.images_asked, latency)
        self._lost_in_row = 0
        self.to_submit -= 1

    def refused(self, record: JobRecord, price: Decimal | None) -> None:
        """A submission was certainly not taken: it leaves its price and its place to others."""
        self.budget.release(price)
        self.land(record)

    def uncertain(self, error: FluxLoraError) -> None:
        """The answer to a submission was lost: the next ones wait, longer each time in a row, and as was asked."""
        try:
            check_wait(error.retry_after or 0.0)
        except DeadlineError as too_long:
            self._on_refusal(too_long)
        self._not_before = _time() + POLL.delay(self._lost_in_row, random.random, error.retry_after)
        self._lost_in_row += 1

    def throttled(self, error: RateLimited) -> None:
        """429: nothing was charged; submissions resume when the service says."""
        try:
            check_wait(error.retry_after or 0.0)
        except DeadlineError as too_long:
            self._on_refusal(too_long)
            return
        now = _time()
        seconds = max(0.0, self._gate.refused(now, error.retry_after, random.random) - now)
        message = f"the service asks to slow down; submissions resume in {seconds:.0f} s"
        self._emit(Waiting("rate", round(seconds, 1), message))

    def close(self, reason: FluxLoraError) -> None:
        """No further submission."""
        self.closed = self.closed or reason
        self._changed.set()

    def take_off(self, record: JobRecord, submitted_at: float) -> None:
        """Count a task as in flight, from its submission (loop time) on."""
        self.in_flight.setdefault(record.key, (record.name, submitted_at))

    def land(self, record: JobRecord) -> None:
        """The task is not in flight any more, unless it is stuck."""
        if record.key not in self._stuck and self.in_flight.pop(record.key, None) is not None:
            self._changed.set()

    def stuck(self, record: JobRecord) -> bool:
        """A task that cannot be polled keeps its place, or more would be bought blindly; whether all places are so."""
        self._stuck.add(record.key)
        return len(self._stuck) >= self._concurrency


def ask(function: Callable[..., T], *args: Any, retry: Retry = START) -> T:
    """The answer to a request that changes nothing at the service, for a command that does nothing else meanwhile.

    Raises:
        DeadlineError: the service asks for more patience than a run has.
        FluxLoraError: the last failure, when the policy allows no further try.
    """
    failures = 0
    while True:
        try:
            return function(*args)
        except (NeverSent, Uncertain, RateLimited) as error:
            failures += 1
            asked = PAUSE if isinstance(error, RateLimited) and error.retry_after is None else error.retry_after
            check_wait(asked or 0.0)
            if error.timed_out or not retry.more(failures):
                raise
            time.sleep(retry.delay(failures - 1, random.random, asked))


def check_wait(seconds: float) -> None:
    """Raise DeadlineError where the service asks for more patience than a run has (Retry-After)."""
    if seconds > LONGEST_WAIT:
        raise DeadlineError(
            f"the service asks to come back in {seconds / 60:.0f} minutes (Retry-After)",
            "Run the same command again then.",
        )


async def _wait(event: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until something changes, or so many seconds."""
    event.clear()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _time() -> float:
    return asyncio.get_running_loop().time()
