"""The sandbox as others use it: start it, talk to its base URL, see what it charged, stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from .api import Api
from .faults import Fault, FaultRule
from .listener import Answer, Listener, Request
from .store import NANOS, Store, Task


@dataclass(frozen=True, slots=True)
class Options:
    """How the service behaves; the values are not checked.

    Args:
        service_time: seconds that a task takes, or the shortest and the longest time.
        rate: images per minute that are accepted (a minute's worth at once); None for no limit.
        concurrency: tasks worked on at once, the others queue; None for no limit.
        price_per_image: dollars; None for the documented price of each model.
        balance: dollars of credit; None for a credit that does not run out.
        api_key: the one key that is accepted; None for any.
        nsfw_rate: share of the images that are flagged, 0 to 1. A prompt that says nsfw is always flagged.
        seed: of the sandbox's own randomness.
        undeclared: whether parameters that a model does not declare are dropped, or the request refused.
    """

    service_time: float | tuple[float, float] = (0.6, 1.2)
    rate: float | None = None
    concurrency: int | None = None
    price_per_image: Decimal | None = None
    balance: Decimal | None = None
    api_key: str | None = None
    nsfw_rate: float = 0.0
    seed: int = 0
    undeclared: Literal["drop", "refuse"] = "drop"

    @property
    def span(self) -> tuple[float, float]:
        """Shortest and longest service time."""
        return self.service_time if isinstance(self.service_time, tuple) else (self.service_time, self.service_time)


class Sandbox:
    """The service, offline, on a port of this machine. A context manager; ``start`` and ``stop`` do the same.

    Args:
        port: 0 picks a free one.
        faults: what goes wrong, as text (see ``faults``) or as callables of (endpoint, request).
        state: file that keeps the state, to be shared by any number of processes; None keeps it in memory.
        on_request: called with each request and its endpoint, before it is answered.
        clock: seconds since the epoch.
        behavior: the fields of ``Options``.

    Raises:
        ValueError: a fault is not valid.
        StateError: the state file cannot be used.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        faults: Iterable[str | FaultRule] = (),
        state: Path | None = None,
        on_request: Callable[[str, Request], None] = lambda endpoint, request: None,
        clock: Callable[[], float] = time.time,
        **behavior: Any,
    ) -> None:
        options = Options(**behavior)
        self._faults = [Fault.parse(fault, options.seed) if isinstance(fault, str) else fault for fault in faults]
        self._store, self._on_file = Store(state, clock()), state is not None
        self._clock, self._on_request, self._port = clock, on_request, port
        self._api = Api(options, self._store, clock)
        self._listener: Listener | None = None

    def start(self) -> str:
        """Listens, in threads of its own, and returns the base URL. Raises OSError where the port is taken."""
        self._listener = Listener(self._port, self._answer, self._api.body_limit, self._clock)
        self._api.stopping = self._listener.stopping
        return self.base_url

    def stop(self) -> None:
        """Ends all connections and closes the state file; state in memory can still be asked."""
        if self._listener is not None:
            self._listener.stop()
        if self._on_file:
            self._store.close()

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT``, once started."""
        if self._listener is None:
            raise RuntimeError("the sandbox was not started")
        return f"http://127.0.0.1:{self._listener.server_port}"

    @property
    def notice(self) -> str:
        """What the user should know of the state file; "" mostly."""
        return self._store.notice

    @property
    def tasks(self) -> list[Task]:
        """Every task that was accepted, oldest first."""
        return self._store.tasks("1 ORDER BY seq", [])

    @property
    def charges(self) -> list[tuple[str, Decimal]]:
        """Task ID and dollars of each charge, oldest first."""
        return self._bill("deduct")

    @property
    def refunds(self) -> list[tuple[str, Decimal]]:
        """Task ID and dollars of each refund due by now, oldest first."""
        return self._bill("refund")

    def _bill(self, kind: str) -> list[tuple[str, Decimal]]:
        records = self._store.bill("kind = ? AND at <= ?", [kind, self._clock()])
        return [(record["task"], Decimal(record["nanos"]) / NANOS) for record in reversed(records)]

    def _answer(self, request: Request) -> Answer:
        endpoint = self._api.endpoint(request)
        request.carry = self._api.answer
        self._on_request(endpoint, request)
        self._api.check_host(request)
        answers = (fault(endpoint, request) for fault in self._faults)
        return next((answer for answer in answers if answer is not None), None) or request.carry_out()
