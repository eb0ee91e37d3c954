"""Pictures drawn from a request: the same request and seed give the same bytes; all else changes what one sees.

The prompt picks place, light and figures by its words, prompt and seed place them; steps add detail, guidance colour;
each LoRA pulls the palette towards its own and lays its manner over the picture, as far as its scale says. Figures
(``pictures.json``) are polygons, or ovals (center, half axes), one unit high from their feet.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import random
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

Colour = tuple[int, ...]
Point = tuple[float, float]
_WORDS: Final = json.loads(files(__package__).joinpath("pictures.json").read_bytes())
_PALETTES: Final = [[(*bytes.fromhex(code),) for code in line.split()] for line in _WORDS["palettes"][1:]]
_PLACES: Final = ("hills", "hills", "sea", "city", "space")
_WHITE: Final = (250, 250, 250)
# 0 at the inscribed circle, so that no square edge shows.
_GLOW: Final = Image.radial_gradient("L").point([round(max(0.0, (179 - v) / 179) ** 2 * 128) for v in range(256)])
_FADE: Final = Image.linear_gradient("L").resize((64, 64)).point([min(v, 255 - v) * 3 // 2 for v in range(256)])
_font = functools.lru_cache(32)(ImageFont.load_default)


def render(
    values: Mapping[str, Any], seed: int, size: tuple[int, int], form: str, model: str = "", image: bytes | None = None
) -> bytes:
    """The picture of a checked request, encoded. ``image``: what it starts from; None where that cannot be had."""
    painter, out = _Painter(values, seed, size), io.BytesIO()
    picture = painter.paint(values, image).resize(size, Image.Resampling.BICUBIC)
    if min(size) >= 128:
        facts = f"seed {seed}  ·  {painter.steps} steps  ·  guidance {painter.guidance:g}  ·  {size[0]}*{size[1]}"
        stack = "  +  ".join(f"{path.rstrip('/').rpartition('/')[2]}:{scale:g}" for path, scale in painter.loras)
        _caption(picture, [painter.prompt or "(no prompt)", f"{facts}  ·  {model}", stack], painter.accent)
    # Strategy 3, run lengths, is smaller on even skies, and no slower.
    picture.save(out, form.upper(), quality=88, method=1, compress_level=1, compress_type=3)
    return out.getvalue()


def _lots(*parts: Any) -> random.Random:
    return random.Random(hashlib.sha256(json.dumps(parts).encode()).digest())  # noqa: S311 - drawing, not secrets


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(max(0, min(255, round(a + (b - a) * share))) for a, b in zip(one, other, strict=True))


def _blend(one: list[Colour], other: list[Colour], share: float) -> list[Colour]:
    return [_mix(a, b, share) for a, b in zip(one, other, strict=True)]


def _fade(colours: list[Colour], size: tuple[int, int]) -> Image.Image:
    """The colours from top to bottom."""
    column = Image.frombytes("RGB", (1, len(colours)), bytes(part for colour in colours for part in colour))
    return column.resize((1, size[1]), Image.Resampling.BICUBIC).resize(size, Image.Resampling.NEAREST)


class _Painter:
    """Paints larger than the picture, which makes edges soft. Places are in parts of width and height."""

    def __init__(self, values: Mapping[str, Any], seed: int, size: tuple[int, int]) -> None:
        self.prompt, self.steps = str(values.get("prompt", "")), int(values.get("num_inference_steps", 28))
        self.guidance = values.get("guidance_scale", 3.5)
        self.loras = [(lora["path"], float(lora["scale"])) for lora in values.get("loras", ())]
        self.lots, self.detail = _lots(self.prompt, seed), min(1.0, self.steps / 50) ** 0.7
        scale = min(2.0, 1536 / max(size))
        self.size = self.width, self.height = round(size[0] * scale), round(size[1] * scale)
        self.unit = min(self.size)
        words = re.findall("[a-z]+", self.prompt.lower())
        self.light = {name for name, known in _WORDS["lights"].items() if set(known.split()) & set(words)}
        places = [name for word in words for name, known in _WORDS["places"].items() if word in known.split()]
        self.place = places[0] if places else _lots(self.prompt).choice(_PLACES)
        self.figures = [shape for known, shape in _WORDS["figures"].items() if set(known.split()) & set(words)][:2]
        colours = _blend(_lots(self.prompt, 1).choice(_PALETTES[1:]), self.lots.choice(_PALETTES[1:]), 0.4)
        for path, lora in sorted(self.loras, key=lambda item: (item[1], item[0])):
            lots = _lots(path)  # mixed, so that hardly two LoRAs look alike
            own = _blend(lots.choice(_PALETTES[1:]), lots.choice(_PALETTES[1:]), lots.random())
            colours = _blend(colours, own, 1 - 0.4**lora)
        vivid = 0.5 + min(self.guidance, 20) * 0.1
        colours = [_mix((sum(colour) // 3,) * 3, colour, vivid) for colour in colours]
        colours = _blend(colours, _PALETTES[0], 0.72) if "night" in self.light else colours
        self.zenith, self.sky, self.horizon, self.sun, self.far, self.near, self.accent = colours
        self.image = _fade([self.zenith, self.sky, self.horizon, self.horizon], self.size)
        self.pen = ImageDraw.Draw(self.image, "RGBA")

    def paint(self, values: Mapping[str, Any], start: bytes | None) -> Image.Image:
        self._heavens()
        {"space": self._planet, "sea": self._sea}.get(self.place, self._land)()
        for place, (size, shape) in enumerate(self.figures):
            self._figure(shape, (self.lots.uniform(0.22, 0.42) + 0.36 * place) * self.width, size * self.unit)
        if "snow" in self.light:
            self._dots(140, (0, 0.9), 0.004, _WHITE)
        elif "rain" in self.light:
            self._dots(140, (0, 0.9), 0.0018, _WHITE, tall=16)
        picture = self.image
        for path, scale in self.loras:
            if scale > 0:
                picture = Image.blend(picture, self._manner(picture, path), 1 - 0.4**scale)
        names = [values.get(name) for name in ("image", "images", "mask_image")]
        if any(names):
            patches = Image.frombytes("RGB", (3, 3), _lots(names).randbytes(27))
            with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                patches = Image.open(io.BytesIO(start or b"")).convert("RGB")
            picture = Image.blend(ImageOps.fit(patches, self.size), picture, 0.25 + 0.75 * values.get("strength", 0.6))
        return picture

    def _ground(self, line: Iterable[Point], colour: Colour, foot: Colour) -> None:
        """All that lies below a line; it fades towards the foot's colour."""
        mask = Image.new("L", self.size)
        points = [(x * self.width, y * self.height) for x, y in line]
        ImageDraw.Draw(mask).polygon([(points[0][0], self.height), *points, (points[-1][0], self.height)], fill=255)
        box = (0, max(0, int(min(y for _, y in points))), *self.size)
        self.image.paste(_fade([colour, colour, foot], (self.width, self.height - box[1])), box, mask.crop(box))

    def _disc(self, x: float, y: float, wide: float, high: float, colour: Colour) -> None:
        """An oval; its half axes in pixels."""
        x, y = x * self.width, y * self.height
        self.pen.ellipse((x - wide, y - high, x + wide, y + high), colour)

    def _dots(self, count: int, band: Point, size: float, colour: Colour, wide: float = 1, tall: float = 1) -> None:
        for _ in range(min(count, self.unit)):
            x, y, grain = self.lots.random(), self.lots.uniform(*band), size * self.unit * self.lots.uniform(0.4, 1)
            self._disc(x, y, grain * wide, grain * tall, (*colour, self.lots.randrange(60, 230)))

    def _heavens(self) -> None:
        """Stars, sun or moon, clouds."""
        space = self.place == "space"
        if space or "night" in self.light:
            self._dots(80 + round(self.detail * 240), (0, 1 if space else 0.6), 0.0016, _WHITE)
        x, size = self.lots.uniform(0.2, 0.8), self.lots.uniform(0.05, 0.1) * self.unit
        y = self.lots.uniform(0.42, 0.5) if "low" in self.light else self.lots.uniform(0.16, 0.38)
        reach = round(0.62 * self.unit)
        corner = round(x * self.width) - reach, round(y * self.height) - reach
        self.image.paste(self.sun, corner, _GLOW.resize((2 * reach, 2 * reach), Image.Resampling.BILINEAR))
        if not space:
            self._disc(x, y, size, size, _mix(self.sun, _WHITE, 0.4))
        drops = Image.frombytes("L", (4, 8), self.lots.randbytes(32)).resize((64, 64), Image.Resampling.BICUBIC)
        thick = 1.2 + 1.2 * self.lots.random() + 1.5 * bool(self.light & {"rain", "snow"})
        clouds = ImageChops.multiply(drops.point([max(0, v - 128) * thick for v in range(256)]), _FADE)
        dim = 0.6 if space or self.light & {"rain", "night"} else 0.25
        box = (0, round(self.height * 0.05), self.width, round(self.height * 0.6))
        self.image.paste(_mix(self.sun, self.sky, dim), box, clouds.resize((self.width, box[3] - box[1])))

    def _land(self) -> None:
        """Layers from back to front, each in the haze of the one before it."""
        line, count = self._city if self.place == "city" else self._hills, 3 + round(self.detail * 3)
        for near in (place / (count - 1) for place in range(count)):
            colour = _mix(_mix(self.far, self.horizon, 0.5), self.near, near**0.9)
            colour = _mix(colour, _WHITE, 0.5) if "snow" in self.light else colour
            self._ground(line(near), colour, _mix(colour, self.horizon, 0.6 * (1 - near)))

    def _hills(self, near: float) -> list[Point]:
        swing = 0.27 - 0.19 * near
        line = [self.lots.uniform(0.5, 1) * (place % 2) for place in range(5 + 2 * round(3 * near))]
        for octave in range(2 + round(self.detail * 2)):
            middles = [(a + b) / 2 + self.lots.uniform(-0.16, 0.16) / 1.7**octave for a, b in itertools.pairwise(line)]
            line = [y for pair in zip(line, middles, strict=False) for y in pair] + line[-1:]
        return [(place / (len(line) - 1), 0.52 + 0.34 * near - swing * y) for place, y in enumerate(line)]

    def _city(self, near: float) -> list[Point]:
        line: list[Point] = [(0.0, 0.75)]
        while line[-1][0] < 1:
            left, top = line[-1][0], 0.7 + 0.1 * near - 0.4 * self.lots.random() ** 1.5
            line += [(left, top), (left + (0.05 + 0.03 * near) * self.lots.uniform(0.6, 1.5), top)]
        return line

    def _sea(self) -> None:
        self._ground([(x, y * 0.3 + 0.42) for x, y in self._hills(0.2)], _mix(self.far, self.horizon, 0.4), self.far)
        self._ground([(0, 0.6), (1, 0.6)], _mix(self.horizon, self.sky, 0.35), _mix(self.near, self.zenith, 0.3))
        for band, size in (((0.61, 0.66), 0.001), ((0.66, 0.78), 0.0022), ((0.78, 1), 0.0036)):
            self._dots(round(20 + 50 * self.detail), band, size, self.near, 16)
            self._dots(round(15 + 40 * self.detail), band, size, self.sun, 12)

    def _planet(self) -> None:
        """A planet, its ring before it, and the ground of another."""
        middle = self.lots.uniform(0.3, 0.7) * self.width, self.lots.uniform(0.3, 0.45) * self.height
        size = round(self.lots.uniform(0.16, 0.27) * self.unit)
        mask = Image.new("L", (2 * size, 2 * size))
        ImageDraw.Draw(mask).ellipse((0, 0, 2 * size, 2 * size), 255)
        shades = [_mix(self.sun, self.accent, 0.35), _mix(self.far, self.zenith, 0.6)]
        self.image.paste(_fade(shades, mask.size), (round(middle[0]) - size, round(middle[1]) - size), mask)
        for reach, colour in ((1.6 * size, self.sun), (1.8 * size, self.accent)):
            box = (middle[0] - reach, middle[1] - reach / 4, middle[0] + reach, middle[1] + reach / 4)
            self.pen.arc(box, -20, 200, _mix(colour, self.zenith, 0.3), max(1, self.unit // 50))
        self._disc(0.5, 2.3 - 0.5 * self.unit / self.height, 1.5 * self.height, 1.02 * self.unit, self.near)

    def _figure(self, shape: str, left: float, size: float) -> None:
        foot = 0.84 * self.height
        colour = _mix(self.near, self.accent, 0.6) if self.place == "city" else _mix(self.near, (0, 0, 0), 0.35)
        for numbers in ([float(number) * size for number in part.split()] for part in shape.split(";")):
            points = [(left + x, foot - y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
            if len(points) == 2:
                (x, y), (wide, high) = points[0], numbers[2:]
                self.pen.ellipse((x - wide, y - high, x + wide, y + high), colour)
            else:
                self.pen.polygon(points, colour)

    def _manner(self, picture: Image.Image, path: str) -> Image.Image:
        """The picture as a screen print, in inks, as an accident in the darkroom, in gouache."""
        inks, coarse = (self.near, self.sun, self.accent), picture.reduce(max(1, self.unit // 200))
        manners = (
            lambda: ImageOps.posterize(picture, 2),
            lambda: ImageOps.colorize(ImageOps.autocontrast(picture.convert("L")), *inks),
            lambda: ImageOps.solarize(picture, 140),
            lambda: coarse.filter(ImageFilter.ModeFilter(5)).resize(picture.size, Image.Resampling.NEAREST),
        )
        return _lots(path, "manner").choice(manners)()


def _caption(picture: Image.Image, lines: list[str], accent: Colour) -> None:
    """Prompt, seed and stack on a band, and the mark that says that a sandbox made this."""
    unit, pen = min(picture.size), ImageDraw.Draw(picture)
    large, small, margin = max(12, unit // 32), max(10, unit // 46), max(8, unit // 36)
    rows = [row for row in zip(lines, (large, small, small), strict=True) if row[0]]
    y = picture.height - sum(size * 1.35 for _, size in rows) - margin * 0.6
    band = (0, round(y - margin * 0.4), picture.width, picture.height)
    picture.paste(picture.crop(band).point([round(level * 0.25 + 9) for level in range(256)] * 3), band)
    pen.rectangle((0, band[1], picture.width, band[1] + unit // 300), fill=accent)
    for text, size in rows:
        line = re.sub("[^ -\u024f–—‘’“”…·]|[\x7f-\xa0]", "·", text)[: 2 * picture.width // size]  # letters of the font
        pen.text((margin, y), line, font=_font(size), fill=(235, 238, 245))
        y += size * 1.35
    mark, right = "S A N D B O X", picture.width - margin
    left, bottom = right - _font(small).getlength(mark) - small, margin + small * 1.7
    pen.rounded_rectangle((left, margin, right, bottom), small * 0.85, fill=(10, 12, 18), outline=accent)
    pen.text(((left + right) / 2, (margin + bottom) / 2), mark, font=_font(small), fill=(255, 255, 255), anchor="mm")
