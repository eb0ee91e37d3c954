"""``--fail-on-nsfw`` says why the exit code is 12, whatever command had it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cli

if TYPE_CHECKING:
    import subprocess


@pytest.fixture
def prudish(spawn: Callable[..., subprocess.Popen[str]]) -> Iterator[dict[str, str]]:
    """A service that flags everything."""
    server = spawn("serve", "--port", "0", "--service-time", "0", "--nsfw-rate", "1")
    assert server.stdout is not None
    yield {"WAVESPEED_BASE_URL": server.stdout.readline().strip(), "WAVESPEED_API_KEY": "any"}
    server.terminate()
    server.wait()


def test_submit_and_wait_say_why_they_fail(cli: Cli, prudish: dict[str, str]) -> None:
    done = cli("submit", "a", "--size", "512*512", "--wait", "-n", "2", "--fail-on-nsfw", "--json", env=prudish)
    assert done.code == 12
    assert "error: 2 images were flagged NSFW, and --fail-on-nsfw was given\n" in done.err
    assert [line["code"] for line in done.events if line["event"] == "error"] == ["nsfw"]
    task = next(line["task"] for line in done.events if line["event"] == "submitted")
    again = cli("wait", task, "--nsfw", "skip", "--fail-on-nsfw", "-o", "other", env=prudish)
    assert (again.code, again.out) == (12, "")
    assert "2 images were flagged" in again.err
