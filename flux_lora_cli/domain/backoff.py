"""When a failed request is sent again, and when it is not.

Times are monotonic seconds and come in as arguments, and so do random draws
(callables that give a float in [0, 1)).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

Draw = Callable[[], float]

#: ``Policy.tries`` of a request that is repeated until a deadline ends it.
UNLIMITED = sys.maxsize

#: Seconds over which clients that were told the same Retry-After spread out after it. Of 200 clients that
#: come back once each, 2.5 fall on average into a slot of 100 ms, and hardly ever more than 10 (5 %).
HERD_SPREAD = 8.0


def full_jitter(attempt: int, base: float, cap: float, draw: Draw) -> float:
    """Seconds to wait before repeating, after failure number ``attempt`` (from 0).

    "Full jitter" of the AWS Architecture Blog ("Exponential Backoff And Jitter", 2015): of the variants
    compared there it needs the fewest calls under contention.
    """
    return draw() * min(cap, base * 2.0 ** min(attempt, 62))


def after_retry_after(retry_after: float, draw: Draw, spread: float = HERD_SPREAD) -> float:
    """Seconds to wait when the server named ``retry_after``: never less, and spread out after it."""
    return max(0.0, retry_after) + draw() * spread


@dataclass(frozen=True, slots=True)
class Policy:
    """How often one request is tried (the first time included), and how long the pauses are, in seconds."""

    tries: int
    base: float
    cap: float

    def more(self, failures: int) -> bool:
        """Whether another try is allowed after this many failures in a row."""
        return failures < self.tries

    def delay(self, attempt: int, draw: Draw, retry_after: float | None = None) -> float:
        """Seconds to wait after failure number ``attempt`` (from 0); a Retry-After is never undercut."""
        backoff = full_jitter(attempt, self.base, self.cap, draw)
        if retry_after is None:
            return backoff
        return max(backoff, after_retry_after(retry_after, draw))


#: A submit of which no byte left. Three tries and 20 s are the AWS SDKs' "standard" retry mode.
NEVER_SENT = Policy(tries=3, base=1.0, cap=20.0)
#: A look at a task, in a row. Ten tries of up to 20 s span the restart of a service (a minute or two).
LOOK = Policy(tries=10, base=1.0, cap=20.0)
#: A page of the predictions list, the price, the balance.
LIST = LOOK
#: An image. The URL stays good for days, so what five tries do not fetch, the next run does.
DOWNLOAD = Policy(tries=5, base=1.0, cap=20.0)
#: 429 without Retry-After. A refused submit is not charged, so only deadlines end it. The account limits are
#: counted per minute, therefore the cap.
THROTTLED = Policy(tries=UNLIMITED, base=5.0, cap=60.0)


class RetryBudget:
    """What the whole process may spend on repeating.

    The token bucket of the AWS SDKs' "standard" retry mode in its proportions (a retry 5, a time-out 10, a
    success returns 1), with a fifth of its 500 tokens: 20 failures in a row say that the service is down.
    """

    RETRY_COST = 5
    TIMEOUT_COST = 10

    def __init__(self, tokens: int = 100) -> None:
        self.capacity = tokens
        self.tokens = tokens

    def retry(self) -> None:
        """Pay for a request that failed."""
        self._pay(self.RETRY_COST)

    def timeout(self) -> None:
        """Pay for a request that timed out: dearer, since it held a connection all the while."""
        self._pay(self.TIMEOUT_COST)

    def success(self) -> None:
        """Earn a token."""
        self.tokens = min(self.capacity, self.tokens + 1)

    @property
    def empty(self) -> bool:
        """Whether not even one more retry can be paid."""
        return self.tokens < self.RETRY_COST

    def _pay(self, cost: int) -> None:
        self.tokens = max(0, self.tokens - cost)


class Outage:
    """Whether the service is taken to be down, and what may be sent then.

    While the budget is not empty, requests leave as they like. Once a failure finds it empty, submits pause
    and one request every PROBE_EVERY seconds goes out, of any kind but a submit. The first success ends that.
    """

    #: Seconds between two probes, and without any success until the run is given up.
    PROBE_EVERY = 20.0
    GIVE_UP_AFTER = 600.0

    def __init__(self, budget: RetryBudget | None = None) -> None:
        self.budget = budget or RetryBudget()
        self.probing = False
        self._down_since: float | None = None
        self._last_sent = float("-inf")

    def success(self) -> None:
        """An answer that shows the service to be up (also one that refuses the request)."""
        self.budget.success()
        self.probing = False
        self._down_since = None

    def failure(self, now: float, timed_out: bool = False) -> None:
        """A request that failed on the way or with a 5xx."""
        if timed_out:
            self.budget.timeout()
        else:
            self.budget.retry()
        if self._down_since is None:
            self._down_since = now
        if self.budget.empty and not self.probing:
            self.probing = True
            self._last_sent = now

    def ready_at(self, now: float) -> float:
        """The earliest time at which a request may leave; ``now`` while there is no outage."""
        return max(now, self._last_sent + self.PROBE_EVERY) if self.probing else now

    def probed(self, now: float) -> None:
        """A probe leaves."""
        self._last_sent = now

    def given_up(self, now: float) -> bool:
        """Whether there was no success for so long that the run should end (exit 5)."""
        return self.probing and self._down_since is not None and now - self._down_since >= self.GIVE_UP_AFTER
