"""Text on sheets: a font that has the letters, and lines that fit."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

#: Looked for by name where Pillow's own font lacks the letters.
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")


def font_for(text: str, size: int) -> Any:
    """Pillow's built-in font; for text beyond Latin-1 one of the system's, where there is one."""
    return _font(size, any(ord(character) > 0xFF and character not in "–—…·×→↓“”‘’" for character in text))


@lru_cache(maxsize=64)
def _font(size: int, wide: bool) -> Any:
    from PIL import ImageFont

    for name in _WIDE_FONTS if wide else ():
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def wrap(text: str, font: Any, width: int, lines: int) -> list[str]:
    """Break text into at most ``lines`` lines of ``width`` pixels; what is left out becomes an ellipsis."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text[:600]).split()).split(" ")
    done: list[str] = []
    line = ""
    while words:
        word = words.pop(0)
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
        elif line:
            done.append(line)
            line = ""
            words.insert(0, word)
        else:
            kept = _fitting(word, font, width)
            done.append(word[:kept])
            words.insert(0, word[kept:])
        if len(done) == lines:
            return _cut(done, font, width) if words and words != [""] else done
    return [*done, line] if line else done


def _fitting(word: str, font: Any, width: int) -> int:
    """How many of a word's first letters fit; at least one."""
    for kept in range(len(word), 1, -1):
        if font.getlength(word[:kept]) <= width:
            return kept
    return 1


def _cut(lines: list[str], font: Any, width: int) -> list[str]:
    last = lines[-1]
    while last and font.getlength(last + "…") > width:
        last = last[:-1]
    return [*lines[:-1], last.rstrip() + "…"]
