"""The program's mouth: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from flux_lora_cli.domain.text import json_line, printable

if TYPE_CHECKING:
    from flux_lora_cli.cli.options import GeneralOptions
    from flux_lora_cli.domain.events import Event
    from flux_lora_cli.errors import FluxLoraError

#: What CI services read as a command wherever it stands in a job's output (GitHub, Azure, TeamCity): pulled apart, for
#: text from outside may say anything. [documentation of each: workflow commands, logging commands, service messages]
_COMMAND = re.compile(r"(?m)(^[ \t]*:|#)(:|#\[|#vso\[|#teamcity\[)")

#: Of a terminal that does not tell.
_COLUMNS = 80


class Console:
    """Streams and how to use them.

    Standard output carries results: lines in text mode, NDJSON under ``--json``. Standard error carries
    messages. When standard output is closed by its reader, ``closed`` is set, ``on_closed`` is called once,
    and everything further to it is dropped.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out if out is not None else sys.stdout
        self._err = err if err is not None else sys.stderr
        self.quiet = False
        self.verbose = False
        self.json = False
        self.color = False
        self._no_color = False
        self.log_file: str | None = None
        self.closed = False
        self.on_closed: Callable[[], None] | None = None
        self.summary: dict[str, Any] = {}
        #: The command that goes on where a signal cuts this one off; "" where there is none.
        self.resume = ""
        #: Set by the live display while it owns the terminal: prints a line above it.
        self.print_above: Callable[[str], None] | None = None

    def configure(self, general: GeneralOptions) -> None:
        """Take the options that the command line gave, once before and once behind the command's name."""
        self.quiet |= general.quiet
        self.verbose |= general.verbose
        self.json |= general.json
        self._no_color |= general.no_color or bool(os.environ.get("NO_COLOR"))
        self.color = self.err_is_terminal and not self._no_color
        if general.log_file is not None:
            self.log_file = str(general.log_file)

    @property
    def err_is_terminal(self) -> bool:
        """Whether somebody may be watching standard error."""
        try:
            return self._err.isatty()
        except ValueError:
            return False

    @property
    def interactive(self) -> bool:
        """Whether a question can be asked and answered."""
        try:
            return self.err_is_terminal and sys.stdin is not None and sys.stdin.isatty()
        except ValueError:
            return False

    # ---- standard output ----

    def result(self, line: str) -> None:
        """One result, in text mode only."""
        if not self.json:
            self._write_out(line)

    def event(self, event: Event) -> None:
        """One event, under ``--json`` only."""
        if self.json:
            self._write_out(json_line(event.as_dict()))

    def _json_event(self, kind: str, *fields: Any) -> None:
        """An event made here; its module is loaded only where it is written."""
        if self.json:
            from flux_lora_cli.domain import events

            self.event(getattr(events, kind)(*fields))

    def document(self, text: str) -> None:
        """A result of several lines (a schema, a file), in text mode only."""
        if not self.json:
            self._write_out(text.rstrip("\n"))

    def finish(self, exit_code: int) -> None:
        """The last line under ``--json``: the summary."""
        if self.json:
            line = {"event": "summary", **self.summary, "exit_code": int(exit_code)}
            self._write_out(json_line(line))

    def _write_out(self, line: str) -> None:
        if self.closed:
            return
        try:
            if self.print_above is not None and self._out.isatty():
                # The live display is drawn on the same terminal: what goes past it would be drawn over.
                self.print_above(line)
                return
            self._out.write(line.encode("utf-8", "replace").decode("utf-8") + "\n")
            self._out.flush()
        except (BrokenPipeError, ValueError):
            self._close_out()
        except OSError as error:
            self._write_err(f"standard output cannot be written: {(error.strerror or str(error)).lower()}")
            self._close_out()

    def _close_out(self) -> None:
        self.closed = True
        # What is still buffered must not raise again when the interpreter ends.
        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self._out.fileno())
        except (OSError, ValueError):
            pass
        if self.on_closed is not None:
            self.on_closed()

    def annotate(self, line: str) -> None:
        """A workflow command of a CI service, on standard error; the only way to write one."""
        self._write(printable(line))

    # ---- standard error ----

    def info(self, text: str) -> None:
        """A message for a person; silent under ``-q``."""
        if not self.quiet:
            self._write_err(text)

    def complain(self, text: str) -> None:
        """What went wrong with one job: an error, so ``-q`` shows it, too."""
        self._write_err(text)

    def explain(self, text: str) -> None:
        """A decision, under ``-v``."""
        if self.verbose and not self.quiet:
            self._json_event("Explained", printable(text))
            self._write_err(text)

    def warn(self, text: str, code: str = "warning") -> None:
        """Something that stops nothing."""
        self._json_event("Warned", code, printable(text))
        if not self.quiet:
            self._write_err(f"warning: {text}")

    def error(self, error: FluxLoraError) -> None:
        """Why the command ends, and what to do."""
        for problem in error.problems:
            self.problem(problem)
        self._json_event("Error", error.code, printable(error.message, keep_newlines=True), printable(error.hint))
        self._write_err(f"error: {error.message}")
        if error.hint:
            self._write_err(f"  {error.hint}")

    def problem(self, problem: Any) -> None:
        """One problem of a preset."""
        place = (problem.file, problem.line, problem.column, problem.key)
        self._json_event("Problem", *place, printable(problem.message))
        self._write_err(str(problem))

    def _write_err(self, text: str) -> None:
        text = _COMMAND.sub(r"\1 \2", printable(text, keep_newlines=True))
        self._write(_wrapped(text, self._columns()) if self.err_is_terminal else text)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._err.fileno()).columns or _COLUMNS
        except (OSError, ValueError):
            return _COLUMNS

    def _write(self, text: str) -> None:
        if self.print_above is not None:
            self.print_above(text)
            return
        try:
            self._err.write(text + "\n")
            self._err.flush()
        except (OSError, ValueError):
            pass


def _wrapped(text: str, columns: int) -> str:
    """``text`` broken at words. A line with a command of ours stays whole, so that it can be copied."""
    if all(len(line) <= columns for line in text.split("\n")):
        return text
    import textwrap

    lines: list[str] = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())] + "  "
        whole = len(line) <= columns or "flux-lora " in line
        lines += (
            [line]
            if whole
            else textwrap.wrap(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        )
    return "\n".join(lines)
