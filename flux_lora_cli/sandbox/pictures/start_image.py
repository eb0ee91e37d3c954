"""Image to image: the picture that a request starts from, shining through."""

from __future__ import annotations

import hashlib
import io

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from .palette import Palette, mix

_MAX_PIXELS = 50_000_000


def with_input(picture: Image.Image, data: bytes | None, name: str, strength: float, palette: Palette) -> Image.Image:
    """The picture blended over its input: strength 0 is the input, 1 the new picture.

    An input on another host is not fetched; a pattern made from its URL stands for it.
    """
    start = _opened(data, picture.size) if data is not None else None
    if start is None:
        start = _placeholder(name, picture.size, palette)
    return Image.blend(start, picture, strength)


def _opened(data: bytes, size: tuple[int, int]) -> Image.Image | None:
    """The input, cropped to the size of the picture; None where Pillow cannot read it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                return None
            image.draft("RGB", size)
            return ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _placeholder(name: str, size: tuple[int, int], palette: Palette) -> Image.Image:
    mark = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    back = mix(palette.sky, (mark[0], mark[1], mark[2]), 0.45)
    tile = Image.new("RGB", size, back)
    pen = ImageDraw.Draw(tile)
    unit = min(size) / 4
    for place in range(6):
        x, y = mark[3 + place] / 255 * size[0], mark[9 + place] / 255 * size[1]
        r = unit * (0.4 + mark[15 + place] / 255)
        colour = mix(back, (mark[21], mark[22 + place], mark[23]), 0.55)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    return tile.reduce(2).filter(ImageFilter.BoxBlur(size[0] // 50)).resize(size, Image.Resampling.BILINEAR)
