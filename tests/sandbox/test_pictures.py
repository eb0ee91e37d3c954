"""Pictures: the same request and seed give the same bytes; everything else can be seen."""

from __future__ import annotations

import base64
import io
import itertools
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from flux_lora_cli.sandbox.pictures import render
from tests.sandbox.conftest import DEV, DEV3, Make

PLAIN = {"prompt": "travel poster of mountains", "guidance_scale": 5.0, "loras": []}
INK, FILM = {"path": "a/ink"}, {"path": "b/film"}
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
        ({"prompt": "travel poster of the mountains"}, 3), ({"prompt": "neon city at night"}, 20), ({"seed": 8}, 3),
        ({"num_inference_steps": 4}, 1), ({"guidance_scale": 1.0}, 2), ({"loras": [INK | {"scale": 0.8}]}, 5),
        ({"image": "b", "start": True}, 10), ({"image": "https://example.com/x.png"}, 5),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_different_wish_is_seen(other: dict[str, Any], least: float) -> None:
    assert difference(picture(), picture(**other)) > least


def test_stacks_and_scales_differ_and_scale_0_leaves_no_trace() -> None:
    stacks = [[], [INK | {"scale": 0.3}], [INK | {"scale": 1}], [FILM | {"scale": 1}]]
    stacks.append([lora | {"scale": 0.5} for lora in (INK, FILM)])
    pictures = [picture(loras=stack) for stack in stacks]
    assert all(difference(one, other) > 2 for one, other in itertools.combinations(pictures, 2))
    assert difference(picture(loras=[INK | {"scale": 0.0}]), pictures[0]) == 0
    assert difference(*(picture(loras=[INK | {"scale": scale}]) for scale in (2, 4))) > 1
    others = [picture(loras=[{"path": f"owner/style-{number}", "scale": 1}], size=(128, 128)) for number in range(24)]
    assert all(difference(one, other) > 1 for one, other in itertools.combinations(others, 2))


def test_the_caption_and_the_mark_are_written() -> None:
    one, other = (picture(seed=seed, size=(512, 512)) for seed in (7, 70))
    assert ImageChops.difference(*(image.crop((0, 470, 512, 512)) for image in (one, other))).getbbox()
    dark, light = ImageStat.Stat(one.crop((400, 10, 500, 35)).convert("L")).extrema[0]
    assert dark < 40 and light > 200


@pytest.mark.parametrize(
    "prompt",
    ["", "x" * 20_000, "猫と月", "\ud800", "a\x00b\n\u202ec", "snow rain night sunset", "cat fox house"]
    + [f"{place} {light}" for place in ("dune", "sea", "forest", "city", "planet") for light in ("night", "snow")],
    ids=lambda prompt: ascii(prompt[:20]),
)
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
