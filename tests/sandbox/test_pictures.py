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


def _bytes(
    seed: int = 7, size: tuple[int, int] = (512, 512), form: str = "png", start: bool = False, **other: Any
) -> bytes:
    return render(PLAIN | other, seed, size, form, "flux-dev-lora", BLUE.getvalue() if start else None)


def _picture(**other: Any) -> Image.Image:
    return Image.open(io.BytesIO(_bytes(**other))).convert("RGB")


def _difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of a channel, 0 to 255, above the caption."""
    box = (0, 60, one.width, int(one.height * 0.8))
    return sum(ImageStat.Stat(ImageChops.difference(one.crop(box), other.crop(box))).mean) / 3


def test_the_same_wish_gives_the_same_bytes() -> None:
    assert _bytes() == _bytes()


@pytest.mark.parametrize(
    ("other", "least"),
    [
        ({"prompt": "travel poster of the mountains"}, 3),
        ({"prompt": "neon city at night"}, 20),
        ({"seed": 8}, 3),
        ({"num_inference_steps": 4}, 1),
        ({"guidance_scale": 1.0}, 2),
        ({"loras": [INK | {"scale": 0.8}]}, 5),
        ({"image": "b", "start": True}, 10),
        ({"image": "https://example.com/x.png"}, 5),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_different_wish_is_seen(other: dict[str, Any], least: float) -> None:
    assert _difference(_picture(), _picture(**other)) > least


def test_stacks_and_scales_differ_and_scale_0_leaves_no_trace() -> None:
    stacks = [[], [INK | {"scale": 0.3}], [INK | {"scale": 1}], [FILM | {"scale": 1}]]
    stacks.append([lora | {"scale": 0.5} for lora in (INK, FILM)])
    pictures = [_picture(loras=stack) for stack in stacks]
    assert all(_difference(one, other) > 2 for one, other in itertools.combinations(pictures, 2))
    assert _difference(_picture(loras=[INK | {"scale": 0.0}]), pictures[0]) == 0


def test_the_caption_and_the_mark_are_written() -> None:
    one, other = _picture(), _picture(seed=70)
    caption = (0, 470, 512, 512)
    assert ImageChops.difference(one.crop(caption), other.crop(caption)).getbbox()
    mark = ImageStat.Stat(_picture(prompt="snow").crop((400, 10, 500, 35)).convert("L"))
    assert mark.extrema[0][0] < 40 and mark.extrema[0][1] > 200


@pytest.mark.parametrize("size", [(256, 256), (256, 1536), (1536, 256), (2048, 1024), (64, 64)])
@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_sizes_and_formats(size: tuple[int, int], form: str) -> None:
    data = _bytes(size=size, form=form)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.size, image.format) == (size, form.upper())
        image.load()


@pytest.mark.parametrize(
    "prompt",
    ["", " ", "x" * 20_000, "猫と月", "\ud800", "a\x00b\n\u202ec", "snow rain night sunset", "cat fox house"]
    + [f"{place} {light}" for place in ("dune", "sea", "forest", "city", "planet") for light in ("night", "snow")],
    ids=lambda prompt: ascii(prompt[:20]),
)
def test_any_prompt_is_drawn(prompt: str) -> None:
    assert _picture(prompt=prompt, size=(256, 320)).size == (256, 320)


def test_a_request_is_drawn_with_its_own_values(make: Make) -> None:
    call = make(small_pictures=False)
    task = call.submit(DEV3, seed=5, num_images=2, output_format="png", size="320*256")["id"]
    first, second = (call("GET", url, key=None).body for url in call.result(task, "v3")["outputs"])
    assert Image.open(io.BytesIO(first)).size == (320, 256)
    assert second == call.image(DEV3, seed=6, output_format="png", size="320*256") != first
    unseeded = [call.image(DEV), call.image(DEV)]
    assert unseeded[0] != unseeded[1]
    start = "data:image/png;base64," + base64.b64encode(BLUE.getvalue()).decode()
    drawn = [call.image(DEV, seed=1), call.image(DEV, seed=1, image=start)]
    assert _difference(*(Image.open(io.BytesIO(data)).convert("RGB") for data in drawn)) > 5
    named = call.submit(DEV3, output_format="webp")["id"]
    (url,) = call.result(named, "v3")["outputs"]
    assert url.endswith("/1.webp") and call("GET", url, key=None).headers["Content-Type"] == "image/webp"
