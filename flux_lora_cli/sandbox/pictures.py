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
import math
import random
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

Colour = tuple[int, int, int]
Point = tuple[float, float]
_WORDS: Final = json.loads(files(__package__).joinpath("pictures.json").read_bytes())
_PALETTES: Final = [[(*bytes.fromhex(code),) for code in line.split()] for line in _WORDS["palettes"][1:]]
_OPEN: Final = ("mountains", "dunes", "sea", "forest", "city", "mountains", "space")
_WHITE: Final = (250, 250, 250)
# 0 at the inscribed circle, so that no square edge shows.
_GLOW: Final = Image.radial_gradient("L").point([round(max(0.0, (179 - v) / 179) ** 2 * 128) for v in range(256)])
_FADE: Final = Image.linear_gradient("L").resize((64, 64)).point([min(v, 255 - v) * 3 // 2 for v in range(256)])
_font = functools.lru_cache(32)(ImageFont.load_default)


def render(
    values: Mapping[str, Any], seed: int, size: tuple[int, int], form: str, model: str = "", image: bytes | None = None
) -> bytes:
    """The picture of a checked request, encoded. ``image``: what it starts from; None where that cannot be had."""
    painter, out = _Painter(values, seed, size, image), io.BytesIO()
    picture = painter.paint().resize(size, Image.Resampling.BICUBIC)
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
    red, green, blue = (max(0, min(255, round(a + (b - a) * share))) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _blend(one: list[Colour], other: list[Colour], share: float) -> list[Colour]:
    return [_mix(a, b, share) for a, b in zip(one, other, strict=True)]


def _fade(colours: list[Colour], size: tuple[int, int]) -> Image.Image:
    """The colours from top to bottom."""
    column = Image.frombytes("RGB", (1, len(colours)), bytes(part for colour in colours for part in colour))
    return column.resize((1, size[1]), Image.Resampling.BICUBIC).resize(size, Image.Resampling.NEAREST)


class _Painter:
    """Places are in parts of width and height, sizes in parts of the shorter side."""

    def __init__(self, values: Mapping[str, Any], seed: int, size: tuple[int, int], image: bytes | None) -> None:
        self.prompt, self.steps = str(values.get("prompt", "")), int(values.get("num_inference_steps", 28))
        self.guidance, self.strength = values.get("guidance_scale", 3.5), values.get("strength", 0.6)
        self.loras = [(lora["path"], float(lora["scale"])) for lora in values.get("loras", ())]
        self.start, self.start_name = image, [values.get(name) for name in ("image", "images", "mask_image")]
        self.lots, self.detail = _lots(self.prompt, seed), min(1.0, self.steps / 50) ** 0.7
        scale = min(1.0, 1536 / max(size))
        self.size = self.width, self.height = round(size[0] * scale), round(size[1] * scale)
        self.unit = min(self.size)
        words = re.findall("[a-z]+", self.prompt.lower())
        self.light = {name for name, known in _WORDS["lights"].items() if set(known.split()) & set(words)}
        places = [name for word in words for name, known in _WORDS["places"].items() if word in known.split()]
        self.place = places[0] if places else _lots(self.prompt).choice(_OPEN)
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

    def paint(self) -> Image.Image:
        self._heavens()
        getattr(self, f"_{self.place}")() if self.place in ("sea", "space") else self._land()
        for place, (size, shape) in enumerate(self.figures):
            self._figure(shape, self.lots.uniform(0.22, 0.42) + 0.36 * place, size)
        if weather := self.light & {"snow", "rain"}:
            self._dots(140, (0, 0.9), *((0.004, _WHITE) if "snow" in weather else (0.0018, _WHITE, 1, 16)))
        picture = self.image
        for path, scale in self.loras:
            if scale > 0:
                picture = Image.blend(picture, self._manner(picture, path), 1 - 0.4**scale)
        if any(self.start_name):
            picture = Image.blend(self._start(), picture, 0.25 + 0.75 * self.strength)
        return picture

    def _shape(self, outline: list[Point], colour: Colour, foot: Colour | None = None) -> None:
        """A polygon with soft edges; ``foot``: the colour towards which it fades at its lower end."""
        xs, ys = [x * self.width for x, _ in outline], [y * self.height for _, y in outline]
        left, right = max(0, int(min(xs))), min(self.width, math.ceil(max(xs)))
        top, bottom = max(0, int(min(ys))), min(self.height, math.ceil(max(ys)))
        if left >= right or top >= bottom:
            return
        size, box = (right - left, bottom - top), (left, top, right, bottom)
        mask = Image.new("L", (size[0] * 2, size[1] * 2))
        ImageDraw.Draw(mask).polygon([((x - left) * 2, (y - top) * 2) for x, y in zip(xs, ys, strict=True)], fill=255)
        self.image.paste(_fade([colour, colour, foot or colour], size), box, mask.reduce(2))

    def _oval(self, x: float, y: float, wide: float, high: float, colour: Colour, foot: Colour | None = None) -> None:
        wide, high = wide * self.unit / self.width, high * self.unit / self.height
        turns = [step / 48 * math.tau for step in range(48)]
        self._shape([(x + math.cos(turn) * wide, y + math.sin(turn) * high) for turn in turns], colour, foot)

    def _ground(self, line: list[Point], colour: Colour, foot: Colour) -> None:
        self._shape([(line[0][0], 1.0), *line, (line[-1][0], 1.0)], colour, foot)

    def _glow(self, x: float, y: float, radius: float, colour: Colour) -> None:
        side = max(2, round(radius * self.unit * 2))
        corner = round(x * self.width) - side // 2, round(y * self.height) - side // 2
        self.image.paste(colour, corner, _GLOW.resize((side, side), Image.Resampling.BILINEAR))

    def _dots(self, count: int, band: Point, size: float, colour: Colour, wide: float = 1, tall: float = 1) -> None:
        pen = ImageDraw.Draw(self.image, "RGBA")
        for _ in range(min(count, self.unit)):
            x, y = self.lots.random() * self.width, self.lots.uniform(*band) * self.height
            grain = size * self.unit * self.lots.uniform(0.4, 1)
            box = (x - grain * wide, y - grain * tall, x + grain * wide, y + grain * tall)
            pen.ellipse(box, (*colour, self.lots.randrange(60, 230)))

    def _heavens(self) -> None:
        """Stars, sun or moon, clouds."""
        space = self.place == "space"
        if space or "night" in self.light:
            self._dots(80 + round(self.detail * 240), (0, 1 if space else 0.6), 0.0016, _WHITE)
        x, size = self.lots.uniform(0.2, 0.8), self.lots.uniform(0.05, 0.1)
        y = self.lots.uniform(0.42, 0.5) if "low" in self.light else self.lots.uniform(0.16, 0.38)
        if not space:
            self._glow(x, y, 0.62, self.sun)
            self._oval(x, y, size, size, _mix(self.sun, _WHITE, 0.4))
        top, part = round(self.height * 0.05), (self.width, round(self.height * 0.55))
        grids = [Image.frombytes("L", grid, self.lots.randbytes(grid[0] * grid[1])) for grid in ((4, 6), (12, 18))]
        coarse, fine = (grid.resize((64, 64), Image.Resampling.BICUBIC) for grid in grids)
        thick = 1.3 + 1.3 * self.lots.random() + 1.5 * bool(self.light & {"rain", "snow"})
        mist = Image.blend(coarse, fine, 0.3).point([max(0, min(255, round((v - 128) * thick))) for v in range(256)])
        mist = ImageChops.multiply(mist, _FADE).resize(part, Image.Resampling.BILINEAR)
        dim = 0.6 if space or self.light & {"rain", "night"} else 0.25
        self.image.paste(_mix(self.sun, self.sky, dim), (0, top), mist)

    def _land(self) -> None:
        """Layers from back to front, each in the haze of the one before it."""
        skyline, count = getattr(self, f"_{self.place}"), 3 + round(self.detail * 3)
        for near in (place / (count - 1) for place in range(count)):
            colour = _mix(_mix(self.far, self.horizon, 0.5), self.near, near**0.9)
            colour = _mix(colour, _WHITE, 0.5) if "snow" in self.light and self.place != "city" else colour
            self._ground(skyline(near), colour, _mix(colour, self.horizon, 0.6 * (1 - near)))

    def _mountains(self, near: float) -> list[Point]:
        level, swing, peaks = 0.52 + 0.34 * near, 0.27 - 0.19 * near, 2 + round(3 * near) + self.lots.randrange(2)
        line = [(-0.05, level)]
        for place in range(peaks):
            line.append(((place + self.lots.uniform(0.25, 0.75)) / peaks, level - swing * self.lots.uniform(0.5, 1)))
            line.append(((place + 1) / peaks * 1.05, level + swing * self.lots.uniform(0, 0.2)))
        for octave in range(2 + round(self.detail * 2)):
            push = swing * 0.16 / 1.7**octave
            ends = list(itertools.pairwise(line))
            middles = [((a + c) / 2, (b + d) / 2 + self.lots.uniform(-push, push)) for (a, b), (c, d) in ends]
            line = [point for pair in zip(line, middles, strict=False) for point in pair] + line[-1:]
        return line

    def _dunes(self, near: float) -> list[Point]:
        level, waves = 0.58 + 0.3 * near, [(n * self.lots.uniform(0.7, 1.3), self.lots.random() * 6.3) for n in (1, 2)]
        xs = [place / 60 for place in range(61)]
        return [(x, level - 0.04 * sum(math.sin(x * math.tau * speed + phase) for speed, phase in waves)) for x in xs]

    def _forest(self, near: float) -> list[Point]:
        base, line = 0.6 + 0.28 * near, [(0.0, 0.6 + 0.28 * near)]
        for place in range(count := round((24 - 12 * near) * self.width / self.unit)):
            high = (0.12 + 0.2 * near) * self.unit / self.height * self.lots.uniform(0.55, 1.1)
            x, wide = (place + self.lots.uniform(0.2, 0.8)) / count, high * 0.24 * self.height / self.width
            tiers = [(tier / 5, cut) for tier in range(5) for cut in (1, 0.45)]
            side = [(wide * (1 - t) * k, high * (t + 0.13 - 0.13 * k)) for t, k in tiers]
            line += [(x - w, base - h) for w, h in side] + [(x, base - high)]
            line += [(x + w, base - h) for w, h in side[::-1]]
        return [*line, (1.0, base)]

    def _city(self, near: float) -> list[Point]:
        line: list[Point] = [(0.0, 0.75)]
        while line[-1][0] < 1:
            left, top = line[-1][0], 0.7 + 0.1 * near - 0.4 * self.lots.random() ** 1.5
            line += [(left, top), (left + (0.05 + 0.03 * near) * self.lots.uniform(0.6, 1.5), top)]
        return line

    def _sea(self) -> None:
        shore = [(x, y * 0.3 + 0.42) for x, y in self._dunes(0)]
        self._ground(shore, _mix(self.far, self.horizon, 0.4), self.far)
        self._ground([(0, 0.6), (1, 0.6)], _mix(self.horizon, self.sky, 0.35), _mix(self.near, self.zenith, 0.3))
        for band, size in (((0.61, 0.66), 0.001), ((0.66, 0.78), 0.0022), ((0.78, 1), 0.0036)):
            self._dots(round(20 + 50 * self.detail), band, size, self.near, 16)
            self._dots(round(15 + 40 * self.detail), band, size, self.sun, 12)

    def _space(self) -> None:
        """A planet, its ring before it, and the ground of another."""
        x, y, size = self.lots.uniform(0.3, 0.7), self.lots.uniform(0.3, 0.45), self.lots.uniform(0.16, 0.27)
        self._glow(x, y, size * 2, self.horizon)
        self._oval(x, y, size, size, _mix(self.sun, self.accent, 0.35), _mix(self.far, self.zenith, 0.6))
        for reach, colour in ((1.6, self.sun), (1.75, self.accent), (2.0, self.sun)):
            wide, high = reach * size * self.unit, reach * size * self.unit * 0.27
            left, top = x * self.width, y * self.height
            box = (left - wide, top - high, left + wide, top + high)
            ImageDraw.Draw(self.image).arc(box, -20, 200, _mix(colour, self.zenith, 0.3), max(1, self.unit // 50))
        self._oval(0.5, 2.3 - 0.5 * self.unit / self.height, 1.5 * self.height / self.unit, 1.02, self.near)

    def _figure(self, shape: str, x: float, size: float) -> None:
        colour = _mix(self.near, self.accent, 0.6) if self.place == "city" else _mix(self.near, (0, 0, 0), 0.35)
        wide, high = size * self.unit / self.width, size * self.unit / self.height
        for numbers in ([float(number) for number in part.split()] for part in shape.split(";")):
            points = [(x + a * wide, 0.84 - b * high) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
            if len(points) == 2:
                self._oval(*points[0], numbers[2] * size, numbers[3] * size, colour)
            else:
                self._shape(points, colour)

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

    def _start(self) -> Image.Image:
        """The input image, cropped; patches of its own where it cannot be had."""
        with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return ImageOps.fit(Image.open(io.BytesIO(self.start or b"")).convert("RGB"), self.size)
        return Image.frombytes("RGB", (3, 3), _lots(self.start_name).randbytes(27)).resize(self.size)


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
