"""How commands show results: tables, values, names in a sentence, and how far they have come."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

from flux_lora_cli.commands.console import Console
from flux_lora_cli.text import printable, quoted

#: What GitHub reads as a command at the beginning of a line; text from outside may say anything.
_COMMAND = re.compile(r"^(\s*:)(?=:)")
#: Seconds between two messages about progress: where somebody watches, and in a log.
_TERMINAL_STEP, _LOG_STEP = 2.0, 30.0


def plain(text: object) -> str:
    """Text from outside as part of one line: spaces in a row are one, nothing steers a terminal or a CI service."""
    return _COMMAND.sub(r"\1 ", printable(" ".join(str(text).split())))


def some(names: Sequence[str], shown: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - shown
    return ", ".join(map(plain, names[:shown])) + (f" and {more:,} more" if more > 0 else "")


def value_text(value: Any, scalar: Callable[[Any], str] = quoted) -> str:
    """The value of a request parameter; ``scalar`` writes what is neither a list nor a LoRA."""
    if isinstance(value, (list, tuple)):
        return ", ".join(value_text(item, scalar) for item in value) or "none"
    if isinstance(value, dict):
        return f"{printable(str(value.get('path')))}:{value.get('scale')}"
    return scalar(value)


def print_table(rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print aligned cells, none of them cut: on a terminal cells wrap, elsewhere each row is one line."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    if not console.out_is_terminal:
        for row in cells:
            console.result("  ".join(map(set_cell_size, row, widths)).rstrip())
        return
    from rich.console import Console as Terminal
    from rich.table import Column, Table
    from rich.text import Text

    width = shutil.get_terminal_size().columns
    names = Column(overflow="fold", no_wrap=widths[0] <= width // 2)  # whole, to be copied, where there is room
    grid = Table.grid(names, *(Column(overflow="fold") for _ in widths[1:]), padding=(0, 2, 0, 0))
    for row in cells:
        grid.add_row(*map(Text, row))
    text = io.StringIO()
    Terminal(file=text, width=width, color_system=None).print(grid)
    for line in text.getvalue().splitlines():
        console.result(line.rstrip())


def meter(console: Console) -> Callable[[str], None]:
    """A function that prints its text on standard error now and then; nothing where all is quick."""
    step = _TERMINAL_STEP if console.err_is_terminal else _LOG_STEP
    due = time.monotonic() + step

    def show(text: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + step
            console.info(text)

    return show
