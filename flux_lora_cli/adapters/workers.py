"""Threads for blocking calls, started as they are needed."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

#: Threads that are started as soon as calls wait. Python runs one at a time: where calls are quick, more of them
#: only compete. [measured: 32 + 16 threads cost 1.4 times the CPU of 4 + 4, and bring nothing]
FEW = 4
#: Seconds between two looks at whether calls wait for slow ones; and what a slow call takes at least.
LOOK, SLOW = 0.03, 0.02


class ThreadWorkers:
    """At most ``most`` daemon threads; more than a few only while calls wait for the network, not for the CPU.

    Daemons, because a second Ctrl-C must not wait for a read that hangs.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0  # calls started and not yet finished
        self._finished = 0
        self._took: deque[float] = deque([0.0], maxlen=8)  # seconds, of the last calls
        self._crowded = threading.Event()
        self._watched = False

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work`` soon, on some thread."""
        with self._lock:
            self._unfinished += 1
            if self._unfinished > self._threads:
                if self._threads < min(FEW, self._most):
                    self._add()
                elif self._threads < self._most:
                    self._watch()
        self._queue.put(work)

    def _add(self) -> None:
        self._threads += 1
        name = f"{self._name}-{self._threads}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        while True:
            work = self._queue.get()
            began = time.monotonic()
            try:
                work()
            finally:
                with self._lock:
                    self._unfinished -= 1
                    self._finished += 1
                    self._took.append(time.monotonic() - began)

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._grow, name=f"{self._name}-watch", daemon=True).start()
        self._crowded.set()

    def _grow(self) -> None:
        """Add a thread whenever calls wait although none is quick, or none comes to its end."""
        while self._threads < self._most:
            self._crowded.wait()
            finished = self._finished
            time.sleep(LOOK)
            with self._lock:
                if self._unfinished <= self._threads:
                    self._crowded.clear()
                elif self._finished == finished or min(self._took) > SLOW:
                    self._add()


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
