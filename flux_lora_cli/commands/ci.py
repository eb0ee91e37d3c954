"""Reports of a batch for CI services: JUnit, GitHub's annotations and step summary."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from flux_lora_cli.commands.console import Console, open_now, reason
from flux_lora_cli.commands.step_summary import STEP_SUMMARY, of_error, of_run
from flux_lora_cli.errors import ExitCode, FluxLoraError, UsageError
from flux_lora_cli.folder.files import write_atomically
from flux_lora_cli.folder.records import JobRecord, State, error_parts
from flux_lora_cli.text import mask_secrets, printable

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result

_HELD = "whether it was submitted is not known; it is held, and not paid for again"
_SUITE = "flux-lora"
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
            details = "\n".join([*map(str, error.problems), error.hint])
            self._write([(_SUITE, self._command, Verdict("error", error.code, error.message, details), 0.0)])
            self._summarize(of_error(error))

    def annotate(self, error: FluxLoraError) -> None:
        """An error, each problem of a preset at its place, as GitHub's workflow commands, where these are asked for."""
        if not self._github:
            return
        for problem in error.problems or (f"{error.message} {error.hint}".strip(),):
            file, line, column = (getattr(problem, name, 0) for name in ("file", "line", "column"))
            text = str(getattr(problem, "text", problem))
            self._console.annotate(annotation("error", text, str(file or ""), line, column))

    def write(self, result: Result, folder: Path, money: str) -> None:
        """The reports on a batch that has ended; ``money``: what it cost, in words of our own."""
        ended = result.reasons.get(result.exit_code)
        fail_on_nsfw = ExitCode.NSFW in result.reasons  # the option matters only where it found something
        verdicts = [(record, verdict_of(record, ended, fail_on_nsfw)) for record in result.records]
        self.write_junit(verdicts)
        bad = [(r.id or r.key, v.code, v.message) for r, v in verdicts if v.kind in ("failure", "error")]
        self._summarize(of_run(result.records, bad, folder, result.exit_code, money, ended))

    def write_junit(self, verdicts: Sequence[tuple[JobRecord, Verdict]]) -> None:
        """The JUnit report, where it is asked for: a job is a test case, a preset a test suite."""
        self._write(
            [
                (record.preset or _SUITE, record.id or record.key, verdict, (record.execution_ms or 0) / 1000)
                for record, verdict in verdicts
            ]
        )

    def _write(self, cases: Sequence[tuple[str, str, Verdict, float]]) -> None:
        """One that cannot be written is a warning, for the run is over."""
        if self._junit is not None:
            try:
                _write_place(self._junit, _junit(cases))
            except OSError as failed:
                self._console.warn(f"--junit {self._junit}: not written: {reason(failed)}", "junit")

    def _summarize(self, text: str) -> None:
        """Add to the page of the step, where it is a batch's and GitHub Actions runs it."""
        path = os.environ.get(STEP_SUMMARY)
        if path and self._command == "batch":
            try:
                with open(path, "a", encoding="utf-8", opener=open_now) as file:
                    file.write(text)
            except (OSError, ValueError) as failed:
                self._console.warn(f"{STEP_SUMMARY}: not written: {reason(failed)}", "step_summary")


# ---- one job ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """``kind``: ``passed``, ``failure`` (it ended badly), ``error`` (it did not end) or ``skipped``."""

    kind: str
    code: str = ""
    message: str = ""
    details: str = ""


def verdict_of(record: JobRecord, ended: FluxLoraError | None, fail_on_nsfw: bool = False) -> Verdict:
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


def _junit(cases: Sequence[tuple[str, str, Verdict, float]]) -> bytes:
    """The report on cases: (suite, name, what became of it, seconds)."""
    root = ET.Element("testsuites")
    for name, group in groupby(sorted(cases, key=itemgetter(0)), itemgetter(0)):
        own = list(group)
        kinds = [verdict.kind for _, _, verdict, _ in own]
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
            "time": f"{sum(seconds for *_, seconds in own):.3f}",
        }
        suite = ET.SubElement(root, "testsuite", {key: _xml(str(value)) for key, value in attributes.items()})
        ET.SubElement(suite, "properties")
        for _, job, verdict, seconds in own:
            case = ET.SubElement(suite, "testcase", name=_xml(job), classname=_xml(name), time=f"{seconds:.3f}")
            if verdict.kind == "skipped":
                ET.SubElement(case, "skipped")
            elif verdict.kind != "passed":
                mark = ET.SubElement(case, verdict.kind, message=_xml(verdict.message), type=_xml(verdict.code))
                mark.text = _xml(f"{verdict.message}\n{verdict.details}".rstrip())
        ET.SubElement(suite, "system-out")
        ET.SubElement(suite, "system-err")
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


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
