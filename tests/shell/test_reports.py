"""Reports for CI services: JUnit, step summary, annotations; whatever way the batch ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
import xmlschema

from flux_lora_cli.cli.job_verdict import why_ended
from flux_lora_cli.cli.junit import junit_of_error, junit_report
from flux_lora_cli.cli.step_summary import escape, step_summary, summary_of_error
from flux_lora_cli.domain.manifest import summary
from flux_lora_cli.domain.presets.problems import Problem
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State
from flux_lora_cli.errors import ExitCode, Interrupted, MissingKey, PresetError, ServiceError
from tests.conftest import Cli

Service = Callable[..., dict[str, str]]
_NOW = datetime(2026, 11, 23, 3, 14, 15, tzinfo=timezone.utc)
_SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "junit.xsd")


def _read(text: str) -> ElementTree.Element:
    _SCHEMA.validate(text)
    return ElementTree.fromstring(text)


def _output(index: int = 0, **values: object) -> OutputRecord:
    record = OutputRecord(index, url="https://cdn.example/a.png", file=f"{index}.png", nsfw=False)
    for name, value in values.items():
        setattr(record, name, value)
    return record


def _record(name: str, state: State, outputs: list[OutputRecord] | None = None, **values: object) -> JobRecord:
    record = JobRecord(f"key-{name}", id=name, state=state, preset="posters", outputs=outputs or [])
    for field, value in values.items():
        setattr(record, field, value)
    return record


_EVERY_KIND = [
    _record("done", State.COMPLETED, [_output()], execution_ms=2412),
    _record("failed", State.FAILED, error="1200: content moderation refused the prompt", task_id="t1"),
    _record("gone", State.COMPLETED, [_output(file=None, error="output_expired: HTTP 404")]),
    _record("unsaved", State.COMPLETED, [_output(file=None, left_out=True)]),
    _record("planned", State.PLANNED),
    _record("running", State.SUBMITTED),
    _record("unknown", State.UNKNOWN),
    _record("left-out", State.SKIPPED),
    _record("flagged", State.COMPLETED, [_output(nsfw=True)]),
]


def test_every_state_is_a_test_case() -> None:
    root = _read(junit_report(_EVERY_KIND, Path("out"), _NOW, run_ended=Interrupted("interrupted")))
    suite = root[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "9",
        "failures": "2",
        "errors": "3",
        "skipped": "1",
    }
    found = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert found == {
        "done": [],
        "failed": ["failure"],
        "gone": ["failure"],
        "unsaved": [],
        "planned": ["error"],
        "running": ["error"],
        "unknown": ["error"],
        "left-out": ["skipped"],
        "flagged": [],
    }
    reasons = {case.get("name"): case[0].get("message") or "" for case in suite.iter("testcase") if len(case)}
    assert "content moderation" in reasons["failed"]
    assert "interrupted" in reasons["planned"]
    assert suite.findtext("system-out") == "done\tout/0.png\nflagged\tout/0.png\n"
    assert suite.find("testcase[@name='done']").get("time") == "2.412"  # type: ignore[union-attr]


def test_a_job_that_did_not_end_carries_its_own_reason_before_the_runs() -> None:
    records = [
        _record("late", State.SUBMITTED, error="overdue: not finished 2 seconds after its submit"),
        _record("held", State.UNKNOWN, error="held: not found"),
        _record("cut-off", State.SUBMITTED),
    ]
    root = _read(junit_report(records, Path("out"), _NOW, run_ended=Interrupted("interrupted")))
    reasons = {case.get("name"): case[0].get("message") for case in root.iter("testcase")}
    assert reasons == {
        "late": "still running; the same command picks it up (not finished 2 seconds after its submit)",
        "held": "whether it was submitted is not known; it is held, and not paid for again (not found)",
        "cut-off": "still running; the same command picks it up (interrupted)",
    }


def test_what_the_exit_code_tells_is_why_the_run_ended() -> None:
    first, then = ServiceError("task x could not be looked at"), Interrupted("interrupted")
    assert why_ended({ExitCode.SERVICE: first, ExitCode.INTERRUPTED: then, ExitCode.INCOMPLETE: None}) is then
    assert why_ended({ExitCode.SERVICE: None, ExitCode.INCOMPLETE: None}) is None
    assert why_ended({}) is None


def test_flagged_images_fail_where_that_was_asked_for() -> None:
    root = _read(junit_report([_EVERY_KIND[-1]], Path("out"), _NOW, fail_on_nsfw=True))
    assert root[0].get("failures") == "1"


def test_nothing_to_do_and_errors_before_any_job_are_valid_too() -> None:
    assert len(_read(junit_report([], Path("out"), _NOW))) == 0
    root = _read(junit_of_error(MissingKey("no API key", "Set it."), _NOW))
    assert root.find(".//error").get("message") == "no API key"  # type: ignore[union-attr]


def test_every_problem_of_a_preset_is_listed_up_to_a_bound() -> None:
    problems = tuple(Problem("a|b.yaml", line, 3, "jobs[0].size", "<no> size") for line in range(1, 151))
    error = PresetError("150 problems in a|b.yaml; nothing was sent", "Mend it.", problems)
    body = _read(junit_of_error(error, _NOW)).findtext(".//error") or ""
    text = summary_of_error(error)
    for line in (1, 100):
        assert f"a|b.yaml:{line}:3: jobs[0].size: <no> size\n" in body
        assert f"| {escape(str(problems[line - 1]))} |\n" in text
    assert "a|b.yaml:101:" not in body
    assert escape("a|b.yaml:101:") not in text
    assert body.endswith("\nand 50 more\nMend it.")
    assert text.endswith("\n\nand 50 more\n\n")
    assert "<no>" not in text


@pytest.mark.parametrize(
    "text", ["<&\">'", "a\x00b\x1b[31m", "\ud800 \ufffe \uffff", "]]>", "\u202e", "a\nb\tc", "日本"]
)
def test_hostile_text_makes_valid_xml(text: str) -> None:
    record = _record("x", State.FAILED, error=f"1: {text}", input={"prompt": text, "seed": 1})
    root = _read(junit_report([record], Path(text.replace("\x00", "") or "d"), _NOW))
    assert root.find(".//failure") is not None


def test_a_preset_is_a_suite() -> None:
    records = [_record("a", State.COMPLETED), _record("b", State.COMPLETED, preset="other")]
    root = _read(junit_report(records, Path("out"), _NOW))
    assert [(suite.get("name"), suite.get("id")) for suite in root] == [("posters", "0"), ("other", "1")]


# ---- the command -------------------------------------------------------------------------


def test_a_good_batch(cli: Cli, service: Service, preset: Path, tmp_path: Path) -> None:
    env = {**service(), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    (tmp_path / "summary.md").write_text("what stood there\n")
    done = cli("batch", preset, "-o", "out", "--junit", "reports/junit.xml", env=env)
    assert done.code == 0, done.err
    root = _read((tmp_path / "reports" / "junit.xml").read_text())
    assert [case.get("name") for case in root.iter("testcase")] == ["one", "two", "three"]
    assert sorted(line.partition("\t")[2] for line in root.findtext(".//system-out", "").splitlines()) == sorted(
        done.lines
    )
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("what stood there\n")
    assert "| 3 | 3 | 0 | 3 |" in text
    assert "Cost: $0.045" in text


def test_failures_carry_their_reason(cli: Cli, service: Service, preset: Path, tmp_path: Path) -> None:
    env = {**service("submit:failed=1200:first=1"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    done = cli("batch", preset, "-o", "out", "--junit", "j.xml", "--format", "github", env=env)
    assert done.code == 6
    cases = _read((tmp_path / "j.xml").read_text()).iter("testcase")
    (case,) = [case for case in cases if case.find("failure") is not None]
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message")
    assert f"| {case.get('name')} | {escape(failure.get('type') or '')} |" in (tmp_path / "summary.md").read_text()
    assert [line for line in done.err.splitlines() if line.startswith("::error::")]
    assert not [line for line in done.lines if line.startswith("::")]


def test_each_overdue_job_carries_its_own_reason(cli: Cli, service: Service, preset: Path, tmp_path: Path) -> None:
    env = {**service(service_time=(60.0, 60.0)), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    assert cli("batch", preset, "-o", "out", "--task-timeout", "1", "--junit", "j.xml", env=env).code == 9
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    tasks = {job["id"]: job["task"]["id"] for job in manifest["jobs"]}
    text = (tmp_path / "summary.md").read_text()
    assert "**3 tasks were not finished 1 second after their submit**" in text
    cases = list(_read((tmp_path / "j.xml").read_text()).iter("testcase"))
    assert [case.get("name") for case in cases] == list(tasks)
    for case in cases:
        told = "\n".join([case[0].get("message") or "", case[0].text or ""])
        assert "not finished 1 second after its submit" in told
        assert [name for name, task in tasks.items() if task in told] == [case.get("name")]


def test_an_interrupted_batch_reports_too(
    spawn: Callable[..., subprocess.Popen[str]], service: Service, preset: Path, tmp_path: Path
) -> None:
    env = {**service(service_time=(30.0, 30.0)), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    process = spawn("batch", preset, "-o", "out", "--junit", "j.xml", "-v", env=env)
    assert process.stderr is not None
    for line in process.stderr:
        if "submitted as" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    root = _read((tmp_path / "j.xml").read_text())
    assert root[0].get("errors") == "3"
    assert "interrupted" in (root.find(".//error").get("message") or "")  # type: ignore[union-attr]
    assert "exit code 130" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "env", "code"),
    [
        (["three.yaml"], {"WAVESPEED_API_KEY": ""}, 4),
        (["three.yaml", "--max-cost", "0.01"], {}, 8),
        (["bad.yaml"], {}, 10),
        (["absent.yaml"], {}, 3),
    ],
)
def test_what_ends_a_batch_before_any_job_is_reported(
    cli: Cli, service: Service, preset: Path, tmp_path: Path, arguments: list[str], env: dict[str, str], code: int
) -> None:
    (tmp_path / "bad.yaml").write_text("version: 1\njobs:\n  - promt: x\n")
    env = {**service(), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), **env}
    done = cli("batch", *arguments, "-o", "out", "--junit", "j.xml", "--format", "github", env=env)
    assert done.code == code, done.err
    assert _read((tmp_path / "j.xml").read_text()).find(".//error") is not None
    assert f"exit code {code}" in (tmp_path / "summary.md").read_text()
    annotations = [line for line in done.err.splitlines() if line.startswith("::error")]
    assert annotations
    if code == 10:
        assert "bad.yaml:3:5: jobs[0].promt: " in (tmp_path / "j.xml").read_text()
        assert escape("bad.yaml:3:5: jobs[0].promt") in (tmp_path / "summary.md").read_text()
        assert annotations[0].startswith("::error file=bad.yaml,line=3,col=5::")


def test_a_report_that_cannot_be_written_is_found_before_anything_is_paid_for(
    cli: Cli, service: Service, preset: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    done = cli("batch", preset, "-o", "out", "--junit", "taken/j.xml", env=service())
    assert done.code == 2
    assert not (tmp_path / "out").exists()


def test_a_summary_that_cannot_be_written_is_a_warning(
    cli: Cli, service: Service, preset: Path, tmp_path: Path
) -> None:
    done = cli("batch", preset, "-o", "out", env={**service(), "GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert done.code == 0
    assert "GITHUB_STEP_SUMMARY: not written" in done.err


# ---- the summary's text ------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a | b",
        "`code` *b* _i_",
        "[x](http://evil)",
        "![x](http://evil)",
        "@team",
        "# h",
        "$x$",
    ],
)
def test_text_from_outside_is_plain_words_in_the_summary(text: str) -> None:
    escaped = escape(text)
    assert not re.search(r"[<>|`*_\[\]()!@#$:](?![0-9]+;)", re.sub(r"&#[0-9]+;", "", escaped))
    assert "\n" not in escape("a\nb")


def _text(records: list[JobRecord]) -> str:
    return step_summary(records, summary(records), Path("out"), ExitCode.OK, "Cost: $1")


def test_thumbnails_lead_to_the_images() -> None:
    assert '<a href="https://cdn.example/a.png"><img src="https://cdn.example/a.png"' in _text([_EVERY_KIND[0]])


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/a.png?signature=1",
        "http://127.0.0.1:1/a.png",
        "javascript:alert(1)",
        "data:image/png;base64,AA",
    ],
)
def test_a_url_that_is_nobody_elses_business_is_not_shown(url: str) -> None:
    record = _record("x", State.COMPLETED, [_output(url=url)])
    assert "\n| Job | File | Preview |\n| --- | --- | --- |\n| x | out/0.png |  |\n" in _text([record])
    assert "<img" not in _text([record])
    assert url not in _text([record])


def test_a_url_cannot_break_out() -> None:
    record = _record("x", State.COMPLETED, [_output(url='https://x/"><script>|')])
    assert "<script" not in _text([record])


def test_a_flagged_image_is_a_link_only() -> None:
    assert "<img" not in _text([_EVERY_KIND[-1]])


def test_a_large_batch_fits_into_githubs_limit() -> None:
    long = "x" * 5000
    records = [_record(f"f{n}", State.FAILED, error=f"1: {long}") for n in range(2000)]
    records += [_record(f"d{n}", State.COMPLETED, [_output()]) for n in range(2000)]
    text = _text(records)
    assert len(text.encode()) < 1 << 20
    assert "and 1900 more" in text
