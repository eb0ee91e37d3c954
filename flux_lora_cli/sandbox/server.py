"""The sandbox as others use it: start it, make it fail on demand, see what it charged, stop it.

A fault is text, as ``--fault`` takes it, or any callable of the signature of ``Fault``: it gets the endpoint's name and
the request, and answers wrongly, or None where it leaves the request alone. ``request.carry_out()`` gives the right
answer.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from .api import Api
from .listener import Answer, Listener, Request
from .store import NANOS, Fate, Store, Task

FaultRule = Callable[[str, Request], Answer | None]

ENDPOINTS: Final = ("submit", "result", "list", "price", "upload", "download")
KINDS: Final[dict[str, str]] = {
    "STATUS": "refuse with this HTTP status, 300 to 599",
    "reset": "carry out, then reset the connection",
    "stall": "carry out, then say nothing for SECONDS [3600]",
    "slow": "carry out, then answer SECONDS later [2]",
    "cut": "carry out, then send half of the answer",
    "html": "carry out, then answer with a page of HTML",
    "failed": "fail the task with CODE [1200] (submit, result)",
    "stuck": "never end the task (submit); report it as still running (result)",
    "few": "make one output fewer than asked for (submit, result)",
    "charged-twice": "charge the task twice (submit)",
}
_TASKS: Final = ("submit", "result")
_ONLY_FOR: Final = {"failed": _TASKS, "stuck": _TASKS, "few": _TASKS, "charged-twice": ("submit",)}
_DEFAULTS: Final = {"stall": 3600.0, "slow": 2.0, "failed": 1200.0}
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_FORM: Final = "ENDPOINT:KIND[=VALUE][:first=N|:every=N|:P%]"
_SPEC: Final = re.compile(
    rf"(?P<endpoint>[a-z]+):(?P<kind>[a-z0-9-]+)(?:=(?P<value>{_NUMBER}))?"
    rf"(?::(?:first=(?P<first>[0-9]+)|every=(?P<every>[0-9]+)|(?P<percent>{_NUMBER})%))?"
)
_HTML: Final = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"


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
        faults: what goes wrong, as text or as callables.
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
        return [(record["id"], Decimal(record["nanos"]) / NANOS) for record in reversed(records)]

    def _answer(self, request: Request) -> Answer:
        endpoint = self._api.endpoint(request)
        request.carry = self._api.answer
        self._on_request(endpoint, request)
        self._api.check_host(request)
        answers = (fault(endpoint, request) for fault in self._faults)
        return next((answer for answer in answers if answer is not None), None) or request.carry_out()


# ---- faults ----------------------------------------------------------------------------------


@dataclass
class Fault:
    """``ENDPOINT:KIND[=VALUE][:first=N|:every=N|:P%]``: what goes wrong; without a count, each time."""

    endpoint: str
    kind: str
    value: float
    first: int = 0
    every: int = 0
    chance: float = 0.0
    lots: random.Random = field(default_factory=random.Random)
    _seen: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    @classmethod
    def parse(cls, spec: str, seed: int = 0) -> Fault:
        """A fault from ``ENDPOINT:KIND[=VALUE][:first=N|:every=N|:P%]``.

        Raises:
            ValueError: the text is not a fault; the message says what is allowed.
        """
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise ValueError(f"not a valid fault: {spec!r}; write {_FORM}")
        endpoint, kind = match["endpoint"], match["kind"]
        counts = {name: int(match[name]) for name in ("first", "every") if match[name]}
        chance = float(match["percent"] or 0) / 100
        only = _ONLY_FOR.get(kind, (endpoint,))
        in_bounds = 0 not in counts.values() and chance <= 1 and (chance or not match["percent"])
        rules = {
            f"the endpoint is not one of {', '.join(ENDPOINTS)}": endpoint in ENDPOINTS,
            f"the kind is not one of {', '.join(KINDS)}": kind in KINDS or re.fullmatch("[345][0-9][0-9]", kind),
            f"{kind} is for {' and '.join(only)} only": endpoint in only,
            f"{kind} takes no value": not match["value"] or kind in _DEFAULTS,
            "N is at least 1, P is above 0 and at most 100": in_bounds,
        }
        for rule, kept in rules.items():
            if not kept:
                raise ValueError(f"not a valid fault: {spec!r}; {rule}")
        value = float(match["value"] or _DEFAULTS.get(kind, 0))
        return cls(endpoint, kind, value, **counts, chance=chance, lots=random.Random(f"{seed}/{spec}"))  # noqa: S311

    def __call__(self, endpoint: str, request: Request) -> Answer | None:
        """The wrong answer, or None where this request is not met."""
        return self._answer(request) if endpoint == self.endpoint and self._meets() else None

    def _meets(self) -> bool:
        with self._lock:
            self._seen += 1
            if self.first:
                return self._seen <= self.first
            if self.every:
                return self._seen % self.every == 0
            return not self.chance or self.lots.random() < self.chance

    def _answer(self, request: Request) -> Answer:
        if self.kind.isdecimal():
            wait = (("Retry-After", "1"),) if self.kind == "429" else ()
            return Answer.refusal(int(self.kind), f"injected fault {self.kind}", wait)
        code = int(self.value)
        request.fate = {
            "failed": Fate("failed", code, f"injected fault: failed with code {code}"),
            "stuck": Fate("stuck"),
            "few": Fate(few=True),
            "charged-twice": Fate(charges=2),
        }.get(self.kind)
        answer = request.carry_out()
        changes: dict[str, dict[str, Any]] = {
            "reset": {"silent": "reset"},
            "stall": {"silent": "close", "delay": self.value},
            "slow": {"delay": self.value},
            "html": {"status": 200, "body": _HTML, "media_type": "text/html"},
            "cut": {"body": answer.body[: len(answer.body) // 2], "length": len(answer.body)},
        }
        return replace(answer, **changes.get(self.kind, {}))
