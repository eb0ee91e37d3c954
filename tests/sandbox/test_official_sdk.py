"""The official Python SDK, unchanged, pointed at the sandbox."""

from __future__ import annotations

import io
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from wavespeed.api import Client

from tests.sandbox.conftest import Make

MODEL = "wavespeed-ai/flux-dev-lora"
INPUT = {"prompt": "a lighthouse at night", "size": "512*512", "seed": 3, "loras": [{"path": "a/b", "scale": 0.8}]}


@pytest.mark.parametrize("sync", [False, True])
def test_run_gives_images(make: Make, sync: bool) -> None:
    call = make(service_time=(0.02, 0.05), pictures="scene")
    client = Client(api_key="any", base_url=call.sandbox.base_url)
    result = client.run(MODEL, {**INPUT, "num_images": 2}, poll_interval=0.02, enable_sync_mode=sync)
    assert len(result["outputs"]) == 2
    for url in result["outputs"]:
        with urllib.request.urlopen(url) as response:
            assert Image.open(io.BytesIO(response.read())).size == (512, 512)


def test_upload_gives_a_url_that_an_image_can_start_from(make: Make, tmp_path: Path) -> None:
    call = make()
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "start.png")
    client = Client(api_key="any", base_url=call.sandbox.base_url)
    url = client.upload(str(tmp_path / "start.png"))
    assert call("GET", url, key=None).body == (tmp_path / "start.png").read_bytes()
    assert client.run(MODEL, {**INPUT, "image": url}, poll_interval=0.02)["outputs"]


def test_failures_are_told_as_the_sdk_expects(make: Make) -> None:
    failing = make(faults=["submit:failed=1200"])
    client = Client(api_key="any", base_url=failing.sandbox.base_url)
    with pytest.raises(RuntimeError, match="Prediction failed"):
        client.run(MODEL, INPUT, poll_interval=0.02)
    told = client.run_no_throw(MODEL, INPUT, poll_interval=0.02)
    assert told["status"] == "failed" and len(told["task_id"]) == 32
    refusing = Client(api_key="wrong", base_url=make(api_key="right").sandbox.base_url)
    with pytest.raises(RuntimeError, match="401"):
        refusing.run(MODEL, INPUT)
