"""Reports of a batch for CI services: JUnit, GitHub's annotations, GitHub's step summary."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from flux_lora_cli.commands.console import Console
from flux_lora_cli.errors import PRECEDENCE, ExitCode, FluxLoraError, UsageError
from flux_lora_cli.folder.records import JobRecord, State, error_parts
from flux_lora_cli.text import printable

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result

#: Names the file that GitHub Actions shows on the run's page.
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
#: Problems of a preset that a report lists; the rest is counted.
MAX_PROBLEMS = 100
#: Seconds for which the reader of a pipe is waited for.
PIPE_SECONDS = 10.0
_UNFINISHED = {
    State.PLANNED: "not submitted",
    State.SUBMITTING: "whether it was submitted is not known; it is held, and not paid for again",
    State.UNKNOWN: "whether it was submitted is not known; it is held, and not paid for again",
    State.SUBMITTED: "still running; the same command picks it up",
}


class Reports:
    """The reports that are asked for, also where an error ends the batch before any job of it."""

    def __init__(self, junit: Path | None, github: bool, console: Console) -> None:
        self._junit, self._github, self._console = junit, github, console

    def __enter__(self) -> Reports:
        """Refuse a report that could not be written, before anything is paid for. Raises UsageError."""
        if self._junit is not None:
            _check_place(self._junit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, FluxLoraError):
            return
        from flux_lora_cli.commands.step_summary import summary_of_error

        self.annotate(error)
        self._write(lambda: junit_of_error(error), lambda: summary_of_error(error))

    def annotate(self, error: FluxLoraError) -> None:
        """An error, each problem of a preset at its place, as GitHub's workflow commands, where these are asked for."""
        if not self._github:
            return
        for problem in error.problems:
            file, line, column = (getattr(problem, name, 0) for name in ("file", "line", "column"))
            text = printable(str(getattr(problem, "text", problem)), keep_newlines=True)
            self._console.annotate(annotation("error", text, printable(str(file or "")), line, column))
        if not error.problems:
            text = printable(f"{error.message} {error.hint}".strip(), keep_newlines=True)
            self._console.annotate(annotation("error", text))

    def write(self, result: Result, folder: Path, *, sandbox: bool) -> None:
        """The reports on a batch that has ended."""
        from flux_lora_cli.commands.running import money_words
        from flux_lora_cli.commands.step_summary import step_summary

        reasons = result.reasons
        ended = next((reasons[code] for code in PRECEDENCE if code in reasons), None)
        fail_on_nsfw = ExitCode.NSFW in reasons  # the flag of the command line matters only where it found something
        verdicts = [(record, verdict(record, ended, fail_on_nsfw)) for record in result.records]
        self._write(
            lambda: junit_report(verdicts, folder),
            lambda: step_summary(verdicts, folder, result.exit_code, money_words(result, sandbox=sandbox), ended),
        )

    def _write(self, junit: Any, summary: Any) -> None:
        """Write what is asked for; a report that cannot be written is a warning, for the run is over."""
        if self._junit is not None:
            try:
                write_place(self._junit, junit())
            except OSError as error:
                self._console.warn(f"--junit {self._junit}: not written: {_reason(error)}", "junit")
        if os.environ.get(STEP_SUMMARY):
            try:
                with Path(os.environ[STEP_SUMMARY]).open("a", encoding="utf-8") as file:
                    file.write(summary())
            except OSError as error:
                self._console.warn(f"{STEP_SUMMARY}: not written: {_reason(error)}", "step_summary")


# ---- one job ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """``kind``: ``passed``, ``failure`` (it ended badly), ``error`` (it did not end) or ``skipped``."""

    kind: str
    code: str = ""
    message: str = ""


def verdict(record: JobRecord, ended: FluxLoraError | None, fail_on_nsfw: bool = False) -> Verdict:
    """What a report says of one job.

    Args:
        ended: why the run stopped before its jobs were done, if it did; a job's own reason says more.
    """
    if record.state is State.SKIPPED:
        return Verdict("skipped", "skipped", record.error or "left out")
    if record.state is State.FAILED:
        return Verdict("failure", *error_parts(record.error))
    if record.state in _UNFINISHED:
        why = error_parts(record.error, "")[1] or (ended.message if ended is not None else "")
        return Verdict("error", record.state.value, _UNFINISHED[record.state] + (f" ({why})" if why else ""))
    if record.missing:
        code, message = error_parts(record.missing[0].error, "missing: the image is missing")
        return Verdict("failure", code, f"{len(record.missing)} of {len(record.outputs)} images missing: {message}")
    if fail_on_nsfw and any(output.nsfw for output in record.outputs):
        return Verdict("failure", "nsfw", "an image was flagged as NSFW")
    return Verdict("passed")


# ---- JUnit -----------------------------------------------------------------------------------
# Valid under both schemas in circulation: Jenkins' (xunit-plugin, junit-10.xsd) and Ant's (Windy Road, JUnit.xsd).
# The second allows no output in a test case, so the paths of the images stand in the suite's ``system-out``.


def junit_report(verdicts: Iterable[tuple[JobRecord, Verdict]], folder: Path) -> bytes:
    """A job is a test case, a preset a test suite. ``folder`` as it is printed before an image's path."""
    suites: dict[str, list[tuple[JobRecord, Verdict]]] = {}
    for record, found in verdicts:
        suites.setdefault(record.preset or "flux-lora", []).append((record, found))
    root = ET.Element("testsuites")
    for name, cases in suites.items():
        suite = _suite(root, name, [found for _, found in cases], sum(_seconds(record) for record, _ in cases))
        paths = []
        for record, found in cases:
            request = record.input or {}
            facts = (("task", record.task_id), ("prompt", request.get("prompt")), ("seed", request.get("seed")))
            details = "\n".join(f"{key}: {value}" for key, value in facts if value is not None)
            _case(suite, record.id or record.key, name, _seconds(record), found, details)
            paths += [f"{record.id or record.key}\t{folder}/{each.file}\n" for each in record.outputs if each.file]
        _end_suite(suite, "".join(paths))
    return _document(root)


def junit_of_error(error: FluxLoraError) -> bytes:
    """The report on a batch that ended before any job: one case, in error, with what is wrong line by line."""
    lines = [str(problem) for problem in error.problems[:MAX_PROBLEMS]]
    if len(error.problems) > MAX_PROBLEMS:
        lines.append(f"and {len(error.problems) - MAX_PROBLEMS:,} more")
    found = Verdict("error", error.code, error.message)
    root = ET.Element("testsuites")
    suite = _suite(root, "flux-lora", [found], 0.0)
    _case(suite, "batch", "flux-lora", 0.0, found, "\n".join(filter(None, [*lines, error.hint])))
    _end_suite(suite, "")
    return _document(root)


def _seconds(record: JobRecord) -> float:
    return (record.execution_ms or 0) / 1000


def _suite(root: ET.Element, name: str, verdicts: Sequence[Verdict], seconds: float) -> ET.Element:
    kinds = [found.kind for found in verdicts]
    attributes: Mapping[str, object] = {
        "name": name,
        "package": "flux-lora",
        "id": len(root),
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "hostname": platform.node() or "localhost",
        "tests": len(kinds),
        "failures": kinds.count("failure"),
        "errors": kinds.count("error"),
        "skipped": kinds.count("skipped"),
        "time": f"{seconds:.3f}",
    }
    suite = ET.SubElement(root, "testsuite", {key: _xml(str(value)) for key, value in attributes.items()})
    ET.SubElement(suite, "properties")
    return suite


def _case(suite: ET.Element, name: str, group: str, seconds: float, found: Verdict, details: str) -> None:
    attributes = {"name": _xml(name), "classname": _xml(group), "time": f"{seconds:.3f}"}
    case = ET.SubElement(suite, "testcase", attributes)
    if found.kind == "skipped":
        ET.SubElement(case, "skipped")
    elif found.kind != "passed":
        reason = ET.SubElement(case, found.kind, {"message": _xml(found.message), "type": _xml(found.code)})
        reason.text = _xml(f"{found.message}\n{details}".rstrip(), keep_newlines=True)


def _end_suite(suite: ET.Element, out: str) -> None:
    ET.SubElement(suite, "system-out").text = _xml(out, keep_newlines=True)
    ET.SubElement(suite, "system-err").text = ""


def _document(root: ET.Element) -> bytes:
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _xml(text: str, *, keep_newlines: bool = False) -> str:
    """Text as XML 1.0 can hold it: what it has no form for is written as a visible escape."""
    return printable(text, keep_newlines=keep_newlines).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


# ---- files -----------------------------------------------------------------------------------


def _in_place(path: Path) -> bool:
    """Whether a file is written as it stands: a device, a pipe, an open descriptor; others are replaced at once."""
    if str(path.absolute()).startswith(("/dev/", "/proc/")):
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _check_place(path: Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "is a folder")
        if not _in_place(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            probe = _beside(path)
            probe.touch()
            probe.unlink()
    except (OSError, ValueError) as error:
        raise UsageError(f"--junit {path}: {_reason(error)}") from error


def write_place(path: Path, data: bytes) -> None:
    """Replace a file in one step, through links; write to a device or pipe in place, and wait for no reader long.

    Raises:
        OSError: it cannot be written.
    """
    if not _in_place(path):
        temporary = _beside(path)
        temporary.write_bytes(data)
        temporary.replace(os.path.realpath(path))
        return
    import select

    handle = os.open(path, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NONBLOCK", 0))
    try:
        while data:
            if stat.S_ISFIFO(os.fstat(handle).st_mode) and not select.select([], [handle], [], PIPE_SECONDS)[1]:
                raise TimeoutError("nobody reads it")
            data = data[os.write(handle, data[:4096]) :]
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.{os.getpid()}.tmp")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


# ---- GitHub ----------------------------------------------------------------------------------


def annotation(level: str, text: str, file: str = "", line: int = 0, column: int = 0) -> str:
    """One ``::error …::text`` line. [GitHub documentation: workflow commands]"""
    places = [("file", file), ("line", line), ("col", column)]
    properties = ",".join(f"{name}={_property(str(value))}" for name, value in places if value)
    return f"::{level}{' ' if properties else ''}{properties}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
