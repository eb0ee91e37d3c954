"""When to look at a task: as rarely as possible, and never so late that the service stands idle.

Times are monotonic seconds and come in as arguments.

What a late look costs depends on where the run stands. While jobs are still to be submitted, a task that is done
and not yet seen keeps nobody waiting as long as others stand in the service's queue; so looks may be as sparse as
that backlog is long. Where submits wait for the rate, and not for a task to end, nobody waits for a look at all: few
are wasted if they come when most tasks are done. At the end only the last task counts: looks are placed where the run
is likely to be over.
The constants were found on ``tests/pacing``'s simulation of a service; what they reach is asserted there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class _Estimate:
    """What recent tasks tell, in seconds.

    Attributes:
        wait: between a submit and the start of work (the service's queue, and all that is not reported as work).
        low, high: of a task's service time, nearly the shortest and the longest seen.
        usual: the service time that most tasks keep to.
        late: the service time beyond which, after the last start, hardly any task is still in work.
        gap: between two looks in mid-run.
        pace: between two tasks seen finished.
        margin: by which a look comes later than the moment it aims at, so as not to miss it by a hair.
    """

    wait: float
    low: float
    high: float
    usual: float
    late: float
    gap: float
    pace: float
    margin: float


class LookPlanner:
    """Places the looks at the tasks of one model by what recent tasks took.

    Args:
        floor: least seconds between two looks at one task. The first look may come sooner after its submit.
    """

    #: Seconds. However long a task takes, it is looked at this often (or at the floor, where that is longer).
    LONGEST_GAP = 30.0
    #: Every gap of a task is at least this much longer than the one before it could be.
    GROWTH = 1.03
    #: Part of the time that tasks spend neither in work nor seen that may pass between two looks. At one half of
    #: that on average the queue runs dry now and then; at a fifth looks are wasted.
    SLACK = 0.7
    #: Tasks that the estimate rests on: service times change little, the queue's length quickly.
    TASKS, RECENT = 128, 16
    #: Tasks that are expected to be still in work when the run is taken to be over.
    HARDLY = 0.15
    #: Looks at one of the last tasks before the run's likely end.
    LAST_LOOKS = 4

    def __init__(self, floor: float = 2.0) -> None:
        self.floor = floor
        self._service: deque[float] = deque(maxlen=self.TASKS)
        self._unworked: deque[float] = deque(maxlen=self.RECENT)  # seconds neither in work nor seen
        self._waited: deque[float] = deque(maxlen=self.RECENT)  # the part of it that was certainly before the work
        self._seen: deque[float] = deque(maxlen=2 * self.RECENT)
        self._submitted = 0
        self._finished = 0
        self._last_submit = -math.inf
        self._estimate: _Estimate | None = None

    def first_look(self, submitted_at: float, in_flight: int, remaining: int = 1, paced: bool = False) -> float:
        """The time of the first look at a task submitted at ``submitted_at``; arguments as for ``next_look``."""
        self._submitted += 1
        self._last_submit = max(self._last_submit, submitted_at)
        estimate = self._known()
        if estimate is None:
            # Spread evenly (by the golden ratio), so that some tasks soon tell how long the others will take.
            phase = (self._submitted * 0.618034) % 1.0
            return submitted_at + min(self.floor, 0.2) * (2.5 + 7.5 * phase)
        if remaining < in_flight:
            return self._last_look(estimate, submitted_at, submitted_at, self.floor, remaining)
        return submitted_at + estimate.wait + self._aim(estimate, in_flight, paced) + estimate.margin

    def next_look(
        self,
        submitted_at: float,
        now: float,
        looks: int,
        in_flight: int,
        remaining: int,
        last_gap: float = 0.0,
        paced: bool = False,
    ) -> float:
        """The time of the next look at a task that is not finished ``now``: never sooner than the floor.

        Args:
            looks: looks made at it so far, this one included.
            in_flight: tasks submitted and not seen finished, this one included.
            remaining: jobs that are not submitted yet.
            last_gap: seconds between the last two looks at it; 0 after the first.
            paced: whether those that remain wait for the rate, not for a task to end.
        """
        least = self.floor * self.GROWTH ** min(looks - 1, 40)
        longest = max(self.floor, self.LONGEST_GAP)
        elapsed = now - submitted_at
        estimate = self._known()
        if estimate is None:
            return now + min(longest, max(least, last_gap, 0.4 * elapsed))
        overdue = elapsed - estimate.wait - estimate.high
        if overdue > 0:
            # Longer than any task so far: no estimate helps, only patience.
            return now + min(longest, max(least, min(last_gap, overdue), 0.2 * overdue))
        if remaining < in_flight <= self._finished:
            return self._last_look(estimate, submitted_at, now + least, least, remaining)
        gap = max(least, estimate.gap, estimate.wait + self._aim(estimate, in_flight, paced) - elapsed)
        if self._finished < in_flight:
            gap = max(gap, 0.4 * elapsed)  # the first wave: the queue is not known yet
        return now + min(longest, gap)

    def observe(
        self,
        submitted_at: float,
        finished_seen_at: float,
        looked_before_at: float | None,
        execution_ms: int | None,
    ) -> None:
        """A task was seen finished.

        Args:
            looked_before_at: when it was last seen unfinished; None if the first look saw it finished.
            execution_ms: what the service reports; better than what is seen, which our own looks stretch.
        """
        turnaround = max(0.0, finished_seen_at - submitted_at)
        before = 0.0 if looked_before_at is None else max(0.0, looked_before_at - submitted_at)
        if execution_ms is not None and execution_ms > 0:
            service = min(execution_ms / 1000.0, turnaround)
            self._unworked.append(turnaround - service)
            self._waited.append(max(0.0, before - service))
        else:
            # Somewhere between the two looks. Rather too short: looks that come early correct it, late ones do not.
            service = before + 0.3 * (turnaround - before)
        self._service.append(service)
        self._seen.append(finished_seen_at)
        self._finished += 1
        self._estimate = None

    def export(self) -> dict[str, Any]:
        """The estimate as JSON data, for the next run."""
        return {"version": 1, "service_s": [round(seconds, 3) for seconds in self._service]}

    @classmethod
    def restore(cls, data: Mapping[str, Any], floor: float = 2.0) -> LookPlanner:
        """A planner that starts from an earlier run's ``export``; data that make no sense are passed over."""
        planner = cls(floor)
        values = data.get("service_s") if isinstance(data, Mapping) else None
        for value in values if isinstance(values, list) else ():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and 0 <= value <= 86400:  # a day; also false for NaN
                planner._service.append(float(value))
        return planner

    def _known(self) -> _Estimate | None:
        """The estimate, computed anew after every task seen."""
        if self._estimate is None and self._service:
            self._estimate = self._compute()
        return self._estimate

    def _compute(self) -> _Estimate:
        service = sorted(self._service)
        low, usual = (service[int(part * (len(service) - 1))] for part in (0.02, 0.8))
        wait, gap = 0.0, 0.1 * service[-1]
        if self._unworked:
            most, certain = min(self._unworked), max(self._waited)
            # Below what was ever seen: if no look comes too early, nothing tells that all came too late.
            wait = (most + certain) / 2
            gap = self.SLACK * sum(self._unworked) / len(self._unworked)
        pace = (max(self._seen) - min(self._seen)) / len(self._seen) if self._seen else 0.0
        late = self._late(service, pace)
        margin = min(0.2 * self.floor, 0.02 * low)
        return _Estimate(wait, low, service[-1], usual, late, max(self.floor, gap), pace, margin)

    def _late(self, service: Sequence[float], pace: float) -> float:
        """The shortest of the sorted service times so long after the last start that less than HARDLY are in work.

        The more tasks start close together, the longer the longest of the last ones takes.
        """
        beyond = 0.0  # seconds by which all longer ones exceed this one
        for number in range(len(service) - 1, 0, -1):
            longer = len(service) - number
            beyond += longer * (service[number] - service[number - 1])
            if beyond > self.HARDLY * pace * len(service):
                return service[number]
        return service[0]

    def _aim(self, estimate: _Estimate, in_flight: int, paced: bool) -> float:
        """Seconds of work after which the first look comes in mid-run."""
        if paced and in_flight <= self._finished:  # before that, only the shortest tasks were seen to end
            return estimate.usual
        return min(estimate.high, estimate.low + 0.5 * estimate.gap)

    def _last_look(
        self, estimate: _Estimate, submitted_at: float, earliest: float, step: float, remaining: int
    ) -> float:
        """The time of a look at one of the last tasks: whole steps before the run's likely end."""
        started = submitted_at + estimate.wait
        # A task of an earlier run was not submitted by this one.
        last_started = max(self._last_submit, submitted_at) + estimate.wait + remaining * estimate.pace
        end = min(started + estimate.high, last_started + estimate.late) + estimate.margin
        steps = math.floor((end - max(earliest, started + estimate.low)) / step + 1e-6)
        if steps < 0:
            return max(earliest, end)
        return max(earliest, end - min(self.LAST_LOOKS, steps) * step)
