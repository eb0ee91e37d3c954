"""``flux-lora`` with a clock that runs faster: what takes minutes of waiting takes seconds.

FAST_CLOCK says how many times. Durations and waits are sped up; the wall clock, which names moments and is
compared with the service's, is not. FAST_TIMEOUTS speeds up the time-outs of requests as well.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from flux_lora_cli.adapters.clock import SystemClock
from flux_lora_cli.adapters.workers import QueueInbox


def install(times: float) -> None:
    """Speed up clock and waits of this process."""
    wait = QueueInbox.get

    def get(self: QueueInbox, timeout: float | None) -> Callable[[], None] | None:
        return wait(self, None if timeout is None else timeout / times)

    def monotonic(self: SystemClock) -> float:
        return time.monotonic() * times

    def sleep(self: SystemClock, seconds: float) -> None:
        time.sleep(max(0.0, seconds) / times)

    QueueInbox.get = get  # type: ignore[method-assign]
    SystemClock.monotonic = monotonic  # type: ignore[method-assign]
    SystemClock.sleep = sleep  # type: ignore[method-assign]


def hasten_timeouts(times: float) -> None:
    """Shorten the time-outs of requests."""
    from flux_lora_cli.adapters.http.transport import Transport

    open_ = Transport._open

    def hastened(self: Any, method: Any, url: Any, headers: Any, body: Any, timeouts: Any) -> Any:
        return open_(self, method, url, headers, body, tuple(seconds / times for seconds in timeouts))

    Transport._open = hastened  # type: ignore[method-assign]


if __name__ == "__main__":
    install(float(os.environ.get("FAST_CLOCK", "60")))
    if os.environ.get("FAST_TIMEOUTS"):
        hasten_timeouts(float(os.environ["FAST_TIMEOUTS"]))
    from flux_lora_cli.__main__ import main

    sys.argv[0] = "flux-lora"
    sys.exit(main())
