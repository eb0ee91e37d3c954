"""The places a picture can show. Each paints from the back to the front and says where the ground is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from PIL import ImageDraw

from .canvas import Canvas, Point
from .palette import Palette, mix


@dataclass(frozen=True, slots=True)
class Mood:
    """What a place is painted with. ``detail`` grows with the number of steps, from 0 to 1."""

    palette: Palette
    detail: float
    snow: bool
    night: bool
    sun: Point


def _ridge(lots: random.Random, octaves: int, rough: float, points: int = 160) -> list[float]:
    """Heights along a line, -1 to 1 or so: waves of rising frequency and falling strength."""
    waves = [
        (lots.uniform(0.7, 1.3) * 2**octave, lots.uniform(0, math.tau), rough**octave) for octave in range(octaves)
    ]
    return [
        sum(math.sin(place / points * math.tau * speed + phase) * size for speed, phase, size in waves)
        for place in range(points + 1)
    ]


def _land(heights: list[float], level: float, swing: float) -> list[Point]:
    last = len(heights) - 1
    outline = [(place / last, level - height * swing) for place, height in enumerate(heights)]
    foot = min(1.01, level + 0.3)
    return [(0, foot), *outline, (1, foot)]


def _peaks(lots: random.Random, level: float, swing: float, count: int, octaves: int) -> list[Point]:
    """A jagged skyline: peaks joined by lines that are broken again and again."""
    line = [(-0.05, level)]
    for place in range(count):
        x = (place + lots.uniform(0.25, 0.75)) / count
        line.append((x, level - swing * lots.uniform(0.5, 1)))
        line.append(((place + 1) / count, level + swing * lots.uniform(0, 0.25)))
    line.append((1.05, level))
    for octave in range(octaves):
        broken = [line[0]]
        for (x0, y0), (x1, y1) in pairwise(line):
            push = lots.uniform(-1, 1) * swing * 0.16 / 1.7**octave
            broken += [((x0 + x1) / 2, (y0 + y1) / 2 + push), (x1, y1)]
        line = broken
    foot = min(1.01, level + swing + 0.2)
    return [(line[0][0], foot), *line, (line[-1][0], foot)]


def mountains(canvas: Canvas, lots: random.Random, mood: Mood) -> float:
    """Ranges behind ranges, each in the haze of the one before it."""
    palette = mood.palette
    layers = 3 + round(mood.detail * 4)
    for layer in range(layers):
        share = layer / (layers - 1)
        level = 0.5 + 0.34 * share**1.2
        colour = mix(mix(palette.far, palette.horizon, 0.45), palette.near, share)
        haze = mix(colour, palette.horizon, 0.55 * (1 - share))
        swing = 0.25 - 0.16 * share
        outline = _peaks(lots, level, swing, 2 + round(3 * share) + lots.randrange(2), 3 + round(mood.detail * 2))
        fill = canvas.gradient(
            [(0, colour), (max(0.0, level - swing), colour), (min(1, level + 0.22), haze), (1, haze)]
        )
        canvas.polygon(outline, fill)
    return _foreground(canvas, lots, mood)


def _foreground(canvas: Canvas, lots: random.Random, mood: Mood) -> float:
    heights = _ridge(lots, 4, 0.45)
    canvas.polygon(_land(heights, 0.86, 0.022), mix(mood.palette.near, (0, 0, 0), 0.25))
    return 0.865


def dunes(canvas: Canvas, lots: random.Random, mood: Mood) -> float:
    """Sweeping sand, lit from one side."""
    palette = mood.palette
    layers = 3 + round(mood.detail * 3)
    for layer in range(layers):
        share = layer / (layers - 1)
        level = 0.56 + 0.3 * share
        sand = mix(mix(palette.far, palette.horizon, 0.5), mix(palette.near, palette.far, 0.25), share)
        lit = mix(sand, palette.light, 0.45 * (1 - share * 0.5))
        heights = _ridge(lots, 2, 0.35)
        outline = _land(heights, level, 0.055)
        canvas.polygon(
            outline, canvas.gradient([(0, lit), (level - 0.06, lit), (min(1, level + 0.2), sand), (1, sand)])
        )
        bend = lots.uniform(0.05, 0.12)
        shade = [(x, y + (bend if 0 < place < len(outline) - 1 else 0) * max(0.0, math.sin(x * 9 + layer * 2)))
                 for place, (x, y) in enumerate(outline)]  # fmt: skip
        canvas.polygon([*outline[1:-1], *reversed(shade[1:-1])], mix(sand, palette.near, 0.35), 0.5)
    return 0.875


def sea(canvas: Canvas, lots: random.Random, mood: Mood) -> float:
    """Water to the horizon, with the light's path on it."""
    palette = mood.palette
    line = 0.6
    far = _land(_ridge(lots, 5, 0.5), line - 0.01, 0.03)
    canvas.polygon(far, mix(palette.far, palette.horizon, 0.4))
    top, deep = mix(palette.horizon, palette.sky, 0.35), mix(palette.near, palette.zenith, 0.3)
    water = canvas.gradient([(0, top), (line, top), (line + 0.14, mix(top, deep, 0.55)), (1, deep)])
    canvas.polygon([(0, line), (1, line), (1, 1.01), (0, 1.01)], water)
    strokes = 60 + round(mood.detail * 160)
    light, dark = mix(palette.light, palette.horizon, 0.3), mix(deep, palette.near, 0.5)
    for colour, count, spread in ((dark, strokes, 0.5), (light, strokes, 0.16)):
        lines = [_ripple(canvas, lots, line, spread, mood.sun[0]) for _ in range(count)]

        def ripples(mask: ImageDraw.ImageDraw, lines: list[tuple[float, float, float, float]] = lines) -> None:
            for left, y, right, thick in lines:
                mask.ellipse((left, y - thick, right, y + thick), fill=255)

        canvas.shape(ripples, colour, 0.6, (0, line, 1, 0.93))
    return 0.82


def _ripple(
    canvas: Canvas, lots: random.Random, line: float, spread: float, sun: float
) -> tuple[float, float, float, float]:
    """Left, height, right and thickness of one ripple; narrow spreads follow the sun."""
    depth = lots.random() ** 1.6
    wide = 0.015 + 0.09 * depth
    x = lots.uniform(0, 1) if spread >= 0.5 else lots.gauss(sun, spread * (0.2 + 0.5 * depth))
    left, y = canvas.pixel((x - wide / 2, line + 0.006 + depth * (0.99 - line)))
    right, _ = canvas.pixel((x + wide / 2, 0))
    return left, y, right, canvas.length(0.0012 + 0.003 * depth)


def forest(canvas: Canvas, lots: random.Random, mood: Mood) -> float:
    """Rows of firs, one behind the other in the mist."""
    palette = mood.palette
    rows = 3 + round(mood.detail * 3)
    for row in range(rows):
        share = row / (rows - 1)
        base = 0.58 + 0.26 * share
        colour = mix(mix(palette.far, palette.horizon, 0.55), palette.near, share**0.9)
        foot = mix(colour, palette.horizon, 0.5 * (1 - share))
        size = 0.1 + 0.2 * share
        fill = canvas.gradient([(0, colour), (base - size * 0.3, colour), (min(1.0, base + 0.12), foot), (1, foot)])
        count = round((26 - 13 * share) * canvas.width / canvas.unit)
        foot_line = min(1.01, base + 0.3)
        outline: list[Point] = [(-0.02, foot_line), (-0.02, base)]
        for place in range(count):
            x = (place + lots.uniform(0.2, 0.8)) / count
            outline += _fir(x, base + lots.uniform(-0.01, 0.02), size * lots.uniform(0.55, 1.1), canvas, mood.detail)
        canvas.polygon([*outline, (1.02, base), (1.02, foot_line)], fill)
    return _foreground(canvas, lots, mood)


def _fir(x: float, base: float, size: float, canvas: Canvas, detail: float) -> list[Point]:
    """The outline of a fir from left foot to right foot."""
    high = size * canvas.unit / canvas.height
    wide = size * 0.2 * canvas.unit / canvas.width
    tiers = 3 + round(detail * 3)
    left: list[Point] = []
    for tier in range(tiers):
        share = tier / tiers
        left += [
            (x - wide * (1 - share), base - high * share),
            (x - wide * (1 - share) * 0.45, base - high * (share + 0.06)),
        ]
    right = [(2 * x - px, py) for px, py in reversed(left)]
    return [(x - wide * 0.2, base), *left, (x, base - high), *right, (x + wide * 0.2, base)]


def city(canvas: Canvas, lots: random.Random, mood: Mood) -> float:
    """Skylines in three depths, with lit windows."""
    palette = mood.palette
    rows = 3 + round(mood.detail)
    for row in range(rows):
        share = row / (rows - 1)
        colour = mix(mix(palette.far, palette.horizon, 0.5), palette.near, share)
        base, tall = 0.62 + 0.1 * share, 0.36 - 0.1 * share
        blocks = _blocks(lots, base, tall, 0.045 + 0.03 * share)
        fill = canvas.gradient([(0, colour), (0.5, colour), (1, mix(colour, palette.horizon, 0.4 * (1 - share)))])
        canvas.shape(lambda mask, blocks=blocks: _draw_blocks(canvas, mask, blocks), fill, within=_CITY)  # type: ignore[misc]
        if row:
            lit = mix(palette.light, palette.accent, lots.uniform(0, 0.5))
            windows = _windows(lots, blocks, 0.2 + 0.45 * mood.detail * share)
            canvas.shape(lambda mask, w=windows: _draw_blocks(canvas, mask, w), lit, 0.35 + 0.55 * share, _CITY)  # type: ignore[misc]
    ground = mix(palette.near, (0, 0, 0), 0.35)
    canvas.polygon([(0, 0.85), (1, 0.85), (1, 1.01), (0, 1.01)], ground)
    return 0.87


_CITY: Final = (0.0, 0.16, 1.0, 0.87)
Block = tuple[float, float, float, float]


def _blocks(lots: random.Random, base: float, tall: float, wide: float) -> list[Block]:
    blocks: list[Block] = []
    x = -wide
    while x < 1:
        width = wide * lots.uniform(0.6, 1.5)
        top = base - tall * lots.random() ** 1.4
        blocks.append((x, top, x + width, 1.0))
        if lots.random() < 0.35:
            inset = width * lots.uniform(0.2, 0.4)
            blocks.append((x + inset, top - tall * 0.12, x + width - inset, top))
        x += width + wide * lots.choice((0, 0, 0.12, 0.3))
    return blocks


def _windows(lots: random.Random, blocks: list[Block], chance: float) -> list[Block]:
    windows: list[Block] = []
    for left, top, right, bottom in blocks:
        if bottom < 1 or right - left < 0.03:
            continue
        columns = max(2, int((right - left) / 0.012))
        step = (right - left) / columns
        for row in range(int((0.86 - top) / 0.02)):
            for column in range(columns):
                if lots.random() < chance * 0.5:
                    x, y = left + (column + 0.3) * step, top + 0.012 + row * 0.02
                    windows.append((x, y, x + step * 0.45, y + 0.01))
    return windows


def _draw_blocks(canvas: Canvas, mask: ImageDraw.ImageDraw, blocks: list[Block]) -> None:
    for left, top, right, bottom in blocks:
        mask.rectangle((*canvas.pixel((left, top)), *canvas.pixel((right, bottom))), fill=255)


PLACES: Final[dict[str, Callable[[Canvas, random.Random, Mood], float]]] = {
    "mountains": mountains,
    "dunes": dunes,
    "sea": sea,
    "forest": forest,
    "city": city,
}
