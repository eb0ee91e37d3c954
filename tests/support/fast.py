"""``flux-lora`` with a clock that runs faster: waiting for minutes takes seconds, on real sockets.

    python tests/support/fast.py SCALE ARGUMENTS…

The time of the event loop runs SCALE times as fast, so that every wait of the engine is as much shorter; so are what
other commands sleep, and the time-outs of requests, down to LEAST_TIMEOUT. The wall clock is not touched.
"""

from __future__ import annotations

import asyncio
import os
import re
import selectors
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))

#: Seconds below which no time-out of a request is shortened: the machine may be busy.
LEAST_TIMEOUT = 0.8


def speed_up(scale: float) -> None:
    """Let this process's event loops run ``scale`` times as fast."""

    class Selector(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> Any:
            return super().select(timeout if timeout is None or timeout <= 0 else timeout / scale)

    selectors.DefaultSelector = Selector  # type: ignore[misc]
    asyncio.BaseEventLoop.time = lambda self: time.monotonic() * scale  # type: ignore[method-assign]
    slept = time.sleep
    time.sleep = lambda seconds: slept(seconds / scale)
    shorten_timeouts(scale)


def shorten_timeouts(scale: float) -> None:
    """Shorten the time-outs of requests, which are seconds of real time."""
    from flux_lora_cli.service import transport

    opened = transport.Transport.open

    def hastened(self: Any, *arguments: Any, silence: float = 30.0, total: float = 30.0, **options: Any) -> Any:
        silence, total = (max(LEAST_TIMEOUT, seconds / scale) for seconds in (silence, total))
        return opened(self, *arguments, silence=silence, total=total, **options)

    transport.Transport.open = hastened  # type: ignore[method-assign]


def note_peak(path: str) -> None:
    """Write the peak of resident memory in KiB, of this program alone (rusage would count who started it, too)."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+)", status.read_text())
        Path(path).write_text(found[1] if found else "0")


def run(scale: float, arguments: list[str]) -> int:
    """One command, in this process."""
    sys.argv[:] = ["flux-lora", *arguments]
    if scale != 1:
        speed_up(scale)
    from flux_lora_cli.__main__ import main

    try:
        return int(main() or 0)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def trace() -> Any:
    """Have coverage note what this process runs."""
    import coverage

    root = Path(__file__).parents[2]
    tracer = coverage.Coverage(f"{root}/.coverage", data_suffix=True, config_file=f"{root}/pyproject.toml")
    tracer.start()
    return tracer


def become(place: str, arguments: list[str], cwd: str, env: dict[str, str], scale: float, traced: bool) -> NoReturn:
    """Be the command, in the process that was made for it; its streams are files of the folder ``place``."""
    code, tracer = 70, trace() if traced else None
    try:
        os.setpgid(0, 0)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        streams = (("stdin", "r", "strict"), ("stdout", "w", "strict"), ("stderr", "w", "backslashreplace"))
        for number, (name, mode, errors) in enumerate(streams):
            with open(f"{place}/{name}", mode) as file:
                os.dup2(file.fileno(), number)
            stream = open(number, mode, 1 if number == 2 else -1, "utf-8", errors, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        code = run(scale, arguments)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        note_peak(f"{place}/peak")
        if tracer:
            tracer.stop()
            tracer.save()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(run(float(sys.argv[1]), sys.argv[2:]))
