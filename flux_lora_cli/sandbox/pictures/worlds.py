"""The two places without a horizon: space, and plain geometry."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageChops, ImageDraw

from .canvas import Canvas, Point, noise_image
from .palette import Colour, Palette, mix
from .places import Mood
from .sky import stars


def space(canvas: Canvas, lots: random.Random, mood: Mood) -> float:
    """A planet, perhaps with rings and a moon, before a nebula; in the foreground the rim of a world."""
    palette = mood.palette
    deep = mix(palette.zenith, (3, 4, 12), 0.75)
    canvas.fill([(0, deep), (1, mix(deep, palette.sky, 0.3))])
    _nebula(canvas, lots, mood, deep)
    stars(canvas, lots, mood, 1.0)
    centre = (lots.uniform(0.3, 0.7), lots.uniform(0.28, 0.42))
    radius = lots.uniform(0.17, 0.26)
    canvas.glow(centre, radius * 2.1, palette.horizon, 0.5)
    tilt = lots.uniform(0.18, 0.32)
    if lots.random() < 0.65:
        _ring(canvas, centre, radius, tilt, palette, behind=True)
        _globe(canvas, lots, centre, radius, palette)
        _ring(canvas, centre, radius, tilt, palette, behind=False)
    else:
        _globe(canvas, lots, centre, radius, palette)
    moon = (centre[0] + lots.choice((-1, 1)) * radius * 1.5 * canvas.unit / canvas.width, centre[1] - radius * 0.8)
    _globe(canvas, lots, moon, radius * 0.22, palette)
    rim = (lots.uniform(0.35, 0.65), 0.80 + 1.5 * canvas.unit / canvas.height)
    canvas.glow(rim, 1.72, palette.horizon, 0.9)
    canvas.disc(
        rim, 1.5, canvas.gradient([(0, palette.far), (0.8, palette.far), (0.9, palette.near), (1, palette.near)])
    )
    return 0.83


def _nebula(canvas: Canvas, lots: random.Random, mood: Mood, deep: Colour) -> None:
    """Mist in three colours; painted at a third of the size, as it has no edges."""
    palette = mood.palette
    size = (canvas.width // 3, canvas.height // 3)
    small = canvas.image.resize(size, Image.Resampling.NEAREST)
    for colour, strength in ((palette.sky, 1.5), (palette.accent, 0.8), (palette.horizon, 0.7)):
        mist = noise_image(lots, (4, 4), size, 3 + round(mood.detail * 2))
        mask = mist.point(lambda level, s=strength: max(0, min(255, round((level - 118) * 1.5 * s))))
        small.paste(mix(colour, deep, 0.25), (0, 0), mask)
    canvas.image = small.resize(canvas.image.size, Image.Resampling.BICUBIC)


def _globe(canvas: Canvas, lots: random.Random, centre: Point, radius: float, palette: Palette) -> None:
    """Bands of cloud on a ball, lit from the left above."""
    side = max(8, round(radius * canvas.unit * 2))
    bands = noise_image(lots, (2, 12), (side, side), 3)
    ball = Image.composite(
        Image.new("RGB", (side, side), mix(palette.horizon, palette.light, 0.3)),
        Image.new("RGB", (side, side), mix(palette.far, palette.accent, 0.35)),
        bands.point(lambda level: max(0, min(255, (level - 96) * 4))),
    )
    shade = Image.radial_gradient("L").resize((side * 2, side * 2), Image.Resampling.BILINEAR)
    cut = (round(side * 0.72), round(side * 0.72))
    dark = shade.crop((*cut, cut[0] + side, cut[1] + side)).point(
        lambda level: max(0, min(235, round((level - 20) * 1.9)))
    )
    ball.paste(mix(palette.near, (0, 0, 8), 0.6), (0, 0), dark)
    mask = Image.new("L", (side * 2, side * 2))
    ImageDraw.Draw(mask).ellipse((0, 0, side * 2 - 1, side * 2 - 1), fill=255)
    corner = (round(centre[0] * canvas.width - side / 2), round(centre[1] * canvas.height - side / 2))
    canvas.image.paste(ball, corner, mask.reduce(2))


def _ring(canvas: Canvas, centre: Point, radius: float, tilt: float, palette: Palette, behind: bool) -> None:
    x, y = canvas.pixel(centre)
    for size, colour, strength in ((2.05, palette.light, 0.5), (1.82, palette.accent, 0.7), (1.6, palette.light, 0.35)):
        wide = canvas.length(radius * size)
        thick = max(2, round(canvas.length(radius * 0.1)))

        def half(mask: ImageDraw.ImageDraw, wide: float = wide, thick: int = thick) -> None:
            start, end = (180, 360) if behind else (0, 180)
            mask.arc((x - wide, y - wide * tilt, x + wide, y + wide * tilt), start, end, fill=255, width=thick)

        canvas.shape(half, colour, strength, canvas.around(centre, radius * (size + 0.1)))


def shapes(canvas: Canvas, lots: random.Random, mood: Mood) -> float:
    """A composition of discs, arcs and bars on a grid, as a poster of the twenties."""
    palette = mood.palette
    paper = mix(palette.light, palette.horizon, 0.25)
    canvas.fill([(0, paper), (1, mix(paper, palette.horizon, 0.4))])
    colours = [palette.zenith, palette.sky, palette.far, palette.accent, palette.near, palette.horizon]
    cells = 3 + round(mood.detail * 3)
    step = 1 / cells
    for row in range(cells):
        for column in range(cells):
            _tile(canvas, lots, (column * step, row * step), step, colours)
    big = (lots.uniform(0.3, 0.7), lots.uniform(0.25, 0.6))
    canvas.disc(big, lots.uniform(0.16, 0.26), palette.accent, 0.9)
    canvas.disc(big, 0.07, palette.near)
    grain = noise_image(lots, (96, 96), (canvas.width, canvas.height), 2).point(lambda level: 236 + level // 14)
    canvas.image = ImageChops.multiply(canvas.image, Image.merge("RGB", (grain, grain, grain)))
    return 0.86


def _tile(canvas: Canvas, lots: random.Random, corner: Point, step: float, colours: list[Colour]) -> None:
    x, y = corner
    kind = lots.randrange(6)
    back, front = lots.sample(colours, 2)
    if kind:
        canvas.polygon([(x, y), (x + step, y), (x + step, y + step), (x, y + step)], back)
    turn = lots.choice((0, 90, 180, 270))
    if kind in (1, 2):
        _quarter(canvas, corner, step, turn, front)
    elif kind == 3:
        canvas.disc((x + step / 2, y + step / 2), step * lots.uniform(0.2, 0.46), front)
    elif kind == 4:
        ends = [(x, y), (x + step, y), (x + step, y + step), (x, y + step)]
        canvas.polygon([ends[(turn // 90 + place) % 4] for place in range(3)], front)
    elif kind == 5:
        for bar in range(4):
            top = y + step * (bar * 2 + 0.5) / 8
            canvas.polygon([(x, top), (x + step, top), (x + step, top + step / 8), (x, top + step / 8)], front)


def _quarter(canvas: Canvas, corner: Point, step: float, turn: int, colour: Colour) -> None:
    x, y = corner
    at = {0: (x, y), 90: (x + step, y), 180: (x + step, y + step), 270: (x, y + step)}[turn]
    arc = [
        (at[0] + math.cos(math.radians(turn + angle)) * step, at[1] + math.sin(math.radians(turn + angle)) * step)
        for angle in range(0, 91, 3)
    ]
    canvas.polygon([at, *arc], colour)
