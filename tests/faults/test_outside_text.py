"""Text from outside: it never steers a terminal, nor the CI service that reads the log."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.support.fake import Answer
from tests.support.stage import Stage

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07 \r\n::error::owned\n ::add-mask::x\n##[error]owned ##vso[task.complete]x "
    "\u202egnp.exe [bold]m[/bold] \x9b2J \x08\x08\u2028::set-output name=a::b [link=https://x.example]y[/link]"
)


@pytest.mark.parametrize("more", ["", " -v", " --format github --junit out.xml", " --json"])
def test_what_the_service_says_to_a_submission(stage: Stage, more: str) -> None:
    stage.jobs(2)
    stage.fake.on("submit", lambda x: x.answer(Answer(400, json.dumps({"code": 400, "message": HOSTILE}).encode())))
    ended = stage.run(f"batch jobs.jsonl -o out{more}")  # ``run`` looks at the text
    if "github" in more:
        ours = [line for line in ended.err.splitlines() if line.startswith("::")]
        assert ours
        assert all(line.startswith(("::error", "::group", "::endgroup", "::notice", "::warning")) for line in ours)
        assert not any("##[" in line for line in ours)
        assert ET.parse(stage.folder / "out.xml").getroot().tag == "testsuites"
    assert ended.code == 6
    assert "owned" in ended.err + ended.out
    assert "[bold]m[/bold]" in ended.err + ended.out


@pytest.mark.parametrize("command", ["status {id}", "wait {id} -o out", "status {id} --json", "status"])
def test_why_a_task_failed(stage: Stage, command: str) -> None:
    name = stage.task()
    stage.fake.tasks[name].fate, stage.fake.tasks[name].error = "failed", HOSTILE
    ended = stage.run(command.format(id=name))
    assert "owned" in ended.out + ended.err
    if command == "status {id}":
        assert len(ended.lines) == 1
        assert ended.lines[0].count("\t") == 2


def test_prompts_ids_and_names_of_a_strangers_preset(stage: Stage) -> None:
    jobs = [{"id": HOSTILE[:120], "prompt": HOSTILE, "size": "512*512"}, {"prompt": f"::error::{HOSTILE}"}]
    (stage.folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    for command in ("batch jobs.jsonl -o out -v", "preset check jobs.jsonl", "batch jobs.jsonl -o out --dry-run -v"):
        stage.run(command)
    stage.check_folder()


def test_problems_of_a_strangers_preset(stage: Stage) -> None:
    (stage.folder / "::error::x.yaml").write_text(json.dumps({"jobs": [{"prompt": 1, HOSTILE: 2, "size": HOSTILE}]}))
    stage.run(["preset", "check", "::error::x.yaml"], code=10)


@pytest.mark.parametrize("form", ["table", "yaml"])
def test_the_expanded_jobs_of_a_strangers_preset(stage: Stage, form: str) -> None:
    prompts = [f"two\n::error::lines\n\n  ::warning::x\n {HOSTILE}", "::error::start", "x ##[error]y", "a\x9bb\u202ec"]
    jobs = [{"id": "a", "prompt": prompts[0]}, *({"prompt": prompt} for prompt in prompts[1:])]
    (stage.folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    ended = stage.run(f"preset show jobs.jsonl --as {form}", code=0)
    if form == "yaml":
        assert [job["input"]["prompt"] for job in yaml.safe_load(ended.out)] == prompts
