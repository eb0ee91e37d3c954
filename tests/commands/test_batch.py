"""batch and replay: the plan in words, what is asked, where images go, reports, and making an image again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flux_lora_cli.sandbox import Sandbox
from tests.commands.conftest import Run, Terminal

Start = Callable[..., Sandbox]
QUICK = ("--poll-interval", "0.1")


def test_run_again_to_resume(sandbox: Sandbox, run: Run, preset: Path) -> None:
    first = run("batch", preset, *QUICK)
    again = run("batch", preset)
    assert first.code == again.code == 0
    assert sorted(first.lines) == sorted(again.lines)
    assert {os.path.dirname(line) for line in first.lines} == {"flux-lora-output/cats"}
    assert len(sandbox.charges) == 4
    assert "4 of 4 jobs done, 4 images; charged $0.06" in first.err
    assert again.err == "all there: 4 of 4 jobs done, 4 images; nothing charged (flux-lora-output/cats/manifest.json)\n"


@pytest.mark.parametrize(
    ("name", "folder"),
    [("My Cats!.yaml", "my-cats"), ("猫.jsonl", "猫"), ("-", "stdin"), ("cats.sandbox.yaml", "cats-sandbox")],
)
def test_default_folders(run: Run, tmp_path: Path, name: str, folder: str) -> None:
    text = '{"prompt": "a cat"}\n' if name.endswith(("jsonl", "-")) else "version: 1\njobs: [{prompt: a cat}]\n"
    (tmp_path / name).write_text(text)
    plan = run("batch", name, "--sandbox", "--dry-run", "--json", stdin=text).events[0]
    assert plan["folder"] == f"flux-lora-output/{folder}-sandbox"


def test_a_dry_run_says_what_would_happen(run: Run, preset: Path, tmp_path: Path) -> None:
    ended = run("batch", preset, "--dry-run", "--base-url", "http://127.0.0.1:9", "-v")
    assert ended.code == 0
    assert "4 jobs (2 × 2 = 4)" in ended.out
    assert "4 images, $0.06 (at the documented price" in ended.out
    assert ended.out.count("planned") == 4
    assert not (tmp_path / "flux-lora-output").exists()
    events = run("batch", preset, "--dry-run", "--json", "--price", "1").events
    assert (events[0]["event"], events[0]["dry_run"], events[0]["cost_usd"]) == ("plan", True, "4")
    assert [event["kind"] for event in events[1:-1]] == ["job"] * 4
    assert run("batch", preset, "--dry-run", "--max-cost", "0.05").code == 8


def test_duplicates_are_told_of(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    line = '{"id": "%s", "prompt": "a cat", "seed": 1}\n'
    (tmp_path / "d.jsonl").write_text(line % "a" + line % "b" + line % "c")
    assert "2 duplicates of a; use repeat" in run("batch", "d.jsonl").err
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(
    ("words", "stdin", "jobs"),
    [
        (["--only", "dawn/*"], "", 2),
        (["--only", "*/2", "--only", "dusk/1"], "", 3),
        (["--only-file", "ids.txt"], "", 2),
        (["--only-file", "-"], "dusk/1\n", 1),
        (["--seed", "9", "--set", "num_inference_steps=5", "--steps", "6"], "", 2),  # an axis is replaced
    ],
)
def test_some_of_the_jobs(run: Run, preset: Path, tmp_path: Path, words: list[str], stdin: str, jobs: int) -> None:
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfdawn/1\r\n\r\ndusk/2\n")
    ended = run("batch", preset, *words, "--json", "--dry-run", stdin=stdin)
    assert (ended.code, ended.events[-1]["jobs"]) == (0, jobs)


def asked(terminal: Callable[..., Terminal], question: str, *words: object) -> int:
    """The exit code where the question is answered with no."""
    session = terminal("batch", *words)
    session.read_until(question)
    session.type("n\n")
    return int(session.finish()[0])


def test_a_large_batch_shows_its_sum_and_asks(
    sandbox: Sandbox, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    jobs = "".join(f"  - {{id: cat{number}, prompt: cat {number}}}\n" for number in range(17))
    (tmp_path / "many.yaml").write_text(f"version: 1\nmatrix: {{seed: [1, 2, 3]}}\njobs:\n{jobs}")
    assert asked(terminal, "= 102 images, $1.53. Submit? [y/N]", "many.yaml", "-n", "2") == 8
    assert sandbox.charges == []


def test_an_unknown_price_is_asked_about(terminal: Callable[..., Terminal], preset: Path, service: Start) -> None:
    priceless = service(faults=["price:404"])
    assert asked(terminal, "4 images, at an unknown price. Submit? [y/N]", preset) == 8
    assert priceless.charges == []


def test_images_without_their_ledger_are_asked_about(
    sandbox: Sandbox, run: Run, terminal: Callable[..., Terminal], preset: Path, tmp_path: Path
) -> None:
    assert run("batch", preset, "-o", "out", "--only", "dawn/1", *QUICK).code == 0
    for name in ("ledger.sqlite3", "manifest.json"):
        (tmp_path / "out" / name).unlink()
    assert asked(terminal, "[y/N]", preset, "-o", "out") == 7
    assert len(sandbox.charges) == 1


# ---- reports ----


def _junit(path: Path) -> dict[str, int]:
    suite = ElementTree.parse(path).getroot()[0]
    return {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}


def test_reports_of_failures_and_of_a_broken_preset(
    run: Run, tmp_path: Path, preset: Path, service: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    service(faults=["result:failed=1007:first=1"])
    summary = tmp_path / "summary.md"
    summary.write_text("### before\n\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    ended = run("batch", preset, "--junit", "sub/r.xml", "--format", "github", "-o", "out", *QUICK)
    assert ended.code == 6
    assert _junit(tmp_path / "sub" / "r.xml") == {"tests": 4, "failures": 1, "errors": 0, "skipped": 0}
    assert "\n::error::" in f"\n{ended.err}"
    text = summary.read_text()
    assert text.startswith("### before\n\n### flux-lora: exit code 6")
    assert "| Jobs | Completed | Failed | Images |\n| ---: | ---: | ---: | ---: |\n| 4 | 3 | 1 | 3 |" in text
    assert len([line for line in text.splitlines() if ".png" in line]) == 3
    (tmp_path / "bad.yaml").write_text("version: 1\njobs:\n  - {prompt: a cat, sized: 3}\n  - {id: x]y}\n")
    ended = run("batch", "bad.yaml", "--junit", "r.xml", "--format", "github")
    assert ended.code == 10
    assert _junit(tmp_path / "r.xml") == {"tests": 1, "failures": 0, "errors": 1, "skipped": 0}
    assert "::error file=bad.yaml,line=" in ended.err
    assert "bad.yaml" in summary.read_text().removeprefix(text)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    assert run("batch", preset, "-o", "out", *QUICK).code == 6  # one that cannot be written changes nothing


def test_what_a_job_says_cannot_steer_a_summary(
    run: Run, tmp_path: Path, service: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    job = {"id": "a\n::warning::x<&|`", "prompt": "</failure>]]>\x1b[31m <b>@all</b> [x](http://e)"}
    (tmp_path / "p.jsonl").write_text(json.dumps(job) + "\n")
    service(faults=["result:failed=1007"])
    assert run("batch", "p.jsonl").code in (6, 10)
    summary = (tmp_path / "summary.md").read_text()
    assert not [word for word in ("<b>", "@all", "](http", "\x1b") if word in summary]


# ---- replay ----


@pytest.fixture
def made(run: Run, preset: Path) -> list[str]:
    """Two images of the sandbox, in ``out``."""
    ended = run("batch", preset, "--sandbox", "-o", "out", "--steps", "7", "--only", "dawn/*", *QUICK)
    assert ended.code == 0
    return ended.lines


def test_replay_makes_the_same_bytes(made: list[str], run: Run, tmp_path: Path) -> None:
    ended = run("replay", made[0], "--sandbox", "--wait", "-o", "again", *QUICK)
    assert ended.code == 0
    images = [(tmp_path / path).read_bytes() for path in made]
    assert (tmp_path / ended.out.strip()).read_bytes() == images[0]
    assert run("replay", "out", "dawn/1", "--sandbox", "--wait", "-o", "again", "--steps", "9", *QUICK).code == 0
    manifest = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert manifest["jobs"][-1]["request"]["input"]["num_inference_steps"] == 9
    ended = run("replay", "out", "dawn/1", "--to-preset")
    assert ended.code == 0
    assert run("replay", "out", "dawn/1", "--to-preset", "--json").events[0]["data"]["yaml"] == ended.out
    more = run("replay", "out", "dawn/2", "--to-preset").out.splitlines(keepends=True)[3:]
    (tmp_path / "both.yaml").write_text(ended.out + "".join(more))
    assert run("preset", "check", "both.yaml").err == "1 preset OK, 2 jobs\n"
    (tmp_path / "again.yaml").write_text(ended.out)
    done = run("batch", "again.yaml", "--sandbox", "-o", "preset", *QUICK)
    assert (tmp_path / done.out.strip()).read_bytes() in images


def test_replay_that_is_refused(made: list[str], sandbox: Sandbox, run: Run) -> None:
    for words, code, message in (
        ("out", 2, "which one"),
        ("out dawm/1", 3, "dawn/1"),
        ("cats.yaml", 3, "nothing says how"),
        ("out dawn/1 --guidance 99", 2, "guidance_scale"),
        ("out dawn/1 --model nope", 2, "unknown model"),
        ("out dawn/1 --model flux-schnell-lora", 2, "flux-schnell-lora on API v3"),
        ("out dawn/1 --max-cost 0.01 --dry-run", 8, "$0.015"),
    ):
        ended = run("replay", *words.split(), "--base-url", sandbox.base_url)
        assert (ended.code, message in ended.err) == (code, True), ended.err
    ended = run("replay", made[0])  # what the sandbox made is not bought by accident
    assert (ended.code, "--sandbox" in ended.err) == (2, True)
    assert sandbox.charges == []
    assert run("replay", made[0], "--base-url", sandbox.base_url).code == 0
    assert len(sandbox.charges) == 1
