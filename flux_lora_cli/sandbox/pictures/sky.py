"""What hangs over every landscape: sky, sun or moon, stars, clouds, rain and snow."""

from __future__ import annotations

import random

from PIL import ImageDraw

from .canvas import Canvas
from .palette import mix
from .places import Mood
from .words import Said


def paint_sky(canvas: Canvas, lots: random.Random, mood: Mood, said: Said) -> None:
    """Covers the canvas."""
    palette = mood.palette
    canvas.fill([(0, palette.zenith), (0.34, palette.sky), (0.66, palette.horizon), (1, palette.horizon)])
    if mood.night:
        stars(canvas, lots, mood, 0.62)
    _light(canvas, lots, mood)
    if said.weather != "rain":
        amount = {"mist": 0.9, "snow": 0.6}.get(said.weather, lots.uniform(0.0, 0.6))
        canvas.clouds(lots, mix(palette.light, palette.horizon, 0.35), amount - 0.4 * mood.night, (0.08, 0.62))
    else:
        canvas.clouds(lots, mix(palette.zenith, palette.sky, 0.4), 1.3, (0, 0.55))


def stars(canvas: Canvas, lots: random.Random, mood: Mood, bottom: float) -> None:
    """Stars, more of them with more detail, fading towards ``bottom``."""
    count = 160 + round(mood.detail * 500)
    places = [(lots.random(), lots.random() ** 1.3 * bottom, lots.random() ** 2) for _ in range(count)]
    canvas.dots([(x, y, bright * (1 - y / bottom * 0.7)) for x, y, bright in places], (255, 250, 235))


def _light(canvas: Canvas, lots: random.Random, mood: Mood) -> None:
    palette, sun = mood.palette, mood.sun
    size = 0.05 if mood.night else lots.uniform(0.06, 0.1)
    canvas.glow(sun, 0.75, palette.light, 0.55)
    canvas.glow(sun, size * 3.2, palette.light, 0.7)
    white = mix(palette.light, (255, 255, 255), 0.4)
    if not mood.night or lots.random() < 0.4:
        canvas.disc(sun, size, white)
        return
    (x, y), r = canvas.pixel(sun), canvas.length(size)

    def crescent(mask: ImageDraw.ImageDraw) -> None:
        mask.ellipse((x - r, y - r, x + r, y + r), fill=255)
        mask.ellipse((x - r * 0.55, y - r * 1.15, x + r * 1.4, y + r * 0.8), fill=0)

    canvas.shape(crescent, white, within=canvas.around(sun, size))


def fall(canvas: Canvas, lots: random.Random, mood: Mood, weather: str) -> None:
    """Snow or rain, in front of everything."""
    if weather == "snow":
        flakes = [(lots.random(), lots.random(), lots.uniform(0.0015, 0.006) * (1 + mood.detail)) for _ in range(220)]

        def snow(mask: ImageDraw.ImageDraw) -> None:
            for x, y, size in flakes:
                (px, py), r = canvas.pixel((x, y)), canvas.length(size) / 2
                mask.ellipse((px - r, py - r, px + r, py + r), fill=255)

        canvas.shape(snow, (255, 255, 255), 0.85, (0, 0, 1, 0.92))
    elif weather == "rain":
        drops = [(lots.random(), lots.random(), lots.uniform(0.02, 0.06)) for _ in range(260)]

        def rain(mask: ImageDraw.ImageDraw) -> None:
            for x, y, size in drops:
                (px, py), r = canvas.pixel((x, y)), canvas.length(size)
                mask.line((px, py, px - r * 0.22, py + r), fill=255, width=2)

        canvas.shape(rain, mix(mood.palette.light, (220, 230, 255), 0.5), 0.45, (0, 0, 1, 0.92))
