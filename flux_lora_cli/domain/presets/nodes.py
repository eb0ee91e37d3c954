"""Values with their places: what YAML, JSON lines and CSV are read into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Scalar:
    """A value. ``text`` is how it was written; ``trap`` names what is easily misread in it, "" for nothing.

    Lines and columns count from 1.
    """

    __slots__ = ("column", "line", "text", "trap", "value")

    def __init__(self, value: Any, line: int, column: int, text: str, trap: str = "") -> None:
        self.value = value
        self.line = line
        self.column = column
        self.text = text
        self.trap = trap


class Seq:
    """A list."""

    __slots__ = ("column", "items", "line")

    def __init__(self, items: list[Node], line: int, column: int) -> None:
        self.items = items
        self.line = line
        self.column = column


#: Where a key stands, and its value: (line, column, value).
Entry = tuple[int, int, "Node"]


class Map:
    """A mapping; ``entries`` keep the order of the file."""

    __slots__ = ("column", "entries", "line")

    def __init__(self, entries: dict[str, Entry], line: int, column: int) -> None:
        self.entries = entries
        self.line = line
        self.column = column


Node = Scalar | Seq | Map

#: ``Scalar.trap`` of a CSV cell: text whose type the column decides.
CELL = "cell"


def key_path(path: Sequence[str | int]) -> str:
    """Keys and numbers as messages name them: ``jobs[2].loras[0].path``."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step[:80]}" for step in path]
    return "".join(steps).removeprefix(".")


def plain(node: Node) -> Any:
    """The bare value of a node."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Seq):
        return [plain(item) for item in node.items]
    return {key: plain(entry[2]) for key, entry in node.entries.items()}
