"""Which folders are used where none is named, and what is said of one that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cli


def test_a_state_folder_that_cannot_be_made_is_named_with_its_variable(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("in the way")
    monkeypatch.setenv("FLUX_LORA_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("WAVESPEED_API_KEY", "secret-key")
    monkeypatch.setenv("WAVESPEED_BASE_URL", "http://127.0.0.1:1")
    ended = cli("submit", "a cat")
    assert ended.code == 7
    assert "FLUX_LORA_STATE_DIR" in ended.err
    assert " -o" not in ended.err


@pytest.mark.parametrize(("name", "folder"), [("猫.txt", "猫"), ("犬.txt", "犬"), ("Night Set.txt", "night-set")])
def test_each_preset_has_a_folder_of_its_own_in_any_script(cli: Cli, tmp_path: Path, name: str, folder: str) -> None:
    (tmp_path / name).write_text("a cat\n")
    ended = cli("batch", tmp_path / name, "--sandbox", "--dry-run", "--json")
    (plan,) = [json.loads(line) for line in ended.lines if '"plan"' in line]
    assert plan["folder"] == f"flux-lora-output/{folder}-sandbox"
