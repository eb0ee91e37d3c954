"""A discrete-event simulation of one batch: a service with slots and a queue, and a client that looks at its tasks.

Nothing here waits: 256 jobs take some 10 ms.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flux_lora_cli.domain.pacing import LookPlanner
from flux_lora_cli.domain.rate import RateGate, SubmitWindow


@dataclass
class Setting:
    """What is simulated; times in seconds."""

    service_times: Sequence[float]
    slots: int = 32
    concurrency: int = 48
    floor: float = 0.1
    latency: float = 0.006
    submit_latency: float = 0.008
    download: float = 0.0
    downloaders: int = 16
    reports_execution: bool = True
    overhead: float = 0.0  # between a slot's work and the answer "completed", not in the reported execution
    planner: LookPlanner | None = None
    rate: float | None = None  # submits a second that are allowed


@dataclass
class Outcome:
    """What came of it."""

    makespan: float
    ideal: float
    looks: list[int]
    look_times: list[list[float]]
    planner: LookPlanner
    last_delay: float  # between the end of the last task and the moment that it was seen
    most_submits: int = 0

    @property
    def ratio(self) -> float:
        return self.makespan / self.ideal

    @property
    def looks_per_task(self) -> float:
        return sum(self.looks) / len(self.looks)

    @property
    def least_gap(self) -> float:
        gaps = [b - a for times in self.look_times for a, b in itertools.pairwise(times)]
        return min(gaps, default=float("inf"))


def ideal_makespan(service_times: Sequence[float], slots: int) -> float:
    """The greedy schedule in the given order: every slot takes the next job the moment that it is free."""
    free = [0.0] * slots
    end = 0.0
    for time in service_times:
        done = heapq.heappop(free) + time
        heapq.heappush(free, done)
        end = max(end, done)
    return end


@dataclass
class _Task:
    number: int
    submitted: float = 0.0
    done: float | None = None
    execution_ms: int | None = None
    looks: list[float] = field(default_factory=list)


class Simulation:
    """One run; ``run()`` gives its outcome."""

    def __init__(self, setting: Setting) -> None:
        self.s = setting
        self.planner = setting.planner or LookPlanner(setting.floor)
        self.window = SubmitWindow()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._free = setting.slots
        self._queue: deque[_Task] = deque()
        self._tasks = [_Task(n) for n in range(len(setting.service_times))]
        self._to_submit = deque(self._tasks)
        self._in_flight = 0
        self._submitting = 0
        self._most_submits = 0
        self._downloading = 0
        self._to_download = 0
        self._gate = RateGate(setting.rate)
        self._paced = False
        self._woken_at = 0.0

    def run(self) -> Outcome:
        self._submit()
        while self._events:
            time, _, action = heapq.heappop(self._events)
            self.now = time
            action()
        return Outcome(
            self.now,
            ideal_makespan(self.s.service_times, self.s.slots),
            [len(t.looks) for t in self._tasks],
            [t.looks for t in self._tasks],
            self.planner,
            self.now - max(t.done or 0.0 for t in self._tasks),
            self._most_submits,
        )

    def _at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._order), action))

    # ---- client

    def _submit(self) -> None:
        vacancies = min(self.s.concurrency - self._in_flight, len(self._to_submit))
        allowed = self.window.allowed(None, vacancies + self._submitting)
        self._paced &= vacancies > 0
        while vacancies > 0 and self._submitting < allowed:
            ready = self._gate.ready_at(self.now)
            if ready > self.now:
                self._paced = True
                if ready > self._woken_at:
                    self._woken_at = ready
                    self._at(ready, self._submit)
                return
            self._gate.take(self.now)
            task = self._to_submit.popleft()
            self._in_flight += 1
            self._submitting += 1
            self._most_submits = max(self._most_submits, self._submitting)
            vacancies -= 1
            sent = self.now
            self._at(self.now + self.s.submit_latency / 2, lambda task=task: self._arrive(task))
            self._at(self.now + self.s.submit_latency, lambda task=task, sent=sent: self._accepted(task, sent))

    def _accepted(self, task: _Task, sent: float) -> None:
        self._submitting -= 1
        task.submitted = self.now
        self.window.observe(self.now - sent)
        self._submit()
        self._plan(task, self.planner.first_look(self.now, self._in_flight, len(self._to_submit), self._paced))

    def _plan(self, task: _Task, time: float) -> None:
        self._at(time, lambda: self._look(task))

    def _look(self, task: _Task) -> None:
        started = self.now
        task.looks.append(started)
        arrives = started + self.s.latency / 2

        def arrive() -> None:
            finished = task.done is not None and task.done <= self.now
            self._at(started + self.s.latency, lambda: self._seen(task, finished))

        self._at(arrives, arrive)

    def _seen(self, task: _Task, finished: bool) -> None:
        if not finished:
            gap = task.looks[-1] - task.looks[-2] if len(task.looks) > 1 else 0.0
            self._plan(
                task,
                self.planner.next_look(
                    task.submitted,
                    task.looks[-1],
                    len(task.looks),
                    self._in_flight,
                    len(self._to_submit),
                    gap,
                    self._paced,
                ),
            )
            return
        self._in_flight -= 1
        before = task.looks[-2] if len(task.looks) > 1 else None
        reported = task.execution_ms if self.s.reports_execution else None
        self.planner.observe(task.submitted, task.looks[-1], before, reported)
        self._submit()
        if self.s.download:
            self._to_download += 1
            self._download()

    def _download(self) -> None:
        while self._to_download and self._downloading < self.s.downloaders:
            self._to_download -= 1
            self._downloading += 1
            self._at(self.now + self.s.download, self._downloaded)

    def _downloaded(self) -> None:
        self._downloading -= 1
        self._download()

    # ---- service

    def _arrive(self, task: _Task) -> None:
        self._queue.append(task)
        self._start()

    def _start(self) -> None:
        while self._free and self._queue:
            self._free -= 1
            task = self._queue.popleft()
            took = self.s.service_times[task.number]
            self._at(self.now + took, lambda task=task, took=took: self._finish(task, took))

    def _finish(self, task: _Task, took: float) -> None:
        task.done = self.now + self.s.overhead
        task.execution_ms = round(took * 1000)
        self._free += 1
        self._start()


def simulate(setting: Setting) -> Outcome:
    """Run it once."""
    return Simulation(setting).run()


def uniform_times(count: int, low: float, high: float, seed: int) -> list[float]:
    """Service times as the targets have them."""
    rng = random.Random(seed)
    return [rng.uniform(low, high) for _ in range(count)]
