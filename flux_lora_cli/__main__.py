"""``flux-lora`` and ``python -m flux_lora_cli``."""

from __future__ import annotations

import gc
import os
import signal
import sys


def _leave(number: int, frame: object) -> None:
    """Until the program can say something itself, a signal ends it quietly, with the exit code of its kind."""
    os._exit(130 if number == signal.SIGINT else 143)


for _name in ("SIGINT", "SIGTERM", "SIGHUP"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) in (signal.SIG_DFL, signal.default_int_handler):
        signal.signal(_number, _leave)


def main() -> int:
    """Run the command line. ``--version`` alone is answered before anything is imported."""
    _fill_closed_streams()
    if sys.argv[1:] == ["--version"]:
        return _print_version()
    gc.disable()  # until a command begins its work: a tenth of the start-up [measured]
    from flux_lora_cli.commands.app import run

    code = run(sys.argv[1:])
    if code in (130, 143):
        # While the interpreter ends, a further signal would kill it, and another exit code be seen.
        os._exit(code)
    return code


def _print_version() -> int:
    from flux_lora_cli._version import __version__

    try:
        os.write(sys.stdout.fileno(), f"flux-lora {__version__}\n".encode())
    except (OSError, AttributeError):  # full, or closed
        return 141
    return 0


def _fill_closed_streams() -> None:
    """Put something in the place of streams that the caller closed, or the next file opened would get it."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while os.open(os.devnull, os.O_RDWR) < 3:
            pass  # each open takes the lowest free number


if __name__ == "__main__":
    sys.exit(main())
