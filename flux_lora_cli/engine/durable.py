"""Blocking work off the event loop: threads, one flush for many callers, and where a run's records are kept."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from flux_lora_cli.errors import FluxLoraError
from flux_lora_cli.folder.ledger import Ledger
from flux_lora_cli.folder.manifest import Cadence
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord

T = TypeVar("T")

#: Threads at most. They grow only as calls pile up: 5,000 images a minute at 0.3 s a call need about 50.
MAX_THREADS = 80
#: Seconds between two looks at whether the manifest is due.
MANIFEST_CHECK = 0.25
#: Seconds that an end waits for a folder that is being opened.
_OPENED_WITHIN = 1.2


class Pool:
    """Runs the blocking calls of one event loop in at most MAX_THREADS threads, which grow as calls pile up.

    Not ``concurrent.futures``: its threads are waited for when the interpreter exits, so that one hung request would
    hold the exit. These are daemons; what they bring after the loop has ended is dropped.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = self.busy = 0

    def put(self, call: Callable[[], None]) -> None:
        """Have a call made, one that raises nothing. ``busy`` counts it until the loop has its result."""
        self.busy += 1
        if self.busy > self._threads < MAX_THREADS:
            self._threads += 1
            threading.Thread(target=_make_calls, args=(self._calls,), daemon=True).start()
        self._calls.put(call)

    def end(self) -> None:
        """Let the threads end that are not in a call."""
        for _ in range(self._threads):
            self._calls.put(None)


def _make_calls(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # or what it refers to would live until the next one


#: Of each loop that runs, so that neither a fork nor a second run meets threads of another.
_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = weakref.WeakKeyDictionary()


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """The result of a blocking call. If the caller is cancelled, the call goes on and its result is dropped."""
    loop = asyncio.get_running_loop()
    if (pool := _pools.get(loop)) is None:
        pool = _pools[loop] = Pool()
        weakref.finalize(loop, pool.end)
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        pool.busy -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def call() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = function(*args)
        except BaseException as caught:  # it is raised again where the result is awaited
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    pool.put(call)
    return await future


async def opened_folder(opening: Callable[[], OutputFolder]) -> OutputFolder:
    """The folder that ``opening`` opens, in a thread; if the run is ended meanwhile, it is closed again."""
    task = asyncio.ensure_future(in_thread(opening))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(FluxLoraError, TimeoutError):
            (await asyncio.wait_for(task, _OPENED_WITHIN)).close()
        raise


class Flusher(Generic[T]):
    """Makes items durable, one blocking flush for all that came meanwhile.

    ``add`` returns when its own item is durable. Flushes follow one another, so an item that was added later is
    never overtaken by an earlier one; they begin at least SPACING seconds apart, so that under load many items share
    one, while a single item never waits.
    """

    SPACING = 0.025

    def __init__(self, flush: Callable[[list[T]], object]) -> None:
        self._flush = flush
        self._waiting: list[T] = []
        self._last: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None  # takes what is waiting
        self._not_before = 0.0

    async def add(self, item: T) -> None:
        """Wait until ``item`` is durable. Raises what the flush raised."""
        self._waiting.append(item)
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._last))
            self._next.add_done_callback(lambda flush: flush.cancelled() or flush.exception())  # all may have gone
        await asyncio.shield(self._next)

    async def drain(self) -> None:
        """Wait until nothing is on its way any more."""
        if (flush := self._next or self._last) is not None:
            await asyncio.wait((flush,))

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._not_before - loop.time()))
        self._not_before = loop.time() + self.SPACING
        items, self._waiting = self._waiting, []
        self._last, self._next = self._next, None
        await in_thread(self._flush, items)


class Store:
    """The records of a run, and where they are kept: an output folder, the user's own ledger, or both.

    Args:
        folder: None where nothing is saved (``submit`` without ``--wait``).
        ledger: the user's own, for tasks that belong to no preset (``submit``): its rows are written first, and the
            folder gets copies keyed by the task's ID.
    """

    def __init__(self, folder: OutputFolder | None, ledger: Ledger | None = None) -> None:
        self.folder, self.ledger = folder, ledger
        self._cadence = Cadence()
        self._flusher: Flusher[tuple[Any, Any]] = Flusher(self._write)
        self.drain = self._flusher.drain

    def task_ids(self) -> set[str]:
        """Every task that the ledgers have claimed; blocking."""
        ledgers = (self.ledger, self.folder.ledger if self.folder is not None else None)
        return set[str]().union(*(ledger.task_ids() for ledger in ledgers if ledger is not None))

    async def save(self, record: JobRecord) -> None:
        """Return when the record, as it is now, is durable. Raises FolderError where it cannot be."""
        own = None if self.ledger is None else self.ledger.row(record)
        theirs = None
        if self.folder is not None and (copy := self._in_folder(record)) is not None:
            self._cadence.touch()
            self.folder.records[copy.key] = copy
            theirs = self.folder.row(copy)
        await self._flusher.add((own, theirs))

    def _in_folder(self, record: JobRecord) -> JobRecord | None:
        """The record as the folder has it; None where the folder does not know it yet."""
        assert self.folder is not None
        if self.ledger is None:
            return record
        if record.task_id is None:
            return None
        key = f"task:{record.task_id}"
        known = self.folder.records.get(key)
        return replace(record, key=key, order=self.folder.next_order() if known is None else known.order)

    def _write(self, rows: list[tuple[Any, Any]]) -> None:
        if self.ledger is not None:
            self.ledger.save([own for own, _ in rows])
        theirs = [row for _, row in rows if row is not None]
        if self.folder is not None and theirs:
            self.folder.save(theirs)

    async def keep_manifest(self) -> None:
        """Write the manifest whenever it is due. Raises FolderError."""
        while True:
            if self._cadence.due(asyncio.get_running_loop().time()):
                await self.write_manifest()
            await asyncio.sleep(MANIFEST_CHECK)

    async def write_manifest(self) -> None:
        """Write the manifest now. Raises FolderError."""
        if self.folder is None:
            return
        time = asyncio.get_running_loop().time
        began = time()
        self._cadence.writing()
        await in_thread(self.folder.write_manifest)
        self._cadence.wrote(began, time())
