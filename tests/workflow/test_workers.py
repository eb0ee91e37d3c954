"""Threads for calls: few where calls are quick, enough where they wait."""

from __future__ import annotations

import threading

from flux_lora_cli.adapters.workers import FEW, ThreadWorkers


class Seen:
    """Which threads worked."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.count = threading.Semaphore(0)

    def note(self) -> None:
        self.names.add(threading.current_thread().name)
        self.count.release()

    def wait(self, calls: int) -> bool:
        return all(self.count.acquire(timeout=30) for _ in range(calls))


def test_quick_calls_get_few_threads_however_many_they_are() -> None:
    seen, workers = Seen(), ThreadWorkers(32, "quick")
    for _ in range(2000):
        workers.start(seen.note)
    assert seen.wait(2000)
    assert len(seen.names) <= FEW


def test_calls_that_hang_do_not_keep_the_others_waiting() -> None:
    seen, workers, release = Seen(), ThreadWorkers(12, "slow"), threading.Event()

    def hang() -> None:
        seen.note()
        release.wait(60)

    for _ in range(12):
        workers.start(hang)  # all at once: no later call is there to bring in a thread
    try:
        assert seen.wait(12)
        assert len(seen.names) == 12
    finally:
        release.set()


def test_there_are_never_more_threads_than_allowed() -> None:
    seen, workers, release = Seen(), ThreadWorkers(6, "most"), threading.Event()
    running = threading.Semaphore(6)

    def hang() -> None:
        assert running.acquire(blocking=False)
        release.wait(60)
        running.release()
        seen.note()

    for _ in range(20):
        workers.start(hang)
    release.wait(0.5)
    release.set()
    assert seen.wait(20)
    assert len(seen.names) <= 6
