"""``flux-lora`` with a clock that runs faster: waiting for minutes takes seconds, on real sockets.

    python tests/support/scaled_cli.py SCALE ARGUMENTS…

Everything that the program waits for is divided by SCALE: its sleeps, its timers, its time-outs on sockets. In
``FLUX_LORA_TEST_EPOCH`` comes the moment (seconds since the epoch) from which the wall clock is scaled, so that a
sandbox with the same clock agrees on the time. Host names other than this machine's do not exist. At the end, the
most memory that was used (KiB) is written to the file that ``FLUX_LORA_TEST_PEAK`` names.
"""

from __future__ import annotations

import atexit
import os
import re
import socket
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

#: Time-outs on sockets are not scaled below this many seconds: the machine may be busy.
LEAST_TIMEOUT = 0.8


def scale_time(scale: float) -> None:
    """Make the program's time run ``scale`` times as fast."""
    from flux_lora_cli.adapters import clock, workers
    from flux_lora_cli.adapters.http import transport

    epoch = float(os.environ.get("FLUX_LORA_TEST_EPOCH") or time.time())
    get, open_ = workers.QueueInbox.get, transport.Transport._open

    def now(self: object) -> datetime:
        return datetime.fromtimestamp(epoch + (time.time() - epoch) * scale, timezone.utc)

    def scaled_get(self: workers.QueueInbox, timeout: float | None) -> Any:
        return get(self, None if timeout is None else timeout / scale)

    def scaled_open(self: Any, method: Any, url: Any, headers: Any, body: Any, timeouts: Any) -> Any:
        return open_(self, method, url, headers, body, tuple(max(LEAST_TIMEOUT, t / scale) for t in timeouts))

    clock.SystemClock.monotonic = lambda self: time.monotonic() * scale  # type: ignore[method-assign]
    clock.SystemClock.now = now  # type: ignore[method-assign]
    clock.SystemClock.sleep = lambda self, seconds: time.sleep(max(0.0, seconds) / scale)  # type: ignore[method-assign]
    workers.QueueInbox.get = scaled_get  # type: ignore[method-assign]
    transport.Transport._open = scaled_open  # type: ignore[method-assign]
    transport.SLOW_AFTER = transport.SLOW_AFTER / scale


def only_this_machine() -> None:
    """No name but this machine's is known, no other address is reached."""
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def guarded(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in ("localhost", "127.0.0.1", "::1", None):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *arguments, **options)

    def kept(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(("127.", "::1")):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    socket.getaddrinfo = guarded
    socket.socket.connect = kept  # type: ignore[method-assign,assignment]


def note_peak() -> None:
    """Write the peak of resident memory, of this program alone (rusage would count who started it, too)."""
    path = os.environ.get("FLUX_LORA_TEST_PEAK")
    status = Path("/proc/self/status")
    if path and status.exists():
        found = re.search(r"VmHWM:\s*(\d+)", status.read_text())
        Path(path).write_text(found[1] if found else "0")


def main() -> int:
    scale = float(sys.argv[1])
    sys.argv[:] = ["flux-lora", *sys.argv[2:]]
    only_this_machine()
    if scale != 1:
        scale_time(scale)
    from flux_lora_cli.__main__ import main as program

    return program()


if __name__ == "__main__":
    atexit.register(note_peak)
    sys.exit(main())
