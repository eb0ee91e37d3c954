"""Pictures: the same request gives the same bytes, another request another look."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from flux_lora_cli.sandbox.pictures.render import Wish, render
from flux_lora_cli.sandbox.pictures.words import FIGURES, PLACES, read
from tests.sandbox.conftest import DEV, DEV3, Make

NASA = ("davanstrien/nasa_concept_art-flux-lora", 1.0)
BASE = Wish(
    model="wavespeed-ai/flux-dev-lora",
    prompt="misty mountains and a lake",
    width=512,
    height=512,
    seed=1,
    steps=28,
    guidance=5.0,
    strength=0.6,
    loras=(NASA,),
    image=None,
    image_name="",
    form="png",
)


def _picture(**changes: Any) -> Image.Image:
    return Image.open(io.BytesIO(render(replace(BASE, **changes)))).convert("RGB")


def _difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of a channel above the caption, 0 to 255."""
    box = (0, 0, one.width, round(one.height * 0.8))
    return sum(ImageStat.Stat(ImageChops.difference(one.crop(box), other.crop(box))).mean) / 3


def test_two_processes_draw_the_same_bytes() -> None:
    code = (
        "import hashlib\n"
        "from tests.sandbox.test_sandbox_pictures import BASE\n"
        "from flux_lora_cli.sandbox.pictures.render import render\n"
        "print(hashlib.sha256(render(BASE)).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(render(BASE)).hexdigest()


DIFFERENT: list[tuple[dict[str, Any], float]] = [
    ({"prompt": "a cat on a roof"}, 8),
    ({"seed": 2}, 8),
    ({"seed": 10_000_000}, 8),
    ({"loras": ()}, 4),
    ({"loras": ((NASA[0], 0.3),)}, 4),
    ({"loras": (("owner/other", 1.0),)}, 4),
    ({"loras": (NASA, ("owner/other", 0.5))}, 4),
    ({"steps": 4}, 4),
    ({"guidance": 1.0}, 4),
    ({"image_name": "https://example.com/a.png"}, 4),
]


@pytest.mark.parametrize(("changes", "least"), DIFFERENT, ids=lambda value: str(value)[:60])
def test_what_differs_in_the_request_shows(changes: dict[str, Any], least: float) -> None:
    assert _difference(_picture(), _picture(**changes)) > least


def test_a_lora_of_scale_0_changes_nothing_but_the_caption_and_accent() -> None:
    assert _difference(_picture(loras=()), _picture(loras=(("owner/other", 0.0),))) < 1


def test_strength_goes_from_the_input_to_the_new_picture() -> None:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (250, 20, 20)).save(out, "PNG")
    image = {"image": out.getvalue(), "image_name": "data:x"}
    plain = _picture()
    distances = [_difference(plain, _picture(**image, strength=strength)) for strength in (0.0, 0.3, 0.6, 1.0)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1


@pytest.mark.parametrize("size", ["512*512", "1536*512", "512*1536", "768*1024"])
@pytest.mark.parametrize("place", PLACES)
def test_every_place_fills_every_format(place: str, size: str) -> None:
    width, height = (int(side) for side in size.split("*"))
    picture = _picture(prompt=f"{PLACES[place].split()[0]} with a cat at night, snow", width=width, height=height)
    assert picture.size == (width, height)
    upper = picture.crop((0, 0, width, height * 4 // 5))
    assert min(ImageStat.Stat(upper).stddev) > 8


def test_small_pictures_of_v3_work_too() -> None:
    assert _picture(width=256, height=256).size == (256, 256)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_shows(figure: str) -> None:
    with_figure = _picture(prompt=f"mountains {FIGURES[figure].split()[0]}", loras=())
    assert read(f"a {FIGURES[figure].split()[0]}").figures == (figure,)
    assert with_figure.size == (512, 512)


@pytest.mark.parametrize(
    "prompt",
    ["", " ", "x" * 10_000, "word " * 4000, "雪の中の猫 🐈", "\u202eabc\x1b[31m\0\n", "<b>&amp;</b>", "\ud800"],
    ids=lambda prompt: repr(prompt[:12]),
)
def test_no_prompt_breaks_the_caption(prompt: str) -> None:
    assert _picture(prompt=prompt).size == (512, 512)


def test_it_says_that_it_is_a_sandboxs() -> None:
    corner = _picture().crop((400, 0, 512, 40))
    dark = corner.convert("L").point(lambda level: 255 * (level < 30))
    assert ImageStat.Stat(dark).mean[0] > 30  # the pill behind the word


@pytest.mark.parametrize(
    ("path", "inputs", "kind"),
    [
        (DEV, {}, "PNG"),
        (DEV3, {}, "JPEG"),
        (DEV3, {"output_format": "png"}, "PNG"),
        (DEV3, {"output_format": "webp"}, "WEBP"),
    ],
)
def test_formats_as_asked(make: Make, path: str, inputs: dict[str, Any], kind: str) -> None:
    call = make(pictures="scene")
    picture = Image.open(io.BytesIO(call.image(path, size="768*512", **inputs)))
    assert (picture.format, picture.size) == (kind, (768, 512))


def test_one_task_gives_as_many_pictures_as_asked_all_different(make: Make) -> None:
    call = make(pictures="scene")
    task = call.look(call.submit(num_images=4, seed=11)["id"])
    images = [call("GET", url, key=None).body for url in task["outputs"]]
    assert len({hashlib.sha256(image).digest() for image in images}) == 4
    assert images == [
        call("GET", url, key=None).body for url in call.look(call.submit(num_images=4, seed=11)["id"])["outputs"]
    ]


def test_a_drawn_seed_differs_from_task_to_task(make: Make) -> None:
    call = make(pictures="scene")
    assert call.image(seed=-1) != call.image(seed=-1)


def test_plain_pictures_have_size_and_weight_as_asked(make: Make) -> None:
    call = make(picture_bytes=100_000)
    data = call.image(size="1024*768")
    assert len(data) == 100_000
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (1024, 768)
    assert data != call.image(size="1024*768", prompt="another")
