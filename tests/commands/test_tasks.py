"""submit, status, wait: single tasks, and the pipes between the commands."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli.sandbox import Sandbox
from tests.commands.conftest import Run, Terminal
from tests.conftest import Spawn

Start = Callable[..., Sandbox]
QUICK = ("--poll-interval", "0.1")


def test_submit_prints_ids_in_the_order_of_the_prompts_and_always_submits(sandbox: Sandbox, run: Run) -> None:
    words = ("submit", "-p", "a cat", "-p", "a dog", "-p", "a fox", "--seed", "7", "-n", "2")
    ended = run(*words)
    assert ended.code == 0
    prompts = {task.id: task.inputs["prompt"] for task in sandbox.tasks}
    assert [prompts[task_id] for task_id in ended.lines] == ["a cat", "a dog", "a fox"]
    assert "3 tasks submitted; charged $0.09" in ended.err
    assert not set(run(*words).lines) & set(ended.lines)
    assert len(sandbox.charges) == 6
    ended = run("submit", "-p", "a cat", "-p", "a cat", "--seed", "7")
    assert len(set(ended.lines)) == 2 and "duplicate" not in ended.err


def test_prompts_on_standard_input(sandbox: Sandbox, run: Run) -> None:
    assert run("submit", "-", stdin="\ufeff# not a comment\n\n  a dog  \r\n猫\ra fox\r").code == 0
    assert sorted(task.inputs["prompt"] for task in sandbox.tasks) == ["# not a comment", "a dog", "a fox", "猫"]


@pytest.mark.parametrize("command", ["submit", "wait", "status"])
@pytest.mark.parametrize(
    ("data", "code", "words"),
    [(b"\n \n", 3, "came in on standard input"), ("abc\n".encode("utf-16-le"), 2, "UTF-16")],
)
def test_standard_input_without_a_line(
    sandbox: Sandbox, run: Run, command: str, data: bytes, code: int, words: str
) -> None:
    ended = run(command, "-", stdin=data)
    assert (ended.code, ended.out, words in ended.err) == (code, "", True)
    assert sandbox.charges == []


def test_marks_in_a_literal_prompt_are_sent_and_told_of(sandbox: Sandbox, run: Run) -> None:
    ended = run("submit", "a {red|blue} cat <lora:a/b:1>")
    assert sandbox.tasks[0].inputs["prompt"] == "a {red|blue} cat <lora:a/b:1>"
    assert "--expand" in ended.err
    assert len(run("submit", "a {red|blue} cat", "--expand").lines) == 2
    assert "unquoted {a|b}" in run("submit", "{red").err


def test_a_preset_gives_defaults_stack_and_jobs(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "version: 1\ndefaults: {num_inference_steps: 9}\nstacks: {ink: [{path: o/ink, scale: 2}]}\n"
        "jobs: [{id: dawn/a, prompt: at dawn}, {id: dawn/b, prompt: by dawn}, {id: dusk, prompt: at dusk}]\n"
    )
    assert run("submit", "--preset", "p.yaml", "--stack", "ink", "a cat").code == 0
    first = sandbox.tasks[0].inputs
    assert (first["prompt"], first["num_inference_steps"]) == ("a cat", 9)
    assert first["loras"] == [{"path": "o/ink", "scale": 2}]
    assert len(run("submit", "--preset", "p.yaml", "--job", "dawn/*").lines) == 2
    twice = run("submit", "--preset", "p.yaml", "--job", "dawn/*", "a cat", "--seed", "7")
    assert (len(twice.lines), "made once" in twice.err) == (2, False)
    ended = run("submit", "--preset", "p.yaml", "--job", "dawm/a")
    assert (ended.code, "dawn/a" in ended.err) == (3, True)


def test_wait_saves_and_prints_paths(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    ids = run("submit", "-p", "a cat", "-p", "a dog", "-n", "2")
    ended = run("wait", "-", *QUICK, stdin="\ufeff" + ids.out.replace("\n", "\tcompleted\t\r\n"))
    assert ended.code == 0
    assert len(ended.lines) == 4
    assert all((tmp_path / line).read_bytes().startswith(b"\x89PNG") for line in ended.lines)
    assert {line.partition("/")[0] for line in ended.lines} == {"flux-lora-output"}
    again = [event for event in run("wait", *ids.lines, "--json").events if event["event"] == "image"]
    assert [event["earlier"] for event in again] == [True] * 4
    assert {event["path"] for event in again} == set(ended.lines)
    ended = run("wait", "-", stdin=f"# tasks of today\n{ids.out}error: no such\n")
    assert (ended.code, len(ended.lines)) == (3, 4)
    assert '"# tasks of today"' in ended.err


def test_wait_starts_before_its_input_ends(sandbox: Sandbox, run: Run, spawn: Spawn) -> None:
    task = run("submit", "a cat").out
    process = spawn("wait", "-", "-q", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(task)
    process.stdin.flush()
    assert process.stdout.readline().startswith("flux-lora-output/")
    assert process.poll() is None
    process.stdin.close()
    process.stdin = None
    assert process.wait(30) == 0


def test_submit_with_wait_prints_paths_instead(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    template = "{slug}/{seed}-{task}-{index}.{ext}"
    ended = run("submit", "a cat", "--wait", "-o", "mine", "--filename", template, "--seed", "5", *QUICK)
    assert (ended.code, ended.out) == (0, f"mine/a-cat/5-{sandbox.tasks[0].id}-0.png\n")
    assert (tmp_path / "mine" / "manifest.json").exists()
    ended = run("submit", "a cat", "-o", "out", "--fail-on-nsfw")
    assert (ended.code, "--output, --fail-on-nsfw" in ended.err) == (0, True)


# ---- status ----


def test_status_in_a_pipe(sandbox: Sandbox, run: Run, preset: Path) -> None:
    ids = run("submit", "-p", "a cat", "-p", "a dog").lines
    time.sleep(0.3)
    assert run("status", *reversed(ids), ids[0]).lines == [f"{task}\tcompleted\t" for task in reversed(ids)]
    ended = run("status", "-", "--json", stdin="\n".join(ids))
    assert [(event["task"], event["job"]) for event in ended.events[:2]] == [(ids[0], "a-cat"), (ids[1], "a-dog")]
    assert ended.events[-1]["statuses"] == {"completed": 2}
    assert {line.split("\t")[0] for line in run("status").lines} == set(ids)
    assert run("batch", preset, "-o", "out", "--only", "dawn/1", *QUICK).code == 0
    events = run("status", sandbox.tasks[2].id, "--json").events + run("status", "--json").events
    assert [event["job"] for event in events if event.get("task") == sandbox.tasks[2].id] == ["dawn/1"] * 2


def test_status_of_failed_and_unknown_tasks(run: Run, service: Start) -> None:
    service(faults=["result:failed=1007"])
    task = run("submit", "a cat").out.strip()
    time.sleep(0.1)
    ended = run("status", task)
    assert (ended.code, ended.out.startswith(f"{task}\tfailed\t")) == (0, True)
    ended = run("status", "0" * 32, task)
    assert (ended.code, ended.lines[0].startswith(task), "0" * 32 in ended.err) == (3, True, True)


def test_status_at_a_terminal_shows_job_prompt_and_age(
    sandbox: Sandbox, run: Run, terminal: Callable[..., Terminal]
) -> None:
    ids = [run("submit", prompt).out.strip() for prompt in ("a cat in the rain", "a dog")]
    code, text = terminal("status", "--no-color", columns=100).finish()
    lines = text.replace("\r", "").splitlines()
    status, age, task, *rest = lines[1].split()
    assert (code, task, rest) == (0, ids[0], ["a-cat-in-the-rain", "a", "cat", "in", "the", "rain"])
    assert status in ("completed", "processing", "created") and age.endswith("s")
    assert lines[0].index("a dog") == lines[1].index("a cat in the rain"), "columns are aligned"
    narrow = terminal("status", columns=80).finish()[1]
    assert "\x1b[3" in narrow
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in narrow.replace("\r", "").splitlines())


# ---- the sandbox ----


def test_the_sandbox_inside_the_process(run: Run) -> None:
    task = run("submit", "--sandbox", "a cat")
    ended = run("wait", "--sandbox", "-", *QUICK, stdin=task.out)
    assert (task.code, ended.code, ended.out.partition("/")[0]) == (0, 0, "flux-lora-output-sandbox")
    assert "charged" not in task.err + ended.err
    assert "would have cost $0.015" in task.err


def test_the_variable_that_switches_the_sandbox_on_is_told_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_LORA_SANDBOX", "1")
    ended = run("submit", "a cat")
    assert (ended.code, ended.err.count("FLUX_LORA_SANDBOX")) == (0, 1)
    assert "FLUX_LORA_SANDBOX" not in run("submit", "a cat", "--sandbox").err
    assert "not the sandbox" in run("submit", "a cat", "--dry-run", "--base-url", "http://127.0.0.1:9").err


# ---- money ----


def test_many_prompts_are_meant_and_many_choices_are_not(run: Run) -> None:
    assert run("submit", "-", "--dry-run", stdin="a cat\n" * 1001).out.startswith("1,001 tasks")
    ended = run("submit", "--expand", "--dry-run", " ".join(["{a|b}"] * 10))
    assert ended.code == 10
    assert "1024" in ended.err and "batch --max-jobs 1024" in ended.err


def test_a_dry_run_connects_to_nothing(run: Run) -> None:
    ended = run("submit", "-p", "a", "-p", "b", "-n", "3", "--dry-run", "--json", "--base-url", "http://127.0.0.1:9")
    assert ended.code == 0
    assert (ended.events[-1]["images"], ended.events[-1]["cost_usd"]) == (6, "0.09")
    ended = run("submit", "a", "-n", "3", "--dry-run", "--price", "0.1", "--max-cost", "0.2")
    assert (ended.code, "$0.30" in ended.err) == (8, True)


def test_the_question_is_asked_where_messages_are_redirected(
    sandbox: Sandbox, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    words = ["submit", "-n", "4", *(word for number in range(26) for word in ("-p", f"cat {number}"))]
    for how, redirect, answer, code, charged in (
        (["--log-file", "log"], "", "\x03", 130, 0), ([], "2>err", "n\n", 8, 0), ([], "", "y\n", 0, 26),
    ):  # fmt: skip
        session = terminal(*words, *how, redirect=redirect)
        session.read_until("104 images, $1.56. Submit? [y/N]")
        session.type(answer)
        assert session.finish()[0] == code
        assert len(sandbox.charges) == charged
    assert terminal(*words, "--yes").finish()[0] == 0
