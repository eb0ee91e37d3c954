"""The real clock."""

from __future__ import annotations

import time
from datetime import datetime, timezone


class SystemClock:
    """Time as the machine tells it."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; never jumps."""
        return time.monotonic()

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.now(timezone.utc)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(0.0, seconds))
