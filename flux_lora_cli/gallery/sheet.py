"""A run as one picture: a labelled grid where the pictures are a matrix, a contact sheet otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import FolderError, UsageError
from flux_lora_cli.gallery.layout import Cell, Layout, Section, lay_out
from flux_lora_cli.gallery.lettering import font_for, wrap
from flux_lora_cli.gallery.paths import new_beside
from flux_lora_cli.gallery.run import Run

if TYPE_CHECKING:
    from PIL import Image

SHEET_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_MARK = "flux-lora sheet"
_SOFTWARE = 0x0131  # EXIF tag

#: Neutral colours, so that they do not argue with the pictures.
_PAPER, _WELL, _INK, _SOFT, _BAD = (250, 250, 248), (232, 231, 226), (28, 28, 26), (98, 97, 91), (168, 38, 28)
_MARGIN, _GAP = 28, 10
#: Tiles shrink to _LEGIBLE to keep a sheet within what a pull request shows at once, and
#: further only for the hard limits: WebP's longest side, and what viewers and chats still take.
_TILES, _LEGIBLE = (320, 256, 224, 192, 160, 128, 112, 96, 80, 64, 48), 160
_COMFORTABLE, _LARGEST = 6_000_000, 40_000_000
_WIDEST, _LONGEST = 4_200, 16_383


def write_sheet(runs: Sequence[Run], target: Path, *, show_nsfw: bool = False) -> Path:
    """Write the sheet as PNG, JPEG or WebP, by the name's ending. Flagged pictures are blurred unless asked for.

    Raises:
        UsageError: another ending; nothing to show; or a file there that is no sheet of this program.
        FolderError: the file cannot be written.
    """
    kind = SHEET_KINDS.get(target.suffix.lower())
    if kind is None:
        raise UsageError(f"{target.name}: a sheet is .png, .jpg or .webp")
    if _is_foreign(target):
        raise UsageError(f"{target} is no sheet of flux-lora, and is left alone", "name another file")
    layout = lay_out(runs)
    if not layout.sections:
        raise UsageError("there is no job to show on a sheet", "run the batch first")
    picture = draw_sheet(layout, show_nsfw=show_nsfw)
    _save(picture, target, kind)
    return target


def draw_sheet(layout: Layout, *, show_nsfw: bool = False) -> Image.Image:
    """The sheet as an RGB picture."""
    from PIL import Image

    plan = _Plan(layout)
    canvas = Image.new("RGB", (plan.width, plan.height), _PAPER)
    painter = _Painter(canvas, plan, show_nsfw)
    y = painter.title(layout)
    for section in layout.sections:
        y = painter.section(section, y)
    return canvas


class _Plan:
    """Sizes in pixels; tiles are as large as the limits let them be."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.columns = max(len(section.rows[0][1]) for section in layout.sections)
        self.rows = sum(len(section.rows) for section in layout.sections)
        self.aspect = layout.aspect
        for self.tile in _TILES:
            self._measure()
            area = _COMFORTABLE if self.tile > _LEGIBLE else _LARGEST
            if self.width <= _WIDEST and self.height <= _LONGEST and self.width * self.height <= area:
                break

    def _measure(self) -> None:
        self.small = self.tile < 112
        self.text = max(11, min(15, self.tile // 15))
        self.tall = round(self.tile / self.aspect)
        self.label = self._label_width() if self.layout.is_grid else 0
        captions = 0 if self.layout.is_grid or self.small else 3
        self.caption = captions * round(self.text * 1.35) + (6 if captions else 0)
        self.head = round(self.text * 1.35) * self._heading_lines() + 8 if self.layout.is_grid else 0
        self.line = self.tall + self.caption + _GAP
        self.titled = any(section.title for section in self.layout.sections)
        extra = (self.head + (round(self.text * 2.6) if self.titled else 0) + 8) * len(self.layout.sections)
        self.width = max(480, 2 * _MARGIN + self.label + self.columns * (self.tile + _GAP) - _GAP)
        self.height = 2 * _MARGIN + 56 + extra + self.rows * self.line

    def _label_width(self) -> int:
        headings = {heading for section in self.layout.sections for heading, _ in section.rows}
        longest: float = max(font_for(text, self.text).getlength(text[:80]) for text in headings)
        return max(48, min(220, self.tile, round(longest) + 2)) + 16

    def _heading_lines(self) -> int:
        headings = {text for section in self.layout.sections for text in section.columns}
        return max(len(wrap(text, font_for(text, self.text), self.tile, 2)) for text in headings)


class _Painter:
    """Draws a plan from the top down."""

    def __init__(self, canvas: Image.Image, plan: _Plan, show_nsfw: bool) -> None:
        from PIL import ImageDraw

        self.canvas = canvas
        self.plan = plan
        self.show_nsfw = show_nsfw
        self.brush = ImageDraw.Draw(canvas)

    def title(self, layout: Layout) -> int:
        """Write the heading; returns where the first section begins."""
        self._write((_MARGIN, _MARGIN), layout.title, 20, _INK, self.plan.width - 2 * _MARGIN, 1)
        self._write((_MARGIN, _MARGIN + 27), layout.subtitle, 13, _SOFT, self.plan.width - 2 * _MARGIN, 1)
        return _MARGIN + 60

    def section(self, section: Section, y: int) -> int:
        """Draw one grid or sheet; returns where the next begins."""
        plan = self.plan
        if section.title:
            self._write((_MARGIN, y + 2), section.title, plan.text + 2, _INK, plan.width - 2 * _MARGIN, 1)
        if plan.titled:
            y += round(plan.text * 2.6)
        if plan.head:
            for x, text in zip(self._lefts(), section.columns, strict=False):
                self._write((x, y), text, plan.text, _INK, plan.tile, 2)
            y += plan.head
        for heading, cells in section.rows:
            if plan.label:
                fits = max(1, plan.tall // round(plan.text * 1.35))
                self._write((_MARGIN, y), heading, plan.text, _INK, plan.label - 16, min(10, fits))
            for x, cell in zip(self._lefts(), cells, strict=False):
                self._tile(cell, x, y)
            y += plan.line
        return y + 8

    def _lefts(self) -> list[int]:
        start, step = _MARGIN + self.plan.label, self.plan.tile + _GAP
        return [start + i * step for i in range(self.plan.columns)]

    def _tile(self, cell: Cell | None, x: int, y: int) -> None:
        plan = self.plan
        box = (x, y, x + plan.tile - 1, y + plan.tall - 1)
        self.brush.rectangle(box, fill=_WELL)
        if cell is None:
            return
        why = cell.why
        if cell.path is not None:
            from flux_lora_cli.gallery.thumbnails import thumbnail

            blurred = cell.nsfw and not self.show_nsfw
            image = thumbnail(cell.path, plan.tile, plan.tall, blur=blurred)
            if image is None:
                why = "the file is no image"
            else:
                at = (x + (plan.tile - image.width) // 2, y + (plan.tall - image.height) // 2)
                self.canvas.paste(image, at)
                why = "flagged NSFW" if blurred else ""
        if why and not plan.small:
            failed = why.startswith("failed")
            colour = (255, 255, 255) if why == "flagged NSFW" else _BAD if failed else _SOFT
            self._write((x + 10, y + 10), why, plan.text, colour, plan.tile - 20, 6)
        if plan.caption:
            below = y + plan.tall + 6
            below += self._write((x, below), cell.caption, plan.text, _INK, plan.tile, 2)
            self._write((x, below), cell.detail, plan.text - 1, _SOFT, plan.tile, 1)

    def _write(
        self, at: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], width: int, lines: int
    ) -> int:
        """Write wrapped text; returns its height."""
        font = font_for(text, size)
        wrapped = wrap(text, font, width, lines)
        for i, line in enumerate(wrapped):
            self.brush.text((at[0], at[1] + i * round(size * 1.35)), line, font=font, fill=colour)
        return len(wrapped) * round(size * 1.35)


def _is_foreign(target: Path) -> bool:
    """Whether a file stands there that this program may not replace."""
    from PIL import Image

    if target.is_symlink():
        return True
    if not target.exists():
        return False
    try:
        with Image.open(target) as image:
            return not str(image.getexif().get(_SOFTWARE, "")).startswith(_MARK)
    except Exception:  # Pillow's readers raise whatever a damaged file leads them into
        return True


def _save(picture: Image.Image, target: Path, kind: str) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[_SOFTWARE] = f"{_MARK} {__version__}"
    options: dict[str, dict[str, Any]] = {
        "PNG": {"optimize": False, "compress_level": 6},
        "JPEG": {"quality": 88, "subsampling": 0},
        "WEBP": {"quality": 86, "method": 3},
    }
    try:
        temporary = new_beside(target)
        try:
            picture.save(temporary, kind, exif=exif, **options[kind])
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(f"{target} cannot be written: {error.strerror or error}") from error
