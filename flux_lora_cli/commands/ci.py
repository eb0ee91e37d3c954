"""Reports for CI services: JUnit, GitHub's annotations, and its page of a step (counts, cost, what failed, files)."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from flux_lora_cli.commands.console import Console, open_now, reason
from flux_lora_cli.errors import ExitCode, FluxLoraError, UsageError
from flux_lora_cli.folder.manifest import summary
from flux_lora_cli.folder.records import JobRecord, State, error_parts
from flux_lora_cli.text import mask_secrets, printable

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result

#: Names the file that GitHub Actions shows on the page of a step.
_PAGE = "GITHUB_STEP_SUMMARY"
#: Rows that a table of the page lists, the rest is counted; characters of a cell. GitHub takes 1 MiB per step.
#: [GitHub documentation: job summaries]
_MAX_ROWS, _MAX_CELL = 100, 300
_COUNTS = ("jobs", "completed", "failed", "images", "unknown", "pending", "skipped", "missing", "nsfw")
_HELD = "whether it was submitted is not known; it is held, and not paid for again"
_UNFINISHED = {
    State.PLANNED: "not submitted",
    State.SUBMITTING: _HELD,
    State.UNKNOWN: _HELD,
    State.SUBMITTED: "still running; the same command picks it up",
}


@dataclass(frozen=True)
class Case:
    """One job in a report. ``kind``: passed, skipped, failure (it ended badly) or error (it did not end)."""

    suite: str
    name: str
    kind: str = "passed"
    code: str = ""
    message: str = ""
    seconds: float = 0.0


@contextmanager
def reporting(junit: Path | None, command: str, console: Console) -> Iterator[Callable[[Iterable[Case]], None]]:
    """Hand out what writes the JUnit report, if there is to be one; an error that ends the command is reported, too.

    Raises UsageError where it could not be written: before anything is paid for.
    """
    if junit is not None:
        _check_place(junit)

    def write(cases: Iterable[Case]) -> None:
        try:
            if junit is not None:
                with open(junit, "wb", opener=open_now) as file:  # in place: it may be a pipe, a device, or a link
                    os.set_blocking(file.fileno(), True)
                    file.write(_junit(cases))
        except OSError as failed:  # the run is over
            console.warn(f"--junit {junit}: not written: {reason(failed)}", "junit")

    try:
        yield write
    except FluxLoraError as error:
        message = "\n".join([error.message, *map(str, error.problems), error.hint]).rstrip()
        write([Case("flux-lora", command, "error", error.code, message)])
        if command == "batch":
            problems = _table(["Problem"], [[str(problem)] for problem in error.problems])
            _add_to_page(error.exit_code, [_bold(error), problems], console)
        raise


def cases_of(result: Result) -> list[Case]:
    """What became of each job of a batch."""
    ended = result.reasons.get(result.exit_code)
    fail_on_nsfw = ExitCode.NSFW in result.reasons
    return [
        Case(r.preset or "flux-lora", r.id or r.key, *_verdict(r, ended, fail_on_nsfw), (r.execution_ms or 0) / 1000)
        for r in result.records
    ]


def _verdict(record: JobRecord, ended: FluxLoraError | None, fail_on_nsfw: bool) -> tuple[str, str, str]:
    """Kind, code and message; ``ended`` is why the run stopped early, and a job's own reason says more."""
    if record.state is State.SKIPPED:
        return "skipped", "", ""
    if record.state is State.FAILED:
        return "failure", *error_parts(record.error)
    if record.state in _UNFINISHED:
        why = error_parts(record.error, "")[1] or (ended.message if ended is not None else "")
        return "error", record.state.value, _UNFINISHED[record.state] + (f" ({why})" if why else "")
    if record.missing:
        code, message = error_parts(record.missing[0].error, "missing: the image is missing")
        return "failure", code, f"{len(record.missing)} of {len(record.outputs)} images missing: {message}"
    if fail_on_nsfw and any(output.nsfw for output in record.outputs):
        return "failure", "nsfw", "an image was flagged as NSFW"
    return "passed", "", ""


# ---- JUnit -----------------------------------------------------------------------------------
# Valid under both schemas in circulation: Jenkins' (xunit-plugin, junit-10.xsd) and Ant's (Windy Road, JUnit.xsd).


def _junit(cases: Iterable[Case]) -> bytes:
    root = ET.Element("testsuites")
    suites: dict[str, list[Case]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case)
    for name, own in suites.items():
        kinds = [case.kind for case in own]
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
            shown = {"name": _xml(case.name), "classname": _xml(name), "time": f"{case.seconds:.3f}"}
            element = ET.SubElement(suite, "testcase", shown)
            if case.kind == "skipped":
                ET.SubElement(element, "skipped")
            elif case.kind != "passed":
                why = _xml(case.message)
                ET.SubElement(element, case.kind, message=why.partition("\n")[0], type=_xml(case.code)).text = why
        ET.SubElement(suite, "system-out")
        ET.SubElement(suite, "system-err")
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _xml(text: str) -> str:
    """Text as XML 1.0 can hold it: what it has no form for is written as a visible escape."""
    return printable(mask_secrets(text), keep_newlines=True)


def _check_place(path: Path) -> None:
    """Raises UsageError where a report could not be written. A pipe is left alone, or its reader would see its end."""
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() or not path.exists():
            path.open("ab").close()
    except (OSError, ValueError) as error:
        raise UsageError(f"--junit {path}: {reason(error)}") from error


# ---- GitHub's page of a step -----------------------------------------------------------------


def summarize(result: Result, cases: Sequence[Case], folder: Path, money: str, console: Console) -> None:
    """Put a batch on the page of its step; ``money``: what it cost, in words of our own."""
    counts = summary(result.records)
    names = [name for name in _COUNTS if counts[name] or name in _COUNTS[:4]]
    ended = result.reasons.get(result.exit_code)
    bad = [[case.name, case.code, case.message] for case in cases if case.kind in ("failure", "error")]
    files = [[r.id or r.key, f"{folder}/{output.file}"] for r in result.records for output in r.outputs if output.file]
    parts = [
        _table([name.capitalize() for name in names], [[str(counts[name]) for name in names]], "---:"),
        f"This run: {money or 'no cost'}\\\nFolder: {_plain(str(folder))}",
        _bold(ended) if ended is not None else "",
        _table(["Job", "Why", "Reason"], bad),
        _table(["Job", "File"], files),
    ]
    _add_to_page(result.exit_code, parts, console)


def _add_to_page(code: ExitCode, parts: Sequence[str], console: Console) -> None:
    if not (path := os.environ.get(_PAGE)):
        return
    title = f"### flux-lora: {'done' if code is ExitCode.OK else f'exit code {code.value}: {code.meaning}'}"
    try:
        with open(path, "a", encoding="utf-8", opener=open_now) as file:
            file.write("\n\n".join(filter(None, [title, *parts])) + "\n\n")
    except (OSError, ValueError) as failed:
        console.warn(f"{_PAGE}: not written: {reason(failed)}", "step_summary")


def _bold(error: FluxLoraError) -> str:
    return f"**{_plain(error.message)}** {_plain(error.hint)}".rstrip()


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], rule: str = "---") -> str:
    """A table in Markdown; nothing where it has no rows."""
    if not rows:
        return ""
    lines = [heads, [rule] * len(heads), *(map(_plain, row) for row in rows[:_MAX_ROWS])]
    more = f"\n\nand {len(rows) - _MAX_ROWS:,} more" if len(rows) > _MAX_ROWS else ""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + more


def _plain(text: str) -> str:
    """``text`` as plain words on one line: no HTML, no Markdown, no link and no mention comes of it."""
    line = " ".join(printable(mask_secrets(text)).split())
    line = line if len(line) <= _MAX_CELL else line[: _MAX_CELL - 1] + "…"
    # A character reference never starts a piece of Markdown. [CommonMark 0.31, 2.5]
    return "".join(c if c.isalnum() or c in " ,.;-/…" else f"&#{ord(c)};" for c in line)


# ---- GitHub's annotations --------------------------------------------------------------------


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
