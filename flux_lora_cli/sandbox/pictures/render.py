"""From a request to an encoded picture."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

from PIL import Image


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
    has_image: bool
    form: str

    @classmethod
    def of(
        cls, model: str, values: dict[str, Any], seed: int, number: int, image: bytes | None, form: str
    ) -> Wish:
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
            has_image=bool(values["image"]),
            form=form,
        )

    def digest(self, *parts: Any) -> bytes:
        """A hash of some parts of the wish, for drawing lots from."""
        return hashlib.sha256(json.dumps(parts).encode()).digest()


def render(wish: Wish) -> bytes:
    """The picture, encoded."""
    colour = wish.digest(wish.prompt, wish.seed, wish.loras)
    picture = Image.new("RGB", (wish.width, wish.height), (colour[0], colour[1], colour[2]))
    return encoded(picture, wish.form)


def encoded(picture: Image.Image, form: str) -> bytes:
    """As PNG, JPEG or WebP: quick rather than small."""
    out = io.BytesIO()
    if form == "png":
        picture.save(out, "PNG", compress_level=1)
    elif form == "webp":
        picture.save(out, "WEBP", quality=85, method=1)
    else:
        picture.save(out, "JPEG", quality=90)
    return out.getvalue()
