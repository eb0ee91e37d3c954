"""Blocking work off the event loop: threads, one flush for many callers, and where a run's records are kept."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from flux_lora_cli.folder.ledger import Ledger
from flux_lora_cli.folder.manifest import Cadence
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord

T = TypeVar("T")

#: Threads at most. They grow only as calls pile up: 5,000 images a minute at 0.3 s a call need about 50.
MAX_THREADS = 80
#: Seconds between two looks at whether the manifest is due.
MANIFEST_CHECK = 0.25


class Pool:
    """Runs blocking calls in at most MAX_THREADS threads.

    Not ``concurrent.futures``: its threads are waited for when the interpreter exits, so that one hung request would
    hold the exit. These are daemons; what they bring after the loop has ended is dropped.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]]
        self._tasks = queue.SimpleQueue()
        self._threads = self._busy = 0

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """The result of ``function(*args)``. If the caller is cancelled, the call goes on and its result is dropped."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._busy += 1
        if self._busy > self._threads < MAX_THREADS:
            self._threads += 1
            threading.Thread(target=self._work, name=f"flux-lora-{self._threads}", daemon=True).start()
        self._tasks.put((future, function, args))
        return await future

    def _work(self) -> None:
        while True:
            future, function, args = self._tasks.get()
            result: Any = None
            error: BaseException | None = None
            try:
                result = function(*args)
            except BaseException as caught:  # it is raised again where the result is awaited
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended
                future.get_loop().call_soon_threadsafe(self._done, future, result, error)
            del future, function, args, result, error

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if isinstance(error, StopIteration):  # which a future cannot carry
            error = StopAsyncIteration()
        settle(future, result, error)


class Flusher(Generic[T]):
    """Makes items durable, one blocking flush for all that came meanwhile.

    ``add`` returns when its own item is durable. Flushes follow one another, so an item that was added later is
    never overtaken by an earlier one; they begin at least SPACING seconds apart, so that under load many items share
    one, while a single item never waits.
    """

    SPACING = 0.025

    def __init__(self, pool: Pool, flush: Callable[[list[T]], object]) -> None:
        self._pool, self._flush = pool, flush
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._not_before = 0.0

    async def add(self, item: T) -> None:
        """Wait until ``item`` is durable. Raises what the flush raised."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._run())
        await done

    async def drain(self) -> None:
        """Wait until nothing is on its way any more."""
        if self._flushing is not None:
            await asyncio.wait((self._flushing,))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(max(0.0, self._not_before - loop.time()))
            self._not_before = loop.time() + self.SPACING
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await self._pool.call(self._flush, [item for item, _ in batch])
            except Exception as caught:
                error = caught
            for _, done in batch:
                settle(done, None, error)
        self._flushing = None


def settle(future: asyncio.Future[T], result: T, error: BaseException | None = None) -> None:
    """Give a future its result or its error, unless whoever waited has gone."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Store:
    """The records of a run, and where they are kept: an output folder, the user's own ledger, or both.

    Args:
        folder: None where nothing is saved (``submit`` without ``--wait``).
        ledger: the user's own, for tasks that belong to no preset (``submit``): its rows are written first, and the
            folder gets copies keyed by the task's ID.
    """

    def __init__(self, pool: Pool, folder: OutputFolder | None, ledger: Ledger | None = None) -> None:
        self.folder, self.ledger = folder, ledger
        self._pool = pool
        self._cadence = Cadence()
        self._flusher: Flusher[tuple[Any, Any]] = Flusher(pool, self._write)
        self.drain = self._flusher.drain

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
        await self._pool.call(self.folder.write_manifest)
        self._cadence.wrote(began, time())
