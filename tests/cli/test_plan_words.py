"""What plan, summary and wrong usage say, in the words that users look for."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Cli

PRESET = """\
version: 1
defaults: {size: 512*512, seed: 1}
jobs:
  - {id: dawn, prompt: a cat}
  - {id: noon, prompt: a cat}
  - {id: dusk, prompt: a cat}
"""


def test_plan_and_summary_name_duplicates_and_the_way_to_more(cli: Cli, tmp_path: Path) -> None:
    preset = tmp_path / "p.yaml"
    preset.write_text(PRESET)
    words = "2 duplicates of dawn; use repeat"
    assert words in cli("batch", preset, "--sandbox", "--dry-run").out
    done = cli("batch", preset, "--sandbox", "--poll-interval", "0.1")
    assert done.err.count(words) == 2
    assert "1 of 1 job done, 1 image; charged" in done.err


def test_a_second_prompt_is_told_to_be_quoted(cli: Cli) -> None:
    done = cli("submit", "--sandbox", "a", "cat")
    assert (done.code, done.out) == (2, "")
    assert "quote the prompt" in done.err


def test_one_job_is_counted_as_one(cli: Cli, tmp_path: Path) -> None:
    preset = tmp_path / "p.yaml"
    preset.write_text(PRESET)
    assert cli("preset", "show", preset, "--only", "dawn").err == "1 job of 3\n"
    preset.write_text("jobs: [{prompt: x}]\n")
    assert cli("preset", "show", preset).err == "1 job\n"
    assert cli("preset", "check", preset).err == "1 preset good, 1 job\n"
