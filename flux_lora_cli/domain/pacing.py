"""When to look at a task: as rarely as possible, and never so late that the service stands idle.

Times are monotonic seconds and come in as arguments.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any


class LookPlanner:
    """Places the looks at the tasks of one model by what recent tasks took.

    Args:
        floor: least seconds between two looks at one task. The first look may come earlier after its submit.
    """

    def __init__(self, floor: float = 2.0) -> None:
        self.floor = floor
        self._service: deque[float] = deque(maxlen=128)  # seconds that the service worked on a task
        self._wait: float | None = None  # seconds that a task stands in the service's queue, and on its way
        self._count = 0

    def first_look(self, submitted_at: float, in_flight: int, remaining: int = 1) -> float:
        """The time of the first look at a task that was submitted at ``submitted_at``."""
        self._count += 1
        if not self._service:
            phase = (self._count * 0.618034) % 1.0
            return submitted_at + max(self.floor, 0.1) * (1.0 + phase)
        return submitted_at + self._turnaround(0.4 if remaining else 0.6)

    def next_look(
        self,
        submitted_at: float,
        now: float,
        looks: int,
        in_flight: int,
        remaining: int,
        last_gap: float = 0.0,
    ) -> float:
        """The time of the next look at a task that is not finished ``now``.

        Args:
            looks: looks made at it so far, this one included.
            in_flight: tasks submitted and not seen finished, this one included.
            remaining: jobs that are not submitted yet.
            last_gap: seconds between the last two looks at it (0 after the first): gaps never shrink.
        """
        growth = 1.1 if self._service else 1.5
        gap = self.floor * growth ** min(looks - 1, 100)
        gap = min(max(30.0, self.floor), max(self.floor, gap, last_gap))
        return now + gap

    def observe(
        self,
        submitted_at: float,
        finished_seen_at: float,
        looked_before_at: float | None,
        execution_ms: int | None,
    ) -> None:
        """A task was seen finished: it ended after ``looked_before_at`` (None: after its submit)."""
        earliest = submitted_at if looked_before_at is None else looked_before_at
        latest = finished_seen_at
        if execution_ms is not None and execution_ms >= 0:
            service = execution_ms / 1000.0
            earliest = min(latest, max(earliest, submitted_at + service))
        else:
            service = (earliest + latest) / 2 - submitted_at
        self._service.append(service)
        wait = max(0.0, (earliest + latest) / 2 - submitted_at - service)
        self._wait = wait if self._wait is None else self._wait + 0.1 * (wait - self._wait)

    def export(self) -> dict[str, Any]:
        """The estimate as JSON data, for the next run."""
        return {"version": 1, "service_s": [round(s, 3) for s in self._service]}

    @classmethod
    def restore(cls, data: Mapping[str, Any], floor: float = 2.0) -> LookPlanner:
        """A planner that starts with an earlier estimate; data that make no sense are left out."""
        planner = cls(floor)
        values = data.get("service_s") if isinstance(data, Mapping) else None
        for value in values if isinstance(values, list) else ():
            if isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 86400:
                planner._service.append(float(value))
        return planner

    def _turnaround(self, quantile: float) -> float:
        ordered = sorted(self._service)
        index = min(len(ordered) - 1, int(quantile * len(ordered)))
        return (self._wait or 0.0) + ordered[index]
