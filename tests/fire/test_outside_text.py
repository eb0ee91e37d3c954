"""Text from outside: it never steers a terminal, nor the CI service that reads the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from stage import Front, Stage, bytes_of, check_text

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07 \r\n::error::owned\n ::add-mask::x\n##[error]owned ##vso[task.complete]x "
    "\u202egnp.exe [bold]m[/bold] \x9b2J \x08\x08\u2028::set-output name=a::b [link=https://x.example]y[/link]"
)


@pytest.fixture
def stage(tmp_path: Path):
    stage = Stage(tmp_path, scale=60)
    yield stage
    stage.close()


def hostile_answer(status: str, **fields: object) -> bytes:
    body = json.dumps({"code": int(status[:3]), "message": HOSTILE, **fields}).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("more", ["", " -v", " --format github", " --json"])
def test_what_the_service_says_to_a_submit(stage: Stage, more: str) -> None:
    stage.jobs(2)
    front = Front(stage.base_url, {"POST /api/v2": bytes_of(hostile_answer("400 Bad"))})
    ended = stage.run(f"batch jobs.jsonl -o out{more}", base_url=front.url)
    if "github" in more:
        ours = [line for line in ended.err.splitlines() if line.startswith("::")]
        assert ours
        assert all(line.startswith("::error") for line in ours)
        ended.err = "\n".join(line for line in ended.err.splitlines() if line not in ours)
        assert not any("##[" in line for line in ours)
    check_text(ended)
    assert ended.code == 6
    assert "owned" in ended.err + ended.out
    assert "[bold]m[/bold]" in ended.err + ended.out


@pytest.mark.parametrize("command", ["status {id}", "wait {id} -o out", "status {id} --json", "status"])
def test_why_a_task_failed(stage: Stage, command: str) -> None:
    task = stage.task()
    data = {"id": task, "status": "failed", "error": HOSTILE}
    answer = hostile_answer("200 OK", data={"items": [data]} if command == "status" else data)
    front = Front(stage.base_url, {"/api/v2/predictions": bytes_of(answer), "/api/v3/predictions": bytes_of(answer)})
    ended = stage.run(command.format(id=task), base_url=front.url)
    check_text(ended)
    assert "owned" in ended.out + ended.err
    if command == "status {id}":
        assert len(ended.lines) == 1
        assert ended.lines[0].count("\t") == 2


def test_prompts_ids_and_names_of_a_strangers_preset(stage: Stage) -> None:
    jobs = [{"id": HOSTILE[:120], "prompt": HOSTILE, "size": "512*512"}, {"prompt": f"::error::{HOSTILE}"}]
    (stage.folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    for command in ("batch jobs.jsonl -o out -v", "preset check jobs.jsonl", "batch jobs.jsonl -o out --dry-run"):
        check_text(stage.run(command))
    stage.check_folder()


def test_problems_of_a_strangers_preset(stage: Stage) -> None:
    (stage.folder / "::error::x.yaml").write_text(json.dumps({"jobs": [{"prompt": 1, HOSTILE: 2, "size": HOSTILE}]}))
    ended = stage.run(["preset", "check", "::error::x.yaml"])
    check_text(ended)
    assert ended.code == 10


@pytest.mark.parametrize("form", ["table", "yaml", "jsonl"])
def test_the_expanded_jobs_of_a_strangers_preset(stage: Stage, form: str) -> None:
    prompts = [f"two\n::error::lines\n\n  ::warning::x\n {HOSTILE}", "::error::start", "x ##[error]y", "a\x9bb\u202ec"]
    jobs = [{"id": "a", "prompt": prompts[0]}, *({"prompt": prompt} for prompt in prompts[1:])]
    (stage.folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    ended = stage.run(f"preset show jobs.jsonl --as {form}")
    check_text(ended)
    assert ended.code == 0, ended.err
    if form == "yaml":
        assert [job["input"]["prompt"] for job in yaml.safe_load(ended.out)] == prompts
    if form == "jsonl":
        assert [json.loads(line)["input"]["prompt"] for line in ended.lines] == prompts


def test_the_list_of_a_strangers_presets(stage: Stage) -> None:
    (stage.folder / "::error::x.yaml").write_text(json.dumps({"name": HOSTILE, "jobs": [{"prompt": "a"}]}))
    check_text(stage.run(["preset", "list", "."]))
