"""The language of ``--fault``: what goes wrong, on which endpoint, how often. Pure but for the lots drawn."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .fault_kinds import KINDS, Kind
from .routes import ENDPOINTS

ANY: Final = "any"
_LAST: Final = ("location", "message")
_COUNTS: Final = ("first", "every", "nth", "after")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as it was asked for. It meets those requests to its endpoint that all its counts allow.

    ``first``, ``every`` and ``nth`` count from 1, behind the ``after`` requests that are left alone.
    """

    spec: str
    endpoint: str
    kind: str
    value: str
    before: bool
    first: int | None = None
    every: int | None = None
    nth: int | None = None
    after: int = 0
    rate: float | None = None
    retry_after: str = ""
    location: str = ""
    message: str = ""
    pid: int | None = None

    @property
    def number(self) -> float:
        """The value as a number."""
        return float(self.value)

    def meets(self, place: int, lot: float) -> bool:
        """Whether it meets request number ``place`` (from 1) of its endpoint; ``lot`` lies in 0 to 1."""
        place -= self.after
        return (
            place > 0
            and (self.first is None or place <= self.first)
            and (self.every is None or place % self.every == 0)
            and (self.nth is None or place == self.nth)
            and (self.rate is None or lot < self.rate)
        )


def parse_fault(spec: str) -> Fault:
    """One fault from its text.

    Raises:
        ValueError: the text is not understood; the message says what is allowed.
    """
    head, *options = _pieces(spec)
    if head not in (*ENDPOINTS, ANY) or not options:
        raise _wrong(spec, f"begin with ENDPOINT:KIND, the endpoint one of {', '.join((*ENDPOINTS, ANY))}")
    name, before, value = _kind(spec, head, options[0])
    counts: dict[str, int] = {}
    texts = {"retry_after": "", "location": "", "message": ""}
    rate: float | None = None
    pid: int | None = None
    for option in options[1:]:
        key, _, text = option.partition("=")
        if option.endswith("%"):
            rate = _rate(spec, option)
        elif option.isdecimal():
            counts["first"] = _count(spec, "first", option)
        elif key in _COUNTS:
            counts[key] = _count(spec, key, text)
        elif key == "pid":
            pid = _count(spec, key, text)
        elif key.replace("-", "_") in texts:
            texts[key.replace("-", "_")] = text
        else:
            raise _wrong(
                spec,
                f"{option!r} is none of N, N%, {'=…, '.join((*_COUNTS, 'retry-after', *_LAST, 'pid'))}=…",
            )
    return Fault(spec, head, name, value, before, rate=rate, pid=pid, **counts, **texts)  # type: ignore[arg-type]


def _pieces(spec: str) -> list[str]:
    """Split at colons; ``location=`` and ``message=`` take all the rest, as URLs hold colons."""
    pieces = spec.split(":")
    for place, piece in enumerate(pieces):
        if piece.partition("=")[0] in _LAST:
            return [*pieces[:place], ":".join(pieces[place:])]
    return pieces


def _kind(spec: str, endpoint: str, text: str) -> tuple[str, bool, str]:
    """Name, whether it happens before the request is carried out, and the value."""
    name, equals, value = text.partition("=")
    phase = ""
    for suffix in ("before", "after"):
        if name.endswith(f"-{suffix}"):
            name, phase = name.removesuffix(f"-{suffix}"), suffix
    if name.isdecimal() and not equals:
        name, value = "status", name
    kind = KINDS.get(name)
    if kind is None:
        raise _wrong(spec, f"{name!r} is no kind of fault; there are an HTTP status and {', '.join(KINDS)}")
    if kind.endpoints and endpoint not in kind.endpoints:
        raise _wrong(spec, f"{name} is for {', '.join(kind.endpoints)} only")
    if phase and not kind.both:
        raise _wrong(spec, f"{name} has no -before and -after")
    return name, kind.before if not phase else phase == "before", _valued(spec, name, kind, value)


def _valued(spec: str, name: str, kind: Kind, value: str) -> str:
    if not value:
        value = kind.default
    if kind.choices and value not in kind.choices:
        raise _wrong(spec, f"{name}= is one of {', '.join(kind.choices)}")
    if kind.low is not None and kind.high is not None:
        try:
            inside = kind.low <= float(value) <= kind.high
        except ValueError:
            inside = False
        if not inside:
            raise _wrong(spec, f"{name}: a number from {kind.low} to {kind.high} is expected")
    return value


def _rate(spec: str, text: str) -> float:
    try:
        percent = float(text[:-1])
    except ValueError:
        percent = -1
    if not 0 <= percent <= 100:
        raise _wrong(spec, f"{text!r} is no share from 0% to 100%")
    return percent / 100


def _count(spec: str, name: str, text: str) -> int:
    if not text.isdecimal() or not text.isascii() or (name != "after" and int(text) < 1):
        raise _wrong(spec, f"{name}={text!r}: a whole number from 1 is expected")
    return int(text)


def _wrong(spec: str, why: str) -> ValueError:
    return ValueError(f"fault {spec!r}: {why}")


class FaultBook:
    """The faults of one sandbox, and how many requests each has seen. Thread-safe."""

    def __init__(self, specs: Sequence[str], seed: int) -> None:
        self._faults = [parse_fault(spec) for spec in specs]
        self._seen = [0] * len(self._faults)
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self._lock = threading.Lock()

    def add(self, spec: str) -> None:
        """One more fault, counted from now on."""
        fault = parse_fault(spec)
        with self._lock:
            self._faults.append(fault)
            self._seen.append(0)

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        with self._lock:
            self._faults.clear()
            self._seen.clear()

    def meeting(self, endpoint: str) -> Fault | None:
        """The fault that meets this request: of several, the first. All that watch the endpoint count it."""
        if not self._faults or endpoint not in ENDPOINTS:
            return None
        found: Fault | None = None
        with self._lock:
            for place, fault in enumerate(self._faults):
                if fault.endpoint in (endpoint, ANY):
                    self._seen[place] += 1
                    if fault.meets(self._seen[place], self._random.random()) and found is None:
                        found = fault
        return found


def fault_help() -> str:
    """The language, for help and documentation; 80 columns."""
    import textwrap

    head = f"""\
  --fault ENDPOINT:KIND[=VALUE][:HOW OFTEN][:OPTION]
  ENDPOINT   {", ".join(ENDPOINTS[:6])},
             {", ".join((*ENDPOINTS[6:], ANY))}
  HOW OFTEN  always, or of the requests to the endpoint: N or first=N, the
             first N; every=N; nth=K, that one alone; after=K, not the first
             K; N%, by chance. Several are combined.
  OPTION     retry-after=SECONDS, or date+SECONDS for an HTTP date; pid=N for
             kill; message=TEXT and location=URL take all that follows.
  KIND       one of the list. Those with a * may end in -before or -after:
             whether the request is carried out, and charged, before it goes
             wrong. Without either, those with ** do so after.
  STATUS *           an HTTP status, 100 to 599"""
    return "\n".join([head, *(_entry(name, kind, textwrap.fill) for name, kind in KINDS.items() if name != "status")])


def _entry(name: str, kind: Kind, fill: Callable[..., str]) -> str:
    mark = "" if not kind.both else " *" if kind.before else " **"
    value = f"={kind.default}" if kind.default else ""
    where = f" ({', '.join(kind.endpoints)})" if kind.endpoints else ""
    title = f"  {name}{value}{mark}"
    text = fill(kind.about + where, 58, subsequent_indent=" " * 21)
    return f"{title:<20} {text}" if len(title) <= 20 else f"{title}\n{' ' * 21}{text}"
