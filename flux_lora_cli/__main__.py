"""``flux-lora`` and ``python -m flux_lora_cli``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line. ``--version`` alone is answered before anything is imported."""
    if sys.argv[1:] == ["--version"]:
        from flux_lora_cli._version import __version__

        if sys.stdout is not None:
            try:
                sys.stdout.write(f"flux-lora {__version__}\n")
                sys.stdout.flush()
            except OSError as error:
                sys.stdout = None  # or the interpreter complains once more as it ends
                if not isinstance(error, BrokenPipeError) and sys.stderr is not None:
                    sys.stderr.write(f"standard output cannot be written: {str(error.strerror).lower()}\n")
                return 141
            return 0
    import signal

    # Until the program can say something itself, Ctrl-C ends it without Python's wall of text.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from flux_lora_cli.cli.main import run

    code = run(sys.argv[1:])
    if code in (130, 143):
        import contextlib
        import os

        with contextlib.suppress(OSError):
            sys.stderr.flush()
        # While the interpreter ends, a further signal would kill it, and another exit code be seen.
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
