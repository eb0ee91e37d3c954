"""A discrete-event simulation of one batch: a service with slots and a queue, and a client that polls its tasks.

Nothing here waits: 256 jobs take some 10 ms.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from flux_lora_cli.engine.limits import RateGate, SubmitWindow
from flux_lora_cli.engine.pacing import PollPlanner


@dataclass
class Setting:
    """What is simulated; times in seconds.

    Attributes:
        earlier: ages of tasks that an earlier run submitted, and that the service finished in the meantime.
        earlier_left: seconds that each of those still takes.
        reported_share: of the time that a task takes in its slot, what the service reports as its execution.
        rate: submissions per second that are allowed.
    """

    service_times: Sequence[float]
    slots: int = 32
    concurrency: int = 48
    floor: float = 0.1
    latency: float = 0.006
    submit_latency: float = 0.008
    reports_execution: bool = True
    reported_share: float = 1.0
    planner: PollPlanner | None = None
    rate: float | None = None
    earlier: Sequence[float] = ()
    earlier_left: float = 0.0


@dataclass(eq=False)
class Task:
    took: float
    submitted: float = 0.0
    fresh: bool = True
    done: float | None = None
    polls: list[float] = field(default_factory=list)


@dataclass
class Outcome:
    """What came of it; ``last_delay``: from the end of the last task to the moment it was seen."""

    makespan: float
    ideal: float
    tasks: list[Task]
    planner: PollPlanner
    last_delay: float

    @property
    def ratio(self) -> float:
        return self.makespan / self.ideal

    @property
    def polls_per_task(self) -> float:
        return sum(len(task.polls) for task in self.tasks) / len(self.tasks)

    @property
    def gaps(self) -> list[float]:
        return [b - a for task in self.tasks for a, b in itertools.pairwise(task.polls)]


def ideal_makespan(service_times: Sequence[float], slots: int) -> float:
    """The greedy schedule in the given order: every slot takes the next job the moment that it is free."""
    free, end = [0.0] * slots, 0.0
    for time in service_times:
        done = heapq.heappop(free) + time
        heapq.heappush(free, done)
        end = max(end, done)
    return end


class Simulation:
    def __init__(self, setting: Setting) -> None:
        self.s = setting
        self.planner = setting.planner or PollPlanner(setting.floor)
        self.window = SubmitWindow()
        self.gate = RateGate(setting.rate)
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.free = setting.slots
        self.queue: deque[Task] = deque()
        self.tasks = [Task(took) for took in setting.service_times]
        self.waiting = deque(self.tasks)
        self.in_flight = self.sending = 0
        self.paced = False
        self.woken_at = 0.0

    def run(self) -> Outcome:
        for age in self.s.earlier:
            task = Task(1.0, -age, False, self.s.earlier_left)
            self.in_flight += 1
            self.tasks.append(task)
            self.plan(task, 0.0)
        self.submit()
        while self.events:
            self.now, _, action = heapq.heappop(self.events)
            action()
        last = max(task.done or 0.0 for task in self.tasks)
        ideal = ideal_makespan(self.s.service_times, self.s.slots)
        return Outcome(self.now, ideal, self.tasks, self.planner, self.now - last)

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (max(time, self.now), next(self.order), action))

    def submit(self) -> None:
        vacancies = min(self.s.concurrency - self.in_flight, len(self.waiting))
        allowed = self.window.allowed(None, vacancies + self.sending)
        self.paced &= vacancies > 0
        while vacancies > 0 and self.sending < allowed:
            ready = self.gate.ready_at(self.now)
            if ready > self.now:
                self.paced = True
                if ready > self.woken_at:
                    self.woken_at = ready
                    self.at(ready, self.submit)
                return
            self.gate.take(self.now)
            task, sent = self.waiting.popleft(), self.now
            self.in_flight += 1
            self.sending += 1
            vacancies -= 1
            self.at(self.now + self.s.submit_latency / 2, partial(self.arrive, task))
            self.at(self.now + self.s.submit_latency, partial(self.accepted, task, sent))

    def accepted(self, task: Task, sent: float) -> None:
        self.sending -= 1
        task.submitted = sent
        self.window.observe(self.now - sent)
        self.submit()
        self.plan(task, self.planner.first_poll(sent, self.now, self.in_flight, len(self.waiting), self.paced))

    def plan(self, task: Task, time: float) -> None:
        self.at(time, partial(self.poll, task))

    def poll(self, task: Task) -> None:
        task.polls.append(self.now)

        def arrive() -> None:
            finished = task.done is not None and task.done <= self.now
            self.at(self.now + self.s.latency / 2, partial(self.seen, task, finished))

        self.at(self.now + self.s.latency / 2, arrive)

    def seen(self, task: Task, finished: bool) -> None:
        before = task.polls[-2] if len(task.polls) > 1 else None
        if not finished:
            gap = 0.0 if before is None else task.polls[-1] - before
            arguments = (task.submitted, self.now, len(task.polls), self.in_flight, len(self.waiting), gap, self.paced)
            self.plan(task, self.planner.next_poll(*arguments))
            return
        self.in_flight -= 1
        reported = round(task.took * self.s.reported_share * 1000) if self.s.reports_execution else None
        self.planner.observe(task.submitted if task.fresh else None, self.now, before, reported)
        self.submit()

    def arrive(self, task: Task) -> None:
        self.queue.append(task)
        self.start()

    def start(self) -> None:
        while self.free and self.queue:
            self.free -= 1
            task = self.queue.popleft()
            self.at(self.now + task.took, partial(self.finish, task))

    def finish(self, task: Task) -> None:
        task.done = self.now
        self.free += 1
        self.start()


def simulate(setting: Setting) -> Outcome:
    return Simulation(setting).run()


def uniform_times(count: int, low: float, high: float, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.uniform(low, high) for _ in range(count)]
