"""A run in simulated time: real folder, ledger and manifest; clock, threads and service are made up.

Everything happens on one thread in a fixed order, so a scenario takes milliseconds and repeats exactly. A kill is
an exception that nothing in the program catches, raised between two effects on disk or service.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flux_lora_cli.adapters.image_store import ImageStore
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.manifest_file import ManifestFile
from flux_lora_cli.assembly import batches
from flux_lora_cli.assembly.batches import BatchOptions, BatchResult
from flux_lora_cli.domain.events import Event
from flux_lora_cli.domain.job import Job
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import (
    BadAnswer,
    KeyRefused,
    NeverSent,
    OutOfCredit,
    RateLimited,
    Redirected,
    Rejected,
    TaskNotFound,
    Uncertain,
)
from flux_lora_cli.workflow.context import Settings
from flux_lora_cli.workflow.runner import Runner, World

MODEL = "wavespeed-ai/flux-dev-lora"
SERVICE = "https://api.example"
PRICE = Decimal("0.015")


class Killed(BaseException):
    """kill -9, as far as one thread can tell."""


class Stuck(AssertionError):
    """The run waits for something that never comes."""


class SimClock:
    """Time that passes only when everybody waits."""

    def __init__(self) -> None:
        self.time = 5000.0
        self.wall = datetime(2026, 11, 23, 3, 0, tzinfo=timezone.utc)

    def monotonic(self) -> float:
        return self.time

    def now(self) -> datetime:
        return self.wall + timedelta(seconds=self.time - 5000.0)

    def sleep(self, seconds: float) -> None:
        self.time += max(0.0, seconds)


class SimInbox:
    """Inbox and workers in one: a call's work is done when its latency is over."""

    def __init__(self, clock: SimClock, latency: Callable[[], float], longest: float = 7200.0) -> None:
        self._clock, self._latency = clock, latency
        self._until = clock.time + longest
        self._items: list[Callable[[], None]] = []
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def put(self, item: Callable[[], None]) -> None:
        self._items.append(item)

    def start(self, work: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (self._clock.time + self._latency(), next(self._order), work))

    def get(self, timeout: float | None) -> Callable[[], None] | None:
        while True:
            if self._items:
                return self._items.pop(0)
            due = self._calls[0][0] if self._calls else None
            if due is None and timeout is None:
                raise Stuck("nothing is on its way, and nothing is due")
            end = None if timeout is None else self._clock.time + timeout
            if due is None or (end is not None and due > end):
                assert end is not None
                self._pass_to(end)
                return None
            self._pass_to(due)
            heapq.heappop(self._calls)[2]()

    def _pass_to(self, when: float) -> None:
        self._clock.time = max(self._clock.time, when)
        if self._clock.time > self._until:
            raise Stuck("the run does not end")


def png(text: str) -> bytes:
    """A small whole PNG that says ``text``."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"tEXt", b"Comment\0" + text.encode())
        + chunk(b"IDAT", zlib.compress(b"\0\0"))
        + chunk(b"IEND", b"")
    )


@dataclass
class Made:
    """A task that the service accepted, and charges."""

    id: str
    model: str
    input: dict[str, Any]
    created: datetime
    ready: float
    fate: str = "completed"


#: What a submit can meet: whether the task is accepted all the same, and what the client gets to see.
SUBMIT_FAULTS: dict[str, tuple[bool, Callable[[], Exception]]] = {
    "lost": (False, lambda: Uncertain("reset")),
    "late": (True, lambda: Uncertain("reset")),
    "html": (True, lambda: BadAnswer("a page")),
    "html-lost": (False, lambda: BadAnswer("a page")),
    "internal": (True, lambda: RuntimeError("a fault of ours")),
    "never": (False, lambda: NeverSent("refused")),
    "429": (False, lambda: RateLimited("slower", retry_after=3.0)),
    "credit": (False, lambda: OutOfCredit("insufficient credits")),
    "400": (False, lambda: Rejected("no such size")),
    "401": (False, lambda: KeyRefused("bad key")),
    "302": (False, lambda: Redirected("elsewhere")),
}
UNKNOWN_FAULTS = ("lost", "late", "html", "html-lost", "internal")


class SimService:
    """A service that counts what it charges.

    Attributes:
        script: what goes wrong: the endpoint and the number of the call to it (from 1) to a fault's name, or None.
        echo: what the list shows of a request: ``all``, ``none``, ``part`` (no prompt).
        page_limit: entries a page, whatever was asked for.
        page_most: larger pages are more than an answer may hold.
        honours_time: whether the list minds ``created_after``.
    """

    def __init__(self, clock: SimClock, script: Callable[[str, int], str | None] = lambda endpoint, number: None):
        self.clock, self.script = clock, script
        self.made: list[Made] = []
        self.calls: dict[str, int] = {}
        self.seconds = 3.0
        self.echo = "all"
        self.page_limit = 100
        self.page_most = 100
        self.honours_time = True
        self.unit_price: Decimal | None = PRICE
        self.credit: Decimal | None = None
        self.gone: set[str] = set()
        self.on_call: Callable[[str], None] = lambda endpoint: None

    @property
    def charged(self) -> Decimal:
        return PRICE * len(self.made)

    def _call(self, endpoint: str) -> str | None:
        self.calls[endpoint] = self.calls.get(endpoint, 0) + 1
        self.on_call(endpoint)
        return self.script(endpoint, self.calls[endpoint])

    def submit(self, model: str, request_input: Mapping[str, Any]) -> Task:
        fault = self._call("submit")
        accepted, error = SUBMIT_FAULTS.get(fault or "", (True, None))
        if self.credit is not None and self.charged + PRICE > self.credit:
            raise OutOfCredit("insufficient credits")
        if accepted:
            made = self.accept(model, request_input, "failed" if fault == "failed" else "completed")
            step("submit accepted")
        if error is not None:
            raise error()
        return self._task(made)

    def accept(self, model: str, request_input: Mapping[str, Any], fate: str = "completed") -> Made:
        number = len(self.made) + 1
        made = Made(f"task{number:04d}", model, dict(request_input), self.clock.now(), 0.0, fate)
        made.ready = self.clock.time + self.seconds
        self.made.append(made)
        return made

    def strangers(self, count: int) -> None:
        """Tasks of somebody else on the same account."""
        for number in range(count):
            self.accept(MODEL, {"prompt": f"not ours {number}", "seed": number})

    def _task(self, made: Made, inputs: bool = False) -> Task:
        done = self.clock.time >= made.ready
        status = made.fate if done else "processing"
        outputs = (f"https://cdn.example/{made.id}.png",) if status == "completed" else ()
        return Task(
            made.id,
            status,
            model=made.model,
            outputs=outputs,
            nsfw=(False,) * len(outputs),
            created_at=made.created.isoformat(),
            error="content moderation" if status == "failed" else "",
            inputs=self._echoed(made) if inputs else None,
        )

    def _echoed(self, made: Made) -> Mapping[str, Any] | None:
        if self.echo == "none":
            return None
        return {k: v for k, v in made.input.items() if k != "prompt"} if self.echo == "part" else made.input

    def result(self, task_id: str) -> Task:
        fault = self._call("look")
        if fault == "down":
            raise Uncertain("503")
        found = next((made for made in self.made if made.id == task_id), None)
        if found is None or fault == "404":
            raise TaskNotFound("no such task")
        return self._task(found)

    def predictions(
        self, *, page: int = 1, page_size: int = 100, model: str | None = None, created_after: datetime | None = None
    ) -> Sequence[Task]:
        fault = self._call("list")
        if fault == "down":
            raise Uncertain("503")
        if fault == "nonsense" or page_size > self.page_most:
            raise BadAnswer("too long")
        size = min(page_size, self.page_limit)
        after = created_after if self.honours_time else None
        newest = [made for made in reversed(self.made) if after is None or made.created >= after]
        return [self._task(made, inputs=True) for made in newest[(page - 1) * size : page * size]]

    def price(self, model: str, request_input: Mapping[str, Any]) -> Decimal | None:
        self._call("price")
        return self.unit_price

    def balance(self) -> Decimal | None:
        if self._call("balance") == "down":
            raise Uncertain("503")
        return None if self.credit is None else self.credit - self.charged

    def upload(self, path: str, media_type: str) -> str:
        self._call("upload")
        return "https://cdn.example/upload"

    def download(self, url: str, limit_bytes: int) -> Iterator[bytes]:
        from flux_lora_cli.errors import OutputGone

        self._call("download")
        if url in self.gone:
            raise OutputGone("404")
        return iter([png(url)])


# ---- kills -----------------------------------------------------------------------------------

_steps: list[str] = []
_kill_at: int | str | None = None


def step(what: str) -> None:
    """A moment between two effects: here a kill may come."""
    _steps.append(what)
    if _kill_at in (len(_steps), what):
        raise Killed(what)


def _around(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def stepped(*args: Any, **kwargs: Any) -> Any:
        step(f"before {name}")
        result = original(*args, **kwargs)
        step(f"after {name}")
        return result

    return stepped


_EFFECTS: tuple[tuple[Any, str], ...] = (
    (Ledger, "save"),
    (ImageStore, "fetch"),
    (ImageStore, "publish"),
    (ImageStore, "replace"),
    (ImageStore, "sync_dirs"),
    (ManifestFile, "write"),
    (SimService, "submit"),
)


@contextlib.contextmanager
def killed_at(when: int | str | None) -> Iterator[list[str]]:
    """Within this, the process dies at a step: the n-th, or the first of that name. Gives the steps taken."""
    global _kill_at
    _steps.clear()
    _kill_at = when
    with contextlib.ExitStack() as stack:
        for owner, name in _EFFECTS:
            stack.enter_context(patch.object(owner, name, _around(name, getattr(owner, name))))
        try:
            yield _steps
        except Killed:
            pass
        finally:
            _kill_at = None


# ---- a folder and its runs -------------------------------------------------------------------


def job(number: int, prompt: str | None = None, **fields: Any) -> Job:
    """A job; equal arguments make equal jobs."""
    text = prompt if prompt is not None else f"a cat {number}"
    return Job(f"job-{number}", "preset", MODEL, {"prompt": text, **fields.pop("params", {})}, **fields)


def jobs(count: int) -> list[Job]:
    return [job(number) for number in range(1, count + 1)]


@dataclass
class Sim:
    """An output folder, the service behind it, and a clock."""

    folder: Path
    clock: SimClock = field(default_factory=SimClock)
    events: list[Event] = field(default_factory=list)
    latency: Callable[[], float] = lambda: 0.05
    on_runner: Callable[[Runner, SimInbox], None] = lambda runner, inbox: None

    def __post_init__(self) -> None:
        self.service = SimService(self.clock)
        self._random = random.Random(7)

    def run(
        self,
        asked: Iterable[Job],
        *,
        settings: Settings | None = None,
        options: BatchOptions | None = None,
        folder: Path | None = None,
    ) -> BatchResult:
        """One ``batch`` to its end."""
        inbox = SimInbox(self.clock, self.latency)
        self.events = []

        def world(client: Any, store: Any, records: Any, clock: Any, observer: Any) -> World:
            return World(clock, inbox, client, store, records, inbox, inbox, observer, self._random.random)

        state = {"FLUX_LORA_STATE_DIR": str(self.folder.with_name(f"{self.folder.name}-state"))}
        with patch.object(batches, "make_world", world), patch.dict(os.environ, state):
            return batches.run_batch(
                list(asked),
                self.service,  # type: ignore[arg-type]
                SERVICE,
                folder or self.folder,
                settings,
                options,
                observer=self.events.append,
                clock=self.clock,
                on_runner=lambda runner: self.on_runner(runner, inbox),
            )

    def kill(self, asked: Iterable[Job], when: int | str, **arguments: Any) -> bool:
        """One ``batch`` that dies at a step, see ``killed_at``; False where it ended before."""
        ended = False
        with killed_at(when):
            self.run(asked, **arguments)
            ended = True
        return not ended

    def records(self, folder: Path | None = None) -> dict[str, JobRecord]:
        """What the ledger says."""
        with Ledger.snapshot(folder or self.folder) as ledger:
            assert ledger is not None
            return {record.key: record for record in ledger.jobs()}

    def told(self, kind: str) -> list[Any]:
        """The last run's events of one kind."""
        return [event for event in self.events if type(event).__name__ == kind]

    def later(self, seconds: float) -> None:
        """Time between two runs."""
        self.clock.time += seconds


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
