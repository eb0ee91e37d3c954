"""``preset new``: a preset to start from, and a repository of presets in one command."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Cli

FILES = {
    "README.md",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".github/workflows/presets.yml",
    "presets/example.yaml",
    "presets/preset.schema.json",
}


def test_a_repository_in_one_command(cli: Cli, tmp_path: Path) -> None:
    done = cli("preset", "new", "--repo", "my images")
    assert done.code == 0
    folder = tmp_path / "my images"
    assert {line.removeprefix("my images/") for line in done.lines} == FILES
    assert not (folder / ".git").exists()
    assert cli("preset", "check", "my images/presets/example.yaml", "--strict").code == 0
    assert cli("batch", "my images/presets/example.yaml", "--sandbox", "-o", "my images/flux-lora-output").code == 0
    assert "/flux-lora-output/" in (folder / ".gitignore").read_text()
    assert "@" not in re.sub(r"@v[\d.]+\n", "\n", (folder / ".github/workflows/presets.yml").read_text())
    assert len((folder / "README.md").read_text().splitlines()) <= 10


def test_a_preset_to_start_from(cli: Cli, tmp_path: Path) -> None:
    assert cli("preset", "new", "my/posters").lines == ["my/posters.yaml"]
    assert cli("preset", "check", "--strict", "my/posters.yaml").code == 0
    assert cli("preset", "new").out == (tmp_path / "my/posters.yaml").read_text()
    (tmp_path / "my/posters.yaml").write_text("mine")
    assert cli("preset", "new", "my/posters.yaml").code == 2
    assert (tmp_path / "my/posters.yaml").read_text() == "mine"


def test_what_is_there_stays_and_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "example.yaml").symlink_to("nowhere.yaml")
    done = cli("preset", "new", "--repo", ".", "--json")
    assert done.code == 0
    written = {event["data"]["file"]: event["data"]["written"] for event in done.events if "data" in event}
    assert {name for name, new in written.items() if not new} == {"README.md", "presets/example.yaml"}
    assert set(written) == FILES
    assert (tmp_path / "README.md").read_text() == "mine"


def test_places_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in (["--repo", "file"], ["file/x"], ["name", "--repo", "."]):
        done = cli("preset", "new", *words)
        assert (done.code, done.out) == (2, "")
        assert "file" in done.err or "--repo" in done.err
