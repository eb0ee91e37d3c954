"""Silhouettes for the foreground. Each stands on a point and is drawn upwards from there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from PIL import ImageDraw

from .canvas import Canvas, Point
from .palette import Palette

Corner = tuple[float, float]


class _Pen:
    """Draws in a frame of its own: origin at the feet, one unit high, y upwards."""

    def __init__(self, canvas: Canvas, mask: ImageDraw.ImageDraw, foot: Point, size: float) -> None:
        self._mask = mask
        self._x, self._y = canvas.pixel(foot)
        self._size = canvas.length(size)

    def at(self, x: float, y: float) -> Corner:
        return (self._x + x * self._size, self._y - y * self._size)

    def polygon(self, *corners: Corner) -> None:
        self._mask.polygon([self.at(x, y) for x, y in corners], 255)

    def oval(self, x: float, y: float, wide: float, high: float) -> None:
        left, top = self.at(x - wide, y + high)
        right, bottom = self.at(x + wide, y - high)
        self._mask.ellipse((left, top, right, bottom), fill=255)

    def stroke(self, corners: list[Corner], width: float) -> None:
        thick = max(1, round(width * self._size))
        self._mask.line([self.at(x, y) for x, y in corners], fill=255, width=thick, joint="curve")
        for x, y in (corners[0], corners[-1]):
            self.oval(x, y, width / 2, width / 2)


def _cat(pen: _Pen) -> None:
    pen.oval(0, 0.26, 0.22, 0.27)
    pen.polygon((-0.18, 0.3), (0.18, 0.3), (0.11, 0.62), (-0.11, 0.62))
    pen.oval(0, 0.7, 0.175, 0.155)
    pen.polygon((-0.165, 0.72), (-0.155, 0.98), (-0.02, 0.83))
    pen.polygon((0.165, 0.72), (0.155, 0.98), (0.02, 0.83))
    tail = [(0.12 + 0.3 * math.sin(step / 11 * 3.0), 0.05 + 0.03 * step) for step in range(15)]
    pen.stroke(tail, 0.075)
    pen.oval(-0.1, 0.03, 0.1, 0.045)
    pen.oval(0.1, 0.03, 0.1, 0.045)


def _fox(pen: _Pen) -> None:
    pen.polygon((-0.42, 0.36), (-0.36, 0.6), (0.3, 0.62), (0.4, 0.46), (0.32, 0.34), (-0.36, 0.32))
    for x in (-0.36, -0.22, 0.18, 0.3):
        pen.polygon((x - 0.05, 0.4), (x + 0.05, 0.4), (x + 0.025, 0), (x - 0.03, 0))
    pen.polygon((0.22, 0.56), (0.3, 0.88), (0.46, 0.86), (0.66, 0.68), (0.46, 0.6), (0.36, 0.46))
    pen.polygon((0.29, 0.84), (0.3, 1.02), (0.38, 0.88))
    pen.polygon((0.38, 0.84), (0.43, 1.02), (0.47, 0.84))
    pen.stroke([(-0.4, 0.52), (-0.6, 0.44), (-0.78, 0.5)], 0.14)


def _rocket(pen: _Pen) -> None:
    pen.polygon((-0.11, 0.2), (-0.11, 0.66), (-0.06, 0.86), (0, 1), (0.06, 0.86), (0.11, 0.66), (0.11, 0.2))
    pen.polygon((-0.1, 0.4), (-0.26, 0.2), (-0.26, 0.06), (-0.1, 0.2))
    pen.polygon((0.1, 0.4), (0.26, 0.2), (0.26, 0.06), (0.1, 0.2))
    pen.polygon((-0.07, 0.2), (0.07, 0.2), (0.09, 0.12), (-0.09, 0.12))


def _boat(pen: _Pen) -> None:
    pen.polygon((-0.5, 0.14), (0.5, 0.14), (0.36, 0), (-0.36, 0))
    pen.polygon((0.02, 0.18), (0.02, 1), (0.42, 0.18))
    pen.polygon((-0.03, 0.18), (-0.03, 0.86), (-0.36, 0.18))
    pen.stroke([(0, 0.1), (0, 1)], 0.02)


def _house(pen: _Pen) -> None:
    pen.polygon((-0.42, 0), (-0.42, 0.46), (0.42, 0.46), (0.42, 0))
    pen.polygon((-0.54, 0.44), (-0.28, 0.86), (0.28, 0.86), (0.54, 0.44))
    pen.polygon((0.14, 0.7), (0.14, 1), (0.26, 1), (0.26, 0.7))


def _balloon(pen: _Pen) -> None:
    pen.oval(0, 0.66, 0.34, 0.34)
    pen.polygon((-0.31, 0.52), (0.31, 0.52), (0.08, 0.18), (-0.08, 0.18))
    pen.polygon((-0.08, 0), (0.08, 0), (0.09, 0.12), (-0.09, 0.12))
    pen.stroke([(-0.07, 0.1), (-0.07, 0.22)], 0.012)
    pen.stroke([(0.07, 0.1), (0.07, 0.22)], 0.012)


def _birds(pen: _Pen) -> None:
    for x, y, wing in ((0, 0.8, 0.2), (0.42, 1, 0.13), (-0.4, 0.6, 0.15), (0.3, 0.5, 0.1), (-0.15, 1.15, 0.1)):
        pen.stroke([(x - wing, y + wing * 0.45), (x - wing * 0.4, y + wing * 0.3), (x, y)], 0.028)
        pen.stroke([(x, y), (x + wing * 0.4, y + wing * 0.3), (x + wing, y + wing * 0.45)], 0.028)


def _lighthouse(pen: _Pen) -> None:
    pen.polygon((-0.16, 0), (0.16, 0), (0.09, 0.72), (-0.09, 0.72))
    pen.polygon((-0.13, 0.72), (0.13, 0.72), (0.13, 0.75), (-0.13, 0.75))
    pen.polygon((-0.07, 0.75), (0.07, 0.75), (0.07, 0.88), (-0.07, 0.88))
    pen.polygon((-0.1, 0.88), (0.1, 0.88), (0, 1))


def _person(pen: _Pen) -> None:
    pen.oval(0, 0.9, 0.085, 0.1)
    pen.polygon((-0.15, 0.74), (-0.08, 0.8), (0.08, 0.8), (0.15, 0.74), (0.2, 0.2), (-0.2, 0.2))
    pen.polygon((-0.13, 0.24), (-0.01, 0.24), (-0.03, 0), (-0.12, 0))
    pen.polygon((0.01, 0.24), (0.13, 0.24), (0.12, 0), (0.03, 0))


def _pine(pen: _Pen) -> None:
    pen.polygon((-0.03, 0), (0.03, 0), (0.02, 0.3), (-0.02, 0.3))
    for bottom, top, wide in ((0.12, 0.5, 0.26), (0.34, 0.7, 0.2), (0.56, 1, 0.14)):
        pen.polygon((-wide, bottom), (wide, bottom), (0, top))


_DRAWN: Final[dict[str, tuple[Callable[[_Pen], None], float]]] = {
    "cat": (_cat, 0.34),
    "fox": (_fox, 0.24),
    "rocket": (_rocket, 0.4),
    "boat": (_boat, 0.24),
    "house": (_house, 0.17),
    "balloon": (_balloon, 0.26),
    "birds": (_birds, 0.16),
    "lighthouse": (_lighthouse, 0.42),
    "person": (_person, 0.24),
    "pine": (_pine, 0.36),
}
_FLYING: Final = {"balloon": 0.48, "birds": 0.36, "rocket": 0.66}


def stand(canvas: Canvas, name: str, x: float, ground: float, palette: Palette) -> None:
    """Puts a figure on the ground at ``x`` (0 to 1); those that fly go into the sky, in the accent's colour."""
    draw, size = _DRAWN[name]
    flying = name in _FLYING
    foot = (x, _FLYING.get(name, ground))
    if name == "rocket":
        canvas.glow((x, foot[1]), 0.2, palette.light, 0.9)
        canvas.polygon([(x - 0.012, foot[1] - 0.04), (x + 0.012, foot[1] - 0.04), (x, foot[1] + 0.09)], palette.light)
    fill = palette.accent if flying and name != "birds" else palette.near
    wide, high = size * canvas.unit / canvas.width, size * canvas.unit / canvas.height
    if not flying:
        # Light behind it, or it would drown in a dark wood.
        canvas.glow((x, foot[1] - high * 0.5), size * 1.5, palette.horizon, 0.75)
    if name in ("lighthouse", "pine"):
        _mound(canvas, foot, size, palette)
    within = (x - wide, foot[1] - high * 1.3, x + wide, foot[1] + high * 0.1)
    canvas.shape(lambda mask: draw(_Pen(canvas, mask, foot, size)), fill, within=within)
    if name in ("house", "lighthouse"):
        _lamp(canvas, name, foot, size, palette)
    elif name == "cat":
        _eyes(canvas, foot, size, palette)


def _mound(canvas: Canvas, foot: Point, size: float, palette: Palette) -> None:
    """A flat rise to stand on, in the water as on land."""
    (x, y), wide, high = canvas.pixel(foot), canvas.length(size * 0.8), canvas.length(size * 0.14)
    within = canvas.around(foot, size)
    box = (x - wide, y - high, x + wide, y + high)
    canvas.shape(lambda mask: mask.ellipse(box, fill=255), palette.near, within=within)


def _lamp(canvas: Canvas, name: str, foot: Point, size: float, palette: Palette) -> None:
    height = size * canvas.unit / canvas.height
    if name == "lighthouse":
        lamp = (foot[0], foot[1] - 0.815 * height)
        canvas.glow(lamp, 0.26, palette.light, 1)
        canvas.disc(lamp, 0.012, palette.light)
        return
    half = size * canvas.unit / canvas.width
    for side in (-0.2, 0.2):
        x, y = foot[0] + side * half, foot[1] - 0.26 * height
        w, h = 0.08 * half, 0.1 * height
        canvas.polygon([(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)], palette.light)


def _eyes(canvas: Canvas, foot: Point, size: float, palette: Palette) -> None:
    height, width = size * canvas.unit / canvas.height, size * canvas.unit / canvas.width
    for side in (-0.07, 0.07):
        eye = (foot[0] + side * width, foot[1] - 0.72 * height)
        canvas.disc(eye, size * 0.035, palette.accent)
        canvas.disc(eye, size * 0.014, palette.near)
