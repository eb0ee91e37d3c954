"""Jobs with ``skip: true``: on the record, and not paid for."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Cli

PRESET = """\
version: 1
jobs:
  - id: made
    prompt: a cat
    size: 512*512
  - id: left-out
    prompt: a dog
    size: 512*512
    skip: {skip}
"""


def states(folder: Path) -> dict[str, str]:
    manifest = json.loads((folder / "manifest.json").read_text())
    return {job["id"]: job["state"] for job in manifest["jobs"]}


def test_a_skipped_job_is_recorded_and_made_once_it_is_wanted(cli: Cli, tmp_path: Path) -> None:
    preset, out = tmp_path / "p.yaml", tmp_path / "out"
    preset.write_text(PRESET.format(skip="true"))
    first = cli("batch", preset, "--sandbox", "-o", out, "--json", "--poll-interval", "0.1")
    assert first.code == 0
    assert states(out) == {"made": "completed", "left-out": "skipped"}
    assert first.events[-1]["skipped"] == 1
    preset.write_text(PRESET.format(skip="false"))
    second = cli("batch", preset, "--sandbox", "-o", out, "--json", "--poll-interval", "0.1")
    assert states(out) == {"made": "completed", "left-out": "completed"}
    assert (second.code, second.events[-1]["submitted"]) == (0, 1)


def test_a_done_job_that_is_skipped_later_stays_done(cli: Cli, tmp_path: Path) -> None:
    preset, out = tmp_path / "p.yaml", tmp_path / "out"
    preset.write_text(PRESET.format(skip="false"))
    cli("batch", preset, "--sandbox", "-o", out, "--poll-interval", "0.1")
    preset.write_text(PRESET.format(skip="true"))
    done = cli("batch", preset, "--sandbox", "-o", out, "--poll-interval", "0.1")
    assert done.code == 0
    assert states(out) == {"made": "completed", "left-out": "completed"}


def test_a_skipped_job_exists_for_only_and_is_nothing_to_submit(cli: Cli, tmp_path: Path) -> None:
    preset, out = tmp_path / "p.yaml", tmp_path / "out"
    preset.write_text(PRESET.format(skip="true"))
    done = cli("batch", preset, "--sandbox", "-o", out, "--only", "left-*", "--json")
    assert (done.code, done.events[-1]["submitted"], done.events[-1]["skipped"]) == (0, 0, 1)
    assert states(out) == {"left-out": "skipped"}
    assert cli("batch", preset, "--sandbox", "-o", out, "--only", "left-*", "--only", "gone").code == 3
    one = cli("submit", "--sandbox", "--preset", preset, "--job", "left-out")
    assert (one.code, one.out) == (3, "")
    assert "skip: true" in one.err
