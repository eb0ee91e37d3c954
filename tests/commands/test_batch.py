"""batch and replay: the plan in words, what is asked, where images go, reports, and making an image again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flux_lora_cli.sandbox import Sandbox
from tests.commands.conftest import Run, Terminal
from tests.conftest import PROGRAM, Cli, require_module


def test_run_again_to_resume(sandbox: Sandbox, run: Run, preset: Path, tmp_path: Path) -> None:
    first = run("batch", preset)
    again = run("batch", preset)
    assert first.code == again.code == 0
    assert sorted(first.lines) == sorted(again.lines)
    assert {line.partition("/")[0] + "/" + line.split("/")[1] for line in first.lines} == {"flux-lora-output/cats"}
    assert len(sandbox.charges) == 4
    assert "4 of 4 jobs done, 4 images; charged $0.06" in first.err
    assert "nothing charged" in again.err


@pytest.mark.parametrize(
    ("name", "folder"),
    [("My Cats!.yaml", "my-cats"), ("猫.jsonl", "猫"), ("-", "stdin"), ("cats.sandbox.yaml", "cats-sandbox")],
)
def test_default_folders(cli: Cli, tmp_path: Path, name: str, folder: str) -> None:
    text = '{"prompt": "a cat"}\n' if name.endswith(("jsonl", "-")) else "version: 1\njobs: [{prompt: a cat}]\n"
    if name != "-":
        (tmp_path / name).write_text(text)
    ended = cli("batch", name, "--sandbox", stdin=text)
    assert ended.code == 0
    assert ended.out.startswith(f"flux-lora-output/{folder}-sandbox/")


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
    ended = run("batch", "d.jsonl")
    assert "2 duplicates of a; use repeat" in ended.err
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize(
    ("only", "jobs"),
    [(["--only", "dawn/*"], 2), (["--only", "*/2", "--only", "dusk/1"], 3), (["--only-file", "ids.txt"], 2)],
)
def test_some_of_the_jobs(sandbox: Sandbox, run: Run, preset: Path, tmp_path: Path, only: list[str], jobs: int) -> None:
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfdawn/1\r\n\r\ndusk/2\n")
    ended = run("batch", preset, *only, "--json")
    assert (ended.code, ended.events[-1]["jobs"], len(sandbox.charges)) == (0, jobs, jobs)


def test_job_ids_on_standard_input(sandbox: Sandbox, cli: Cli, preset: Path) -> None:
    assert len(cli("batch", preset, "--only-file", "-", stdin="dusk/1\n").lines) == 1
    ended = cli("batch", preset, "--only-file", "-", stdin="dusk/9\n")
    assert (ended.code, "dusk/9" in ended.err) == (3, True)


def test_options_replace_values_and_axes(sandbox: Sandbox, run: Run, preset: Path) -> None:
    ended = run("batch", preset, "--seed", "9", "--set", "num_inference_steps=5", "--steps", "6", "--json")
    assert (ended.code, ended.events[-1]["jobs"]) == (0, 2)
    assert {(task.inputs["seed"], task.inputs["num_inference_steps"]) for task in sandbox.tasks} == {(9, 6)}


def test_presets_through_pipes(sandbox: Sandbox, tmp_path: Path) -> None:
    script = f"""{" ".join(PROGRAM)} batch <(echo '{{"prompt": "a cat"}}') -o out"""
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode in (0, 10), done.stderr  # a descriptor has no ending: YAML, in which this is no preset
    assert b"Traceback" not in done.stderr


def test_a_large_batch_shows_its_sum_and_asks(
    sandbox: Sandbox, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    (tmp_path / "many.yaml").write_text(
        "version: 1\nmatrix: {seed: [1, 2, 3]}\njobs:\n"
        + "".join(f"  - {{id: cat{number}, prompt: cat {number}}}\n" for number in range(17))
    )
    session = terminal("batch", "many.yaml", "-n", "2")
    session.read_until("= 102 images, $1.53. Submit? [y/N]")
    session.type("\n")
    code, text = session.finish()
    assert (code, "not confirmed" in text) == (8, True)
    assert sandbox.charges == []


def test_an_unknown_price_is_asked_about(
    terminal: Callable[..., Terminal], preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(faults=["price:404"]) as priceless:
        monkeypatch.setenv("WAVESPEED_BASE_URL", priceless.base_url)
        monkeypatch.setenv("WAVESPEED_API_KEY", "wsk-0123456789abcdef")
        session = terminal("batch", preset)
        session.read_until("4 images, at an unknown price. Submit? [y/N]")
        session.type("n\n")
        assert session.finish()[0] == 8
        assert priceless.charges == []


# ---- reports ----


def _junit(path: Path) -> dict[str, int]:
    schema = Path(__file__).parents[1] / "shell" / "junit.xsd"
    if schema.exists():
        require_module("xmlschema").validate(str(path), str(schema))
    suite = ElementTree.parse(path).getroot()[0]
    return {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}


def test_junit(sandbox: Sandbox, run: Run, preset: Path, tmp_path: Path) -> None:
    assert run("batch", preset, "--junit", "sub/report.xml", "-o", "out").code == 0
    report = tmp_path / "sub" / "report.xml"
    assert _junit(report) == {"tests": 4, "failures": 0, "errors": 0, "skipped": 0}
    assert report.read_text().count("out/") == 4
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["report.xml"]


def test_junit_of_failures_and_of_a_broken_preset(
    run: Run, tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(service_time=0.01, faults=["result:failed=1007:first=1"]) as failing:
        monkeypatch.setenv("WAVESPEED_BASE_URL", failing.base_url)
        monkeypatch.setenv("WAVESPEED_API_KEY", "wsk-0123456789abcdef")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
        ended = run("batch", preset, "--junit", "r.xml", "--format", "github", "-o", "out")
    assert ended.code == 6
    assert _junit(tmp_path / "r.xml") == {"tests": 4, "failures": 1, "errors": 0, "skipped": 0}
    assert [line for line in ended.err.splitlines() if line.startswith("::error::")]
    assert "exit code 6" in (tmp_path / "summary.md").read_text()
    (tmp_path / "bad.yaml").write_text("version: 1\njobs:\n  - {prompt: a cat, sized: 3}\n  - {id: x]y}\n")
    ended = run("batch", "bad.yaml", "--junit", "r.xml", "--format", "github")
    assert ended.code == 10
    assert _junit(tmp_path / "r.xml") == {"tests": 1, "failures": 0, "errors": 1, "skipped": 0}
    assert "::error file=bad.yaml,line=" in ended.err
    assert "bad.yaml" in (tmp_path / "summary.md").read_text()


def test_a_report_goes_to_what_the_path_names(sandbox: Sandbox, preset: Path, tmp_path: Path) -> None:
    """A link stays a link, a pipe a pipe, a device a device; nobody is waited for without end."""
    (tmp_path / "real.xml").write_text("old")
    (tmp_path / "link.xml").symlink_to("real.xml")
    os.mkfifo(tmp_path / "pipe")
    program = " ".join(PROGRAM)
    script = f"""
        {program} batch {preset} -q -o out --junit link.xml >/dev/null || exit 1
        cat pipe > from-pipe.xml & {program} batch {preset} -q -o out --junit pipe >/dev/null || exit 2
        wait; {program} batch {preset} -q -o out --junit /dev/fd/3 3> from-fd.xml >/dev/null || exit 3
        {program} batch {preset} -q -o out --junit /dev/null >/dev/null || exit 4
        {program} batch {preset} -o out --junit pipe >/dev/null 2> err || exit 5
    """
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link.xml").is_symlink()
    for name in ("real.xml", "from-pipe.xml", "from-fd.xml"):
        assert _junit(tmp_path / name)["tests"] == 4
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()
    assert "--junit pipe: not written" in (tmp_path / "err").read_text()


def test_what_a_job_says_cannot_steer_a_report(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"id": "a\n::warning::x<&|`", "prompt": "</failure>]]>\x1b[31m\ufffe <b>@all</b> [x](http://e)"}
    (tmp_path / "p.jsonl").write_text(json.dumps(job) + "\n")
    with Sandbox(service_time=0.01, faults=["result:failed=1007"]) as failing:
        monkeypatch.setenv("WAVESPEED_BASE_URL", failing.base_url)
        monkeypatch.setenv("WAVESPEED_API_KEY", "wsk-0123456789abcdef")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "s.md"))
        ended = run("batch", "p.jsonl", "--junit", "r.xml", "--format", "github")
    assert ended.code in (6, 10)
    assert _junit(tmp_path / "r.xml")["tests"] == 1
    assert not [line for line in ended.err.splitlines() if line.startswith("::") and not line.startswith("::error")]
    summary = (tmp_path / "s.md").read_text()
    assert not {"<b>", "@all", "](http", "\x1b"} & {
        word for word in ("<b>", "@all", "](http", "\x1b") if word in summary
    }


# ---- replay ----


@pytest.fixture
def made(cli: Cli, preset: Path) -> list[str]:
    """Images of the sandbox, in ``out``."""
    ended = cli("batch", preset, "--sandbox", "-o", "out", "--steps", "7")
    assert ended.code == 0
    return sorted(ended.lines)


def test_replay_makes_the_same_bytes(made: list[str], cli: Cli, tmp_path: Path) -> None:
    ended = cli("replay", made[0], "--sandbox", "--wait", "-o", "again")
    assert ended.code == 0
    assert (tmp_path / ended.out.strip()).read_bytes() == (tmp_path / made[0]).read_bytes()
    ended = cli("replay", "out", "dawn/1", "--sandbox", "--wait", "-o", "again", "--steps", "9")
    assert ended.code == 0
    manifest = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert manifest["jobs"][-1]["request"]["input"]["num_inference_steps"] == 9


def test_replay_as_a_preset_asks_for_the_same(made: list[str], cli: Cli, tmp_path: Path) -> None:
    ended = cli("replay", "out", "dawn/1", "--to-preset")
    assert ended.code == 0
    (tmp_path / "again.yaml").write_text(ended.out)
    done = cli("batch", "again.yaml", "--sandbox", "-o", "again")
    assert (tmp_path / done.out.strip()).read_bytes() in [(tmp_path / path).read_bytes() for path in made]
    assert cli("replay", "out", "dawn/1", "--to-preset", "--json").events[0]["data"]["yaml"] == ended.out


def test_what_the_sandbox_made_is_not_bought_by_accident(made: list[str], sandbox: Sandbox, cli: Cli) -> None:
    ended = cli("replay", made[0])
    assert ended.code == 2
    assert "--sandbox" in ended.err
    assert sandbox.charges == []
    assert cli("replay", made[0], "--base-url", sandbox.base_url).code == 0
    assert len(sandbox.charges) == 1


def test_replay_that_cannot_be_meant(made: list[str], sandbox: Sandbox, run: Run) -> None:
    for words, code, message in (
        ("out", 2, "which one"),
        ("out dawm/1", 3, "dawn/1"),
        ("cats.yaml", 3, "nothing says how"),
        ("out dawn/1 --guidance 99", 2, "guidance_scale"),
        ("out dawn/1 --model nope", 2, "unknown model"),
        ("out dawn/1 --max-cost 0.01 --dry-run", 8, "$0.015"),
    ):
        ended = run("replay", *words.split(), "--base-url", sandbox.base_url)
        assert (ended.code, message in ended.err) == (code, True), ended.err
    assert sandbox.charges == []
