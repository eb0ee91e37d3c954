"""Small copies of images, for sheets. Damaged and huge files give None, never an error."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

#: The tool saves no image above 100 megapixels.
MOST_PIXELS = 100_000_000


def thumbnail(path: Path, width: int, height: int, *, blur: bool = False) -> Image.Image | None:
    """The image, fitted into ``width`` × ``height`` pixels, as RGB; blurred beyond recognition if asked."""
    from PIL import Image, ImageFilter

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
                if image.width * image.height > MOST_PIXELS:
                    return None
                image.draft("RGB", (width * 2, height * 2))  # a JPEG decodes straight to about that size
                small: Image.Image = image.convert("RGB")
        small.thumbnail((width, height), Image.Resampling.LANCZOS)
    except Exception:  # Pillow's readers raise whatever a damaged file leads them into
        return None
    if not blur:
        return small
    tiny: Image.Image = small.resize((6, 6), Image.Resampling.BOX)
    soft: Image.Image = tiny.resize(small.size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(8))
    dark: Image.Image = soft.point([value * 6 // 10 for value in range(256)] * 3)
    return dark
