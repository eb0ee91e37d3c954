"""The official command line from npm, unchanged, pointed at the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import require_tool
from tests.sandbox.conftest import Caller, Make

MODEL = "wavespeed-ai/flux-dev-lora"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = require_tool("npm")
    folder = tmp_path_factory.mktemp("npm")
    done = subprocess.run(
        [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "@wavespeed/cli@0.2.2"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install it: {done.stderr[-200:]}")
    return folder / "node_modules" / ".bin" / "wavespeed"


class Official:
    """Runs the program in a folder of its own against one sandbox."""

    def __init__(self, program: Path, call: Caller, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._env = {**os.environ, "WAVESPEED_API_KEY": "any", "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        self._env |= {"NO_PROXY": "127.0.0.1", "CI": "1"}
        self._run("config", "--base-url", call.sandbox.base_url)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._program), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self._folder,
            env=self._env,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def __call__(self, *arguments: str) -> Any:
        return json.loads(self._run(*arguments, "--json"))


@pytest.fixture
def official(program: Path, make: Make, tmp_path: Path) -> Official:
    return Official(program, make(pictures="scene"), tmp_path)


def test_it_runs_a_model_and_saves_the_images(official: Official) -> None:
    for extra in ((), ("--sync",)):
        ran = official(
            "run", MODEL, "-p", "a fox in a forest", "-i", "size=512*512", "num_images=2",
            'loras=[{"path":"a/b","scale":0.5}]', "--download", *extra,
        )  # fmt: skip
        assert len(ran["outputs"]) == len(ran["saved"]) == 2
        assert [Image.open(path).size for path in ran["saved"]] == [(512, 512)] * 2


def test_it_reads_history_shows_and_deletes(official: Official) -> None:
    official("run", MODEL, "-p", "a fox", "-i", "size=512*512")
    (item,) = official("history")["items"]
    assert item["inputs"]["prompt"] == "a fox" and item["status"] == "completed"
    assert official("show", item["id"])["id"] == item["id"]
    assert official("delete", item["id"], "-y") == {"deleted": [item["id"]]}
    assert official("history")["items"] == []


def test_it_reads_balance_price_models_and_schema(official: Official) -> None:
    assert official("balance")["balance"] == 1_000_000
    assert official("price", MODEL, "-i", "num_images=4")["unit_price"] == 0.06
    assert MODEL in [model["model_id"] for model in official("models", "flux")]
    assert "loras" in official("schema", MODEL)["properties"]


def test_it_uploads(official: Official, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "navy").save(tmp_path / "start.png")
    url = official("upload", "start.png")["url"]
    ran = official("run", MODEL, "-p", "x", "-i", f"image={url}", "size=512*512")
    assert len(ran["outputs"]) == 1
