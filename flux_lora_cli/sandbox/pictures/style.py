"""What a LoRA does to a picture besides its colours: a manner, laid over it as strongly as its scale says."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from .canvas import noise_image
from .palette import Palette

_Manner = Callable[[Image.Image, Palette, random.Random], Image.Image]


def apply_loras(picture: Image.Image, loras: tuple[tuple[str, float], ...], palette: Palette) -> Image.Image:
    """Each LoRA's manner in the order of the stack; scale 0 leaves no trace."""
    for path, scale in loras:
        if scale > 0:
            mark = hashlib.sha256(path.encode("utf-8", "replace")).digest()
            lots = random.Random(mark)  # noqa: S311 - drawing, not secrets
            made = _MANNERS[mark[1] % len(_MANNERS)](picture, palette, lots)
            picture = Image.blend(picture, made, min(1.0, 0.1 + 0.6 * scale))
    return picture


def _poster(picture: Image.Image, palette: Palette, lots: random.Random) -> Image.Image:
    """Few flat tones, as screen print."""
    return ImageOps.posterize(picture, 3)


def _paint(picture: Image.Image, palette: Palette, lots: random.Random) -> Image.Image:
    """Patches, as gouache: the most frequent tone around each place."""
    small = picture.reduce(4).filter(ImageFilter.ModeFilter(5))
    return Image.blend(small.resize(picture.size, Image.Resampling.NEAREST), picture, 0.25)


def _bloom(picture: Image.Image, palette: Palette, lots: random.Random) -> Image.Image:
    """Light that spills over, as on old film."""
    small = picture.reduce(4).filter(ImageFilter.BoxBlur(max(2, picture.width // 160)))
    return ImageChops.screen(picture, small.resize(picture.size, Image.Resampling.BILINEAR).point(lambda v: v * 3 // 5))


def _halftone(picture: Image.Image, palette: Palette, lots: random.Random) -> Image.Image:
    """Dots whose grid stays visible, as in newsprint."""
    pitch = max(4, min(picture.size) // 128)
    cell = Image.radial_gradient("L").resize((pitch, pitch), Image.Resampling.BILINEAR)
    return _multiplied(picture, _tiled(cell, picture.size).point(lambda level: 255 - level // 2))


def _etching(picture: Image.Image, palette: Palette, lots: random.Random) -> Image.Image:
    """Slanted strokes in the shadows, as engraved."""
    pitch = max(6, min(picture.size) // 96)
    cell = Image.new("L", (pitch, pitch), 255)
    pen = ImageDraw.Draw(cell)
    for shift in (-pitch, 0, pitch):
        pen.line((shift, pitch, shift + pitch, 0), fill=105, width=max(1, pitch // 5))
    strokes = _tiled(cell, picture.size)
    bright = picture.convert("L").point(lambda level: min(255, level * 3 // 2))
    return _multiplied(picture, ImageChops.lighter(strokes, bright))


def _canvas_grain(picture: Image.Image, palette: Palette, lots: random.Random) -> Image.Image:
    """The weave of a canvas, and uneven paint."""
    grain = noise_image(lots, (160, 160), picture.size, 2).point(lambda level: 190 + level // 4)
    return _multiplied(picture, grain)


def _duotone(picture: Image.Image, palette: Palette, lots: random.Random) -> Image.Image:
    """Two inks."""
    return ImageOps.colorize(ImageOps.autocontrast(picture.convert("L")), palette.near, palette.light, palette.accent)


def _solar(picture: Image.Image, palette: Palette, lots: random.Random) -> Image.Image:
    """Bright tones turn over, as in a darkroom accident."""
    return ImageOps.solarize(picture, 150)


_MANNERS: Final[tuple[_Manner, ...]] = (
    _poster, _paint, _bloom, _halftone, _etching, _canvas_grain, _duotone, _solar,
)  # fmt: skip


def _multiplied(picture: Image.Image, grey: Image.Image) -> Image.Image:
    return ImageChops.multiply(picture, Image.merge("RGB", (grey, grey, grey)))


def _tiled(cell: Image.Image, size: tuple[int, int]) -> Image.Image:
    row = Image.new("L", (size[0], cell.height))
    for left in range(0, size[0], cell.width):
        row.paste(cell, (left, 0))
    whole = Image.new("L", size)
    for top in range(0, size[1], cell.height):
        whole.paste(row, (0, top))
    return whole
