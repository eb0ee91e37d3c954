"""What to do after a submit that did not end well: never the same command, which would pay again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cli

if TYPE_CHECKING:
    import subprocess


@pytest.fixture
def slow(spawn: Callable[..., subprocess.Popen[str]]) -> Iterator[dict[str, str]]:
    """A service whose tasks take a minute."""
    server = spawn("serve", "--port", "0", "--service-time", "60")
    assert server.stdout is not None
    yield {"WAVESPEED_BASE_URL": server.stdout.readline().strip(), "WAVESPEED_API_KEY": "any"}
    server.terminate()
    server.wait()


@pytest.mark.parametrize("deadline", ["--timeout", "--task-timeout"])
def test_a_deadline_names_the_wait_that_goes_on(cli: Cli, slow: dict[str, str], deadline: str) -> None:
    done = cli("submit", "a cat", "--wait", deadline, "1", "-o", "pets", "--json", env=slow)
    assert done.code == 9
    task = next(line["task"] for line in done.events if line["event"] == "submitted")
    error = next(line for line in done.events if line["event"] == "error")
    assert error["hint"].startswith("Do not repeat this command")
    assert f"flux-lora wait {task} " in error["hint"]
    assert error["hint"].endswith("-o pets")
    assert "picks" not in done.err


def test_a_used_up_budget_says_that_the_rest_alone_is_to_be_submitted(cli: Cli, slow: dict[str, str]) -> None:
    done = cli("submit", "-p", "a", "-p", "b", "-p", "c", "--max-cost", "0.02", env=slow)
    assert (done.code, len(done.lines)) == (8, 1)
    assert "Do not repeat this command" in done.err
    assert f"flux-lora wait {done.lines[0]} " in done.err
    assert "(2 prompts were not submitted)" in done.err


def test_what_submitted_nothing_may_be_repeated(cli: Cli, slow: dict[str, str]) -> None:
    done = cli("submit", "a cat", "--max-cost", "0", env=slow)
    assert (done.code, done.out) == (8, "")
    assert "Raise --max-cost" in done.err
    assert "Do not repeat" not in done.err
