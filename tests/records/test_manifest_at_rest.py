"""A rerun of what is done leaves an exact manifest as it is, and makes any other exact."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Cli

QUICK = ("--sandbox", "--poll-interval", "0.1", "-o", "out")


@pytest.fixture
def manifest(cli: Cli, tmp_path: Path) -> Path:
    """The manifest of a finished batch of one job."""
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "a cat", "size": "512*512", "seed": 1}\n')
    assert cli("batch", "jobs.jsonl", *QUICK).code == 0
    return tmp_path / "out" / "manifest.json"


def test_nothing_changed(cli: Cli, manifest: Path) -> None:
    before, modified = manifest.read_bytes(), manifest.stat().st_mtime_ns
    assert cli("batch", "jobs.jsonl", *QUICK).code == 0
    assert (manifest.read_bytes(), manifest.stat().st_mtime_ns) == (before, modified)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{}")])
def test_what_somebody_did_to_it_is_made_good(cli: Cli, manifest: Path, damage: Callable[[Path], object]) -> None:
    before = manifest.read_text().split('"jobs": [')[1]
    damage(manifest)
    assert cli("batch", "jobs.jsonl", *QUICK).code == 0
    assert manifest.read_text().split('"jobs": [')[1] == before


def test_another_text_of_the_same_jobs_is_told(cli: Cli, manifest: Path, tmp_path: Path) -> None:
    with (tmp_path / "jobs.jsonl").open("a") as preset:
        preset.write("\n")
    assert cli("batch", "jobs.jsonl", *QUICK).code == 0
    assert hashlib.sha256((tmp_path / "jobs.jsonl").read_bytes()).hexdigest() in manifest.read_text()
