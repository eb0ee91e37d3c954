"""``preset check``, ``show``, ``list``, and ``schema``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.commands.conftest import Run

BASE = "version: 1\ndefaults:\n  size: 512*768\nstacks:\n  nasa: [{path: owner/nasa, scale: 0.9}]\n  plain: []\n"
CHILD = """\
version: 1
extends: base.yaml
jobs:
  - id: cat
    prompt: "a {red|blue} cat"
    stack: nasa
    seed: 7
  - id: dog
    prompt: a dog
    num_inference_steps: 12
"""


@pytest.fixture
def posters(tmp_path: Path) -> Path:
    """Three jobs, with a base file."""
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "posters.yaml").write_text(CHILD)
    return tmp_path / "posters.yaml"


def test_check_ok(run: Run, posters: Path) -> None:
    done = run("preset", "check", "posters.yaml", "base.yaml", "-v")
    assert (done.code, done.out) == (0, "")
    assert "2 presets OK, 3 jobs (2 + 1 = 3)" in done.err
    assert "cat: choice 2\n" in done.err


BROKEN = "version: 1\ndefaults: {sizes: 1}\njobs:\n  - {prompt: x, num_images: 9}\n"


def test_check_prints_every_problem(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BROKEN)
    done = run("preset", "check", "bad.yaml")
    assert done.code == 10
    assert [line.rpartition(": ")[0].partition(": ")[0] for line in done.lines] == ["bad.yaml:2:12", "bad.yaml:4:29"]
    assert "2 problems" in done.err
    events = run("preset", "check", "bad.yaml", "--json").events
    assert [event["event"] for event in events] == ["problem", "problem", "error", "summary"]
    assert (events[0]["line"], events[0]["column"], events[-1]["problems"]) == (2, 12, 2)


def test_check_for_github(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.yaml").write_text(BROKEN)
    done = run("preset", "check", "bad.yaml", "--format", "github")
    places = ("line=2,col=12", "line=4,col=29")
    assert [line.rpartition("::")[0] for line in done.lines] == [f"::error file=bad.yaml,{place}" for place in places]
    assert run("preset", "check", "nowhere.yaml", "--format", "github").lines[0].startswith("::error::")
    for name in ("bad.yaml", str(tmp_path / "bad.yaml")):  # as GitHub calls it, from the top of the checkout
        with monkeypatch.context() as patch:
            patch.setenv("GITHUB_WORKSPACE", str(tmp_path.parent))
            (line, *_) = run("preset", "check", name, "--format", "github").lines
            assert line.startswith(f"::error file={tmp_path.name}/bad.yaml,line=2,col=12::")


def test_notes_are_warnings_for_github(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\njobs:\n  - prompt: a\n    strength: 0.5\n")
    wanted = "::warning file=p.yaml,line=4,col=15::strength has no effect"
    assert run("preset", "check", "p.yaml", "--format", "github").out.startswith(wanted)
    assert wanted in run("batch", "p.yaml", "--dry-run", "--price", "1", "--format", "github").err


def test_notes_are_said_and_strict_makes_them_problems(run: Run, tmp_path: Path) -> None:
    (tmp_path / "note.yaml").write_text("version: 1\nvars: {place: [a, b]}\njobs:\n  - prompt: no variable\n")
    done = run("preset", "check", "note.yaml", "-v")
    assert (done.code, done.lines[0][:12], ": note: " in done.lines[0]) == (0, "note.yaml:2:", True)
    assert "unused: a variable or stack that nothing uses; to silence it" in done.err
    assert run("preset", "check", "note.yaml", "--strict").code == 10
    for words in (["preset", "show"], ["batch", "--dry-run"]):
        assert [run(*words, "note.yaml", *more).code for more in ([], ["--strict"])] == [0, 10]
    assert run("batch", "note.yaml", "--strict", "--sandbox", "-o", "out").code == 10
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nowhere.yaml"], 3),
        (["."], 2),
        (["posters.yaml", "--max-jobs", "2"], 10),
        (["posters.yaml", "posters.yaml", "--max-jobs", "5"], 10),
        (["posters.yaml", "--api-version", "v3"], 0),
        (["posters.yaml", "--api-version", "v4"], 2),
        (["posters.yaml", "--models", "nowhere.json"], 3),
        (["posters.yaml", "--models", "base.yaml"], 10),
    ],
)
def test_check_exit_codes(run: Run, posters: Path, words: list[str], code: int) -> None:
    assert run("preset", "check", *words).code == code


def test_show_tells_what_is_shared_and_what_differs_and_cuts_nothing(run: Run, posters: Path, tmp_path: Path) -> None:
    done = run("preset", "show", "posters.yaml")
    shared, _, differing = done.out.partition("\n\n")
    assert "512*768" in shared and "wavespeed-ai/flux-dev-lora" in shared
    rows = [line.split() for line in differing.splitlines()]
    assert rows[0] == ["JOB", "NUM_INFERENCE_STEPS", "SEED", "LORAS", "PROMPT"]
    assert rows[1] == ["cat/red", "28", "7", "owner/nasa:0.9", "a", "red", "cat"]
    assert rows[3] == ["dog", "12", "random", "none", "a", "dog"]
    assert "3 jobs" in done.err
    prompts = ["very " * 60 + f"long {n}" for n in range(2)]
    (tmp_path / "long.txt").write_text("\n".join(prompts))
    out = run("preset", "show", "long.txt").out
    assert all(prompt in out for prompt in prompts)


def test_show_why_names_file_and_line(run: Run, posters: Path) -> None:
    done = run("preset", "show", "posters.yaml", "--why", "--steps", "12")
    assert done.lines[0].split() == ["JOB", "PARAMETER", "FROM", "VALUE"]
    rows = [" ".join(line.split()) for line in done.lines]
    assert "all jobs size base.yaml:3 512*768" in rows
    assert "all jobs num_inference_steps --steps 12" in rows
    assert "all jobs guidance_scale default of flux-dev-lora 5" in rows
    assert "cat/red loras posters.yaml:6 owner/nasa:0.9" in rows  # where the stack is chosen
    assert "dog seed drawn when submitted random" in rows
    posters.write_text(posters.read_text() + "model: flux-dev-lora\n")
    for words, place in (([], "posters.yaml:"), (["--model", "flux-dev-lora"], "--model ")):
        assert f"model {place}" in " ".join(run("preset", "show", "posters.yaml", "--why", *words).out.split())
    record = run("preset", "show", "posters.yaml", "--why", "--json").events[0]["data"]
    assert record["why"]["size"] == "base.yaml:3"


def test_show_for_programs(run: Run, posters: Path) -> None:
    jobs = yaml.safe_load(run("preset", "show", "posters.yaml", "--as", "yaml", "--only", "cat/*", "-n", "2").out)
    assert [job["id"] for job in jobs] == ["cat/red", "cat/blue"]
    assert jobs[0]["model"] == "wavespeed-ai/flux-dev-lora"
    assert jobs[0]["input"].items() >= {"num_images": 2, "loras": [{"path": "owner/nasa", "scale": 0.9}]}.items()


def test_show_some(run: Run, posters: Path, tmp_path: Path) -> None:
    (tmp_path / "picks.txt").write_text("dog\n")
    done = run("preset", "show", "posters.yaml", "--only-file", "picks.txt", "--json")
    assert [event["data"]["id"] for event in done.events if event.get("kind") == "job"] == ["dog"]
    (tmp_path / "picks.txt").write_text("horse\n")
    assert run("preset", "show", "posters.yaml", "--only-file", "picks.txt").code == 3
    assert run("preset", "show", "posters.yaml", "--only", "horse").code == 3
    assert run("preset", "show", "-", "--only-file", "-").code == 2


def test_list(run: Run, posters: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BROKEN)
    (tmp_path / ".hidden.yaml").write_text(BROKEN)
    done = run("preset", "list", ".")
    cells = [line.split() for line in done.lines]
    assert cells[0] == ["FILE", "JOBS", "STACKS", "DESCRIPTION"]
    assert [row[:2] for row in cells[1:]] == [["bad.yaml", "-"], ["base.yaml", "0"], ["posters.yaml", "3"]]
    assert "2 problems" in done.lines[1]
    assert run("preset", "list", "nowhere").code == 3
    assert run("preset", "list", ".", "--json").events[-1]["presets"] == 3


@pytest.mark.parametrize("name", ["preset", "manifest", "event"])
def test_schema(run: Run, name: str) -> None:
    document = json.loads(run("schema", name).out)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert run("schema", name, "--json").events[0]["data"]["schema"] == document
