"""One loop on one thread: results of blocking calls as they come, timers as they fall due.

Many tasks in flight cost a heap entry each, not a thread each. All decisions and all records are made on the
loop's thread, so nothing of a run needs a lock.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import TypeVar

from flux_lora_cli.errors import FluxLoraError, Uncertain
from flux_lora_cli.workflow.ports import Clock, Inbox, Workers

T = TypeVar("T")
Action = Callable[[], None]


class Timer:
    """An action that is due at some time, and can be called off."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Action) -> None:
        self.when = when
        self.action: Action | None = action

    def cancel(self) -> None:
        """Never run it."""
        self.action = None


class Reactor:
    """The loop.

    Args:
        clock: whose monotonic time the timers use.
        inbox: where results of calls arrive.
        flush: called after each turn, before anything new is started: makes records durable. Returns the
            seconds until it wants to be called again, None where it has nothing waiting.
    """

    def __init__(self, clock: Clock, inbox: Inbox, flush: Callable[[], float | None]) -> None:
        self.clock = clock
        self._inbox = inbox
        self._flush = flush
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self.calls = 0

    def at(self, when: float, action: Action) -> Timer:
        """Run ``action`` at the monotonic time ``when``."""
        timer = Timer(when, action)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def after(self, seconds: float, action: Action) -> Timer:
        """Run ``action`` in so many seconds."""
        return self.at(self.clock.monotonic() + seconds, action)

    def soon(self, action: Action) -> None:
        """Run ``action`` on the loop's thread. From any thread, and from signal handlers."""
        self._inbox.put(action)

    def call(self, workers: Workers, work: Callable[[], T], then: Callable[[T | FluxLoraError], None]) -> None:
        """Run ``work`` on a worker, then ``then`` with its result or its error on the loop's thread."""
        self.calls += 1

        def run() -> None:
            result: T | FluxLoraError
            try:
                result = work()
            except FluxLoraError as error:
                result = error
            except Exception as error:
                # A fault of ours in the middle of a request proves nothing about what was sent.
                result = Uncertain(f"internal error: {type(error).__name__}: {error}")
            self._inbox.put(lambda: self._finished(then, result))

        workers.start(run)

    def _finished(self, then: Callable[[T | FluxLoraError], None], result: T | FluxLoraError) -> None:
        self.calls -= 1
        then(result)

    def run(self, done: Callable[[], bool]) -> None:
        """Turn until ``done`` says so."""
        wait = self._flush()
        while not done():
            item = self._inbox.get(self._pause(wait))
            while item is not None:
                item()
                item = self._inbox.get(0)
            self._run_timers()
            wait = self._flush()

    def _pause(self, wait: float | None) -> float | None:
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        if self._timers:
            due = max(0.0, self._timers[0][0] - self.clock.monotonic())
            return due if wait is None else min(due, wait)
        return wait

    def _run_timers(self) -> None:
        now = self.clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            action = heapq.heappop(self._timers)[2].action
            if action is not None:
                action()
