"""When a request may leave, when a failed one is repeated, and when a task is polled.

Times are monotonic seconds and come in as arguments; so do random draws (callables that give a float in [0, 1)).
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

from flux_lora_cli.errors import DeadlineError, FluxLoraError, RateLimited

Draw = Callable[[], float]

#: Seconds of the first pause between two tries, at most; it doubles up to a cap. [FAULTS: retry policy]
BACKOFF, BACKOFF_CAP = 1.0, 20.0
#: Seconds of Retry-After that are waited for.
LONGEST_WAIT = 300.0
#: Seconds of the pause after a 429 that does not say how long; of submissions it doubles up to a cap, for account
#: limits are per minute.
PAUSE, PAUSE_CAP = 5.0, 60.0
#: Seconds over which clients that were told the same Retry-After spread out after it. Of 200 clients that come back
#: once each, 2.5 fall on average into a slot of 100 ms, and hardly ever more than 10.
HERD_SPREAD = 8.0


#: Tries in a row, the first one included, of a submission of which no byte left (as in the AWS SDKs' "standard" mode);
#: of what a command asks before its run begins, for somebody may be waiting for the answer; of any other GET, so that
#: they span the restart of a service (a minute or two); of an image, which stays where it is for days: what these do
#: not fetch, the next run does.
NEVER_SENT, START, POLL, DOWNLOAD = 3, 3, 10, 5


def next_try(error: FluxLoraError, failures: int, tries: int, draw: Draw = random.random) -> float:
    """Seconds until a request is sent again that has failed so often in a row, with ``error`` at last.

    Raises:
        DeadlineError: the service asks for more patience than a run has.
        FluxLoraError: ``error``, where no further try is allowed.
    """
    if (late := too_long(error)) is not None:
        raise late
    if failures >= tries:
        raise error
    unsaid = PAUSE if isinstance(error, RateLimited) else None
    return backoff(max(0, failures - 1), error.retry_after or unsaid, draw)


def backoff(attempt: int, retry_after: float | None = None, draw: Draw = random.random) -> float:
    """Seconds to wait after failure number ``attempt`` (from 0); a Retry-After is never undercut.

    "Full jitter" needs the fewest calls under contention. [AWS Architecture Blog, "Exponential Backoff And Jitter"]
    """
    seconds = draw() * min(BACKOFF_CAP, BACKOFF * 2.0 ** min(attempt, 62))
    return seconds if retry_after is None else max(seconds, max(0.0, retry_after) + draw() * HERD_SPREAD)


def too_long(error: FluxLoraError) -> DeadlineError | None:
    """Why the run ends where the service asks for more patience than one has; None where it does not."""
    seconds = error.retry_after or 0.0
    if seconds <= LONGEST_WAIT:
        return None
    message = f"the service asks to come back in {seconds / 60:.0f} minutes (Retry-After)"
    return DeadlineError(message, "Run the same command again then.")


#: Tokens of the process's retry budget: in all; what a failure costs, and one by time-out, which held a connection all
#: the while. A success returns one. [AWS SDKs, "standard" retry mode]
TOKENS, RETRY_COST, TIMEOUT_COST = 100, 5, 10
#: Seconds between two probes of a service that is down; and without any success until the run ends. [CONTRACT: waiting]
PROBE_EVERY, GIVE_UP_AFTER = 20.0, 600.0


class Outage:
    """Whether the service is taken to be down (``probing``): the retry budget of the process is empty.

    20 failures in a row empty it. Then submissions pause, and one request of another kind goes out every PROBE_EVERY
    seconds, until one succeeds.
    """

    def __init__(self) -> None:
        self.probing = False
        self._tokens = TOKENS
        self._last_probe = -math.inf
        self._down_since = math.inf  # first failure since the last success

    def success(self) -> None:
        """An answer came that shows the service to be up (a 4xx, too)."""
        self._tokens = min(TOKENS, self._tokens + 1)
        self.probing, self._down_since = False, math.inf

    def failure(self, now: float, timed_out: bool = False) -> bool:
        """A request failed on the way, or with a 5xx; whether an outage begins with it."""
        self._tokens = max(0, self._tokens - (TIMEOUT_COST if timed_out else RETRY_COST))
        self._down_since = min(self._down_since, now)
        begins = self._tokens < RETRY_COST and not self.probing
        if begins:
            self.probing, self._last_probe = True, now
        return begins

    def probe(self, now: float) -> float:
        """Seconds that a request has to wait; 0 where it may leave, as the next probe while there is an outage."""
        wait = self._last_probe + PROBE_EVERY - now
        if self.probing and wait > 0:
            return wait
        self._last_probe = now
        return 0.0

    def given_up(self, now: float) -> bool:
        """Whether there was no success for so long that the run should end (exit 5)."""
        return self.probing and now - self._down_since >= GIVE_UP_AFTER


#: Seconds by which a submission may be early: what a busy event loop loses is caught up, without a burst.
LAG = 0.15
#: Images per second: what the first 429 leaves where there was no limit; and below which no row of them goes (6 per
#: minute: the smallest account may do 10).
FIRST_RATE, LEAST_RATE = 5.0, 0.1
#: A window is as many accepted images as the rate gives in a second, and at least this many.
MIN_WINDOW = 5
#: Seconds that a submission takes while none was seen; from the decision until it leaves (the intent's commit); in
#: which all vacancies are filled, and a FEW of them. Submissions whose answer is waited for, at most.
GUESS, COMMIT, FILL, REFILL = 0.2, 0.01, 1.0, 0.25
FEW, MAX_SENDING = 8, 32


class RateGate:
    """Images per second: the user's limit as the ceiling, halved on every 429, climbing slowly back.

    A leaky bucket (generic cell rate algorithm, ITU-T I.371): over any T seconds at most ``rate × (T + LAG)`` images
    and one request more leave. Without a limit nothing is held back until the first 429. No more submissions are in
    flight than the rate needs, for a kill leaves each of them unknown.

    Args:
        limit: images per second; None where the user set no limit.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = self.rate = math.inf if limit is None else limit
        self._latency: float | None = None
        self._empty_at = self._resume = -math.inf  # when the bucket is empty; the end of the pause after a 429
        self._not_before = -math.inf  # of the one after a lost answer
        self._refusals = self._lost = self._window = 0  # in a row; images accepted in this window

    def ready_at(self, now: float) -> float:
        """The earliest time at which a request may leave. One for many images waits no longer: it pays afterwards."""
        return max(now, self._resume, self._not_before, self._empty_at - LAG)

    def take(self, now: float, images: int = 1) -> None:
        """A request for so many images leaves."""
        self._empty_at = max(self._empty_at, now) + images / self.rate

    def in_flight(self, vacancies: int) -> int:
        """How many submissions may be in flight; ``vacancies``: tasks that could be in flight and are not."""
        latency = (GUESS if self._latency is None else self._latency) + COMMIT
        wanted = min(self.rate, max(vacancies / FILL, min(vacancies, FEW) / REFILL))
        return max(1, min(MAX_SENDING, vacancies, math.ceil(wanted * latency)))

    def lost(self, now: float, retry_after: float | None, draw: Draw = random.random) -> None:
        """Whether a request was accepted is not known: the next ones wait, longer each time in a row."""
        self._not_before = max(self._not_before, now + backoff(self._lost, retry_after, draw))
        self._lost += 1

    def refused(self, now: float, retry_after: float | None, draw: Draw = random.random) -> float:
        """A request was answered with 429: halve the rate; returns when submissions resume.

        Requests that were on their way together are refused together, and halve the rate once. Never resumes before
        ``retry_after`` (seconds), and spread out after it, for others were told the same.
        """
        together = now < self._resume
        if not together:
            half = FIRST_RATE if self.rate == math.inf else self.rate / 2
            self.rate = max(half, min(LEAST_RATE, self.limit))
            self._window, self._empty_at = 0, -math.inf
            self._refusals += 1
        pause = min(PAUSE_CAP, PAUSE * 2.0 ** min(self._refusals - 1, 10))
        least = pause / 2 if retry_after is None else max(0.0, retry_after)
        if not together or now + least > self._resume:
            self._resume = now + least + draw() * max(HERD_SPREAD, pause)
        return self._resume

    def accepted(self, now: float, images: int = 1, latency: float | None = None) -> None:
        """A request was accepted, after so many seconds. A full window of them earns one image more per window."""
        if latency is not None:
            self._latency = latency if self._latency is None else self._latency + 0.2 * (latency - self._latency)
        self._lost = 0
        if now >= self._resume:
            self._refusals = 0
        if self.rate == self.limit:
            return
        self._window += images
        window = max(self.rate, MIN_WINDOW)
        if self._window >= window:
            self._window = 0
            self.rate = min(self.rate * (window + 1) / window, self.limit)


#: Seconds after the submission while no task was seen to end; and that two polls are apart at most.
FIRST_POLL, MAX_GAP = 0.5, 30.0
#: Every gap of a task is this much longer than the one before it.
GROWTH = 1.2
#: Tasks that the estimate rests on, and the share of them that ended before the first poll of a new one comes: a low
#: one, for half of all tasks end before the median. It comes a little after that (this part of the time, and of the
#: floor): a poll just too early costs a whole gap.
RECENT, EARLIER, MARGIN = 32, 0.1, 0.05
#: A task that its first poll saw finished may have ended this much sooner, or, if the service says that it took less
#: than that, LATE much sooner.
SOONER, LATE = 0.92, 0.5


class PollPlanner:
    """Places the polls of a task: the first when recent tasks suggest that it is ready, later ones ever further apart.

    Args:
        floor: least seconds between two polls of one task. The first poll may come sooner after its submission.
    """

    def __init__(self, floor: float = 2.0) -> None:
        self.floor = floor
        self._took: deque[float] = deque(maxlen=RECENT)

    def first_poll(self, submitted_at: float, now: float) -> float:
        """The time of the first poll of a task."""
        if not self._took:
            return max(now, submitted_at + min(self.floor, FIRST_POLL))
        took = sorted(self._took)
        usual = took[int(EARLIER * (len(took) - 1))]
        return max(now, submitted_at + usual + MARGIN * (usual + self.floor))

    def next_poll(self, now: float, polls: int) -> float:
        """The time of the next poll of a task that is not finished ``now``, after so many polls."""
        return now + max(self.floor, min(MAX_GAP, self.floor * GROWTH ** min(polls - 1, 100)))

    def observe(self, submitted_at: float, seen_at: float, polled_before_at: float | None, took_ms: int | None) -> None:
        """A task was seen finished.

        Args:
            polled_before_at: when it was last seen unfinished; None if the first poll saw it finished.
            took_ms: what the service reports. It counts where polls do not contradict it: a queue is not in it.
        """
        longest = max(0.0, seen_at - submitted_at)
        reported = (took_ms or 0) / 1000.0
        if polled_before_at is None:
            slower_times = 0 < reported < LATE * longest  # those that the estimate is from, as of a cold start
            shortest = guess = (LATE if slower_times else SOONER) * longest
        else:
            shortest = polled_before_at - submitted_at
            guess = max(0.0, (shortest + longest) / 2)
        self._took.append(reported if shortest <= reported <= longest else guess)
