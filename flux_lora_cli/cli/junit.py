"""``--junit FILE``: a batch as a JUnit report, a job a test case, a preset a test suite.

The document is valid under both schemas in circulation: Jenkins' (xunit-plugin, ``junit-10.xsd``) and
Ant's (Windy Road, ``JUnit.xsd``). The second allows no output in a test case, so the paths of the images stand
in the suite's ``system-out``.
"""

from __future__ import annotations

import html
import os
import socket
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flux_lora_cli.cli.job_verdict import Verdict, verdict
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import FluxLoraError, UsageError

#: Problems of a preset that a report lists; the rest is counted.
MOST_PROBLEMS = 100

_ROOT = ('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n', "</testsuites>\n")


def junit_report(
    records: Iterable[JobRecord],
    folder: Path,
    now: datetime,
    *,
    run_ended: FluxLoraError | None = None,
    fail_on_nsfw: bool = False,
) -> str:
    """The report on the jobs that a batch was asked for.

    Args:
        folder: as it is printed before an image's path.
        now: UTC.
    """
    suites: dict[str, list[JobRecord]] = {}
    for record in records:
        suites.setdefault(record.preset or "flux-lora", []).append(record)
    texts = []
    for number, (name, jobs) in enumerate(suites.items()):
        cases = [(job, verdict(job, run_ended, fail_on_nsfw)) for job in jobs]
        texts.append(_suite(number, name, cases, folder, now))
    return "".join((_ROOT[0], *texts, _ROOT[1]))


def junit_of_error(error: FluxLoraError, now: datetime) -> str:
    """The report on a batch that ended before any job: one case, in error, with what is wrong line by line."""
    lines = [*map(str, error.problems[:MOST_PROBLEMS]), error.hint]
    left = len(error.problems) - MOST_PROBLEMS
    if left > 0:
        lines.insert(-1, f"and {left} more")
    details = "\n".join(line for line in lines if line)
    case = _case("batch", "flux-lora", 0.0, Verdict("error", error.code, error.message), details)
    counts = {"tests": 1, "failures": 0, "errors": 1, "skipped": 0}
    return "".join((_ROOT[0], *_suite_text(0, "flux-lora", counts, 0.0, [case], "", now), _ROOT[1]))


def check_place(path: Path) -> None:
    """Refuse a report that could not be written, before anything is paid for. Raises UsageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        probe = _beside(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--junit {path}: {(error.strerror or str(error)).lower()}") from error


def write_report(path: Path, text: str) -> None:
    """Write the report in one step: a reader never sees half of it. Raises OSError."""
    temporary = _beside(path)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _suite(number: int, name: str, cases: list[tuple[JobRecord, Verdict]], folder: Path, now: datetime) -> str:
    kinds = [found.kind for _, found in cases]
    counts = {
        "tests": len(cases),
        "failures": kinds.count("failure"),
        "errors": kinds.count("error"),
        "skipped": kinds.count("skipped"),
    }
    times = [(job.execution_ms or 0) / 1000 for job, _ in cases]
    texts = [
        _case(job.id or job.key, name, seconds, found, _details(job))
        for (job, found), seconds in zip(cases, times, strict=True)
    ]
    paths = [
        f"{job.id or job.key}\t{folder}/{output.file}\n"
        for job, _ in cases
        for output in job.outputs
        if output.file is not None
    ]
    return "".join(_suite_text(number, name, counts, sum(times), texts, "".join(paths), now))


def _suite_text(
    number: int, name: str, counts: Mapping[str, int], seconds: float, cases: list[str], out: str, now: datetime
) -> list[str]:
    attributes = _attributes(
        name=name,
        package="flux-lora",
        id=number,
        timestamp=now.strftime("%Y-%m-%dT%H:%M:%S"),
        hostname=socket.gethostname() or "localhost",
        **counts,
        time=f"{seconds:.3f}",
    )
    tail = f"<system-out>{_text(out)}</system-out>\n<system-err></system-err>\n</testsuite>\n"
    return [f"<testsuite{attributes}>\n<properties></properties>\n", *cases, tail]


def _case(name: str, suite: str, seconds: float, found: Verdict, details: str) -> str:
    attributes = _attributes(name=name, classname=suite, time=f"{seconds:.3f}")
    if found.kind == "passed":
        return f"<testcase{attributes}/>\n"
    if found.kind == "skipped":
        return f"<testcase{attributes}><skipped/></testcase>\n"
    reason = _attributes(message=found.message, type=found.code)
    body = _text(f"{found.message}\n{details}" if details else found.message)
    return f"<testcase{attributes}><{found.kind}{reason}>{body}</{found.kind}></testcase>\n"


def _details(job: JobRecord) -> str:
    request = job.input or {}
    facts = [("task", job.task_id), ("prompt", request.get("prompt")), ("seed", request.get("seed"))]
    return "\n".join(f"{name}: {value}" for name, value in facts if value is not None)


def _attributes(**values: Any) -> str:
    # Line breaks in an attribute would be read back as spaces: they are shown as escapes instead.
    return "".join(f' {name}="{_text(printable(str(value)))}"' for name, value in values.items())


def _text(text: str) -> str:
    """Text as XML 1.0 can hold it: what it has no form for is written as a visible escape."""
    plain = printable(text, keep_newlines=True).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    return html.escape(plain)
