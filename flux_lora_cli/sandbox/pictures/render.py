"""From a request to an encoded picture."""

from __future__ import annotations

import hashlib
import io
import json
import random
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from .canvas import Canvas
from .caption import Lines, write
from .figures import stand
from .palette import PALETTES, at_guidance, at_night, blend, named, of_stack
from .places import PLACES, Mood
from .sky import fall, paint_sky
from .start_image import with_input
from .style import apply_loras
from .words import Said, read
from .worlds import shapes, space

_OPEN: Final = ("mountains", "dunes", "sea", "forest", "city", "mountains", "space", "shapes")
"""Where a prompt names no place."""
_RUNS: Final = 3
"""zlib's strategy for run lengths: on pictures with even skies a fifth smaller, and no slower."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Everything a picture depends on."""

    model: str
    prompt: str
    width: int
    height: int
    seed: int
    steps: int
    guidance: float
    strength: float
    loras: tuple[tuple[str, float], ...]
    image: bytes | None
    image_name: str
    form: str

    @classmethod
    def of(cls, model: str, values: dict[str, Any], seed: int, number: int, image: bytes | None, form: str) -> Wish:
        """The picture ``number`` (from 1) of a checked request."""
        width, height = (int(side) for side in values["size"].split("*"))
        return cls(
            model=model,
            prompt=values["prompt"],
            width=width,
            height=height,
            seed=seed + number - 1,
            steps=values["num_inference_steps"],
            guidance=float(values["guidance_scale"]),
            strength=float(values["strength"]),
            loras=tuple((lora["path"], float(lora["scale"])) for lora in values["loras"]),
            image=image,
            image_name=values["image"][:2000],
            form=form,
        )

    @property
    def has_image(self) -> bool:
        """Whether the picture starts from another, be its bytes at hand or not."""
        return bool(self.image_name)


def render(wish: Wish) -> bytes:
    """The picture, encoded. The same wish gives the same bytes, on any machine with this Pillow."""
    said = read(wish.prompt)
    lots = random.Random(_mark(wish.prompt, wish.seed))  # noqa: S311 - drawing, not secrets
    mood = _mood(wish, said, lots)
    canvas = Canvas(wish.width, wish.height)
    _scene(canvas, lots, mood, said, wish)
    picture = apply_loras(canvas.image, wish.loras, mood.palette)
    if wish.has_image:
        picture = with_input(picture, wish.image, wish.image_name, wish.strength, mood.palette)
    write(picture, _lines(wish), mood.palette.accent)
    return encoded(picture, wish.form)


def _mark(*parts: Any) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _mood(wish: Wish, said: Said, lots: random.Random) -> Mood:
    palette = blend(named(wish.prompt), named(f"seed {wish.seed % 997}"), 0.4)
    if said.hour in ("dawn", "sunset"):
        palette = blend(palette, PALETTES["dusk" if said.hour == "sunset" else "rose"], 0.6)
    if said.weather == "snow":
        palette = blend(palette, PALETTES["ice"], 0.6)
    palette = at_guidance(of_stack(palette, wish.loras), wish.guidance)
    night = said.hour == "night"
    low = said.hour in ("dawn", "sunset")
    sun = (lots.uniform(0.2, 0.8), lots.uniform(0.42, 0.5) if low else lots.uniform(0.16, 0.4))
    return Mood(
        palette=at_night(palette) if night else palette,
        detail=min(1.0, wish.steps / 50) ** 0.7,
        snow=said.weather == "snow",
        night=night,
        sun=sun,
    )


def _scene(canvas: Canvas, lots: random.Random, mood: Mood, said: Said, wish: Wish) -> None:
    place = said.place or _OPEN[_mark(wish.prompt)[0] % len(_OPEN)]
    if place in PLACES:
        paint_sky(canvas, lots, mood, said)
        ground = PLACES[place](canvas, lots, mood)
    else:
        ground = (space if place == "space" else shapes)(canvas, lots, mood)
    for number, figure in enumerate(said.figures):
        x = lots.uniform(0.22, 0.42) if number == 0 else lots.uniform(0.6, 0.8)
        stand(canvas, figure, x, ground, mood.palette)
    fall(canvas, lots, mood, said.weather)


def _lines(wish: Wish) -> Lines:
    facts = [
        f"seed {wish.seed}",
        f"{wish.steps} steps",
        f"guidance {wish.guidance:g}",
        f"{wish.width}*{wish.height}",
        *([f"strength {wish.strength:g}"] if wish.has_image else []),
        wish.model.rpartition("/")[2],
    ]
    stack = "  +  ".join(f"{path.rstrip('/').rpartition('/')[2]}:{scale:g}" for path, scale in wish.loras)
    return Lines(wish.prompt, "  ·  ".join(facts), stack)


def encoded(picture: Image.Image, form: str) -> bytes:
    """As PNG, JPEG or WebP: quick rather than small."""
    out = io.BytesIO()
    if form == "png":
        picture.save(out, "PNG", compress_level=1, compress_type=_RUNS)
    elif form == "webp":
        picture.save(out, "WEBP", quality=85, method=1)
    else:
        picture.save(out, "JPEG", quality=90)
    return out.getvalue()
