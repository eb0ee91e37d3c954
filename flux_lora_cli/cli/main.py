"""The one boundary between errors and exit codes."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from flux_lora_cli.cli.app import root
from flux_lora_cli.cli.console import Console
from flux_lora_cli.errors import ExitCode, FluxLoraError, Interrupted, Terminated, UsageError

#: What these print comes from click and Typer, which take a full disk for our fault.
_TELLING = frozenset(("-h", "--help", "--version", "--show-completion", "--install-completion"))


class _Ended(BaseException):
    """A signal, while no run is there to end in good order. No KeyboardInterrupt: Typer ends without a word at that."""

    def __init__(self, error: FluxLoraError) -> None:
        self.error = error


def run(arguments: Sequence[str]) -> int:
    """Run one command line to its exit code. Never raises."""
    # Jobs and records hold no cycles, and there may be 100,000 of them to look through in vain. [measured: a preset
    # of 10,000 jobs takes a seventh less; the default is 700, 10, 10]
    gc.set_threshold(50_000, 20, 100)
    closed = _open_streams()
    _utf8_streams()
    console = Console()
    console.closed = closed
    options = arguments[: _end_of_options(arguments)]
    console.json = "--json" in options
    code = (_guarded if _TELLING.isdisjoint(options) else _told)(arguments, console)
    if console.closed:
        code = ExitCode.CLOSED_OUTPUT
    console.finish(code)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    return int(code)


def _told(arguments: Sequence[str], console: Console) -> int:
    """Help or the version, as any other result: under ``--json`` its text in an event."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        code = _guarded(arguments, console)
    if not text.getvalue():
        return code
    console.document(text.getvalue())
    if console.json:
        from flux_lora_cli.domain.events import Record

        console.event(Record("help", {"text": text.getvalue()}))
    return code


def _guarded(arguments: Sequence[str], console: Console) -> int:
    previous = _catch_signals()
    try:
        result: Any = root().main(list(arguments), prog_name="flux-lora", standalone_mode=False, obj=console)
        return int(result) if isinstance(result, int) else ExitCode.OK
    except FluxLoraError as error:
        console.error(error)
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        console.info(error.format_message())
        return ExitCode.USAGE
    except click.UsageError as error:
        return _wrong_usage(error, console)
    except click.ClickException as error:
        console.error(UsageError(error.format_message()))
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        console.error(Interrupted("interrupted"))
        return ExitCode.INTERRUPTED
    except _Ended as ended:
        if console.resume:
            ended.error.hint = f"To go on: {console.resume}"
        console.error(ended.error)
        return ended.error.exit_code
    except SystemExit as done:
        # Completion ends so, with 0; and click, with 1, where its help is not read to the end.
        console.closed = console.closed or bool(done.code)
        return ExitCode.OK
    except BrokenPipeError:
        console.closed = True
        return ExitCode.OK
    except Exception as error:  # the program's own fault: say so without a wall of text
        return _internal(error, console)
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is _raise:  # else a run was interrupted: see ``signals``
                signal.signal(number, handler)


def _wrong_usage(error: click.UsageError, console: Console) -> int:
    path = error.ctx.command_path if error.ctx else "flux-lora"
    console.error(UsageError(error.format_message(), f"See: {path} --help"))
    return ExitCode.USAGE


def _internal(error: Exception, console: Console) -> int:
    if os.environ.get("FLUX_LORA_DEBUG"):
        import traceback

        traceback.print_exc()
    console.error(
        FluxLoraError(
            f"internal error: {type(error).__name__}: {error}",
            "This is a fault of the program. With FLUX_LORA_DEBUG=1 it shows where; "
            "state on disk is kept, and a rerun goes on from it.",
        )
    )
    return ExitCode.INTERNAL


def _catch_signals() -> dict[signal.Signals, Any]:
    """Let Ctrl-C and SIGTERM raise; the handlers that were there. What the parent chose to ignore stays ignored."""
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    previous = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    for number in previous:
        signal.signal(number, _raise)
    return previous


def _raise(signum: int, frame: object) -> NoReturn:
    raise _Ended(Interrupted("interrupted") if signum == signal.SIGINT else Terminated("terminated"))


def _end_of_options(arguments: Sequence[str]) -> int:
    return list(arguments).index("--") if "--" in arguments else len(arguments)


def _open_streams() -> bool:
    """Fill the places of streams that the caller closed, or the next file opened would get them.

    Returns whether standard output was closed: nobody will read a result.
    """
    while os.open(os.devnull, os.O_RDWR) < 3:
        pass  # each open takes the lowest free number
    closed = sys.stdout is None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115  # lives as long as the process
    return closed


def _utf8_streams() -> None:
    """Prompts and paths are Unicode whatever the locale says; what cannot be shown is escaped, not fatal."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
