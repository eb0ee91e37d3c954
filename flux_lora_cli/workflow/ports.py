"""What the use cases need of the world, as small Protocols."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from flux_lora_cli.domain.events import Event

#: Receives every event of a run.
Observer = Callable[[Event], None]


class Clock(Protocol):
    """Time, handed in."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; never jumps."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
