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
from types import SimpleNamespace

import pytest

from flux_lora_cli.cli.batch_report import _unsaid
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
            r"was not finished 1 second",
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
    assert quiet.err.startswith("error: ")
    told = cli("batch", preset, "-o", "json", "--json", *arguments, env=env)
    (event,) = [event for event in told.events if event["event"] == "error"]
    assert event["code"] == name
    assert re.search(words, event["message"])
    assert told.events[-1]["exit_code"] == code


def test_a_deadline_that_nobody_told_of_is_told() -> None:
    told = _unsaid(SimpleNamespace(exit_code=ExitCode.DEADLINE, reasons={}), {})  # type: ignore[arg-type]
    assert told is not None
    assert told.exit_code is ExitCode.DEADLINE
    assert "same command" in told.hint


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
