"""Contact sheets: a labelled grid where the pictures are a matrix, a wall otherwise; as many pages as are readable."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import UsageError
from flux_lora_cli.gallery.page import Entry
from flux_lora_cli.gallery.pictures import (
    Picture,
    caption_of,
    check_ours,
    choose_axes,
    facets_of,
    name_of,
    opened,
    shape_of,
    shown,
    write_file,
)
from flux_lora_cli.text import counted

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
#: The EXIF tag by which a sheet of ours is known, and what it says.
_SOFTWARE, _MARK = 0x0131, "flux-lora sheet"
#: Pixels: a page fits on a screen at a readable zoom, and into what chats and code hosts show.
_TILE, _MAX_COLUMNS, _WALL_COLUMNS, _MAX_HEIGHT = 300, 10, 6, 3_200
_MARGIN, _GAP, _TEXT, _LINE, _TITLE = 32, 14, 17, 23, 26
_LABEL, _CAPTION = 190, 4 * _LINE + 6
# Neutral colors, so that they do not argue with the pictures.
_PAPER, _WELL, _INK, _SOFT = (250, 250, 248), (232, 231, 226), (28, 28, 26), (92, 91, 86)
_plain_font, _wide_font = lru_cache(ImageFont.load_default), lru_cache(ImageFont.truetype)
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")


#: A heading, "" on a wall; pictures, None where a row has none, each with the text below it.
_Row = tuple[str, Sequence[tuple[Picture | None, str]]]


def make_sheet(folders: Sequence[Path], pictures: Sequence[Picture], target: Path) -> list[Path]:
    """Write a contact sheet of the folders' pictures: ``target``, and ``NAME-2.png`` … where one page cannot hold them.

    Flagged pictures are blurred.

    Raises:
        FolderError: the sheet cannot be written.
        UsageError: another ending than .png, .jpg or .webp; nothing to show; a file there that is not a sheet.
    """
    pictures = [picture for picture in pictures if not picture.replaced]
    if not pictures:
        raise UsageError("there is no job to show on a sheet", "Run the batch first.")
    facets = facets_of(pictures)
    columns, rows = choose_axes(facets)
    notes = [counted(sum(p.file is not None for p in pictures), "image")]
    heads: Sequence[str] = ()
    cells = {}
    if columns and rows:
        cells = dict(zip(zip(facets[rows].codes, facets[columns].codes, strict=True), pictures, strict=True))
    if columns and rows and len(cells) == len(pictures) and len(facets[columns].values) <= _MAX_COLUMNS:
        heads = facets[columns].values
        across, down = range(len(heads)), enumerate(facets[rows].values)
        table: list[_Row] = [(name, [(cells.get((r, c)), "") for c in across]) for r, name in down]
        notes.append(f"{columns} across, {rows} down")
    else:  # several pictures to a cell, too many columns to read, or no matrix
        captions = ((*(text for _, text in caption_of(p, facets, i)), p.prompt) for i, p in enumerate(pictures))
        tiles = [(p, " · ".join(filter(None, texts))) for p, texts in zip(pictures, captions, strict=True)]
        wide = min(_WALL_COLUMNS, math.ceil(math.sqrt(1.5 * len(tiles))))
        table = [("", tiles[start : start + wide]) for start in range(0, len(tiles), wide)]
    return _write(target, ", ".join(map(name_of, folders)), notes, heads, table, pictures)


def make_pair_sheet(before: Path, after: Path, pairs: Sequence[Entry], target: Path) -> list[Path]:
    """Write a contact sheet of what differs between two folders, in pairs. Raises as ``make_sheet``."""
    pairs = [pair for pair in pairs if not pair.same]
    heads = (f"Before: {name_of(before)}", f"After: {name_of(after)}")
    table: list[_Row] = [(pair.picture.name, [(side, "") for side in pair.sides]) for pair in pairs]
    notes = [counted(len(pairs), "image") + " changed" if pairs else "nothing changed"]
    return _write(target, "Before and after", notes, heads, table, [pair.picture for pair in pairs])


def _write(
    target: Path, title: str, notes: list[str], heads: Sequence[str], table: list[_Row], pictures: Sequence[Picture]
) -> list[Path]:
    """Draw and save the table, cut into pages of a readable size. ``heads``: of the columns; none on a wall."""
    kind = _FORMATS.get(target.suffix.lower())
    if kind is None:
        raise UsageError(f"{target.name}: the name of a sheet must end in .png, .jpg or .webp")
    notes += ["sandbox"] if any(picture.manifest.sandbox for picture in pictures) else []
    tall = round(_TILE * min(2.0, max(0.5, shape_of(pictures))))
    high = max(1, (_MAX_HEIGHT - 2 * _MARGIN - 110) // (tall + (0 if heads else _CAPTION) + _GAP))
    pages = [table[top : top + high] for top in range(0, len(table), high)] or [[]]
    targets = [target, *(target.with_stem(f"{target.stem}-{n}") for n in range(2, len(pages) + 1))]
    for path in targets:
        check_ours(path, _MARK)
    exif = Image.Exif()
    exif[_SOFTWARE] = f"{_MARK} {__version__}"
    for number, (rows, path) in enumerate(zip(pages, targets, strict=True), 1):
        place = [f"page {number} of {len(pages)}"] if len(pages) > 1 else []
        page = _draw(title, " · ".join([*notes, *place]), heads, rows, tall)
        write_file(path, partial(page.save, format=kind, exif=exif, quality=90))
    return targets


# ---- drawing ------------------------------------------------------------------------------


def _draw(title: str, notes: str, heads: Sequence[str], rows: Sequence[_Row], tall: int) -> Image.Image:
    """One page, from the top down."""
    step = tall + (0 if heads else _CAPTION) + _GAP
    left = _MARGIN + (_LABEL if heads else 0)
    top = _MARGIN + 74 + (2 * _LINE + 8 if heads else 0)
    across = max((len(tiles) for _, tiles in rows), default=2)
    width = max(480, left + across * (_TILE + _GAP) - _GAP + _MARGIN)
    canvas = Image.new("RGB", (width, top + len(rows) * step - _GAP + _MARGIN), _PAPER)
    brush = ImageDraw.Draw(canvas)

    def write(x: int, y: int, text: str, width: int, lines: int, color: Any = _INK, size: int = _TEXT) -> None:
        font = font_for(text, size)
        for number, line in enumerate(wrap(text, font, width, lines)):
            brush.text((x, y + number * _LINE), line, font=font, fill=color)

    write(_MARGIN, _MARGIN, title, width - 2 * _MARGIN, 1, size=_TITLE)
    write(_MARGIN, _MARGIN + 38, notes, width - 2 * _MARGIN, 1, _SOFT)
    lefts = range(left, width, _TILE + _GAP)
    for x, heading in zip(lefts, heads, strict=False):
        write(x, top - 2 * _LINE - 8, heading, _TILE, 2)
    for y, (heading, tiles) in zip(range(top, canvas.height, step), rows, strict=False):
        write(_MARGIN, y, heading, _LABEL - 16, 8)
        for x, (picture, text) in zip(lefts, tiles, strict=False):
            image = picture and _thumbnail(picture, _TILE, tall)
            canvas.paste(image or _WELL, (x, y, x + _TILE, y + tall))
            if image is None:
                write(x + 12, y + 12, _why_not(picture), _TILE - 24, 8)
            elif picture and picture.flagged:
                write(x + _TILE // 2 - 60, y + tall // 2 - 10, "Flagged NSFW", 160, 1, _PAPER)
            write(x, y + tall + 6, text, _TILE, 4, _SOFT)
    return canvas


def _thumbnail(picture: Picture, width: int, height: int) -> Image.Image | None:
    """The image fitted into a box, blurred beyond recognition if flagged; None where it cannot be read."""
    try:
        with opened(picture.path or "") as image:
            image.draft("RGB", (width * 2, height * 2))  # a JPEG decodes straight to about that size
            small = ImageOps.pad(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS, color=_WELL)
    except Exception:  # Pillow's readers raise whatever a damaged file leads them into
        return None
    if picture.flagged:
        return Image.eval(small.filter(ImageFilter.GaussianBlur(40)), lambda value: value * 6 // 10)
    return small


def _why_not(picture: Picture | None) -> str:
    if picture is None:
        return "Not here"
    return "Cannot be shown" if picture.file else ": ".join(filter(None, picture.state))


def font_for(text: str, size: int) -> Any:
    """Pillow's built-in font; for text beyond Latin-1 one of the system's, where there is one."""
    for name in _WIDE_FONTS if any(c > "\xff" and c not in "–—…·×→↓“”‘’" for c in text) else ():
        with suppress(OSError):
            return _wide_font(name, size)
    return _plain_font(size)


def wrap(text: str, font: Any, width: int, lines: int) -> list[str]:
    """Break text into at most ``lines`` lines of ``width`` pixels; what is left out becomes an ellipsis."""
    plain = "".join(c if c.isprintable() else " " for c in shown(text)[:600])
    for characters in range(int(width / font.getlength("e")), 0, -1):
        done = textwrap.wrap(plain, characters)
        if len(done) > lines:
            done[lines - 1 :] = [done[lines - 1][: characters - 1] + "…"]
        if all(font.getlength(line) <= width for line in done):
            return done
    return []
