"""Pictures: the same request and seed give the same bytes; everything else can be seen."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from flux_lora_cli.sandbox.pictures import render
from tests.sandbox.conftest import DEV, DEV3, Make

PLAIN = {"prompt": "travel poster of mountains", "guidance_scale": 5.0, "loras": []}
BLUE = io.BytesIO()
Image.new("RGB", (40, 40), "blue").save(BLUE, "PNG")


def picture(seed: int = 7, size: tuple[int, int] = (384, 384), form: str = "png", **other: Any) -> Image.Image:
    start = BLUE.getvalue() if other.pop("start", False) else None
    image = Image.open(io.BytesIO(render(PLAIN | other, seed, size, form, "flux-dev-lora", start)))
    assert (image.size, image.format) == (size, form.upper())
    return image.convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of a channel, 0 to 255, above the caption."""
    box = (0, 60, one.width, int(one.height * 0.8))
    return sum(ImageStat.Stat(ImageChops.difference(one.crop(box), other.crop(box))).mean) / 3


@pytest.mark.parametrize(
    ("other", "least"),
    [
        ({"prompt": "neon city at night"}, 20), ({"seed": 8}, 3), ({"num_inference_steps": 4}, 1),
        ({"guidance_scale": 1.0}, 2), ({"image": "b", "start": True}, 10),
    ],
)  # fmt: skip
def test_a_different_wish_is_seen(other: dict[str, Any], least: float) -> None:
    assert difference(picture(), picture(**other)) > least


def test_a_lora_shows_as_much_as_its_scale_says() -> None:
    none, some, all_ = (picture(loras=[{"path": "a/ink", "scale": scale}]) for scale in (0, 0.3, 1))
    assert difference(none, picture()) == 0
    assert 2 < difference(none, some) < difference(none, all_)


@pytest.mark.parametrize("prompt", ["", "x" * 20_000, "猫と月", "\ud800", "a\x00b\n\u202ec", "snow rain night sea"])
def test_any_prompt_is_drawn(prompt: str) -> None:
    picture(prompt=prompt, size=(256, 320))


def test_a_request_is_drawn_with_its_own_values(make: Make) -> None:
    call = make()
    task = call.submit(DEV3, seed=5, num_images=2, output_format="webp", size="320*256")
    first, second = (call("GET", url, key=None) for url in call.result(task, "v3")["outputs"])
    assert Image.open(io.BytesIO(first.body)).size == (320, 256)
    assert first.headers["Content-Type"] == "image/webp"
    assert second.body == call.image(DEV3, seed=6, output_format="webp", size="320*256") != first.body
    start = "data:image/png;base64," + base64.b64encode(BLUE.getvalue()).decode()
    assert len({call.image(DEV), call.image(DEV), call.image(DEV, seed=1), call.image(DEV, seed=1, image=start)}) == 4
