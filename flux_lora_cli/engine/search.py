"""Finds out what became of submissions of unknown outcome, in the account's recent predictions.

One reading of the list, page by page, serves all jobs that wait for one.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flux_lora_cli.engine.audit import claimed_tasks
from flux_lora_cli.engine.calls import Stopped
from flux_lora_cli.engine.durable import Store, in_thread
from flux_lora_cli.engine.events import Waiting
from flux_lora_cli.engine.follow import age
from flux_lora_cli.engine.reconcile import CLOCK_SLACK, SUBMIT_TIMEOUT, Findings, find_task
from flux_lora_cli.errors import AnswerTooLong, DeadlineError, FluxLoraError
from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.service.envelope import NoSuchList

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Session

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
    found: Findings = field(default_factory=Findings)


class Search:
    """Looks for tasks of submissions of unknown outcome; those that a ledger at hand has claimed are left out."""

    def __init__(self, session: Session, store: Store) -> None:
        self._session, self._store = session, store
        self._wanted: list[_Wanted] = []
        self._reader: asyncio.Task[None] | None = None
        self._page_sizes = list(PAGE_SIZES)

    async def find(self, record: JobRecord, on_unknown: str) -> Verdict:
        """Look for the record's task until it is found or its time is up.

        Raises:
            Stopped: the search was cut short, which says nothing about the task.
        """
        if on_unknown == "hold":
            return Verdict("not looked for, as asked (--on-unknown hold)")
        if self._session.calls.stopped:
            raise Stopped
        loop = asyncio.get_running_loop()
        seconds = max(0.0, SUBMIT_TIMEOUT + SEARCH_FOR - age(record, self._session.now()))
        wanted = _Wanted(record, loop.time() + seconds, loop.create_future())
        self._wanted.append(wanted)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            verdict = await wanted.verdict
        finally:
            if wanted in self._wanted:
                self._wanted.remove(wanted)
        return replace(verdict, resubmit=on_unknown == "resubmit" and verdict.resubmit)

    async def _read(self) -> None:
        """Read the list again and again, for as long as somebody waits."""
        passes = 0
        await asyncio.sleep(0)  # those that begin in the same turn share the first reading
        while self._wanted:
            began = asyncio.get_running_loop().time()
            try:
                whole = await self._read_pages(list(self._wanted))
                await self._judge(began, whole)
            except Stopped:
                for each in self._wanted:
                    if not each.verdict.done():
                        each.verdict.set_exception(Stopped())
                return
            except NoSuchList as error:
                why = f"the account's predictions cannot be listed ({error.message}), so nothing could be checked"
                self._end(Verdict(why, resubmit=True))
            except FluxLoraError as error:
                if isinstance(error, AnswerTooLong) and len(self._page_sizes) > 1:
                    self._page_sizes.pop(0)
                    continue
                for_all = isinstance(error, DeadlineError)  # no further reading comes in time
                why = f"the account's predictions cannot be read: {error.message}"
                self._end(Verdict(why), math.inf if for_all else began)
            passes += 1
            await self._pause(passes)

    async def _read_pages(self, wanted: list[_Wanted]) -> bool:
        """One reading of the list; whether it was read to its end.

        A short page is not the end: a service may give fewer entries than asked. The end is a page with nothing new (a
        full one is not: the service passes over the page's number), or one, newest first, that reaches back past the
        earliest intent.
        """
        since = _since(wanted)
        for each in wanted:
            each.found = Findings()
        seen: set[str] = set()
        for page in range(1, MAX_PAGES + 1):
            list_page = self._session.client.predictions
            tasks = await self._session.calls.get(list_page, page, self._page_sizes[0], since, why="search")
            new = [task for task in tasks if task.id not in seen]
            if not new:
                return len(tasks) < self._page_sizes[0]
            seen.update(task.id for task in new)
            for each in wanted:
                each.found = each.found.joined(find_task(each.record, new))
            newest, oldest = new[0].created, new[-1].created
            if since is not None and newest is not None and oldest is not None and oldest < since and oldest <= newest:
                return True
        return False

    async def _judge(self, began: float, whole: bool) -> None:
        claimed = await in_thread(self._claimed)
        for wanted in list(self._wanted):
            found = wanted.found.without(claimed)
            if len(found.matches) == 1:
                claimed.add(found.matches[0])
                self._decide(wanted, Verdict("found", task_id=found.matches[0]))
            elif began >= wanted.deadline:
                self._decide(wanted, _not_found(found, whole))

    def _claimed(self) -> set[str]:
        """The task IDs of all ledgers at hand: this run's, the user's, and the folders that it remembers; blocking."""
        folder = self._store.folder
        elsewhere = claimed_tasks(self._session.service, besides=folder.path if folder is not None else None)
        return self._store.task_ids() | elsewhere

    def _decide(self, wanted: _Wanted, verdict: Verdict) -> None:
        self._wanted.remove(wanted)
        if not wanted.verdict.done():
            wanted.verdict.set_result(verdict)

    def _end(self, verdict: Verdict, began: float = math.inf) -> None:
        """One verdict for all whose time was up when a reading began."""
        for wanted in list(self._wanted):
            if began >= wanted.deadline:
                self._decide(wanted, verdict)

    async def _pause(self, passes: int) -> None:
        if not self._wanted:
            return
        now, deadlines = asyncio.get_running_loop().time(), [each.deadline for each in self._wanted]
        first, last = (max(0.0, deadline - now) for deadline in (min(deadlines), max(deadlines)))
        interval = INTERVALS[min(passes, len(INTERVALS)) - 1]
        if passes == 3:
            names = ", ".join(each.record.name for each in self._wanted[:3])
            message = f"looking for {len(self._wanted)} submissions of unknown outcome ({names}) for {last:.0f} s more"
            self._session.observer(Waiting("reconcile", round(last, 1), message))
        await asyncio.sleep(min(interval, first) if first > 0 else interval)


def _not_found(found: Findings, whole: bool) -> Verdict:
    candidates = (*found.matches, *found.candidates)
    if candidates:  # sending again could pay twice, so that is no way out, whether asked for or not
        return Verdict("the account has tasks that may be it, and nothing tells which", candidates=candidates)
    if not whole:
        return Verdict("the account's list of predictions is too long to be read to its end")
    return Verdict("not found among the account's recent predictions", absent=True, resubmit=True)


def _since(wanted: list[_Wanted]) -> datetime | None:
    """Nothing older can be one of those looked for, by the service's clock; None where that is not known."""
    times = []
    for each in wanted:
        if each.record.intent_at is None or each.record.service_clock is None:
            return None
        ahead = timedelta(seconds=each.record.service_clock)
        times.append(datetime.fromisoformat(each.record.intent_at) + ahead)
    return min(times) - CLOCK_SLACK - timedelta(minutes=1)
