"""Whatever the sandbox makes says so."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Cli


def test_the_summary_of_every_command_that_talks_to_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\njobs:\n  - prompt: a cat\n    size: 512*512\n")
    quick = ("--sandbox", "--json", "--poll-interval", "0.1")
    submitted = cli("submit", "a cat", "--size", "512*512", "--sandbox", "--json")
    task = next(event["task"] for event in submitted.events if event["event"] == "submitted")
    for done in (
        submitted,
        cli("status", task, "--sandbox", "--json"),
        cli("wait", task, *quick),
        cli("batch", "p.yaml", *quick),
    ):
        assert done.code == 0, done.err
        assert done.events[-1]["sandbox"] is True


def test_no_sandbox_no_such_word(cli: Cli) -> None:
    refused = cli("status", "x", "--json", env={"WAVESPEED_API_KEY": "k", "WAVESPEED_BASE_URL": "http://127.0.0.1:1"})
    assert (refused.code, refused.events[-1]["sandbox"]) == (5, False)
