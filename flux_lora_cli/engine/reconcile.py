"""Finds out what became of submissions of unknown outcome, in the account's recent predictions.

One reading of the list, page by page, serves all jobs that wait for one. Values agree by meaning, however the service
spells them. A seed that this tool drew tells more than anything else: its 31 bits outweigh a clock, and a value that is
spelled in a way we do not know.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flux_lora_cli.engine.durable import in_thread
from flux_lora_cli.engine.events import Waiting
from flux_lora_cli.engine.follow import age
from flux_lora_cli.errors import AnswerTooLong, DeadlineError, FluxLoraError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.service.envelope import NoSuchList
from flux_lora_cli.service.values import parse_lora
from flux_lora_cli.service.wire import BillItem, Task, parse_time
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.engine.run import Run

#: Seconds that a submission may take. [FAULTS: retry policy]
SUBMIT_TIMEOUT = 60.0
#: Seconds for which the list is read after a submission's time-out. [CONTRACT: money and identity]
SEARCH_FOR = 120.0
#: Seconds before each reading of the list, the last ones over and over; of which of them it is told.
PAUSES, TELL_AT = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 20.0), 4.0
#: Entries per page. A list that echoes inline images can outgrow the limit of an answer: then fewer.
PAGE_SIZE = 100
#: Pages read at most: far more tasks than a week of the highest tier has.
MAX_PAGES = 1000
#: How far a time may be off, by the service's own clock; and where that clock, or a time's zone, is not known.
CLOCK_SLACK, UNSURE_SLACK = timedelta(minutes=10), timedelta(days=1)

_ZONE = re.compile(r"(?:Z|[+-]\d\d:?\d\d)\s*$", re.IGNORECASE)
_SIZE = re.compile(r"(\d+)\s*[*x×,]\s*(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?(?:e[+-]?\d)?", re.IGNORECASE)
_HUGGING_FACE = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_FLAGS = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}
_VERSION, _NO_NAME = re.compile(r"[:@][^/]*$"), re.compile(r"[^a-z0-9/]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_IMAGES = ("image", "mask_image", "images")
_EMPTY: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True)
class Verdict:
    """What the search says of one submission: a task to adopt, or why there is none.

    Attributes:
        absent: the list was read to its end, and nothing in it may be ours.
        resubmit: it may be sent once more, where the user asks for that.
    """

    why: str
    task_id: str | None = None
    candidates: tuple[str, ...] = ()
    absent: bool = False
    resubmit: bool = False


@dataclass(frozen=True)
class _Reading:
    """One reading of the list.

    Attributes:
        began: loop time. ``last``: no further one comes in time.
        found: record key → as of ``find_task``, without tasks that a ledger at hand has claimed.
        otherwise: what it says of a submission that it does not show.
    """

    began: float
    found: dict[str, dict[str, bool]]
    otherwise: Verdict
    last: bool = False


class Search:
    """Looks for tasks of submissions of unknown outcome; those that a ledger at hand has claimed are left out."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._wanted: dict[str, tuple[JobRecord, float]] = {}  # by record key; with the loop time at which it is over
        self._reader: asyncio.Task[_Reading] | None = None  # the one reading that all wait for
        self._pauses: Iterator[float] = iter(())
        self._page_size = PAGE_SIZE

    async def find(self, record: JobRecord) -> Verdict:
        """Look for the record's task until it is found or its time is up.

        Raises:
            Stopped: the search was cut short, which says nothing about the task.
        """
        run = self._run
        if run.settings.on_unknown == "hold":
            return Verdict("not looked for, as asked (--on-unknown hold)")
        if not self._wanted:
            self._pauses = itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))
        deadline = run.time() + max(0.0, SUBMIT_TIMEOUT + SEARCH_FOR - age(record, run.now()))
        self._wanted[record.key] = record, deadline
        try:
            while True:
                if self._reader is None or self._reader.done():
                    self._reader = asyncio.create_task(self._read(next(self._pauses)))
                reading = await asyncio.shield(self._reader)
                found = {
                    task: sure for task, sure in reading.found.get(record.key, {}).items() if task not in run.task_ids
                }
                matches = [task for task, sure in found.items() if sure]
                if len(matches) == 1:
                    run.task_ids.add(matches[0])  # no twin takes it
                    return Verdict("found", matches[0])
                if reading.last or reading.began >= deadline:
                    if found:  # sending again could pay twice, so that is no way out, whether asked for or not
                        why = "the account has tasks that may be it, and nothing tells which"
                        return Verdict(why, candidates=tuple(found))
                    return reading.otherwise
        finally:
            del self._wanted[record.key]

    async def _read(self, pause: float) -> _Reading:
        """Read the list, after a pause, for all that wait for it."""
        run = self._run
        if pause == TELL_AT:
            left = max((deadline for _, deadline in self._wanted.values()), default=run.time()) - run.time()
            message = f"looking for {counted(len(self._wanted), 'submission')} of unknown outcome"
            run.emit(Waiting("reconcile", round(left, 1), f"{message} for {left:.0f} s more"))
        await asyncio.sleep(pause)
        began = run.time()
        try:
            found, whole = await self._read_pages()
        except NoSuchList as error:
            why = f"the account's predictions cannot be listed ({error.message}), so nothing could be checked"
            return _Reading(began, {}, Verdict(why, resubmit=True), last=True)
        except FluxLoraError as error:
            if isinstance(error, AnswerTooLong) and self._page_size > 1:
                self._page_size = max(1, self._page_size // 5)
                return await self._read(0.0)
            why = f"the account's predictions cannot be read: {error.message}"
            return _Reading(began, {}, Verdict(why), last=isinstance(error, DeadlineError))
        claimed = await in_thread(state.claimed_tasks, run.service, run.store.folder and run.store.folder.path)
        ours = {key: {task: sure for task, sure in each.items() if task not in claimed} for key, each in found.items()}
        if not whole:
            return _Reading(began, ours, Verdict("the account's list of predictions is too long to be read to its end"))
        why = "not found among the account's recent predictions"
        return _Reading(began, ours, Verdict(why, absent=True, resubmit=True))

    async def _read_pages(self) -> tuple[dict[str, dict[str, bool]], bool]:
        """One reading of the list; whether it was read to its end.

        A short page is not the end: a service may give fewer entries than asked. The end is a page with nothing new (a
        full one is not: the service passes over the page's number), or one, newest first, that reaches back past the
        earliest intent.
        """
        run, records = self._run, [record for record, _ in self._wanted.values()]
        times = [submitted_at(record) if record.service_clock is not None else None for record in records]
        since = None if None in times else min(filter(None, times)) - CLOCK_SLACK - timedelta(minutes=1)
        found: dict[str, dict[str, bool]] = {record.key: {} for record in records}
        seen: set[str] = set()
        for page in range(1, MAX_PAGES + 1):
            tasks = await run.calls.get(run.client.predictions, page, self._page_size, since, why="search")
            new = [task for task in tasks if task.id not in seen]
            if not new:
                return found, len(tasks) < self._page_size
            seen.update(task.id for task in new)
            for record in records:
                found[record.key] |= find_task(record, new)
            newest, oldest = parse_time(new[0].created_at), parse_time(new[-1].created_at)
            if since is not None and newest is not None and oldest is not None and oldest < since and oldest <= newest:
                return found, True
        return found, False


# ---- which task is a submission's ----


def find_task(record: JobRecord, tasks: Iterable[Task]) -> dict[str, bool]:
    """IDs of the tasks that may be the record's; True for one that agrees in everything."""
    found = {task.id: _is_ours(record, task) for task in tasks}
    return {task_id: ours is True for task_id, ours in found.items() if ours is not False}


def submitted_at(record: JobRecord) -> datetime | None:
    """When a record was last submitted, by the service's clock as far as that is known; None where nobody knows."""
    meant = parse_time(record.intent_at)
    return None if meant is None else meant + timedelta(seconds=record.service_clock or 0.0)


def bill_candidates(record: JobRecord, charges: Iterable[BillItem]) -> tuple[str, ...]:
    """IDs of tasks that were charged for about when ``record`` was submitted."""
    found = dict.fromkeys(
        charge.task_id
        for charge in charges
        if ("/" not in (charge.model or "") or _same_model(record.model, charge.model))  # a bill may have an ID of it
        and _in_time(record, charge.created_at) is not False
    )
    return tuple(task_id for task_id in found if task_id is not None)


def _is_ours(record: JobRecord, task: Task) -> bool | None:
    """Whether a task is the record's; None where it may be."""
    echoed, sent = task.inputs or {}, record.input or {}
    keys = {*sent, *_IMAGES, "prompt", "loras", "seed"}
    same = {key: _same(key, sent.get(key), echoed.get(key)) for key in keys}
    seed, same_model = same.pop("seed"), _same_model(record.model, task.model)
    drawn, alike = record.seed_drawn, _all(same.values())
    if seed and drawn:
        return True if same["prompt"] and same_model and alike is not False else None
    in_time = _in_time(record, task.created_at)
    too_far = in_time is False and not (seed and drawn is None)
    if seed is False or not same_model or alike is False or too_far:
        return False
    return True if seed and in_time and alike else None


def _same_model(ours: str | None, theirs: str | None) -> bool:
    """A service may name its own models with or without the provider in front, a version behind, or by a number."""
    if not ours or not theirs or _UUID.fullmatch(theirs):
        return True
    one, other = (_NO_NAME.sub("", _VERSION.sub("", name.casefold())).strip("/") for name in (ours, theirs))
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def _in_time(record: JobRecord, created_at: str | None) -> bool | None:
    """Whether a task was made when the record was submitted; None where the clocks do not tell."""
    made, meant = parse_time(created_at), submitted_at(record)
    if made is None or meant is None:
        return None
    after = made - meant
    if -CLOCK_SLACK <= after <= timedelta(seconds=SUBMIT_TIMEOUT) + CLOCK_SLACK:
        return True
    sure = record.service_clock is not None and _ZONE.search(created_at or "") is not None
    return False if sure or abs(after) > UNSURE_SLACK else None


# ---- values by meaning: True, False, or None where the echo does not tell ----


def _same(key: str, ours: Any, theirs: Any) -> bool | None:
    if key == "seed":
        return _plain(ours) == _plain(theirs) if isinstance(_plain(theirs), float) else None
    if key == "prompt":
        shortened = not isinstance(theirs, str) or (
            theirs.endswith(("…", "...")) and not str(ours).endswith(theirs[-3:])
        )
        return None if shortened else _text(str(ours or "")) == _text(theirs)
    if theirs in _EMPTY:  # lists leave out what is empty
        return True if ours in _EMPTY else None
    if key == "loras":
        theirs = [parse_lora(each) if isinstance(each, str) else each for each in theirs] if _many(theirs) else theirs
        return _alike(_plain(ours or ()), _plain(theirs))
    if key not in _IMAGES:
        return _alike(_plain(ours), _plain(theirs))
    one, other = (value if _many(value) else [value] for value in (ours, theirs))
    return _all(map(_same_image, one, other)) if ours and len(one) == len(other) else False


def _many(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _all(results: Iterable[bool | None]) -> bool | None:
    """False before None before True."""
    return min(results, key=(False, None, True).index, default=True)


def _plain(value: Any) -> Any:
    """A value without what spelling may change: 123 is "123", 512*512 is 512x512, true is "yes" is 1."""
    if _many(value):
        return tuple(map(_plain, value))
    if isinstance(value, Mapping):  # a LoRA
        path = _HUGGING_FACE.sub("", str(value.get("path")).strip()).partition("?")[0]  # a query may hold a token
        return path.rstrip("/").removesuffix(".git").casefold(), _plain(value.get("scale", 1))
    if not isinstance(value, str):
        return float(value) if isinstance(value, (int, float)) and abs(value) < 1e30 else None
    text = _text(value).casefold()
    if text in _FLAGS or _NUMBER.fullmatch(text):
        return float(_FLAGS.get(text, text))
    size = _SIZE.fullmatch(text)
    return f"{int(size[1])}*{int(size[2])}" if size else text


def _alike(one: Any, other: Any) -> bool | None:
    """Two plain values: None where they are of kinds that cannot be compared."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return _all(map(_alike, one, other)) if len(one) == len(other) else False
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other if isinstance(one, str) and isinstance(other, str) else None


def _text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", html.unescape(text)).split())


def _same_image(ours: Any, theirs: Any) -> bool | None:
    """Never False: an upload's address, a copy's, a picture that the list cuts short do not tell."""
    if not isinstance(theirs, str):
        return None
    address = str(ours).partition("?")[0]
    digest = address.removeprefix("inputs/").partition(".")[0] if address.startswith("inputs/") else ""
    if address == theirs.partition("?")[0] or (digest and digest in theirs.casefold()):
        return True
    try:
        data = base64.b64decode("".join(theirs.rpartition(",")[2].split()), validate=True)
    except ValueError:
        return None
    return True if hashlib.sha256(data).hexdigest() == digest else None
