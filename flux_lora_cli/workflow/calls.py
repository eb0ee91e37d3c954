"""Reading from the API: repeated as the policy allows, held back while the service is down."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flux_lora_cli.domain.backoff import LOOK, THROTTLED, Outage, Policy
from flux_lora_cli.domain.events import Waiting
from flux_lora_cli.errors import (
    BadAnswer,
    DeadlineError,
    FluxLoraError,
    KeyRefused,
    NeverSent,
    RateLimited,
    ServiceError,
    Uncertain,
)
from flux_lora_cli.workflow.context import Context

T = TypeVar("T")

#: A Retry-After beyond this many seconds is not waited for. [FAULTS: retry policy]
LONGEST_WAIT = 300.0

#: Failures that a repetition may mend.
PASSING = (Uncertain, NeverSent, BadAnswer)


@dataclass(eq=False)
class _Read:
    work: Callable[[], Any]
    then: Callable[[Any], None]
    policy: Policy
    floor: float = 0.0
    failures: int = 0
    throttled: int = 0


class Calls:
    """GETs (and the price and list POSTs, which change nothing)."""

    def __init__(self, ctx: Context, outage: Outage) -> None:
        self._ctx = ctx
        self.outage = outage
        self._parked: deque[_Read] = deque()
        self._probe_due = False

    def read(
        self,
        work: Callable[[], T],
        then: Callable[[T | FluxLoraError], None],
        policy: Policy = LOOK,
        floor: float = 0.0,
    ) -> None:
        """Run ``work`` on a worker until it gives an answer or the policy ends; then ``then``.

        Args:
            floor: least seconds between two tries; the jitter comes on top, or many clients would meet at it.
        """
        self._start(_Read(work, then, policy, floor))

    def _start(self, read: _Read) -> None:
        ctx = self._ctx
        if ctx.calls_stopped:
            read.then(ServiceError("the run has stopped"))
            return
        now = ctx.clock.monotonic()
        if self.outage.ready_at(now) > now:
            self._parked.append(read)
            self._await_probe()
            return
        if self.outage.probing:
            self.outage.probed(now)
        ctx.reactor.call(ctx.callers, read.work, lambda result: self._answered(read, result))

    def _answered(self, read: _Read, result: Any) -> None:
        if isinstance(result, PASSING):
            self._failed(read, result)
            return
        self.succeeded()
        if isinstance(result, RateLimited):
            read.throttled += 1
            delay = read.floor + THROTTLED.delay(read.throttled - 1, self._ctx.draw, result.retry_after)
            if self.come_back_later(result, result.retry_after):
                read.then(result)
                return
            self._ctx.explain(f"{result.message}; asked again in {delay:.1f} s")
            self._ctx.reactor.after(delay, lambda: self._start(read))
            return
        if isinstance(result, KeyRefused):
            self._ctx.stop_calls(result)
        read.then(result)

    def _failed(self, read: _Read, error: FluxLoraError) -> None:
        ctx = self._ctx
        was_probing = self.outage.probing
        self.failed(error)
        if ctx.calls_stopped:
            read.then(error)
        elif was_probing:
            self._start(read)
        else:
            read.failures += 1
            if not read.policy.more(read.failures):
                read.then(error)
                return
            asked = getattr(error, "retry_after", None)
            delay = read.floor + read.policy.delay(read.failures - 1, ctx.draw, asked)
            if self.come_back_later(error, asked):
                read.then(RateLimited(error.message, error.hint, asked))
                return
            ctx.explain(f"{error.message}; asked again in {delay:.1f} s")
            ctx.reactor.after(delay, lambda: self._start(read))

    def succeeded(self) -> None:
        """The service answered: whatever waited for that goes on."""
        self.outage.success()
        if self._parked:
            waiting, self._parked = self._parked, deque()
            for read in waiting:
                self._start(read)

    def failed(self, error: FluxLoraError) -> None:
        """Some request failed on its way; too many of these, and submits pause."""
        ctx = self._ctx
        now = ctx.clock.monotonic()
        was_probing = self.outage.probing
        self.outage.failure(now, timed_out=bool(getattr(error, "timed_out", False)))
        if self.outage.given_up(now):
            ctx.stop_calls(
                ServiceError(
                    f"the service has not answered for 10 minutes: {error.message}",
                    "Nothing is lost: the same command goes on where this run stopped.",
                )
            )
            self._release()
        elif self.outage.probing and not was_probing:
            ctx.emit(
                Waiting(
                    "outage",
                    self.outage.PROBE_EVERY,
                    f"the service is not answering ({error.message}); submits pause, it is asked again every 20 s",
                )
            )

    def come_back_later(self, error: FluxLoraError, wait: float | None) -> bool:
        """Whether a Retry-After is too long to wait for; then the run collects what it has and ends."""
        ends_at = self._ctx.ends_at
        left = LONGEST_WAIT if ends_at is None else min(LONGEST_WAIT, ends_at - self._ctx.clock.monotonic())
        if wait is None or wait <= left:
            return False
        self._ctx.stop_submits(too_long(wait))
        return True

    def _await_probe(self) -> None:
        if self._probe_due:
            return
        self._probe_due = True
        self._ctx.reactor.at(self.outage.ready_at(self._ctx.clock.monotonic()), self._probe)

    def _probe(self) -> None:
        self._probe_due = False
        if self._parked:
            self._start(self._parked.popleft())
        if self._parked:
            self._await_probe()

    def _release(self) -> None:
        waiting, self._parked = self._parked, deque()
        for read in waiting:
            read.then(ServiceError("the run has stopped"))


def too_long(wait: float) -> DeadlineError:
    """What a Retry-After that is not waited for becomes."""
    return DeadlineError(
        f"the service wants no more requests for {in_words(wait)}",
        f"Run the same command again in {in_words(wait)}; it goes on where this run stopped.",
    )


def in_words(seconds: float) -> str:
    """A duration, rounded up: who comes too early is only sent away again."""
    if seconds <= 90:
        whole = math.ceil(seconds)
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes <= 120 else f"{math.ceil(minutes / 60)} hours"
