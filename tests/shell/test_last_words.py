"""What a command says last: why its exit code is not 0, and how to go on."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli.cli.last_words import BATCH, told_reasons
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State
from flux_lora_cli.errors import ExitCode
from tests.conftest import Cli

Service = Callable[..., dict[str, str]]


@pytest.mark.parametrize(
    ("code", "name", "words", "faults", "options", "arguments"),
    [
        (6, "image", r"not everything is done: 3 failed", ["look:failed=1200"], {}, []),
        pytest.param(
            6, "image", r"not everything is done: 3 missing", ["download:404"], {}, [], marks=pytest.mark.slow
        ),
        (
            9,
            "deadline",
            r"the run.s time \(--timeout\) (is|was) over",
            [],
            {"service_time": (60.0, 60.0)},
            ["--timeout", "1"],
        ),
        pytest.param(
            9,
            "deadline",
            r"3 tasks were not finished 1 second after their submit",
            [],
            {"service_time": (60.0, 60.0)},
            ["--task-timeout", "1"],
            marks=pytest.mark.slow,
        ),
        (12, "nsfw", r"flagged", [], {"nsfw_rate": 1.0}, ["--fail-on-nsfw"]),
        (13, "held", r"3 submits of unknown outcome were held", ["submit:reset-after"], {}, ["--on-unknown", "hold"]),
    ],
)
def test_every_code_but_0_has_an_error_line(
    cli: Cli,
    service: Service,
    preset: Path,
    code: int,
    name: str,
    words: str,
    faults: list[str],
    options: dict[str, object],
    arguments: list[str],
) -> None:
    env = service(*faults, **options)
    plain = cli("batch", preset, "-o", "plain", *arguments, env=env)
    assert plain.code == code, plain.err
    (line,) = [line for line in plain.err.splitlines() if line.startswith("error: ")]
    assert re.search(words, line)
    quiet = cli("batch", preset, "-o", "quiet", "-q", *arguments, env=env)
    (line,) = [line for line in quiet.err.splitlines() if line.startswith("error: ")]
    assert re.search(words, line)
    told = cli("batch", preset, "-o", "json", "--json", *arguments, env=env)
    (event,) = [event for event in told.events if event["event"] == "error"]
    assert event["code"] == name
    assert re.search(words, event["message"])
    assert told.events[-1]["exit_code"] == code


@pytest.mark.parametrize(
    ("fault", "options", "code", "words", "way"),
    [
        pytest.param(
            "look:failed=1200:nth=2",
            ["--wait"],
            6,
            "1 failed",
            "Submit only what failed again",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "download:404",
            ["--wait"],
            6,
            "2 missing",
            "flux-lora replay makes it again",
            marks=pytest.mark.slow,
        ),
        ("look:file-url", ["--wait"], 6, "2 missing", "To fetch what is missing: flux-lora wait "),
        ("submit:400:nth=2", [], 6, "1 failed", "Submit only what failed again"),
        ("submit:reset-after:nth=2", ["--on-unknown", "hold"], 13, "1 submit of unknown outcome", "flux-lora status"),
    ],
    ids=str,
)
def test_submit_says_why_its_code_is_not_0_and_never_to_repeat_it(
    cli: Cli, service: Service, fault: str, options: list[str], code: int, words: str, way: str
) -> None:
    asked = ("submit", "-p", "a cat", "-p", "a dog", "--size", "512*512", *options)
    folder = ["-o", "quiet"] if "--wait" in options else []
    quiet = cli(*asked, *folder, "-q", env=service(fault))
    assert quiet.code == code, quiet.err
    (line,) = [line for line in quiet.err.splitlines() if line.startswith("error: ")]
    assert words in line
    folder = ["-o", "json"] if "--wait" in options else []
    told = cli(*asked, *folder, "--json", env=service(fault))
    (error,) = [event for event in told.events if event["event"] == "error"]
    assert words in error["message"]
    assert way in error["hint"]
    assert "Run again" not in error["hint"]


def test_wait_says_why_its_code_is_not_0(cli: Cli, service: Service) -> None:
    env = service("look:failed=1200:nth=2")
    ids = cli("submit", "-p", "a cat", "-p", "a dog", "--size", "512*512", env=env).lines
    done = cli("wait", *ids, "-o", "out", "-q", "--json", env=env)
    assert done.code == 6
    assert "error: not everything is done: 1 failed\n  What failed has to be submitted again.\n" in done.err
    assert [event["code"] for event in done.events if event["event"] == "error"] == ["image"]
    other = service("download:404")
    ids = cli("submit", "a cat", "--size", "512*512", env=other).lines
    done = cli("wait", *ids, "-o", "other", "-q", env=other)
    assert done.code == 6
    assert "error: not everything is done: 1 missing\n" in done.err


def test_a_deadline_that_nobody_told_of_is_told() -> None:
    told = told_reasons(ExitCode.DEADLINE, {ExitCode.DEADLINE: None}, [], BATCH)[ExitCode.DEADLINE]
    assert told is not None
    assert told.exit_code is ExitCode.DEADLINE
    assert "same command" in told.hint


def _left(state: State, *errors: str) -> JobRecord:
    outputs = [OutputRecord(index, error=error) for index, error in enumerate(errors)]
    return JobRecord(f"{state} {errors}", state=state, outputs=outputs)


@pytest.mark.parametrize(
    ("records", "message", "hint"),
    [
        ([_left(State.FAILED)], "1 failed", "Failed jobs are submitted again with --retry-failed."),
        ([_left(State.COMPLETED, "bad_image: cut")], "1 missing", "Run again to fetch what is missing."),
        (
            [_left(State.COMPLETED, "output_expired: HTTP 404")],
            "1 missing",
            "What has expired is gone; flux-lora replay makes it again.",
        ),
        ([_left(State.PLANNED)], "1 pending", "Run again to submit the rest."),
        (
            [_left(State.FAILED), _left(State.FAILED), _left(State.COMPLETED, "", "output_expired: HTTP 404")],
            "2 failed, 2 missing",
            "Run again to fetch what is missing. What has expired is gone; flux-lora replay makes it again. "
            "Failed jobs are submitted again with --retry-failed.",
        ),
    ],
    ids=str,
)
def test_the_hint_is_about_what_is_left(records: list[JobRecord], message: str, hint: str) -> None:
    told = told_reasons(ExitCode.INCOMPLETE, {ExitCode.INCOMPLETE: None}, records, BATCH)[ExitCode.INCOMPLETE]
    assert told is not None
    assert (told.message, told.hint) == (f"not everything is done: {message}", hint)


@pytest.mark.parametrize(("again", "code"), [(["look:failed=1200"], 6), (["submit:reset-after"], 13)])
def test_a_rerun_that_sends_nothing_says_why_too(
    cli: Cli, service: Service, preset: Path, again: list[str], code: int
) -> None:
    env = service(*again)
    hold = ["--on-unknown", "hold"]
    assert cli("batch", preset, "-o", "out", *hold, env=env).code == code
    done = cli("batch", preset, "-o", "out", *hold, env=env)
    assert done.code == code
    assert "\nerror: " in done.err


def test_the_way_on_after_an_interrupted_submit_is_a_command_that_works(
    spawn: Callable[..., subprocess.Popen[str]], cli: Cli, service: Service, tmp_path: Path
) -> None:
    env = service(service_time=(4.0, 4.0))
    process = spawn(
        "submit", "-p", "a cat", "-p", "a dog", "--size", "512*512", "--wait", "-o", "to here", "-v", env=env
    )
    assert process.stderr is not None
    submitted = 0
    text = ""
    while submitted < 2:
        line = process.stderr.readline()
        assert line, text
        text += line
        submitted += "submitted as" in line
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    (way,) = re.findall(r"To go on: (.*)", rest)
    program, *words = shlex.split(way)
    assert program == "flux-lora"
    assert words[0] == "wait"
    done = cli(*words, env=env)
    assert done.code == 0, done.err
    assert len(done.lines) == len(list((tmp_path / "to here").glob("*.png"))) == 2


def _asked(folder: Path, env: dict[str, str], arguments: list[str], answer: bytes) -> tuple[int, str]:
    """A command on a terminal; what it asks gets the answer."""
    child, handle = pty.fork()
    if child == 0:
        os.chdir(folder)
        command = [sys.executable, "-m", "flux_lora_cli", *arguments]
        os.execve(sys.executable, command, {**os.environ, **env, "TERM": "xterm-256color", "COLUMNS": "80"})
    text, end = b"", time.monotonic() + 60
    while b"[y/N]" not in text:
        assert time.monotonic() < end, text
        text += os.read(handle, 4096)
    os.write(handle, answer)
    while True:
        try:
            piece = os.read(handle, 4096)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text.decode()


def _many(folder: Path, prompts: int) -> None:
    places = ", ".join(f"place {number}" for number in range(prompts))
    (folder / "many.yaml").write_text(
        f"version: 1\ndefaults: {{size: 512*512}}\nvars: {{place: [{places}]}}\nmatrix: {{seed: [1, 2]}}\n"
        'jobs: [{id: one, prompt: "a cat in ${place}"}]\n'
    )


@pytest.mark.parametrize(
    ("prompts", "faults", "question"),
    [
        (51, [], "to submit: 51 × 2 = 102 images, $1.53"),
        (2, ["price:404"], "to submit: 2 × 2 = 4 images, at an unknown price"),
    ],
)
@pytest.mark.parametrize("answer", [b"n\n", b"\n"])
def test_a_question_shows_the_sum_and_no_means_8(
    service: Service, tmp_path: Path, prompts: int, faults: list[str], question: str, answer: bytes
) -> None:
    _many(tmp_path, prompts)
    code, text = _asked(tmp_path, service(*faults), ["batch", "many.yaml", "-o", "out"], answer)
    assert question in text
    assert "Submit them? [y/N]" in text
    assert "error: not confirmed; nothing was submitted" in text
    assert "--yes" in text
    assert code == 8


def test_yes_goes_on(service: Service, tmp_path: Path) -> None:
    _many(tmp_path, 2)
    code, text = _asked(tmp_path, service("price:404"), ["batch", "many.yaml", "-o", "out"], b"y\n")
    assert code == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    assert "charged at a price that is not known" in text
