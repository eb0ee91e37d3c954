"""The official Python SDK, and the official command line from npm, unchanged, pointed at the sandbox."""

from __future__ import annotations

import io
import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import require_module, require_tool
from tests.sandbox.conftest import MODEL, Caller, Make

INPUT = {"prompt": "a lighthouse at night", "size": "512*512", "seed": 3, "loras": [{"path": "a/b", "scale": 0.8}]}


def _client(base_url: str, key: str = "any") -> Any:
    return require_module("wavespeed.api").Client(api_key=key, base_url=base_url)


@pytest.mark.parametrize("sync", [False, True])
def test_the_sdk_runs_a_model(make: Make, sync: bool) -> None:
    call = make(service_time=(0.02, 0.05), small_pictures=False)
    client = _client(call.sandbox.base_url)
    result = client.run(MODEL, {**INPUT, "num_images": 2}, poll_interval=0.02, enable_sync_mode=sync)
    assert len(result["outputs"]) == 2
    for url in result["outputs"]:
        with urllib.request.urlopen(url) as response:
            assert Image.open(io.BytesIO(response.read())).size == (512, 512)


def test_the_sdk_uploads_an_image_to_start_from(make: Make, tmp_path: Path) -> None:
    call = make()
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "start.png")
    client = _client(call.sandbox.base_url)
    url = client.upload(str(tmp_path / "start.png"))
    assert call("GET", url, key=None).body == (tmp_path / "start.png").read_bytes()
    assert client.run(MODEL, {**INPUT, "image": url}, poll_interval=0.02)["outputs"]


def test_the_sdk_understands_failures(make: Make) -> None:
    client = _client(make(faults=["submit:failed=1200"]).sandbox.base_url)
    with pytest.raises(RuntimeError, match="Prediction failed"):
        client.run(MODEL, INPUT, poll_interval=0.02)
    told = client.run_no_throw(MODEL, INPUT, poll_interval=0.02)
    assert told["status"] == "failed" and len(told["task_id"]) == 32
    with pytest.raises(RuntimeError, match="401"):
        _client(make(api_key="right").sandbox.base_url, "wrong").run(MODEL, INPUT)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm, folder = require_tool("npm"), tmp_path_factory.mktemp("npm")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "@wavespeed/cli@0.2.2"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install @wavespeed/cli in time (offline?)")
    if done.returncode:
        pytest.skip(f"npm cannot install @wavespeed/cli: {done.stderr[-200:]}")
    return folder / "node_modules" / ".bin" / "wavespeed"


class Official:
    """Runs the program in a folder of its own against one sandbox."""

    def __init__(self, program: Path, call: Caller, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._env = {**os.environ, "WAVESPEED_API_KEY": "any", "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        self._env |= {"NO_PROXY": "127.0.0.1", "CI": "1"}
        self._run("config", "--base-url", call.sandbox.base_url)

    def _run(self, *arguments: str) -> str:
        command = [str(self._program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=self._folder, env=self._env)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def __call__(self, *arguments: str) -> Any:
        return json.loads(self._run(*arguments, "--json"))


@pytest.fixture
def official(program: Path, make: Make, tmp_path: Path) -> Official:
    return Official(program, make(small_pictures=False), tmp_path)


@pytest.mark.slow
def test_the_command_line_runs_a_model_and_saves_shows_and_deletes(official: Official) -> None:
    for extra in ((), ("--sync",)):
        ran = official(
            "run", MODEL, "-p", "a fox in a forest", "-i", "size=512*512", "num_images=2",
            'loras=[{"path":"a/b","scale":0.5}]', "--download", *extra,
        )  # fmt: skip
        assert len(ran["outputs"]) == len(ran["saved"]) == 2
        assert [Image.open(path).size for path in ran["saved"]] == [(512, 512)] * 2
    item = official("history")["items"][0]
    assert item["inputs"]["prompt"] == "a fox in a forest" and item["status"] == "completed"
    assert official("show", item["id"])["id"] == item["id"]
    assert official("delete", item["id"], "-y") == {"deleted": [item["id"]]}
    assert len(official("history")["items"]) == 1


@pytest.mark.slow
def test_the_command_line_reads_the_account_and_uploads(official: Official, tmp_path: Path) -> None:
    assert official("balance")["balance"] == 1_000_000
    assert official("price", MODEL, "-i", "num_images=4")["unit_price"] == 0.06
    assert MODEL in [model["model_id"] for model in official("models", "flux")]
    assert "loras" in official("schema", MODEL)["properties"]
    Image.new("RGB", (16, 16), "navy").save(tmp_path / "start.png")
    url = official("upload", "start.png")["url"]
    assert len(official("run", MODEL, "-p", "x", "-i", f"image={url}", "size=512*512")["outputs"]) == 1
