"""Finds out what became of submissions of unknown outcome, in the account's recent predictions.

One reading of the list, page by page, serves all jobs that wait for one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flux_lora_cli.engine.durable import in_thread
from flux_lora_cli.engine.events import Waiting
from flux_lora_cli.engine.follow import age
from flux_lora_cli.engine.reconcile import CLOCK_SLACK, SUBMIT_TIMEOUT, find_task
from flux_lora_cli.errors import AnswerTooLong, DeadlineError, FluxLoraError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.service.envelope import NoSuchList
from flux_lora_cli.service.wire import parse_time
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.engine.run import Run

#: Seconds for which the list is read after a submission's time-out. [CONTRACT: money and identity]
SEARCH_FOR = 120.0
#: Seconds between two readings of the list, the last one over and over; before which of them it is told.
INTERVALS, TELL_AT = (1.0, 2.0, 4.0, 8.0, 15.0, 20.0), 4.0
#: Entries per page. A list that echoes inline images can outgrow the limit of an answer: then fewer.
PAGE_SIZE = 100
#: Pages read at most: far more tasks than a week of the highest tier has.
MAX_PAGES = 1000


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


@dataclass(eq=False)
class _Wanted:
    """A submission that is looked for, until ``deadline`` (loop time); ``found`` as of ``find_task``."""

    record: JobRecord
    deadline: float
    verdict: asyncio.Future[Verdict]
    found: dict[str, bool] = field(default_factory=dict)


class Search:
    """Looks for tasks of submissions of unknown outcome; those that a ledger at hand has claimed are left out."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._wanted: list[_Wanted] = []
        self._reader: asyncio.Task[None] | None = None

    async def find(self, record: JobRecord) -> Verdict:
        """Look for the record's task until it is found or its time is up.

        Raises:
            Stopped: the search was cut short, which says nothing about the task.
        """
        run = self._run
        if run.settings.on_unknown == "hold":
            return Verdict("not looked for, as asked (--on-unknown hold)")
        deadline = run.time() + max(0.0, SUBMIT_TIMEOUT + SEARCH_FOR - age(record, run.now()))
        wanted = _Wanted(record, deadline, asyncio.get_running_loop().create_future())
        self._wanted.append(wanted)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        return await wanted.verdict

    async def _read(self) -> None:
        """Read the list again and again, for as long as somebody waits."""
        run, page_size = self._run, PAGE_SIZE
        await asyncio.sleep(0)  # those that begin in the same turn share the first reading
        try:
            for seconds in itertools.chain(INTERVALS, itertools.repeat(INTERVALS[-1])):
                began, whole = run.time(), False
                failure: FluxLoraError | None = None
                try:
                    whole = await self._read_pages(page_size)
                except FluxLoraError as error:
                    if isinstance(error, AnswerTooLong) and page_size > 1:
                        page_size = max(1, page_size // 5)
                        continue
                    failure = error
                besides = run.store.folder and run.store.folder.path
                claimed = run.task_ids | await in_thread(state.claimed_tasks, run.service, besides)
                for each in self._wanted:
                    found = {task: sure for task, sure in each.found.items() if task not in claimed}
                    verdict = _judge(found, whole, failure, over=began >= each.deadline)
                    if verdict is not None and not each.verdict.done():
                        claimed.add(verdict.task_id or "")
                        each.verdict.set_result(verdict)
                self._wanted = [each for each in self._wanted if not each.verdict.done()]
                if not self._wanted:
                    return
                if seconds == TELL_AT:
                    left = max(each.deadline for each in self._wanted) - run.time()
                    message = f"looking for {counted(len(self._wanted), 'submission')} of unknown outcome"
                    run.emit(Waiting("reconcile", round(left, 1), f"{message} for {left:.0f} s more"))
                await asyncio.sleep(seconds)
        except Exception as error:  # above all Stopped: it ends every search
            for each in self._wanted:
                if not each.verdict.done():
                    each.verdict.set_exception(error)

    async def _read_pages(self, page_size: int) -> bool:
        """One reading of the list; whether it was read to its end.

        A short page is not the end: a service may give fewer entries than asked. The end is a page with nothing new (a
        full one is not: the service passes over the page's number), or one, newest first, that reaches back past the
        earliest intent.
        """
        run, wanted = self._run, list(self._wanted)
        since = _since(each.record for each in wanted)
        for each in wanted:
            each.found = {}
        seen: set[str] = set()
        for page in range(1, MAX_PAGES + 1):
            tasks = await run.calls.get(run.client.predictions, page, page_size, since, why="search")
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


def _since(records: Iterable[JobRecord]) -> datetime | None:
    """Nothing older can be one of those looked for, by the service's clock; None where that is not known."""
    times = []
    for record in records:
        meant = parse_time(record.intent_at)
        if meant is None or record.service_clock is None:
            return None
        times.append(meant + timedelta(seconds=record.service_clock))
    return min(times) - CLOCK_SLACK - timedelta(minutes=1)
