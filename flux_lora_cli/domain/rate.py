"""How fast images are submitted, and how many submits are on their way at once.

Times are monotonic seconds and come in as arguments.
"""

from __future__ import annotations

import math

from .backoff import HERD_SPREAD, THROTTLED, Draw


class RateGate:
    """Images a second: the user's limit as the ceiling, halved on every 429, climbing slowly back.

    A leaky bucket in the form of the generic cell rate algorithm (ITU-T I.371): over any T seconds at most
    ``rate × (T + LAG)`` images and one request more are let through. Without a limit nothing is held back
    until the first 429.

    Args:
        limit_per_second: images a second; None where the user set no limit.
    """

    #: Seconds by which a request may be early: what a busy event loop loses is caught up, without a burst.
    LAG = 0.15
    #: Images a second. Where there was no limit, the first 429 leaves at least START; no row of them goes
    #: below FLOOR (6 a minute: the smallest account may do 10).
    START = 5.0
    FLOOR = 0.1
    #: A window is as many images in a row accepted as the rate gives in a second, and at least this many.
    LEAST_WINDOW = 5

    def __init__(self, limit_per_second: float | None = None) -> None:
        self.limit = limit_per_second
        self.rate = limit_per_second
        self._next = -math.inf  # the time at which the bucket is empty again
        self._resume = -math.inf
        self._refusals = 0  # in a row
        self._window = 0
        self._taken: tuple[float, int] = (-math.inf, 0)  # start of the current second, images taken in it

    def ready_at(self, now: float, images: int = 1) -> float:
        """The earliest time at which a request for ``images`` images may leave; ``now`` if it may at once.

        A request never waits for more than the one before it has used: a large one pays afterwards.
        """
        if self.rate is None:
            return max(now, self._resume)
        return max(now, self._resume, self._next - self.LAG)

    def take(self, now: float, images: int = 1) -> None:
        """A request for ``images`` images leaves."""
        start, count = self._taken
        self._taken = (start, count + images) if now - start < 1.0 else (now, images)
        if self.rate is not None:
            self._next = max(self._next, now) + images / self.rate

    def refused(self, now: float, retry_after: float | None, draw: Draw) -> float:
        """A request was answered with 429: halve the rate and say when submits resume.

        Requests that were on their way together are refused together; they halve the rate once.
        Resumption is never before ``retry_after`` (seconds), and spread out after it, for others were told
        the same.
        """
        together = now < self._resume
        if not together:
            self._slow_down()
            self._refusals += 1
        pause = min(THROTTLED.cap, THROTTLED.base * 2.0 ** min(self._refusals - 1, 10))
        least = pause / 2 if retry_after is None else max(0.0, retry_after)
        if together and now + least <= self._resume:
            return self._resume
        self._resume = now + least + draw() * max(HERD_SPREAD, pause)
        return self._resume

    def accepted(self, now: float, images: int = 1) -> None:
        """A request was accepted. A full window of them in a row earns one image more in such a window."""
        if now >= self._resume:
            self._refusals = 0
        if self.rate is None or self.rate == self.limit:
            return
        self._window += images
        window = max(self.rate, self.LEAST_WINDOW)
        if self._window >= window:
            self._window = 0
            self.rate *= (window + 1) / window
            if self.limit is not None:
                self.rate = min(self.rate, self.limit)

    def _slow_down(self) -> None:
        current = max(2 * self.START, float(self._taken[1])) if self.rate is None else self.rate
        floor = self.FLOOR if self.limit is None else min(self.FLOOR, self.limit)
        self.rate = max(floor, current / 2)
        self._window = 0
        self._next = -math.inf


class SubmitWindow:
    """How many submits may be on their way at once: no more than the rate needs.

    A kill leaves each of them unknown. Measured: eight on their way left two unknowns a kill, one left fewer
    than one.
    """

    #: Seconds a submit takes, as long as none was seen.
    GUESS = 0.2
    #: Seconds from the decision to submit until the request leaves: the intent's commit to disk, and the hand-over.
    COMMIT = 0.01
    MOST = 32
    #: Seconds in which all vacancies are filled, and in which a few of them are.
    FILL, REFILL = 1.0, 0.25
    FEW = 8

    def __init__(self) -> None:
        self._latency: float | None = None

    def observe(self, latency_s: float) -> None:
        """A submit was answered after so many seconds."""
        old = self._latency
        self._latency = latency_s if old is None else old + 0.2 * (latency_s - old)

    def allowed(self, rate_per_second: float | None, vacancies: int) -> int:
        """How many may be on their way, for ``vacancies`` tasks that could be in flight and are not."""
        if vacancies <= 0:
            return 1
        latency = (self.GUESS if self._latency is None else self._latency) + self.COMMIT
        wanted = max(vacancies / self.FILL, min(vacancies, self.FEW) / self.REFILL)
        if rate_per_second is not None:
            wanted = min(wanted, rate_per_second)
        return max(1, min(self.MOST, vacancies, math.ceil(wanted * latency)))
