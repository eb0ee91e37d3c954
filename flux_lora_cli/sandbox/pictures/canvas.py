"""Painting with Pillow: smooth gradients, light, and shapes with soft edges."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw

from .palette import Colour

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Shape = Callable[[ImageDraw.ImageDraw], None]
_FINE = 2
"""Masks are drawn this much larger and shrunk, for soft edges."""


class Canvas:
    """A picture being painted. Places are in parts of width and height; sizes in parts of the shorter side."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.unit = min(width, height)
        self.image = Image.new("RGB", (width, height))

    def gradient(self, stops: Sequence[tuple[float, Colour]]) -> Image.Image:
        """A vertical gradient through colours at heights 0 (top) to 1, as a column one pixel wide."""
        column = Image.new("RGB", (1, 128))
        for y in range(128):
            column.putpixel((0, y), _between(stops, y / 127))
        return column.resize((1, self.height), Image.Resampling.BICUBIC)

    def fill(self, stops: Sequence[tuple[float, Colour]]) -> None:
        """Covers everything with a gradient."""
        self.image = self.gradient(stops).resize((self.width, self.height), Image.Resampling.NEAREST)

    def glow(self, centre: Point, radius: float, colour: Colour, strength: float) -> None:
        """Light that fades with the distance; ``strength`` 0 to 1."""
        r = max(1.0, radius * self.unit)
        x, y = centre[0] * self.width, centre[1] * self.height
        box = self._clipped(x - r, y - r, x + r, y + r)
        if box is None:
            return
        scale = 128 / r
        part = (
            max(0.0, (box[0] - x + r) * scale),
            max(0.0, (box[1] - y + r) * scale),
            min(256.0, (box[2] - x + r) * scale),
            min(256.0, (box[3] - y + r) * scale),
        )
        fade = _GLOW.point(lambda level: round(level * strength))
        size = (box[2] - box[0], box[3] - box[1])
        self.image.paste(colour, box, fade.resize(size, Image.Resampling.BILINEAR, part))

    def shape(self, draw: Shape, fill: Colour | Image.Image, strength: float = 1, within: Box = (0, 0, 1, 1)) -> None:
        """Fills what ``draw`` draws in white on a mask of twice the size; nothing of it lies outside ``within``.

        ``fill`` is a colour, or a column made by ``gradient``. Keeping to a small part is what makes it quick.
        """
        left, top, right, bottom = within
        box = self._clipped(left * self.width, top * self.height, right * self.width, bottom * self.height)
        if box is None:
            return
        size = (box[2] - box[0], box[3] - box[1])
        mask = Image.new("L", (size[0] * _FINE, size[1] * _FINE))
        draw(_Shifted(mask, box[0] * _FINE, box[1] * _FINE))
        mask = mask.reduce(_FINE)
        if strength < 1:
            mask = mask.point(lambda level: round(level * strength))
        if isinstance(fill, Image.Image):
            self.image.paste(fill.crop((0, box[1], 1, box[3])).resize(size, Image.Resampling.NEAREST), box, mask)
        else:
            self.image.paste(fill, box, mask)

    def _clipped(self, left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int] | None:
        """Whole pixels around a rectangle, inside the picture; None where nothing is."""
        box = (
            max(0, math.floor(left) - 1),
            max(0, math.floor(top) - 1),
            min(self.width, math.ceil(right) + 1),
            min(self.height, math.ceil(bottom) + 1),
        )
        return box if box[0] < box[2] and box[1] < box[3] else None

    def polygon(self, points: Sequence[Point], fill: Colour | Image.Image, strength: float = 1) -> None:
        """A polygon, its corners in parts of width and height."""
        corners = [self.pixel(point) for point in points]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        self.shape(lambda mask: mask.polygon(corners, 255), fill, strength, (min(xs), min(ys), max(xs), max(ys)))

    def pixel(self, point: Point) -> Point:
        """A place on the mask."""
        return (point[0] * self.width * _FINE, point[1] * self.height * _FINE)

    def length(self, size: float) -> float:
        """A size on the mask."""
        return size * self.unit * _FINE

    def disc(self, centre: Point, radius: float, fill: Colour | Image.Image, strength: float = 1) -> None:
        """A filled circle."""
        x, y = self.pixel(centre)
        r = self.length(radius)
        within = self.around(centre, radius)
        self.shape(lambda mask: mask.ellipse((x - r, y - r, x + r, y + r), fill=255), fill, strength, within)

    def around(self, centre: Point, radius: float) -> Box:
        """The square around a circle, in parts of width and height."""
        wide, high = radius * self.unit / self.width, radius * self.unit / self.height
        return (centre[0] - wide, centre[1] - high, centre[0] + wide, centre[1] + high)

    def clouds(self, lots: random.Random, colour: Colour, amount: float, band: tuple[float, float]) -> None:
        """Drifting noise between two heights."""
        box = (0, round(band[0] * self.height), self.width, round(band[1] * self.height))
        size = (box[2], box[3] - box[1])
        noise = noise_image(lots, (5, 7), size, 3)
        mask = noise.point(lambda level: max(0, min(255, round((level - 150 + amount * 60) * 3))))
        fade = _column([(0, 0), (0.5, 200), (1, 0)]).resize((1, size[1]), Image.Resampling.BICUBIC)
        mask = ImageChops.multiply(mask, fade.resize(size, Image.Resampling.NEAREST))
        self.image.paste(colour, box, mask)

    def dots(self, points: Sequence[tuple[float, float, float]], colour: Colour) -> None:
        """Small lights: place, and brightness from 0 to 1."""
        grain = max(1, self.unit // 512)
        for x, y, bright in points:
            left, top = int(x * (self.width - 1)), int(y * (self.height - 1))
            side = grain + (bright > 0.9)
            under = self.image.getpixel((left, top))
            assert isinstance(under, tuple)
            lit = tuple(round(a + (b - a) * bright) for a, b in zip(under, colour, strict=True))
            self.image.paste(lit, (left, top, left + side, top + side))


class _Shifted(ImageDraw.ImageDraw):
    """Draws on a part of a mask as if it were whole."""

    def __init__(self, mask: Image.Image, left: int, top: int) -> None:
        super().__init__(mask)
        self._corner = (left, top)

    def _moved(self, xy: object) -> list[float]:
        flat: list[float] = []
        for item in xy:  # type: ignore[attr-defined]
            flat.extend(item if isinstance(item, tuple) else (item,))
        return [value - self._corner[place % 2] for place, value in enumerate(flat)]

    def polygon(self, xy, fill=None, outline=None, width=1):  # type: ignore[no-untyped-def]
        super().polygon(self._moved(xy), fill, outline, width)

    def ellipse(self, xy, fill=None, outline=None, width=1):  # type: ignore[no-untyped-def]
        super().ellipse(self._moved(xy), fill, outline, width)

    def rectangle(self, xy, fill=None, outline=None, width=1):  # type: ignore[no-untyped-def]
        super().rectangle(self._moved(xy), fill, outline, width)

    def line(self, xy, fill=None, width=0, joint=None):  # type: ignore[no-untyped-def]
        super().line(self._moved(xy), fill, width, joint)

    def arc(self, xy, start, end, fill=None, width=1):  # type: ignore[no-untyped-def]
        super().arc(self._moved(xy), start, end, fill, width)


def noise_image(lots: random.Random, grid: tuple[int, int], size: tuple[int, int], octaves: int) -> Image.Image:
    """Smooth noise of the size asked for: random grids, each twice as fine and half as strong."""
    work = (max(2, size[0] // 4), max(2, size[1] // 4))
    noise = _grid(lots, grid, work)
    for octave in range(1, octaves):
        finer = _grid(lots, (grid[0] << octave, grid[1] << octave), work)
        noise = Image.blend(noise, finer, 0.5 / (octave + 0.5))
    return noise.resize(size, Image.Resampling.BICUBIC)


def _grid(lots: random.Random, grid: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    cells = Image.frombytes("L", grid, lots.randbytes(grid[0] * grid[1]))
    return cells.resize(size, Image.Resampling.BICUBIC)


def _column(stops: Sequence[tuple[float, int]]) -> Image.Image:
    column = Image.new("L", (1, 128))
    grey = [(at, (level, level, level)) for at, level in stops]
    for y in range(128):
        column.putpixel((0, y), _between(grey, y / 127)[0])
    return column


def _between(stops: Sequence[tuple[float, Colour]], at: float) -> Colour:
    before = stops[0]
    for after in stops:
        if at <= after[0]:
            break
        before = after
    span = after[0] - before[0]
    share = (at - before[0]) / span if span else 0
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(before[1], after[1], strict=True))
    return (red, green, blue)


_GLOW = ImageChops.invert(Image.radial_gradient("L")).point(
    # 0 at the inscribed circle, so that no square edge shows.
    lambda level: round(max(0.0, (level - 76) / 179) ** 2 * 255)
)
