"""The program's mouth: results on standard output, everything else on standard error."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TextIO

from flux_lora_cli.commands.signals import Signals
from flux_lora_cli.errors import ExitCode, FluxLoraError
from flux_lora_cli.text import json_line, mask_secrets, masked, printable, quoted

if TYPE_CHECKING:
    from flux_lora_cli.commands.options import GeneralOptions
    from flux_lora_cli.engine.events import Event

#: What GitHub reads as a command at the beginning of a line; text from outside may say anything.
_COMMAND = re.compile(r"(?m)^([ \t]*:)(?=:)")
#: Paid tasks that an error names in text; under ``--json`` it names all.
_MAX_NAMED = 50
#: Seconds between two messages about progress.
_STEP = 10.0
_RED, _YELLOW = "31", "33"


class Console:
    """Streams and how to use them.

    Standard output carries results: lines in text mode, NDJSON under ``--json``. Standard error carries messages.
    Secrets inside URLs are masked in both, but for results in text mode: whoever calls ``result`` has to.
    Neither ever raises: a standard error that cannot be written is silent; where standard output is closed by its
    reader, ``closed`` is set, a run is told to end, and everything further to it is dropped.

    Attributes:
        plain: no colors are wanted.
        summary: fields of the summary line under ``--json``.
        given: names of the parameters that were written on the command line (not set in the environment).
        github: problems are written as annotations of GitHub, too.
        signals: what the process does about Ctrl-C and the like.
        lifted: a context in which the terminal is free of the live display.
    """

    def __init__(self) -> None:
        self.quiet = self.verbose = self.json = self.github = False
        self.plain = bool(os.environ.get("NO_COLOR"))
        self.closed = sys.stdout is None
        self.log_file: str | None = None
        self.summary: dict[str, Any] = {}
        self.given: frozenset[str] = frozenset()
        self.signals = Signals()
        self.lifted: Callable[[], AbstractContextManager[object]] = nullcontext
        self._due = time.monotonic() + _STEP

    def configure(self, general: GeneralOptions) -> None:
        """Take the options that all commands have, and that may stand before a command, too."""
        self.quiet, self.verbose = self.quiet or general.quiet, self.verbose or general.verbose
        self.log_file = general.log_file or self.log_file

    @property
    def sandbox(self) -> bool:
        """Whether it is the sandbox whose money is told of."""
        return bool(self.summary.get("sandbox"))

    @property
    def out_is_terminal(self) -> bool:
        """Whether results are read by a person."""
        return _is_terminal(sys.stdout)

    @property
    def interactive(self) -> bool:
        """Whether a question can be answered: standard input is a terminal, wherever messages go."""
        return _is_terminal(sys.stdin)

    @property
    def live(self) -> bool:
        """Whether something may be redrawn in place: a terminal that can, watched by a person, not by a CI service."""
        return _is_terminal(sys.stderr) and not self.quiet and _takes_codes()

    def colored(self, stream: TextIO | None) -> bool:
        """Whether what is written there may have colors."""
        return _is_terminal(stream) and not self.plain and _takes_codes()

    # ---- standard output ----

    def result(self, text: str) -> None:
        """One result, in text mode only; bytes of file names that are not UTF-8 go out as they are."""
        if not self.json:
            self._write_out(text)

    def event(self, event: Event) -> None:
        """One event, under ``--json`` only."""
        self._write_json(event.as_dict())

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """The same result as ``result``, or one that has no line, under ``--json`` only."""
        self._event("Record", kind, data)

    def tell(self, text: str) -> None:
        """A text that was asked for: help, the version."""
        self.result(text.rstrip("\n"))
        self.record("help", {"text": text})

    def finish(self, exit_code: int) -> int:
        """Write the last line under ``--json``, and what streams still hold; the exit code as it is then."""
        self._write_json({"event": "summary", **self.summary, "exit_code": int(exit_code)})
        for name in ("stdout", "stderr"):
            try:
                getattr(sys, name).flush()
            except (OSError, ValueError, AttributeError):  # it must not change the exit code as Python ends
                setattr(sys, name, None)
        own_end = exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
        return int(ExitCode.CLOSED_OUTPUT if self.closed and not own_end else exit_code)

    def _event(self, kind: str, *fields: Any) -> None:
        """An event made here; its module is loaded only where it is written."""
        if self.json:
            from flux_lora_cli.engine import events

            self.event(getattr(events, kind)(*fields))

    def _write_json(self, data: dict[str, Any]) -> None:
        if self.json:
            self._write_out(json_line(masked(data)))

    def _write_out(self, text: str) -> None:
        if self.closed:
            return
        try:
            data = text.encode("utf-8", "surrogateescape")  # what Python made of other bytes becomes these again
        except UnicodeEncodeError:  # half a surrogate pair from elsewhere
            data = text.encode("utf-8", "backslashreplace")
        try:
            with self.lifted():
                sys.stdout.buffer.write(data + b"\n")
                sys.stdout.buffer.flush()
        except (OSError, ValueError) as error:
            if not isinstance(error, (BrokenPipeError, ValueError)):
                self._write_err(f"standard output cannot be written: {reason(error)}", "error: ", _RED)
            self.closed, sys.stdout = True, None  # what it still holds is lost
            self.signals.output_closed()

    # ---- standard error ----

    def info(self, text: str) -> None:
        """A message for a person; silent under ``-q``."""
        if not self.quiet:
            self._write_err(text)

    def complain(self, text: str) -> None:
        """What went wrong with one job; ``-q`` shows it, too."""
        self._write_err(text)
        self._annotate("error", text)

    def explain(self, text: str) -> None:
        """A decision, under ``-v``."""
        if self.verbose:
            self._event("Explained", printable(text))
            self.info(text)

    def warn(self, text: str, code: str = "warning") -> None:
        """Something that stops nothing."""
        self._event("Warned", code, printable(text))
        if not self.quiet:
            self._write_err(text, "warning: ", _YELLOW)

    def error(self, error: FluxLoraError) -> None:
        """Why the command ends, what to do, and which paid tasks are not collected."""
        for problem in error.problems:
            self.problem(problem)
        if not error.problems:
            self._annotate("error", f"{error.message} {error.hint}".strip())
        message, hint = printable(error.message, keep_newlines=True), printable(error.hint)
        tasks = tuple({"job": job, "task": task} for job, task in error.tasks)
        self._event("Error", error.code, message, hint, error.advice.value, tasks)
        self._write_err(error.message, "error: ", _RED)
        if error.tasks:
            named = [f"{job} (task {task})" if job else task for job, task in error.tasks]
            self._write_err(f"  submitted, and not collected yet: {some(named, _MAX_NAMED)}")
        if error.hint:
            self._write_err(f"  {error.hint}")

    def problem(self, problem: Any) -> None:
        """One problem of a preset."""
        self._event("Problem", problem.file, problem.line, problem.column, problem.key, printable(problem.message))
        self._write_err(str(problem))
        self._annotate("error", problem.text, problem.file, problem.line, problem.column)

    def note(self, note: Any) -> None:
        """Something in a preset that is valid and probably not meant."""
        self._event("Note", note.file, note.line, note.column, note.kind, printable(note.message))
        self.info(str(note))
        self._annotate("warning", note.text, note.file, note.line, note.column)

    def _annotate(self, level: str, text: str, *place: Any) -> None:
        """A workflow command of GitHub; ``place``: file, line and column."""
        if self.github:
            from flux_lora_cli.commands.ci import annotation

            self._write_line(printable(annotation(level, text, *place)))

    def styled(self, text: str, code: str) -> str:
        """``text`` in a color, on a terminal that takes it."""
        return f"\033[{code}m{text}\033[0m" if self.colored(sys.stderr) else text

    def ask(self, question: str) -> bool:
        """A yes or a no from the terminal on standard input; no where it cannot be had."""
        try:
            # Where messages are redirected, who can answer must see the question all the same.
            (self._write_line if _is_terminal(sys.stderr) else _tell_terminal)(f"{question} [y/N]")
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except (OSError, ValueError):
            return False

    def progress(self, text: str) -> None:
        """How far a command is, now and then; nothing where all is quick."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _STEP
            self.info(text)

    def _write_err(self, text: str, label: str = "", color: str = "") -> None:
        """A message; ``label`` stands before it, in a color where the terminal takes one."""
        safe = _COMMAND.sub(r"\1 ", printable(text, keep_newlines=True))
        self._write_line((self.styled(label, color) if label else "") + safe)

    def _write_line(self, text: str) -> None:
        with self.lifted():
            draw(f"{mask_secrets(text)}\n")


def draw(text: str) -> None:
    """Write to standard error as it stands; where that cannot be, nothing happens."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stderr.buffer.flush()


def _takes_codes() -> bool:
    """Whether a terminal may get control codes: it is not a dumb one, nor one that a CI service made."""
    return os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown") and not os.environ.get("CI")


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _tell_terminal(text: str) -> None:
    with suppress(OSError), open("/dev/tty", "w", encoding="utf-8") as terminal:  # noqa: PTH123
        terminal.write(f"{printable(text)}\n")


# ---- values and tables -----------------------------------------------------------------------


def plain(text: object) -> str:
    """Text from outside as part of one line: spaces in a row are one, nothing steers a terminal or a CI service."""
    return _COMMAND.sub(r"\1 ", printable(mask_secrets(" ".join(str(text).split()))))


def open_now(path: str, flags: int) -> int:
    """An ``opener`` that waits for no reader of a pipe, nor does what is written then. Raises OSError."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)


def reason(error: Exception) -> str:
    """Why the operating system refused something."""
    if getattr(error, "errno", None) == errno.ENXIO:
        return "nobody reads this pipe"
    return (getattr(error, "strerror", None) or str(error)).lower()


def some(names: Sequence[str], shown: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - shown
    return ", ".join(map(plain, names[:shown])) + (f" and {more:,} more" if more > 0 else "")


def counts_text(counts: Mapping[Any, int], otherwise: str = "") -> str:
    """``2 changed, 1 never saved``; what is 0 is left out, and where all is, ``otherwise`` is said."""
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items() if number) or otherwise


def value_text(value: Any, scalar: Callable[[Any], str] = quoted) -> str:
    """The value of a request parameter; ``scalar`` writes what is neither a list nor a LoRA."""
    if isinstance(value, (list, tuple)):
        return ", ".join(value_text(item, scalar) for item in value) or "none"
    if isinstance(value, dict):
        return f"{printable(mask_secrets(str(value.get('path'))))}:{value.get('scale')}"
    return scalar(value)


def cut(text: str, room: int) -> str:
    """``text`` in as many columns of a terminal, with a mark where it goes on."""
    from rich.cells import cell_len, set_cell_size

    shown = text if cell_len(text) <= room else f"{set_cell_size(text, room - 1)}…"
    return set_cell_size(shown, room)


def print_table(rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print aligned cells, none of them cut: on a terminal they wrap in their columns, elsewhere each row is a line."""
    from rich.cells import cell_len, set_cell_size

    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    if not console.out_is_terminal:
        for row in cells:
            console.result("  ".join(map(set_cell_size, row, widths)).rstrip())
        return
    from rich.console import Console as Terminal
    from rich.table import Column, Table
    from rich.text import Text

    terminal = Terminal(width=shutil.get_terminal_size().columns, color_system=None)
    names = Column(no_wrap=widths[0] <= terminal.width // 2)  # whole, to be copied, where there is room
    grid = Table.grid(names, padding=(0, 2, 0, 0))
    for row in cells:
        grid.add_row(*(Text(cell, overflow="fold") for cell in row))
    with terminal.capture() as drawn:
        terminal.print(grid)
    for line in drawn.get().splitlines():
        console.result(line.rstrip())
