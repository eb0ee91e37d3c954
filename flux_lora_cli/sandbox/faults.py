"""The language of ``--fault``: what goes wrong, on which endpoint, how often.

Any callable of the same signature as ``Fault`` is a fault, too: it gets the endpoint's name and the request, and
answers wrongly, or None where it leaves the request alone. ``request.carry_out()`` gives the right answer.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .listener import Answer, Request
from .store import Fate

FaultRule = Callable[[str, Request], Answer | None]

ENDPOINTS: Final = ("submit", "result", "list", "price", "upload", "download")
_MORE_ENDPOINTS: Final = ("balance", "models", "bill", "delete")
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


@dataclass
class Fault:
    """One fault, as it was asked for; without a count it happens each time."""

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
            f"the endpoint is not one of {', '.join(ENDPOINTS)}": endpoint in ENDPOINTS + _MORE_ENDPOINTS,
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
            "stall": {"silent": "stall", "delay": self.value},
            "slow": {"delay": self.value},
            "html": {"status": 200, "body": _HTML, "media_type": "text/html"},
            "cut": {"body": answer.body[: len(answer.body) // 2], "length": len(answer.body)},
        }
        return replace(answer, **changes.get(self.kind, {}))
