"""Reports of a batch for CI services: JUnit, and GitHub's annotations."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from flux_lora_cli.commands.console import Console, open_now, reason
from flux_lora_cli.errors import ExitCode, FluxLoraError, UsageError
from flux_lora_cli.folder.files import write_atomically
from flux_lora_cli.folder.records import JobRecord, State, error_parts
from flux_lora_cli.text import mask_secrets, printable

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result

_HELD = "whether it was submitted is not known; it is held, and not paid for again"
_UNFINISHED = {
    State.PLANNED: "not submitted",
    State.SUBMITTING: _HELD,
    State.UNKNOWN: _HELD,
    State.SUBMITTED: "still running; the same command picks it up",
}


class Reports:
    """The reports that are asked for, also where an error ends the command before any job of it."""

    def __init__(self, junit: Path | None, github: bool, console: Console, command: str = "batch") -> None:
        self._junit, self._github, self._console, self._command = junit, github, console, command

    def __enter__(self) -> Reports:
        """Refuse a report that could not be written, before anything is paid for. Raises UsageError."""
        if self._junit is not None:
            _check_place(self._junit)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FluxLoraError):
            self.annotate(error)
            self.write_junit([], Path(), error)

    def annotate(self, error: FluxLoraError) -> None:
        """An error, each problem of a preset at its place, as GitHub's workflow commands, where these are asked for."""
        if not self._github:
            return
        for problem in error.problems or (f"{error.message} {error.hint}".strip(),):
            file, line, column = (getattr(problem, name, 0) for name in ("file", "line", "column"))
            text = str(getattr(problem, "text", problem))
            self._console.annotate(annotation("error", text, str(file or ""), line, column))

    def write(self, result: Result, folder: Path) -> None:
        """The reports on a batch that has ended."""
        ended = result.reasons.get(result.exit_code)
        fail_on_nsfw = ExitCode.NSFW in result.reasons  # the option matters only where it found something
        verdicts = [(record, verdict(record, ended, fail_on_nsfw)) for record in result.records]
        self.write_junit(verdicts, folder)

    def write_junit(self, verdicts: Verdicts, folder: Path, error: FluxLoraError | None = None) -> None:
        """The JUnit report, where it is asked for; one that cannot be written is a warning, for the run is over.

        Args:
            folder: as it is printed before an image's path.
            error: what ended the command before any job.
        """
        if self._junit is None:
            return
        try:
            cases = [_case_of_job(record, found, folder) for record, found in verdicts]
            _write_place(self._junit, _document([_case_of_error(error, self._command)] if error else cases))
        except OSError as failed:
            self._console.warn(f"--junit {self._junit}: not written: {reason(failed)}", "junit")


# ---- one job ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """``kind``: ``passed``, ``failure`` (it ended badly), ``error`` (it did not end) or ``skipped``."""

    kind: str
    code: str = ""
    message: str = ""


Verdicts = Sequence[tuple[JobRecord, Verdict]]


def verdict(record: JobRecord, ended: FluxLoraError | None, fail_on_nsfw: bool = False) -> Verdict:
    """What a report says of one job.

    Args:
        ended: why the run stopped before its jobs were done, if it did; a job's own reason says more.
    """
    if record.state is State.SKIPPED:
        return Verdict("skipped")
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


@dataclass(frozen=True)
class _Case:
    suite: str
    name: str
    verdict: Verdict
    details: str
    seconds: float = 0.0
    files: str = ""


def _case_of_job(record: JobRecord, found: Verdict, folder: Path) -> _Case:
    """A job is a test case, a preset a test suite."""
    request, job = record.input or {}, record.id or record.key
    facts = (("task", record.task_id), ("prompt", request.get("prompt")), ("seed", request.get("seed")))
    details = "\n".join(f"{key}: {value}" for key, value in facts if value is not None)
    files = "".join(f"{job}\t{folder}/{output.file}\n" for output in record.outputs if output.file)
    return _Case(record.preset or "flux-lora", job, found, details, (record.execution_ms or 0) / 1000, files)


def _case_of_error(error: FluxLoraError, command: str) -> _Case:
    """A command that ended before any job: what is wrong line by line."""
    details = "\n".join([*map(str, error.problems), error.hint])
    return _Case("flux-lora", command, Verdict("error", error.code, error.message), details)


def _document(cases: Sequence[_Case]) -> bytes:
    root = ET.Element("testsuites")
    by_suite = attrgetter("suite")
    for name, group in groupby(sorted(cases, key=by_suite), by_suite):
        own = list(group)
        kinds = [case.verdict.kind for case in own]
        attributes = {
            "name": name,
            "package": "flux-lora",
            "id": len(root),
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "hostname": platform.node() or "localhost",
            "tests": len(own),
            "failures": kinds.count("failure"),
            "errors": kinds.count("error"),
            "skipped": kinds.count("skipped"),
            "time": f"{sum(case.seconds for case in own):.3f}",
        }
        suite = ET.SubElement(root, "testsuite", {key: _xml(str(value)) for key, value in attributes.items()})
        ET.SubElement(suite, "properties")
        for case in own:
            _add(case, suite)
        ET.SubElement(suite, "system-out").text = _xml("".join(case.files for case in own))
        ET.SubElement(suite, "system-err")
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _add(case: _Case, suite: ET.Element) -> None:
    name, found = _xml(case.name), case.verdict
    element = ET.SubElement(suite, "testcase", name=name, classname=_xml(case.suite), time=f"{case.seconds:.3f}")
    if found.kind == "skipped":
        ET.SubElement(element, "skipped")
    elif found.kind != "passed":
        mark = ET.SubElement(element, found.kind, message=_xml(found.message), type=_xml(found.code))
        mark.text = _xml(f"{found.message}\n{case.details}".rstrip())


def _xml(text: str) -> str:
    """Text as XML 1.0 can hold it: what it has no form for is written as a visible escape."""
    text = printable(mask_secrets(text), keep_newlines=True)
    return text.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


# ---- files -----------------------------------------------------------------------------------


def _in_place(path: Path) -> bool:
    """Whether a file is written as it stands: a device, a pipe, an open descriptor; others are replaced at once."""
    return str(path.absolute()).startswith(("/dev/", "/proc/")) or (path.exists() and not path.is_file())


def _check_place(path: Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "is a folder")
        if not _in_place(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=path.parent).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"--junit {path}: {reason(error)}") from error


def _write_place(path: Path, data: bytes) -> None:
    """Replace a file in one step, through links; write to a device or pipe in place. Raises OSError."""
    if not _in_place(path):
        write_atomically(Path(os.path.realpath(path)), data, mode=0o666)
        return
    with open(path, "wb", opener=open_now) as file:
        os.set_blocking(file.fileno(), True)
        file.write(data)


# ---- GitHub ----------------------------------------------------------------------------------


def annotation(level: str, text: str, file: str = "", line: int = 0, column: int = 0) -> str:
    """One ``::error …::text`` line, safe whatever the text is. [GitHub documentation: workflow commands]"""
    places = [("file", _from_top(file)), ("line", line), ("col", column)]
    properties = ",".join(f"{name}={_property(str(value))}" for name, value in places if value)
    return f"::{level}{' ' if properties else ''}{properties}::{_data(printable(text, keep_newlines=True))}"


def _from_top(file: str) -> str:
    """A file as GitHub knows it, from the top of the repository; as it is where it lies in none."""
    path = Path(os.path.realpath(Path(file).parent), Path(file).name)
    tops = [Path(os.path.realpath(os.environ.get("GITHUB_WORKSPACE") or os.devnull))]
    tops += [folder for folder in path.parents if (folder / ".git").exists()]
    return next((path.relative_to(top).as_posix() for top in tops if file and path.is_relative_to(top)), file)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(printable(text)).replace(":", "%3A").replace(",", "%2C")
