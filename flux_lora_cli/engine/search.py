"""Finds out what became of submissions of unknown outcome, in the account's recent predictions.

One reading of the list, page by page, serves all jobs that wait for one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flux_lora_cli.engine.calls import PASSING, Calls, CallsStopped
from flux_lora_cli.engine.events import Waiting
from flux_lora_cli.engine.limits import LIST
from flux_lora_cli.engine.reconcile import CLOCK_SLACK, SUBMIT_TIMEOUT, Findings, find_task
from flux_lora_cli.errors import BadAnswer, FluxLoraError
from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.service.envelope import NoSuchList

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import World
    from flux_lora_cli.service.client import Client

#: Seconds for which the list is read after a submission's time-out. [CONTRACT: money and identity]
SEARCH_FOR = 120.0
#: Seconds between two readings of the list.
INTERVALS = (1.0, 2.0, 4.0, 8.0, 15.0, 20.0)
#: Entries per page. A list that echoes inline images can outgrow the limit of an answer: then fewer.
PAGE_SIZES = (100, 25, 5, 1)
#: Pages read at most: far more tasks than a week of the highest tier has.
MAX_PAGES = 1000


@dataclass(frozen=True)
class Verdict:
    """What the search says of one submission: a task to adopt, or why there is none.

    Attributes:
        absent: the list was read to its end, and nothing in it may be ours.
        resubmit: it may be sent once more, if the user asked for that.
    """

    why: str
    task_id: str | None = None
    candidates: tuple[str, ...] = ()
    absent: bool = False
    resubmit: bool = False


@dataclass(eq=False)
class _Wanted:
    """A submission that is looked for, until ``deadline`` (loop time)."""

    record: JobRecord
    deadline: float
    verdict: asyncio.Future[Verdict]
    found: Findings = field(default_factory=lambda: Findings((), ()))


class Search:
    """Looks for tasks of submissions of unknown outcome."""

    def __init__(self, client: Client, calls: Calls, world: World) -> None:
        self._client = client
        self._calls = calls
        self._world = world
        self._wanted: list[_Wanted] = []
        self._reader: asyncio.Task[None] | None = None
        self._page_sizes = list(PAGE_SIZES)

    async def find(self, record: JobRecord, on_unknown: str) -> Verdict:
        """Look for the record's task until it is found or its time is up.

        Raises:
            CallsStopped: the search was cut short, which says nothing about the task.
        """
        if on_unknown == "hold":
            return Verdict("not looked for, as asked (--on-unknown hold)")
        if self._calls.stopped:
            raise CallsStopped
        loop = asyncio.get_running_loop()
        wanted = _Wanted(record, loop.time() + self._seconds_left(record), loop.create_future())
        self._wanted.append(wanted)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            verdict = await wanted.verdict
        finally:
            if wanted in self._wanted:
                self._wanted.remove(wanted)
        return replace(verdict, resubmit=on_unknown == "resubmit" and verdict.resubmit)

    def stop(self) -> None:
        """Nothing is asked any more: every search ends without a verdict."""
        for wanted in self._wanted:
            if not wanted.verdict.done():
                wanted.verdict.set_exception(CallsStopped())
        self._wanted = []

    def _seconds_left(self, record: JobRecord) -> float:
        """For how long the record's task may still turn up in the list."""
        whole = SUBMIT_TIMEOUT + SEARCH_FOR
        if record.intent_at is None:
            return whole
        age = (self._world.now() - datetime.fromisoformat(record.intent_at)).total_seconds()
        return whole if age < 0 else max(0.0, whole - age)

    # ---- reading the list ----

    async def _read(self) -> None:
        passes = failures = 0
        await asyncio.sleep(0)  # those that begin in the same turn share the first reading
        while self._wanted:
            began = asyncio.get_running_loop().time()
            try:
                whole = await self._read_pages(list(self._wanted))
            except CallsStopped:
                return
            except BadAnswer as error:
                if len(self._page_sizes) > 1:
                    self._page_sizes.pop(0)
                    continue
                self._unreadable(error, began)
            except NoSuchList as error:
                for wanted in list(self._wanted):
                    why = f"the account's predictions cannot be listed ({error.message}), so nothing could be checked"
                    self._decide(wanted, Verdict(why, resubmit=True))
            except FluxLoraError as error:
                failures += 1
                if not isinstance(error, PASSING) or not LIST.more(failures):
                    self._unreadable(error, began)
            else:
                failures = 0
                await self._judge(began, whole)
            passes += 1
            await self._pause(passes)

    async def _read_pages(self, wanted: list[_Wanted]) -> bool:
        """One reading of the list; whether it was read to its end.

        A short page is not the end: a service may give fewer entries than asked. The end is a page with nothing new,
        or one that reaches back past the earliest intent.
        """
        since = self._since(wanted)
        for each in wanted:
            each.found = Findings((), ())
        seen: set[str] = set()
        for page in range(1, MAX_PAGES + 1):
            tasks = await self._calls.get(self._client.predictions, page, self._page_sizes[0], since, why="search")
            new = [task for task in tasks if task.id not in seen]
            if not new:
                return True
            seen.update(task.id for task in new)
            for each in wanted:
                each.found = each.found.joined(find_task(each.record, new))
            oldest = new[-1].created
            if since is not None and oldest is not None and oldest < since:
                return True
        return False

    def _since(self, wanted: list[_Wanted]) -> datetime | None:
        """Nothing older can be one of those looked for, by the service's clock; None where that is not known."""
        times = []
        for each in wanted:
            if each.record.intent_at is None or each.record.service_clock is None:
                return None
            ahead = timedelta(seconds=each.record.service_clock)
            times.append(datetime.fromisoformat(each.record.intent_at) + ahead)
        return min(times) - CLOCK_SLACK - timedelta(minutes=1)

    async def _judge(self, began: float, whole: bool) -> None:
        claimed = await self._world.pool.call(self._world.claimed)
        for wanted in list(self._wanted):
            found = wanted.found.without(claimed)
            if len(found.matches) == 1:
                claimed.add(found.matches[0])
                self._decide(wanted, Verdict("found", task_id=found.matches[0]))
            elif began >= wanted.deadline:
                self._decide(wanted, self._not_found(found, whole))

    def _not_found(self, found: Findings, whole: bool) -> Verdict:
        candidates = (*found.matches, *found.candidates)
        if candidates:  # sending again could pay twice, so that is no way out, whether asked for or not
            return Verdict("the account has tasks that may be it, and nothing tells which", candidates=candidates)
        if not whole:
            return Verdict("the account's list of predictions is too long to be read to its end")
        return Verdict("not found among the account's recent predictions", absent=True, resubmit=True)

    def _unreadable(self, error: FluxLoraError, began: float) -> None:
        for wanted in list(self._wanted):
            if began >= wanted.deadline:
                self._decide(wanted, Verdict(f"the account's predictions cannot be read: {error.message}"))

    def _decide(self, wanted: _Wanted, verdict: Verdict) -> None:
        self._wanted.remove(wanted)
        if not wanted.verdict.done():
            wanted.verdict.set_result(verdict)

    async def _pause(self, passes: int) -> None:
        if not self._wanted:
            return
        now = asyncio.get_running_loop().time()
        first = max(0.0, min(each.deadline for each in self._wanted) - now)
        last = max(0.0, max(each.deadline for each in self._wanted) - now)
        interval = INTERVALS[min(passes, len(INTERVALS)) - 1]
        if passes == 3:
            names = ", ".join(each.record.name for each in self._wanted[:3])
            message = f"looking for {len(self._wanted)} submissions of unknown outcome ({names}) for {last:.0f} s more"
            self._world.observer(Waiting("reconcile", round(last, 1), message))
        await asyncio.sleep(min(interval, first) if first > 0 else interval)
