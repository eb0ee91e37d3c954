"""Whose turn it is to submit: concurrency, rate, window, budget and an outage, in one place and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

from flux_lora_cli.engine.budget import Budget
from flux_lora_cli.engine.calls import Calls, check_wait
from flux_lora_cli.engine.events import Event, Waiting
from flux_lora_cli.engine.limits import Draw, RateGate, SubmitWindow, full_jitter
from flux_lora_cli.errors import DeadlineError, FluxLoraError, RateLimited, ServiceError
from flux_lora_cli.folder.records import JobRecord


class SubmissionsStopped(Exception):
    """No further submission leaves in this run."""


class Turns:
    """Lets submissions leave one by one, as soon as every limit allows it.

    Attributes:
        closed: why no submission leaves any more; None while they may.
        in_flight: tasks that the service has, or may have, of ours: record key to name and loop time of the submission.
        sending: submissions whose answer has not come.
        to_submit: jobs of the run that are not submitted yet.
    """

    def __init__(
        self,
        concurrency: int,
        rate: float | None,
        budget: Budget,
        calls: Calls,
        observer: Callable[[Event], None],
        draw: Draw,
        on_refusal: Callable[[FluxLoraError], None],
    ) -> None:
        self.closed: FluxLoraError | None = None
        self.in_flight: dict[str, tuple[str, float]] = {}
        self.sending = 0
        self.to_submit = 0
        self.paced = False  # the last submission waited for the rate, not for a task to end
        self.budget = budget
        self.gate = RateGate(rate)
        self.window = SubmitWindow()
        self._concurrency = concurrency
        self._calls = calls
        self._emit = observer
        self._draw = draw
        self._on_refusal = on_refusal
        self._door = asyncio.Lock()
        self._changed = asyncio.Event()
        self._not_before = 0.0
        self._uncertain_in_row = 0
        self._stuck: set[str] = set()

    async def wait(self, record: JobRecord, price: Decimal | None) -> None:
        """Wait for the record's turn, reserve its price and count it as in flight.

        Raises:
            SubmissionsStopped: its turn never comes in this run.
            CallsStopped: as in ``Calls``.
        """
        images = record.images_asked
        async with self._door:
            while True:
                if self.closed is not None:
                    raise SubmissionsStopped
                await self._service_up()
                now = _time()
                vacancies = self._concurrency - len(self.in_flight)
                ready = max(self._not_before, self.gate.ready_at(now, images))
                if vacancies <= 0 or self.sending >= self.window.allowed(self.gate.rate, vacancies):
                    self.paced = self.paced and vacancies > 0
                    await self._change(None)
                elif ready > now:
                    self.paced = True
                    await self._change(ready - now)
                elif self.budget.reserve(price):
                    break
                elif self.sending:  # one of those may be refused, and leave its price to this one
                    await self._change(None)
                else:
                    self._on_refusal(self.budget.refusal(price, self.to_submit))
                    raise SubmissionsStopped
            self.gate.take(now, images)
            self.sending += 1
            self.take_off(record, now)

    async def _service_up(self) -> None:
        while self._calls.outage.probing:  # something cheap is the probe, never a submission
            try:
                await self._calls.get(self._calls.probe, why="probe")
            except ServiceError:
                continue

    def answered(self) -> None:
        """A submission's answer came, or never will."""
        self.sending -= 1
        self._changed.set()

    def accepted(self, record: JobRecord) -> None:
        """A submission was accepted."""
        now = _time()
        if record.key in self.in_flight:  # an abort lands it before its answer comes
            self.window.observe(now - self.in_flight[record.key][1])  # from its turn on: the intent's commit counts
        self.gate.accepted(now, record.images_asked)
        self._uncertain_in_row = 0
        self.to_submit -= 1

    def uncertain(self) -> None:
        """The answer to a submission was lost: the next ones wait, longer each time in a row."""
        self._uncertain_in_row += 1
        self._not_before = _time() + full_jitter(self._uncertain_in_row - 1, 1.0, 20.0, self._draw)

    def throttled(self, error: RateLimited) -> None:
        """429: nothing was charged; submissions resume when the service says."""
        try:
            check_wait(error.retry_after or 0.0)
        except DeadlineError as too_long:
            self._on_refusal(too_long)
            return
        now = _time()
        seconds = max(0.0, self.gate.refused(now, error.retry_after, self._draw) - now)
        message = f"the service asks to slow down; submissions resume in {seconds:.0f} s"
        self._emit(Waiting("rate", round(seconds, 1), message))

    def close(self, reason: FluxLoraError) -> None:
        """No further submission."""
        self.closed = self.closed or reason
        self._changed.set()

    def take_off(self, record: JobRecord, submitted_at: float) -> None:
        """Count a task as in flight, from its submission (loop time) on."""
        self.in_flight[record.key] = (record.name, submitted_at)

    def land(self, record: JobRecord) -> None:
        """The task is not in flight any more, unless it is stuck."""
        if record.key not in self._stuck and self.in_flight.pop(record.key, None) is not None:
            self._changed.set()

    def stuck(self, record: JobRecord) -> bool:
        """A task that cannot be polled keeps its place, or more would be bought blindly; whether all places are so."""
        self._stuck.add(record.key)
        return len(self._stuck) >= self._concurrency

    async def _change(self, seconds: float | None) -> None:
        """Wait until something changes that a submission may wait for, or so many seconds."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass


def _time() -> float:
    return asyncio.get_running_loop().time()
