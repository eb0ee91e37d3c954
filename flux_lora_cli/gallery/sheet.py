"""Contact sheets: a labelled grid where the pictures are a matrix, a wall otherwise; as many pages as are readable."""

from __future__ import annotations

import io
import math
import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import UsageError
from flux_lora_cli.folder.files import explained, make_folders, write_atomically
from flux_lora_cli.gallery.compare import pair_folders
from flux_lora_cli.gallery.pictures import (
    Picture,
    caption_of,
    choose_axes,
    facets_of,
    name_of,
    read_pictures,
    shape_of,
    shown,
)
from flux_lora_cli.text import counted

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_MARK, _SOFTWARE = "flux-lora sheet", 0x0131  # the EXIF tag by which a sheet of ours is known
#: Pixels: a page fits on a screen at a readable zoom, and into what chats and code hosts show.
_TILE, _MAX_COLUMNS, _MAX_HEIGHT = 300, 6, 3_200
_MARGIN, _GAP, _TEXT, _LINE, _TITLE = 32, 14, 17, 23, 26
_LABEL, _CAPTION = 190, 4 * _LINE + 6
# Neutral colors, so that they do not argue with the pictures.
_PAPER, _WELL, _INK, _SOFT, _BAD = (250, 250, 248), (232, 231, 226), (28, 28, 26), (92, 91, 86), (168, 38, 28)
_plain_font, _wide_font = lru_cache(ImageFont.load_default), lru_cache(ImageFont.truetype)
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")


@dataclass(frozen=True, slots=True)
class _Tile:
    """One picture with a heading and a detail below; without a picture the detail stands in its place."""

    picture: Picture | None
    heading: str = ""
    detail: str = ""


#: A heading, and the tiles that it is for.
_Row = tuple[str, Sequence[_Tile]]


def make_sheet(folders: Sequence[Path], target: Path) -> list[Path]:
    """Write a contact sheet of folders: ``target``, and ``NAME-2.png`` … where one page does not hold them.

    Flagged pictures are blurred.

    Raises:
        NotFoundError, FolderError: a folder cannot be read, or the sheet not be written.
        UsageError: another ending than .png, .jpg or .webp; nothing to show; a file there that is not a sheet.
    """
    pictures = [p for folder in folders for p in read_pictures(folder) if not p.replaced]
    if not pictures:
        raise UsageError("there is no job to show on a sheet", "Run the batch first.")
    facets = facets_of(pictures)
    columns, rows = choose_axes(facets)
    notes = [counted(sum(p.file is not None for p in pictures), "image")]
    heads: Sequence[str] = ()
    if columns and rows and len(set(zip(columns.codes, rows.codes, strict=True))) == len(pictures):
        cells = dict(zip(zip(rows.codes, columns.codes, strict=True), pictures, strict=True))
        heads, across = columns.values, range(len(columns.values))
        table: list[_Row] = [(name, [_Tile(cells.get((r, c))) for c in across]) for r, name in enumerate(rows.values)]
        notes.append(f"{columns.label} across, {rows.label} down")
    else:  # several pictures to a cell, or no matrix
        one_prompt = len({picture.prompt for picture in pictures}) == 1 and len(pictures) > 1
        tiles = [
            _Tile(p, "" if one_prompt else p.prompt or p.name, " · ".join(text for _, text in caption_of(p, facets, i)))
            for i, p in enumerate(pictures)
        ]
        wide = min(_MAX_COLUMNS, math.ceil(math.sqrt(len(tiles) * 1.5 * _tall(pictures) / _TILE)))
        table = [("", row) for row in _chunks(tiles, wide)]
    return _write(target, ", ".join(map(name_of, folders[:4])), notes, heads, table, pictures)


def make_pair_sheet(before: Path, after: Path, target: Path) -> list[Path]:
    """Write a contact sheet of what differs between two folders, in pairs. Raises as ``make_sheet``."""
    pairs = [pair for pair in pair_folders(before, after) if not pair.same]
    heads = (f"Before: {name_of(before)}", f"After: {name_of(after)}")
    rows: list[_Row] = [(pair.picture.name, [_Tile(side, detail="not here") for side in pair.sides]) for pair in pairs]
    notes = [counted(len(pairs), "image") + " changed" if pairs else "nothing changed"]
    return _write(target, "Before and after", notes, heads, rows, [pair.picture for pair in pairs])


def _tall(pictures: Sequence[Picture]) -> int:
    """Height of the tiles in pixels."""
    return round(_TILE * min(2.0, max(0.5, shape_of(pictures))))


def _chunks(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _write(
    target: Path, title: str, notes: list[str], heads: Sequence[str], rows: list[_Row], pictures: Sequence[Picture]
) -> list[Path]:
    """Draw and save the table, cut into pages of a readable size. ``heads``: of the columns; none on a wall."""
    kind = _FORMATS.get(target.suffix.lower())
    if kind is None:
        raise UsageError(f"{target.name}: the name of a sheet must end in .png, .jpg or .webp")
    tall = _tall(pictures)
    notes += ["sandbox"] if any(picture.manifest.sandbox for picture in pictures) else []
    high = max(1, (_MAX_HEIGHT - 2 * _MARGIN - 110) // (tall + (0 if heads else _CAPTION) + _GAP))
    spans = [slice(start, start + _MAX_COLUMNS) for start in range(0, len(heads) or 1, _MAX_COLUMNS)]
    pages = [(part, span) for part in _chunks(rows, high) or [[]] for span in spans]
    targets = [target, *(target.with_stem(f"{target.stem}-{n}") for n in range(2, len(pages) + 1))]
    if foreign := [path for path in targets if os.path.lexists(path) and not _is_ours(path)]:
        raise UsageError(f"{foreign[0]} was not written by flux-lora, and is left alone", "Name another file.")
    exif = Image.Exif()
    exif[_SOFTWARE] = f"{_MARK} {__version__}"
    for number, ((part, span), path) in enumerate(zip(pages, targets, strict=True), 1):
        place = [f"page {number} of {len(pages)}"] if len(pages) > 1 else []
        painter = _Painter(heads[span], [(head, tiles[span]) for head, tiles in part], tall)
        encoded = io.BytesIO()
        painter.draw(title, " · ".join([*notes, *place])).save(encoded, kind, exif=exif, quality=90)
        with explained(path):
            make_folders(path.parent)
            write_atomically(path, encoded.getvalue(), mode=0o644)
    return targets


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with Image.open(path) as image:
            return str(image.getexif().get(_SOFTWARE, "")).startswith(_MARK)
    except Exception:  # Pillow's readers raise whatever a damaged file leads them into
        return False


# ---- drawing ------------------------------------------------------------------------------


class _Painter:
    """Draws one page from the top down."""

    def __init__(self, heads: Sequence[str], rows: Sequence[_Row], tall: int) -> None:
        self.heads, self.rows, self.tall = heads, rows, tall
        self.step = tall + (0 if heads else _CAPTION) + _GAP
        self.left = _MARGIN + (_LABEL if heads else 0)
        self.top = _MARGIN + 74 + (2 * _LINE + 8 if heads else 0)
        across = max((len(tiles) for _, tiles in rows), default=2)
        width = max(480, self.left + across * (_TILE + _GAP) - _GAP + _MARGIN)
        self.canvas = Image.new("RGB", (width, self.top + len(rows) * self.step - _GAP + _MARGIN), _PAPER)
        self.brush = ImageDraw.Draw(self.canvas)

    def draw(self, title: str, notes: str) -> Image.Image:
        wide = self.canvas.width - 2 * _MARGIN
        self.write(_MARGIN, _MARGIN, title, wide, 1, size=_TITLE)
        self.write(_MARGIN, _MARGIN + 38, notes, wide, 1, _SOFT)
        lefts = range(self.left, self.canvas.width, _TILE + _GAP)
        for x, heading in zip(lefts, self.heads, strict=False):
            self.write(x, self.top - 2 * _LINE - 8, heading, _TILE, 2)
        for row, (heading, tiles) in enumerate(self.rows):
            y = self.top + row * self.step
            self.write(_MARGIN, y, heading, _LABEL - 16, 8)
            for x, tile in zip(lefts, tiles, strict=False):
                self.tile(tile, x, y)
        return self.canvas

    def tile(self, tile: _Tile, x: int, y: int) -> None:
        self.brush.rectangle((x, y, x + _TILE - 1, y + self.tall - 1), fill=_WELL)
        picture = tile.picture
        if picture is None:
            self.write(x + 12, y + 12, tile.detail, _TILE - 24, 8, _SOFT)
            return
        image = thumbnail(picture.path, _TILE, self.tall, blur=picture.flagged) if picture.path else None
        if image is not None:
            self.canvas.paste(image, (x + (_TILE - image.width) // 2, y + (self.tall - image.height) // 2))
            if picture.flagged:
                self.write(x + _TILE // 2 - 60, y + self.tall // 2 - 10, "Flagged NSFW", 160, 1, (255, 255, 255))
        else:
            words = "cannot be shown" if picture.path else f"{picture.status}. {picture.why}"
            bad = picture.path or picture.status in ("Failed", "Missing")
            self.write(x + 12, y + 12, words, _TILE - 24, 8, _BAD if bad else _SOFT)
        below = self.write(x, y + self.tall + 6, tile.heading, _TILE, 2)
        if not self.heads:
            self.write(x, below, tile.detail, _TILE, 2 if tile.heading else 4, _SOFT)

    def write(
        self, x: int, y: int, text: str, width: int, lines: int, color: tuple[int, int, int] = _INK, size: int = _TEXT
    ) -> int:
        """Write wrapped text; returns where the next line would begin."""
        font = font_for(text, size)
        for line in wrap(text, font, width, lines):
            self.brush.text((x, y), line, font=font, fill=color)
            y += round(size * 1.35)
        return y


def thumbnail(path: Path, width: int, height: int, *, blur: bool = False) -> Image.Image | None:
    """The image fitted into a box, as RGB, blurred beyond recognition if asked; None where it cannot be read."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            image.draft("RGB", (width * 2, height * 2))  # a JPEG decodes straight to about that size
            small: Image.Image = image.convert("RGB")
        small.thumbnail((width, height), Image.Resampling.LANCZOS)
    except Exception:  # Pillow's readers raise whatever a damaged file leads them into
        return None
    if blur:
        tiny = small.resize((6, 6), Image.Resampling.BOX)
        small = tiny.resize(small.size, Image.Resampling.BICUBIC).point([value * 6 // 10 for value in range(256)] * 3)
    return small


def font_for(text: str, size: int) -> Any:
    """Pillow's built-in font; for text beyond Latin-1 one of the system's, where there is one."""
    for name in _WIDE_FONTS if any(c > "\xff" and c not in "–—…·×→↓“”‘’" for c in text) else ():
        with suppress(OSError):
            return _wide_font(name, size)
    return _plain_font(size)


def wrap(text: str, font: Any, width: int, lines: int) -> list[str]:
    """Break text into at most ``lines`` lines of ``width`` pixels; what is left out becomes an ellipsis."""
    rest = " ".join("".join(c if c.isprintable() else " " for c in shown(text)[:600]).split())
    done: list[str] = []
    while rest:
        if font.getlength(rest) <= width:
            return [*done, rest]
        fits = bisect_right(range(1, len(rest)), width, key=lambda n: font.getlength(rest[:n] + "…"))
        if len(done) == lines - 1:
            return [*done, rest[:fits].rstrip() + "…"]
        space, after_mark = rest.rfind(" ", 1, fits + 2), max(rest.rfind(mark, 1, fits) + 1 for mark in "-/")
        end = space if space > 0 else after_mark or max(1, fits)
        done.append(rest[:end])
        rest = rest[end:].lstrip()
    return done
