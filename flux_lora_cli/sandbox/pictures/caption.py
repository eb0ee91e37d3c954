"""The caption: prompt, seed, stack and size on a band, and the mark that says that a sandbox made this."""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from .palette import Colour, mix

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_INK: Colour = (10, 12, 18)
_MARK = "SANDBOX"


@dataclass(frozen=True, slots=True)
class Lines:
    """The words of a caption: the prompt may take two lines, facts and stack take one each."""

    prompt: str
    facts: str
    stack: str


def write(picture: Image.Image, lines: Lines, accent: Colour) -> None:
    """Writes the caption on the lower edge and the mark in the upper right corner."""
    unit = min(picture.size)
    large, small = _font(max(12, unit // 32)), _font(max(10, unit // 46))
    margin = max(8, unit // 36)
    width = picture.width - 2 * margin
    prompt = _wrapped(_plain(lines.prompt) or "(no prompt)", large, width, 2)
    rows = [(row, large, (255, 255, 255)) for row in prompt]
    rows.append((_cut(_plain(lines.facts), small, width), small, (205, 210, 222)))
    if lines.stack:
        rows.append((_cut(_plain(lines.stack), small, width), small, mix(accent, (255, 255, 255), 0.35)))
    steps = [round(_height(font) * 1.3) for _, font, _ in rows]
    top = picture.height - sum(steps) - round(margin * 1.3)
    _band(picture, top, accent, max(2, unit // 256))
    pen = ImageDraw.Draw(picture)
    y = top + round(margin * 0.7)
    for (text, font, colour), step in zip(rows, steps, strict=True):
        pen.text((margin, y), text, font=font, fill=colour)
        y += step
    _stamp(picture, small, margin, accent)


def _band(picture: Image.Image, top: int, accent: Colour, line: int) -> None:
    box = (0, top, picture.width, picture.height)
    picture.paste(Image.blend(picture.crop(box), Image.new("RGB", (box[2], box[3] - top), _INK), 0.78), box)
    picture.paste(accent, (0, top, picture.width, top + line))


def _stamp(picture: Image.Image, font: Font, margin: int, accent: Colour) -> None:
    """A pill in the corner, legible on any picture."""
    pen = ImageDraw.Draw(picture)
    spaced = " ".join(_MARK)
    wide, high = round(font.getlength(spaced)), _height(font)
    right, top = picture.width - margin, margin
    box = (right - wide - high, top, right, top + round(high * 1.7))
    pen.rounded_rectangle(box, radius=(box[3] - box[1]) // 2, fill=_INK, outline=accent, width=max(1, high // 10))
    pen.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), spaced, font=font, fill=(255, 255, 255), anchor="mm")


@functools.lru_cache(maxsize=32)
def _font(size: int) -> Font:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size)


def _height(font: Font) -> int:
    return round(getattr(font, "size", 11))


def _plain(text: str) -> str:
    """One line without control and direction marks."""
    kept = (" " if unicodedata.category(letter)[0] in "CZ" else _drawable(letter) for letter in text[:2000])
    return " ".join("".join(kept).split())


def _drawable(letter: str) -> str:
    """The font knows European letters; a dot stands for others, rather than a box."""
    return letter if letter <= "\u024f" or letter in "–—‘’“”…•€" else "·"


def _wrapped(text: str, font: Font, width: int, most: int) -> list[str]:
    rows: list[str] = []
    words = text.split(" ")
    while words and len(rows) < most:
        count = len(words)
        while count > 1 and font.getlength(" ".join(words[:count])) > width:
            count -= 1 if count < 40 else count // 2
        if len(rows) == most - 1:
            count = len(words)
        rows.append(_cut(" ".join(words[:count]), font, width))
        words = words[count:]
    return rows


def _cut(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    low, high = 0, min(len(text), 400)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle] + "…") <= width else (low, middle - 1)
    return text[:low].rstrip() + "…"
