"""Finds out what became of submissions of unknown outcome, in the account's recent predictions.

One reading of the list, page by page, serves all jobs that wait for one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flux_lora_cli.engine.audit import claimed_tasks
from flux_lora_cli.engine.durable import Store, in_thread
from flux_lora_cli.engine.events import Waiting
from flux_lora_cli.engine.follow import age
from flux_lora_cli.engine.reconcile import CLOCK_SLACK, SUBMIT_TIMEOUT, find_task
from flux_lora_cli.errors import AnswerTooLong, DeadlineError, FluxLoraError
from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.service.envelope import NoSuchList

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Session

#: Seconds for which the list is read after a submission's time-out. [CONTRACT: money and identity]
SEARCH_FOR = 120.0
#: Seconds between two readings of the list; the last one over and over.
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
    """A submission that is looked for, until ``deadline`` (loop time); ``found`` as of ``find_task``."""

    record: JobRecord
    deadline: float
    verdict: asyncio.Future[Verdict]
    found: dict[str, bool] = field(default_factory=dict)


class Search:
    """Looks for tasks of submissions of unknown outcome; those that a ledger at hand has claimed are left out."""

    def __init__(self, session: Session, store: Store) -> None:
        self._session, self._store = session, store
        self._wanted: list[_Wanted] = []
        self._reader: asyncio.Task[None] | None = None

    async def find(self, record: JobRecord, on_unknown: str) -> Verdict:
        """Look for the record's task until it is found or its time is up.

        Raises:
            Stopped: the search was cut short, which says nothing about the task.
        """
        if on_unknown == "hold":
            return Verdict("not looked for, as asked (--on-unknown hold)")
        loop = asyncio.get_running_loop()
        seconds = max(0.0, SUBMIT_TIMEOUT + SEARCH_FOR - age(record, self._session.now()))
        wanted = _Wanted(record, loop.time() + seconds, loop.create_future())
        self._wanted.append(wanted)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        verdict = await wanted.verdict
        return replace(verdict, resubmit=on_unknown == "resubmit" and verdict.resubmit)

    def _waiting(self) -> list[_Wanted]:
        self._wanted = [each for each in self._wanted if not each.verdict.done()]
        return self._wanted

    async def _read(self) -> None:
        """Read the list again and again, for as long as somebody waits."""
        time, page_sizes, passes = asyncio.get_running_loop().time, list(PAGE_SIZES), 0
        await asyncio.sleep(0)  # those that begin in the same turn share the first reading
        try:
            while wanted := self._waiting():
                began, whole = time(), False
                failure: FluxLoraError | None = None
                try:
                    whole = await self._read_pages(wanted, page_sizes[0])
                except FluxLoraError as error:
                    if isinstance(error, AnswerTooLong) and len(page_sizes) > 1:
                        page_sizes.pop(0)
                        continue
                    failure = error
                claimed = await in_thread(self._claimed)
                for each in wanted:
                    found = {task: sure for task, sure in each.found.items() if task not in claimed}
                    verdict = _judge(found, whole, failure, over=began >= each.deadline)
                    if verdict is not None and not each.verdict.done():
                        claimed.add(verdict.task_id or "")
                        each.verdict.set_result(verdict)
                passes += 1
                await self._pause(passes)
        except Exception as error:  # above all Stopped: it ends every search
            for each in self._waiting():
                each.verdict.set_exception(error)

    async def _read_pages(self, wanted: list[_Wanted], page_size: int) -> bool:
        """One reading of the list; whether it was read to its end.

        A short page is not the end: a service may give fewer entries than asked. The end is a page with nothing new (a
        full one is not: the service passes over the page's number), or one, newest first, that reaches back past the
        earliest intent.
        """
        since = _since(wanted)
        for each in wanted:
            each.found = {}
        seen: set[str] = set()
        for page in range(1, MAX_PAGES + 1):
            list_page = self._session.client.predictions
            tasks = await self._session.calls.get(list_page, page, page_size, since, why="search")
            new = [task for task in tasks if task.id not in seen]
            if not new:
                return len(tasks) < page_size
            seen.update(task.id for task in new)
            for each in wanted:
                each.found |= find_task(each.record, new)
            newest, oldest = new[0].created, new[-1].created
            if since is not None and newest is not None and oldest is not None and oldest < since and oldest <= newest:
                return True
        return False

    def _claimed(self) -> set[str]:
        """The task IDs of all ledgers at hand: this run's, the user's, and the folders that it remembers; blocking."""
        folder = self._store.folder
        elsewhere = claimed_tasks(self._session.service, besides=folder.path if folder is not None else None)
        return self._store.task_ids() | elsewhere

    async def _pause(self, passes: int) -> None:
        """Wait until the list is to be read again; after a few readings, say why."""
        now, waiting = asyncio.get_running_loop().time(), self._waiting()
        if not waiting:
            return
        left = sorted(each.deadline - now for each in waiting)
        if passes == 3:
            names = ", ".join(each.record.name for each in waiting[:3])
            message = f"looking for {len(waiting)} submissions of unknown outcome ({names}) for {left[-1]:.0f} s more"
            self._session.observer(Waiting("reconcile", round(left[-1], 1), message))
        interval = INTERVALS[min(passes, len(INTERVALS)) - 1]
        await asyncio.sleep(min(interval, left[0]) if left[0] > 0 else interval)


def _judge(found: dict[str, bool], whole: bool, failure: FluxLoraError | None, *, over: bool) -> Verdict | None:
    """What a reading of the list says of a submission; None where it is to be read again.

    Args:
        found: the tasks that may be it, without those of other jobs.
        whole: the list was read to its end; ``failure``: it could not be read.
        over: the time to look was up when the reading began.
    """
    if isinstance(failure, NoSuchList):
        why = f"the account's predictions cannot be listed ({failure.message}), so nothing could be checked"
        return Verdict(why, resubmit=True)
    if failure is not None:
        no_use = over or isinstance(failure, DeadlineError)  # no further reading comes in time
        return Verdict(f"the account's predictions cannot be read: {failure.message}") if no_use else None
    matches = [task for task, sure in found.items() if sure]
    if len(matches) == 1:
        return Verdict("found", matches[0])
    if not over:
        return None
    if found:  # sending again could pay twice, so that is no way out, whether asked for or not
        return Verdict("the account has tasks that may be it, and nothing tells which", candidates=tuple(found))
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
