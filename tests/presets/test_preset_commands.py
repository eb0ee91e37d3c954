"""``preset check|show|list|new`` as a user sees them, and the presets that ship with the project."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

PRESETS = Path(__file__).parent.parent.parent / "presets"
GOOD = """version: 1
name: two
description: A test
stacks: {s: [{path: o/n}]}
jobs:
- {prompt: a, seed: 1}
- {prompt: b}
"""
BAD = "jobs:\n- prompt: a\n  sed: 1\n- prompt: no\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def test_check(cli, folder):
    done = cli("preset", "check", "good.yaml")
    assert (done.code, done.out) == (0, "") and "1 preset good, 2 jobs" in done.err
    done = cli("preset", "check", "good.yaml", "bad.yaml")
    assert done.code == 10
    assert done.lines == [
        'bad.yaml:3:3: jobs[0].sed: unknown key; did you mean "seed"?',
        "bad.yaml:4:11: jobs[1].prompt: no without quotes is a boolean in YAML (false); for text "
        'put it in quotes: "no"; allowed: text',
    ]
    assert "1 of 2 presets invalid" in done.err


def test_check_of_a_missing_file(cli, folder):
    done = cli("preset", "check", "bad.yaml", "god.yaml")
    assert done.code == 3
    assert "god.yaml: no such file" in done.err and "did you mean good.yaml?" in done.err
    assert len(done.lines) == 2


def test_check_as_json(cli, folder):
    done = cli("preset", "check", "good.yaml", "bad.yaml", "--json")
    assert done.code == 10
    told = [event for event in done.events if event.get("kind") != "preset"]
    assert [event["event"] for event in told] == ["problem", "problem", "error", "summary"]
    assert told[0] == {
        "event": "problem",
        "file": "bad.yaml",
        "line": 3,
        "column": 3,
        "key": "jobs[0].sed",
        "message": 'unknown key; did you mean "seed"?',
    }
    assert done.events[-1] == {"event": "summary", "files": 2, "invalid": 1, "jobs": 2, "exit_code": 10}
    assert told[2]["message"] == "1 of 2 presets invalid; nothing was sent"
    problem, other, conclusion = done.err.splitlines()
    assert problem.startswith("bad.yaml:3:3: ") and other.startswith("bad.yaml:4:11: ")
    assert conclusion == "error: 1 of 2 presets invalid; nothing was sent"


def test_check_as_json_of_a_missing_file(cli, folder):
    done = cli("preset", "check", "god.yaml", "--json")
    assert done.code == 3
    assert [event["event"] for event in done.events] == ["error", "summary"]
    assert done.err.count("god.yaml") == 1


def test_check_for_github(cli, folder):
    (folder / "a,b:c.yaml").write_text('jobs:\n- prompt: a\n  "100%\\n::error::x": 1\n')
    done = cli("preset", "check", "--format", "github", "bad.yaml", "a,b:c.yaml")
    assert done.code == 10
    assert done.lines[0] == '::error file=bad.yaml,line=3,col=3::jobs[0].sed: unknown key; did you mean "seed"?'
    assert done.lines[2].startswith("::error file=a%2Cb%3Ac.yaml,line=3,col=3::jobs[0].100%25%0A::error")
    assert len(done.lines) == 3


def test_check_for_github_as_json_marks_on_standard_error(cli, folder):
    done = cli("preset", "check", "--json", "--format", "github", "bad.yaml", "god.yaml")
    assert done.code == 3
    marks = [line for line in done.err.splitlines() if line.startswith("::")]
    assert marks[0] == '::error file=bad.yaml,line=3,col=3::jobs[0].sed: unknown key; did you mean "seed"?'
    assert marks[1].startswith("::error file=bad.yaml,line=4,col=11::")
    assert marks[2].startswith("::error file=god.yaml::god.yaml: no such file")
    assert len(marks) == 3


def test_check_for_github_marks_a_missing_file(cli, folder):
    done = cli("preset", "check", "--format", "github", "go,d.yaml", "good.yaml")
    assert done.code == 3
    assert done.out.startswith("::error file=go%2Cd.yaml::go,d.yaml: no such file")
    assert len(done.lines) == 1


def test_check_limits_the_number_of_jobs(cli, folder):
    done = cli("preset", "check", "good.yaml", "--max-jobs", "1")
    assert done.code == 10 and "2 jobs, more than the limit of 1" in done.out


def test_check_of_standard_input(cli):
    assert cli("preset", "check", "-", stdin='{"prompt": "a"}\n').code == 0
    assert cli("preset", "check", "-", stdin="").code == 3
    assert "stdin:1:1" in cli("preset", "check", "-", stdin="a cat\n").out


def test_check_takes_a_base_without_jobs_and_show_does_not(cli, folder):
    (folder / "base.yaml").write_text("defaults: {seed: 1}\n")
    assert cli("preset", "check", "base.yaml").code == 0
    done = cli("preset", "show", "base.yaml")
    assert done.code == 10 and "base.yaml:1:1: jobs: there are none" in done.err


def test_show_as_a_table(cli, folder):
    done = cli("preset", "show", "good.yaml")
    assert done.code == 0
    assert [line.split()[0] for line in done.lines] == ["JOB", "a", "b"]
    assert "random" in done.lines[2]


def test_show_exactly_as_sent(cli, folder):
    done = cli("preset", "show", "good.yaml", "--as", "jsonl", "--steps", "12", "--lora", "o/m:0.5", "--only", "a")
    (job,) = [json.loads(line) for line in done.lines]
    assert job == {
        "id": "a",
        "preset": "two",
        "model": "wavespeed-ai/flux-dev-lora",
        "input": {
            "prompt": "a",
            "image": "",
            "size": "1024*1024",
            "num_inference_steps": 12,
            "guidance_scale": 5,
            "num_images": 1,
            "seed": 1,
            "loras": [{"path": "o/m", "scale": 0.5}],
            "enable_safety_checker": True,
        },
    }
    as_yaml = yaml.safe_load(cli("preset", "show", "good.yaml", "--as", "yaml", "--api-version", "v3").out)
    assert [job["input"]["seed"] for job in as_yaml] == [1, "random"]
    assert "enable_safety_checker" not in as_yaml[0]["input"]
    events = cli("preset", "show", "good.yaml", "--json").events
    assert [event["event"] for event in events] == ["record", "record", "summary"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--steps", "99"), 2, "--steps: 99 is out of range; allowed: a whole number from 1 to 50"),
        (("--steps", "x"), 2, '--steps: "x" is text'),
        (("--lora", "x"), 2, "--lora x"),
        (("--set", "sed=1"), 2, 'did you mean "seed"?'),
        (("--set", "seed"), 2, "KEY=VALUE"),
        (("--only", "zzz"), 3, 'no job matches "zzz"'),
        (("--as", "jsno"), 2, "jsonl"),
        (("--model", "flux-dev"), 2, "flux-dev-lora"),
        (("--image", "nope.png"), 3, "nope.png: no such file"),
    ],
)
def test_show_refuses(cli, folder, arguments, code, words):
    done = cli("preset", "show", "good.yaml", *arguments)
    assert done.code == code and words in done.err


def test_list(cli, folder):
    done = cli("preset", "list", ".")
    assert done.code == 0
    assert done.lines[1].split() == [
        "bad.yaml",
        "-",
        "-",
        "-",
        "invalid:",
        "2",
        "problems",
        "(flux-lora",
        "preset",
        "check)",
    ]
    assert done.lines[2].split() == ["good.yaml", "two", "2", "s", "A", "test"]
    assert cli("preset", "list", "nope").code == 3


def test_new_writes_a_good_preset_and_never_overwrites(cli, folder):
    done = cli("preset", "new", "fresh")
    assert (done.code, done.lines) == (0, ["fresh.yaml"])
    text = (folder / "fresh.yaml").read_text("utf-8")
    assert cli("preset", "new").out == text
    assert cli("preset", "check", "fresh.yaml").code == 0
    done = cli("preset", "new", "good.yaml")
    assert done.code == 2 and "not overwritten" in done.err
    assert (folder / "good.yaml").read_text() == GOOD


# ---- the presets of the project ----------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_of_the_project(studio, path):
    from jsonschema import validate

    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.domain.presets import load_sources
    from flux_lora_cli.domain.presets.schema import build_schema

    loaded = load_sources([str(path)], FolderPresetFiles())
    assert loaded.jobs and loaded.presets[0].description
    validate(yaml.safe_load(path.read_text("utf-8")), build_schema())


def test_the_projects_presets_show_the_range(studio):
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.domain.presets import load_sources

    paths = [str(path) for path in PRESETS.glob("*.yaml")]
    assert len(paths) >= 5
    jobs = load_sources(paths, FolderPresetFiles()).jobs
    assert any(job.image for job in jobs)
    assert {len(job.params.get("loras", ())) for job in jobs} >= {0, 1, 2}


def test_show_names_a_local_image_as_seen_from_here(cli, tmp_path):
    draw = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    )
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/in.png").write_bytes(draw)
    (tmp_path / "presets/p.yaml").write_text("version: 1\njobs:\n  - prompt: x\n    image: in.png\n")
    shown = cli("preset", "show", "presets/p.yaml", "--as", "jsonl")
    assert json.loads(shown.out)["input"]["image"] == "presets/in.png"
