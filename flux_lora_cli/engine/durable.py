"""Blocking work off the event loop: threads, one flush for many callers, and where a run's records are kept."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from flux_lora_cli.errors import FluxLoraError, FolderBusy, FolderError
from flux_lora_cli.folder.ledger import Ledger
from flux_lora_cli.folder.manifest import pause_after_write
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord

T = TypeVar("T")
R = TypeVar("R")

#: The folder or its ledger cannot be used any more; with FolderBusy another batch took it over.
NOT_KEPT = (FolderBusy, FolderError)

#: Threads at most. They grow only as calls pile up: 5,000 images a minute at 0.3 s a call need about 50.
MAX_THREADS = 80
#: Seconds that an end waits for a folder that is being opened.
_OPENED_WITHIN = 1.2


class _Threads:
    """The threads of one event loop: daemons, which grow as calls pile up.

    Not ``concurrent.futures``: its threads are waited for when the interpreter exits, so that one hung request would
    hold the exit.
    """

    def __init__(self) -> None:
        self.calls = queue.SimpleQueue[Callable[[], None] | None]()
        self.number = self.busy = 0
        self._settled = deque[tuple[asyncio.Future[Any], Any, BaseException | None]]()
        self._woken = False

    def settle(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """Hand what a call brought to the loop; from any thread. Results that come together wake it once."""
        self._settled.append((future, result, error))
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                future.get_loop().call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._woken = False  # first, for what comes from now on may be too late for this round
        while self._settled:
            future, result, error = self._settled.popleft()
            self.busy -= 1
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def work(self) -> None:
        """Make one call after the other, until None comes."""
        while (call := self.calls.get()) is not None:
            call()
            del call  # or what it refers to would live until the next one

    def end(self) -> None:
        """Let the threads end that are not in a call."""
        for _ in range(self.number):
            self.calls.put(None)


#: Of each loop that runs, so that neither a fork nor a second run meets threads of another.
_threads: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Threads] = weakref.WeakKeyDictionary()


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """The result of a blocking call. If the caller is cancelled, the call goes on and its result is dropped."""
    loop = asyncio.get_running_loop()
    if (threads := _threads.get(loop)) is None:
        threads = _threads[loop] = _Threads()
        weakref.finalize(loop, threads.end)
    future: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            threads.settle(future, function(*args), None)
        except BaseException as error:  # it is raised again where the result is awaited
            threads.settle(future, None, error)

    threads.busy += 1
    if threads.busy > threads.number < MAX_THREADS:
        threads.number += 1
        threading.Thread(target=threads.work, daemon=True).start()
    threads.calls.put(call)
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


class Flusher(Generic[T, R]):
    """Makes items durable, one blocking flush for all that came meanwhile; it gives a result for each.

    Flushes follow one another, so a later item is never overtaken by an earlier one; they begin at least SPACING
    seconds apart, so that under load many items share one, while a single item never waits.
    """

    SPACING = 0.025

    def __init__(self, flush: Callable[[list[T]], Sequence[R]]) -> None:
        self._flush = flush
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def add(self, item: T) -> R:
        """The result for ``item``, once it is durable. Raises what the flush raised."""
        durable: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, durable))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._run())
        return await durable

    async def drain(self) -> None:
        """Wait until nothing is on its way any more."""
        if self._flushing is not None:
            await asyncio.wait((self._flushing,))

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        while self._waiting:
            began = time()
            waiting, self._waiting = self._waiting, []
            try:
                results = await in_thread(self._flush, [item for item, _ in waiting])
            except Exception as error:  # it is raised again by ``add``
                for _, durable in waiting:
                    if not durable.done():
                        durable.set_exception(error)
            else:
                for (_, durable), result in zip(waiting, results, strict=True):
                    if not durable.done():
                        durable.set_result(result)
            await asyncio.sleep(began + self.SPACING - time())


class Store:
    """The records of a run, and where they are kept: an output folder, the user's own ledger, or both.

    Args:
        folder: None where nothing is saved (``submit`` without ``--wait``).
        ledger: the user's own, for tasks that belong to no preset (``submit``): its rows are written first, and the
            folder gets copies keyed by the task's ID.
    """

    def __init__(self, folder: OutputFolder | None, ledger: Ledger | None = None) -> None:
        self.folder, self.ledger = folder, ledger
        self._changed = asyncio.Event()  # since the manifest was written
        self._flusher: Flusher[tuple[Any, Any], None] = Flusher(self._write)
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
            self.folder.records[copy.key] = copy
            theirs = self.folder.row(copy)
        await self._flusher.add((own, theirs))
        self._changed.set()

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

    def _write(self, rows: list[tuple[Any, Any]]) -> list[None]:
        if self.ledger is not None:
            self.ledger.save([own for own, _ in rows])
        theirs = [row for _, row in rows if row is not None]
        if self.folder is not None and theirs:
            self.folder.save(theirs)
        return [None] * len(rows)

    async def keep_manifest(self) -> None:
        """Write the manifest after each change, with a pause in between. Raises FolderError."""
        time = asyncio.get_running_loop().time
        while True:
            await self._changed.wait()
            self._changed.clear()  # what changes from now on needs another
            began = time()
            await self.write_manifest()
            await asyncio.sleep(pause_after_write(time() - began))

    async def write_manifest(self) -> None:
        """Write the manifest now. Raises FolderError."""
        if self.folder is not None:
            await in_thread(self.folder.write_manifest)
