"""GET requests of a run: repeated as the retry policy says, held back while the service is taken to be down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from flux_lora_cli.engine.events import Event, Explained, Waiting
from flux_lora_cli.engine.limits import POLL, Draw, Outage, Retry
from flux_lora_cli.engine.threads import Pool
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

T = TypeVar("T")

#: Failures of one request that say nothing about what was asked: worth repeating.
PASSING = (NeverSent, Uncertain, BadAnswer)
#: Seconds of Retry-After that are waited for. [FAULTS: retry policy]
LONGEST_WAIT = 300.0
#: Requests to the API that are in flight at once, at most.
MAX_REQUESTS = 40


class CallsStopped(Exception):
    """No further request goes to the API in this run."""


class Calls:
    """What all requests of a run share.

    Attributes:
        outage: the retry budget of the process, and the switch that it throws.
        probe: the cheapest request, to see whether the service is back.
        failing: the last failure, where three requests or more in a row have failed.
        stopped: no further request to the API (the key was refused, the service is down for good).
    """

    def __init__(
        self,
        pool: Pool,
        observer: Callable[[Event], None],
        draw: Draw,
        probe: Callable[[], object],
        on_fatal: Callable[[FluxLoraError], None],
    ) -> None:
        self.outage = Outage()
        self.probe = probe
        self.stopped = False
        self.failing: FluxLoraError | None = None
        self._in_row = 0
        self._pool = pool
        self._observer = observer
        self._draw = draw
        self._on_fatal = on_fatal
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._ended = asyncio.Event()  # an outage ended, or calls stopped

    async def get(
        self, function: Callable[..., T], *args: Any, retry: Retry = POLL, floor: float = 0.0, why: str = ""
    ) -> T:
        """The answer to a request that changes nothing at the service.

        Args:
            floor: least seconds between two tries.
            why: whose request it is, for explanations.

        Raises:
            CallsStopped: nothing is asked any more.
            FluxLoraError: the last failure, when the policy allows no further try.
        """
        failures = 0
        while True:
            await self.service_up()
            asked: float | None = None
            try:
                result = await self.send(function, *args)
            except RateLimited as error:
                self.succeeded()
                asked = 5.0 if error.retry_after is None else error.retry_after
                check_wait(asked)
                failure: FluxLoraError = error
            except PASSING as error:
                self.failed(error)
                failures += 1
                if self.stopped:
                    raise CallsStopped from error
                if not retry.more(failures):
                    raise
                asked = getattr(error, "retry_after", None)
                if (asked or 0.0) > LONGEST_WAIT:
                    raise
                failure = error
            except FluxLoraError as error:
                self.succeeded()
                if isinstance(error, (KeyRefused, Redirected)):
                    self._on_fatal(error)
                raise
            else:
                self.succeeded()
                return result
            delay = max(floor, retry.delay(max(0, failures - 1), self._draw, asked))
            self._observer(Explained(f"{why or 'request'}: {failure.message}; trying again in {delay:.1f} s"))
            await asyncio.sleep(delay)

    async def send(self, function: Callable[..., T], *args: Any) -> T:
        """One try of one request."""
        async with self._requests:
            return await self._pool.call(function, *args)

    async def service_up(self) -> None:
        """Wait while the service is taken to be down; one caller at a time is let through as a probe."""
        while not self.stopped and self.outage.probing:
            now = asyncio.get_running_loop().time()
            ready = self.outage.ready_at(now)
            if ready <= now:
                self.outage.probed(now)
                return
            self._ended.clear()
            try:
                async with asyncio.timeout(ready - now):
                    await self._ended.wait()
            except TimeoutError:
                pass
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
        now = asyncio.get_running_loop().time()
        self._in_row += 1
        self.failing = error if self._in_row >= 3 else None
        before = self.outage.probing
        self.outage.failure(now, timed_out=getattr(error, "timed_out", False))
        if self.outage.given_up(now):
            message = f"the service could not be reached for {self.outage.GIVE_UP_AFTER / 60:.0f} minutes"
            self._on_fatal(ServiceError(f"{message}: {error.message}", "Run the same command again later."))
        elif self.outage.probing and not before:
            message = f"the service seems to be down ({error.message}); submissions pause, and it is tried every"
            self._observer(Waiting("outage", self.outage.PROBE_EVERY, f"{message} {self.outage.PROBE_EVERY:.0f} s"))

    def stop(self) -> None:
        """No further request."""
        self.stopped = True
        self._ended.set()


def check_wait(seconds: float) -> None:
    """Raise DeadlineError where the service asks for more patience than a run has (Retry-After)."""
    if seconds > LONGEST_WAIT:
        raise DeadlineError(
            f"the service asks to come back in {seconds / 60:.0f} minutes (Retry-After)",
            "Run the same command again then.",
        )
