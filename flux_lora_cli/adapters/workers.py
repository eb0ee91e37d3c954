"""Threads for blocking calls, started as they are needed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class ThreadWorkers:
    """At most ``most`` daemon threads; one is started when a call finds none idle.

    Daemons, because a second Ctrl-C must not wait for a read that hangs.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads = 0
        self._waiting = 0  # calls started and not yet finished
        self._lock = threading.Lock()

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work`` soon, on some thread."""
        with self._lock:
            self._waiting += 1
            if self._waiting > self._threads and self._threads < self._most:
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._queue.put(work)

    def _serve(self) -> None:
        while True:
            work = self._queue.get()
            try:
                work()
            finally:
                with self._lock:
                    self._waiting -= 1


class QueueInbox:
    """Where workers leave what they found."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def put(self, item: Callable[[], None]) -> None:
        """Leave an item; from any thread, and from signal handlers."""
        self._queue.put(item)

    def get(self, timeout: float | None) -> Callable[[], None] | None:
        """Take an item, waiting up to ``timeout`` seconds (None: for ever); None where none came."""
        try:
            if timeout is not None and timeout <= 0:
                return self._queue.get_nowait()
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
