"""Task ids that come through a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Cli

Spawn = Callable[..., "subprocess.Popen[str]"]


@contextmanager
def served(spawn: Spawn, *options: str) -> Iterator[dict[str, str]]:
    server = spawn("serve", "--port", "0", *options)
    assert server.stdout is not None
    yield {"WAVESPEED_BASE_URL": server.stdout.readline().strip(), "WAVESPEED_API_KEY": "any"}
    server.terminate()
    server.wait()


def test_wait_and_status_read_what_status_prints(cli: Cli) -> None:
    ids = cli("submit", "--sandbox", "-p", "a", "-p", "b", "--size", "512*512").lines
    states = cli("status", "--sandbox", *ids).out
    assert states.startswith(f"{ids[0]}\t")
    again = cli("status", "--sandbox", "-", stdin=states)
    assert (again.code, [line.split("\t")[0] for line in again.lines]) == (0, ids)
    done = cli("wait", "--sandbox", "-", stdin=f"\n{states}", timeout=60)
    assert (done.code, len(done.lines)) == (0, 2), done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_wait_names_the_ids_that_came_in(
    cli: Cli, spawn: Spawn, tmp_path: Path, number: signal.Signals
) -> None:
    with served(spawn, "--service-time", "60") as env:
        ids = cli("submit", "-p", "a", "-p", "b", env=env).lines
        read, write = os.pipe()
        waiting = spawn("wait", "-", "-o", "out", "-v", env=env, stdin=read)
        os.write(write, "".join(f"{task_id}\n" for task_id in ids).encode())
        manifest = tmp_path / "out" / "manifest.json"
        waiting_for(lambda: manifest.exists() and all(task_id in manifest.read_text() for task_id in ids))
        waiting.send_signal(number)
        _, err = waiting.communicate(timeout=20)  # while the pipe is still open
        os.close(read)
        os.close(write)
    assert waiting.returncode == 128 + number
    assert f"To go on: flux-lora wait {ids[0]} {ids[1]} -o out -v" in err


def waiting_for(seen: Callable[[], bool]) -> None:
    for _ in range(200):
        if seen():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about within 10 s")
