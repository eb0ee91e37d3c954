"""When to poll a task: as rarely as possible, and never so late that the service stands idle.

While jobs are to be submitted, a task that is done and not yet seen keeps nobody waiting as long as others stand in the
service's queue, so polls may be as sparse as that backlog is long. At the end they come in steps before the moment at
which the run is likely to be over. Constants: found, and what they reach is asserted, by simulation (``tests/engine``).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any


class PollPlanner:
    """Places the polls of the tasks of one model by what recent tasks took. Times are monotonic seconds.

    Args:
        floor: least seconds between two polls of one task. The first poll may come sooner after its submission.
    """

    #: Seconds. However long a task takes, it is polled this often (or at the floor, where that is longer).
    MAX_GAP = 30.0
    #: Every gap of a task may be this much longer than the one before it.
    GROWTH = 1.03
    #: Part of the time that tasks spend neither in work nor seen that may pass between two polls.
    SLACK = 0.7
    #: How far the estimate of a task's time in the queue lies between its bounds.
    DOWN = 0.8
    #: Tasks that the estimate rests on: service times change little, the queue's length quickly.
    TASKS, RECENT = 128, 16
    #: Polls of one of the last tasks before the run's likely end.
    LAST_POLLS = 4

    def __init__(self, floor: float = 2.0) -> None:
        self.floor = floor
        self._service: deque[float] = deque(maxlen=self.TASKS)
        self._idle: deque[tuple[float, float]] = deque(maxlen=self.RECENT)  # seconds not in work: at most, certainly
        self._submitted = self._seen = 0
        self._began = math.inf  # the first submission of this run
        # What the tasks tell, in seconds; None before the first one was seen to end.
        self.usual: float | None = None
        self._wait = self._low = self._high = self._gap = 0.0

    def first_poll(self, submitted_at: float, now: float, in_flight: int, remaining: int, paced: bool = False) -> float:
        """The time of the first poll of a task.

        Args:
            in_flight: tasks submitted and not seen finished, this one included.
            remaining: jobs that are not submitted yet.
            paced: whether those wait for the rate, and not for a task to end.
        """
        self._submitted += 1
        self._began = min(self._began, submitted_at)
        if self.usual is None:
            # Spread evenly (by the golden ratio), so that some tasks soon tell how long the others will take.
            return max(now, submitted_at + min(self.floor, 0.2) * (2.5 + 7.5 * (self._submitted * 0.618034 % 1.0)))
        if remaining < in_flight:
            when = self._last_poll(submitted_at, submitted_at, self.floor)
        else:
            when = submitted_at + self._wait + self._aim(in_flight, paced)
        return max(now, min(when, submitted_at + 2 * self.usual))

    def next_poll(
        self,
        submitted_at: float,
        now: float,
        polls: int,
        in_flight: int,
        remaining: int,
        last_gap: float = 0.0,
        paced: bool = False,
    ) -> float:
        """The time of the next poll of a task that is not finished ``now``: never sooner than the floor.

        Args:
            polls: of this task so far.
            last_gap: seconds between the last two of them; 0 after the first.
        """
        least = self.floor * self.GROWTH ** min(polls - 1, 40)
        elapsed = now - submitted_at
        overdue = 2 * elapsed if self.usual is None else elapsed - self._wait - self._high
        if overdue > 0:  # longer than any task so far: no estimate helps, only patience
            gap = 0.2 * overdue
        elif remaining < in_flight <= self._seen:
            gap = self._last_poll(submitted_at, now + least, least) - now
        else:
            gap = max(self._gap, self._wait + self._aim(in_flight, paced) - elapsed)
        if submitted_at < self._began:  # of an earlier run: its age may tell of a pause, or of a clock that was set
            gap = min(gap, 1.5 * last_gap)
        return now + max(least, min(gap, self.MAX_GAP))

    def observe(
        self, submitted_at: float | None, seen_at: float, polled_before_at: float | None, execution_ms: int | None
    ) -> None:
        """A task was seen finished.

        Args:
            submitted_at: None for a task of an earlier run, whose age says nothing of the service's queue.
            polled_before_at: when it was last seen unfinished; None if the first poll saw it finished.
            execution_ms: what the service reports; better than what is seen, which our own polls stretch.
        """
        reported = execution_ms / 1000.0 if execution_ms is not None and execution_ms > 0 else None
        if submitted_at is not None:
            turnaround = max(0.0, seen_at - submitted_at)
            before = 0.0 if polled_before_at is None else max(0.0, polled_before_at - submitted_at)
            if reported is None:  # rather too short: polls that come early correct it, late ones do not
                service = before + 0.3 * (turnaround - before)
            else:
                service = min(reported, turnaround)
                if turnaround - before <= self.MAX_GAP:  # else an outage kept us from polling
                    self._idle.append((turnaround - service, max(0.0, before - service)))
            self._seen += 1
        elif reported is not None:
            service = reported
        else:
            return
        self._service.append(service)
        self._estimate()

    def export(self) -> dict[str, Any]:
        """The estimate as JSON data, for the next run."""
        return {"version": 1, "service_s": [round(seconds, 3) for seconds in self._service]}

    @classmethod
    def restore(cls, data: Mapping[str, Any], floor: float = 2.0) -> PollPlanner:
        """A planner that starts from an earlier run's ``export``; data that make no sense are passed over."""
        planner = cls(floor)
        values = data.get("service_s") if isinstance(data, Mapping) else None
        for value in values if isinstance(values, list) else ():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and 0 <= value <= 86400:  # a day; also false for NaN
                planner._service.append(float(value))
        planner._estimate()
        return planner

    def _estimate(self) -> None:
        service = sorted(self._service)
        if not service:
            return
        self._low, self._high = service[int(0.02 * (len(service) - 1))], service[-1]
        self._wait, self._gap = 0.0, max(self.floor, 0.1 * self._high)
        if self._idle:
            most, certainly = min(idle for idle, _ in self._idle), max(before for _, before in self._idle)
            # Below what was seen: if no poll comes too early, nothing tells that all came too late.
            self._wait = certainly + self.DOWN * (most - certainly) + 0.02 * min(self.floor, self._low)
            self._gap = max(self.floor, self.SLACK * sum(idle for idle, _ in self._idle) / len(self._idle))
        self.usual = self._wait + service[len(service) // 2]

    def _aim(self, in_flight: int, paced: bool) -> float:
        """Seconds of work after which the first poll comes in mid-run."""
        if paced and in_flight <= self._seen:  # nobody waits for a poll: most tasks are done at it
            return sorted(self._service)[int(0.8 * (len(self._service) - 1))]
        return min(self._high, self._low + 0.5 * self._gap)

    def _last_poll(self, submitted_at: float, earliest: float, step: float) -> float:
        """The time of a poll of one of the last tasks: whole steps before the run's likely end."""
        end = submitted_at + self._wait + self._high
        steps = math.floor((end - max(earliest, submitted_at + self._wait + self._low)) / step + 1e-6)
        if steps < 0:
            return max(earliest, end)
        return max(earliest, end - min(self.LAST_POLLS, steps) * step)
