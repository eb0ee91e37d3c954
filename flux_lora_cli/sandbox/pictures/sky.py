"""What hangs over every landscape: sky, sun or moon, stars, clouds, rain and snow."""

from __future__ import annotations

import random

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
    canvas.disc(sun, size, mix(palette.light, (255, 255, 255), 0.4))
    if mood.night and lots.random() < 0.6:
        shade = mix(palette.zenith, palette.sky, min(1, sun[1] / 0.34))
        shadow = (sun[0] + size * 0.42 * canvas.unit / canvas.width, sun[1] - size * 0.16 * canvas.unit / canvas.height)
        canvas.disc(shadow, size * 0.92, mix(shade, palette.light, 0.16))


def fall(canvas: Canvas, lots: random.Random, mood: Mood, weather: str) -> None:
    """Snow or rain, in front of everything."""
    if weather == "snow":
        flakes = [(lots.random(), lots.random(), lots.uniform(0.0015, 0.006) * (1 + mood.detail)) for _ in range(220)]

        def snow(mask: object) -> None:
            for x, y, size in flakes:
                (px, py), r = canvas.pixel((x, y)), canvas.length(size) / 2
                mask.ellipse((px - r, py - r, px + r, py + r), fill=255)  # type: ignore[attr-defined]

        canvas.shape(snow, (255, 255, 255), 0.85)
    elif weather == "rain":
        drops = [(lots.random(), lots.random(), lots.uniform(0.02, 0.06)) for _ in range(260)]

        def rain(mask: object) -> None:
            for x, y, size in drops:
                (px, py), r = canvas.pixel((x, y)), canvas.length(size)
                mask.line((px, py, px - r * 0.22, py + r), fill=255, width=2)  # type: ignore[attr-defined]

        canvas.shape(rain, mix(mood.palette.light, (220, 230, 255), 0.5), 0.45)
