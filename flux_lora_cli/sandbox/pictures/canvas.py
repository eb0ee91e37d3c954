"""Painting with Pillow: smooth gradients, light, and shapes with soft edges."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw

from .palette import Colour

Point = tuple[float, float]
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
        """A picture-sized vertical gradient through colours at heights 0 (top) to 1."""
        column = Image.new("RGB", (1, 128))
        for y in range(128):
            column.putpixel((0, y), _between(stops, y / 127))
        return column.resize((self.width, self.height), Image.Resampling.BICUBIC)

    def fill(self, stops: Sequence[tuple[float, Colour]]) -> None:
        """Covers everything with a gradient."""
        self.image = self.gradient(stops)

    def glow(self, centre: Point, radius: float, colour: Colour, strength: float) -> None:
        """Light that fades with the distance; ``strength`` 0 to 1."""
        side = max(2, round(radius * self.unit * 2))
        fade = _GLOW.point(lambda level: round(level * strength)).resize((side, side), Image.Resampling.BILINEAR)
        left = round(centre[0] * self.width - side / 2)
        top = round(centre[1] * self.height - side / 2)
        self.image.paste(colour, (left, top, left + side, top + side), fade)

    def shape(self, draw: Shape, fill: Colour | Image.Image, strength: float = 1, top: float = 0) -> None:
        """Fills what ``draw`` draws in white on a mask of twice the size; nothing of it lies above ``top``."""
        start = max(0, min(self.height - 1, int(top * self.height)))
        mask = Image.new("L", (self.width * _FINE, (self.height - start) * _FINE))
        draw(_Shifted(mask, start * _FINE))
        mask = mask.reduce(_FINE)
        if strength < 1:
            mask = mask.point(lambda level: round(level * strength))
        box = (0, start, self.width, self.height)
        if isinstance(fill, Image.Image):
            self.image.paste(fill.crop(box), box, mask)
        else:
            self.image.paste(fill, box, mask)

    def polygon(self, points: Sequence[Point], fill: Colour | Image.Image, strength: float = 1) -> None:
        """A polygon, its corners in parts of width and height."""
        corners = [self.pixel(point) for point in points]
        top = min(y for _, y in points)
        self.shape(lambda mask: mask.polygon(corners, 255), fill, strength, top)

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
        top = centre[1] - radius * self.unit / self.height
        self.shape(lambda mask: mask.ellipse((x - r, y - r, x + r, y + r), fill=255), fill, strength, top)

    def clouds(self, lots: random.Random, colour: Colour, amount: float, band: tuple[float, float]) -> None:
        """Drifting noise between two heights."""
        noise = noise_image(lots, (5, 9), (self.width, self.height), 3)
        mask = noise.point(lambda level: max(0, min(255, round((level - 150 + amount * 60) * 3))))
        top, bottom = band
        fade = _column([(0, 0), (top, 0), ((top + bottom) / 2, 200), (bottom, 0), (1, 0)])
        mask = ImageChops.multiply(mask, fade.resize(self.image.size, Image.Resampling.BILINEAR))
        self.image.paste(colour, (0, 0), mask)

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
    """Draws on the lower part of a mask as if it were whole."""

    def __init__(self, mask: Image.Image, shift: int) -> None:
        super().__init__(mask)
        self._shift = shift

    def _moved(self, xy: object) -> list[float]:
        flat: list[float] = []
        for item in xy:  # type: ignore[attr-defined]
            flat.extend(item if isinstance(item, tuple) else (item,))
        return [value - self._shift if place % 2 else value for place, value in enumerate(flat)]

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


def noise_image(
    lots: random.Random, grid: tuple[int, int], size: tuple[int, int], octaves: int
) -> Image.Image:
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
