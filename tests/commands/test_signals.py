"""Ctrl-C, SIGTERM, SIGHUP in real processes: early, once, twice, together, and while nothing runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli.sandbox import Sandbox
from tests.conftest import PROGRAM, Cli, Spawn
from tests.support.event_lines import check_output

Start = Callable[..., Sandbox]


@pytest.fixture
def slow(service: Start, tmp_path: Path) -> Sandbox:
    """A service that takes long, and ``many.jsonl`` of 30 jobs."""
    jobs = [{"id": f"cat{number}", "prompt": f"cat {number}"} for number in range(30)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    return service(service_time=60)


def _until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


BATCH = ("batch", "many.jsonl", "-o", "out", "--concurrency", "3")


def test_the_first_names_what_runs(slow: Sandbox, spawn: Spawn) -> None:
    process = spawn(*BATCH, "--json")
    _until(lambda: len(slow.charges) == 3)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "3 tasks paid and still running, 27 jobs never sent" in err
    check_output(["--json"], out, 130)
    error = next(event for event in map(json.loads, out.splitlines()) if event["event"] == "error")
    assert (error["code"], error["advice"]) == ("interrupted", "rerun")
    assert {each["task"] for each in error["tasks"]} == {task for task, _ in slow.charges}
    assert {each["job"] for each in error["tasks"]} == {"cat0", "cat1", "cat2"}


def test_submit_with_wait_is_resumed_by_wait(slow: Sandbox, spawn: Spawn) -> None:
    process = spawn("submit", "c", "--wait", "-o", "mine")
    _until(lambda: len(slow.charges) == 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=10)[1]
    assert process.returncode == 143
    assert f"flux-lora wait -o mine {slow.charges[0][0]}" in err
    assert "flux-lora submit" not in err


@pytest.mark.parametrize("piped", [False, True])
def test_wait_names_what_it_did_not_come_to(service: Start, spawn: Spawn, cli: Cli, piped: bool) -> None:
    asked: list[str] = []
    service(service_time=60, on_request=lambda endpoint, request: asked.append(endpoint))
    ids = cli("submit", "-", stdin="a cat\n" * 150).lines
    process = spawn("wait", *(["-"] if piped else ids), stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("\n".join(ids) + "\n")  # and stays open
    process.stdin.flush()
    _until(lambda: "result" in asked)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None and process.wait(timeout=2) == 130
    err = process.stderr.read()
    assert "150 tasks paid and still running" in err
    assert set(ids) <= set(err.partition("flux-lora wait")[2].split())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_while_the_program_is_still_imported(tmp_path: Path, number: int, code: int) -> None:
    script = (
        f"import flux_lora_cli.__main__ as m, os, time; os.kill(os.getpid(), {int(number)}); time.sleep(5); m.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def _listens(process: subprocess.Popen[bytes]) -> bool:
    """Whether the program catches SIGTERM by now: it has begun to run, and Python is past its own start."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="signals are looked up in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_before_anything_runs_it_is_quiet(slow: Sandbox, tmp_path: Path, number: int, code: int, delay: float) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*PROGRAM, "submit", "-"], cwd=tmp_path, **pipes)
    _until(lambda: _listens(process))
    time.sleep(delay)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (code, b"")
    assert b"Traceback" not in err
    assert not err or err.splitlines()[1:] == [b"  Nothing was submitted. To start again: flux-lora submit -"]
    assert slow.charges == []


def test_what_the_parent_ignores_stays_ignored(slow: Sandbox, spawn: Spawn) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = spawn(*BATCH, preexec_fn=ignore)
    _until(lambda: len(slow.charges) == 3)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143
