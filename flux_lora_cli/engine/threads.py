"""Blocking work (the API client, the disk) off the event loop: daemon threads, and one flush for many callers."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Threads at most. They grow only as calls pile up: 5,000 images a minute at 0.3 s a call need about 50.
MAX_THREADS = 80


class Pool:
    """Runs blocking calls in at most MAX_THREADS threads.

    Not ``concurrent.futures``: its threads are waited for when the interpreter exits, so that one hung request would
    hold the exit. These are daemons; what they bring after the loop has ended is dropped.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = (
            queue.SimpleQueue()
        )
        self._threads = 0
        self._busy = 0

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
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, StopIteration):  # which a future cannot carry
            future.set_exception(StopAsyncIteration())
        else:
            future.set_exception(error)


class Flusher(Generic[T]):
    """Makes items durable, one blocking flush for all that came meanwhile.

    ``add`` returns when its own item is durable. Flushes follow one another, so an item that was added later is
    never overtaken by an earlier one; they begin at least SPACING seconds apart, so that under load many items share
    one, while a single item never waits.
    """

    SPACING = 0.025

    def __init__(self, pool: Pool, flush: Callable[[list[T]], object]) -> None:
        self._pool = pool
        self._flush = flush
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
                if done.cancelled():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
        self._flushing = None
