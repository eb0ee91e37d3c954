"""What the sandbox saw: counters for tests, and the last requests one by one."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .messages import Request
from .routes import ENDPOINTS, SUBMIT, Route

_KEPT_REQUESTS: Final = 20_000
_KEPT_SECONDS: Final = 3600
_COUNTERS: Final = {
    "submit": "submits_received",
    "look": "looks",
    "list": "lists",
    "price": "prices",
    "balance": "balances",
    "upload": "uploads",
    "download": "downloads",
    "models": "models",
    "delete": "deletes",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One request.

    ``at`` on the monotonic clock; ``status`` 0 where no answer was sent; ``keyed``: it carried a key.
    """

    at: float
    endpoint: str
    method: str
    path: str
    status: int
    fault: str
    keyed: bool
    host: str


class Journal:
    """Counts requests; thread-safe, and bounded however long the sandbox runs."""

    def __init__(self, observer: Callable[[Seen], None] | None = None) -> None:
        self.requests: deque[Seen] = deque(maxlen=_KEPT_REQUESTS)
        self._observer = observer
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._accepted = 0
        self._keyed_downloads = 0
        self._faults: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._seconds: Counter[int] = Counter()
        self._began = time.monotonic()

    def note(self, route: Route, request: Request, status: int, fault: str, accepted: bool | None = None) -> None:
        """One request was answered, or not (status 0). ``accepted`` where the status does not tell."""
        at = time.monotonic()
        keyed = "authorization" in request.headers
        seen = Seen(
            at,
            route.endpoint,
            request.method,
            request.path,
            status,
            fault,
            keyed,
            request.headers.get("host", ""),
        )
        with self._lock:
            self._count(seen, status == 200 if accepted is None else accepted)
        if self._observer is not None:
            self._observer(seen)

    def counts(self) -> dict[str, Any]:
        """Counters by name, those that are 0 included."""
        with self._lock:
            named: dict[str, Any] = {_COUNTERS[name]: self._counts[name] for name in ENDPOINTS}
            named["accepted"] = self._accepted
            named["requests"] = sum(self._counts.values())
            named["keyed_downloads"] = self._keyed_downloads
            named["faults"] = dict(self._faults)
            named["statuses"] = {str(status): count for status, count in self._statuses.items()}
            named["requests_by_second"] = {str(second): count for second, count in self._seconds.items()}
            return named

    def _count(self, seen: Seen, accepted: bool) -> None:
        self.requests.append(seen)
        self._counts[seen.endpoint] += 1
        self._accepted += seen.endpoint == SUBMIT and accepted
        self._keyed_downloads += seen.endpoint == "download" and seen.keyed
        self._statuses[seen.status] += 1
        if seen.fault:
            self._faults[seen.fault] += 1
        second = int(seen.at - self._began)
        self._seconds[second] += 1
        self._seconds.pop(second - _KEPT_SECONDS, None)
