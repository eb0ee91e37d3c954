"""Rows as lines of aligned columns, on a screen of any width."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence

_GAP = "  "
#: Columns that a cell keeps where there is little room, and that it takes off a screen before the last.
_LEAST, _MOST = 12, 48


def screen() -> int:
    """Columns of the terminal that results go to; 0 where they go elsewhere and nothing has to fit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def table(rows: Sequence[Sequence[str]], columns: int) -> Iterator[str]:
    """Lines of aligned cells, none longer than ``columns`` (0: no limit).

    The widest cells give way first and end in "…"; the first of a row, by which it is called, does so last.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[:-1] = [min(width, _MOST) for width in widths[:-1]]
    if columns:
        _narrow(widths, columns - len(_GAP) * (len(widths) - 1))
    for row in rows:
        cells = [_cut(cell, width if columns else 0) for cell, width in zip(row, widths, strict=True)]
        line = _GAP.join(cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False))
        yield f"{line}{_GAP}{cells[-1]}".rstrip()


def _narrow(widths: list[int], room: int) -> None:
    while (over := sum(widths) - room) > 0:
        others = range(1, len(widths))
        widest = max(others, key=lambda place: widths[place])
        if widths[widest] <= _LEAST:
            widths[0] = max(_LEAST, widths[0] - over)
            return
        widths[widest] -= 1


def _cut(cell: str, width: int) -> str:
    return f"{cell[: width - 1]}…" if 0 < width < len(cell) else cell
