"""A job before its expansion: its values, its prompts, its axes, and the names for what is chosen along them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flux_lora_cli.presets.job import LocalImage
from flux_lora_cli.presets.nodes import Node
from flux_lora_cli.presets.prompts import Options, Part, words_of
from flux_lora_cli.text import mask_secrets, slug

if TYPE_CHECKING:
    from flux_lora_cli.presets.expand import Plan

#: Longest slug of a prompt, and longest label of one choice, in characters.
MAX_SLUG, MAX_LABEL = 60, 40
#: Longest text of a choice in ``Job.axes``.
MAX_SHOWN = 80

Loras = tuple[Mapping[str, Any], ...]
#: Values by name, each with its place.
Placed = Mapping[str, tuple[Any, Node]]
_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+)\*([0-9]+)")


@dataclass(eq=False)
class Column:
    """One key of ``matrix`` or ``zip`` (``scale PATH`` for the scale of a named LoRA) and its values."""

    name: str
    values: Sequence[Any]  # of ``stack`` the LoRAs, joined
    nodes: Sequence[Node]
    labels: Sequence[str]  # of each value, for IDs
    shown: Sequence[str]  # each value, for people


@dataclass(eq=False)
class Axis:
    """Columns of one length that multiply a job, a row at a time: one key of ``matrix``, or all keys of ``zip``."""

    columns: Sequence[Column]
    key: str
    place: Node
    tied: bool = False
    used: bool = False  # whether it multiplies any job
    labels: Sequence[str] = ()
    _without: dict[frozenset[str], Axis | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = tuple(column.name for column in self.columns)
        self.name = " + ".join(self.names)
        self.labels = self.columns[0].labels
        if self.tied:
            rows = zip(*(column.labels for column in self.columns), strict=True)
            values = zip(*(column.values for column in self.columns), strict=True)
            self.labels = distinct([label("+".join(row), MAX_SLUG) for row in rows], list(map(str, values)))

    def row(self, number: int) -> Iterator[tuple[str, Any]]:
        """The value of each key in one row."""
        return ((column.name, column.values[number]) for column in self.columns)

    def without(self, names: Collection[str]) -> Axis | None:
        """This axis without some of its keys; None where none is left."""
        gone = frozenset(self.names).intersection(names)
        if gone and gone not in self._without:
            left = [column for column in self.columns if column.name not in gone]
            self._without[gone] = Axis(left, self.key, self.place, self.tied) if left else None
        return self._without[gone] if gone else self

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The prompts of its rows; where it has nothing else, they are called by their words."""
        nodes = next(column.nodes for column in self.columns if column.name == "prompt")
        return prompts_of(nodes, self.key, self.place, self if len(self.columns) > 1 else None)


@dataclass(eq=False)
class Prompt:
    """A prompt and its place, and the row of the axis that it stands in, if any."""

    text: str | None  # None where there is none, and none is sent (a model that is not checked, or takes no prompt)
    node: Node
    axis: Axis | None = None
    row: int = 0
    parts: list[Part] = field(default_factory=list)  # once it was read


def prompts_of(nodes: Sequence[Node], key: str, place: Node, axis: Axis | None = None) -> list[Prompt]:
    """Prompts that go with the rows of an axis: this one, or one of their own, called by their words."""
    if axis is None:
        texts = [node.text for node in nodes]
        labels = distinct([label(words_of(text), MAX_SLUG) for text in texts], texts)
        axis = Axis([Column("prompt", texts, nodes, labels, list(map(shown, texts)))], key, place)
    return [Prompt(node.text, node, axis, row) for row, node in enumerate(nodes)]


@dataclass(eq=False)
class Variable:
    name: str
    node: Node
    key: str
    order: int  # its place among all variables that a job sees
    options: Options | None = None  # what it can be, once something used it
    uses: dict[str, Node] = field(default_factory=dict)  # the variables in its texts, each with its place

    @property
    def many(self) -> bool:
        """Whether it is a list, which multiplies the jobs that use it."""
        return isinstance(self.node.value, list)


@dataclass(eq=False)
class Spec:
    """One entry of ``jobs`` (or line of a list), checked; or what all of them start from."""

    node: Node
    key: str
    values: dict[str, tuple[Any, Node]] = field(default_factory=dict)  # over the defaults; of ``stack`` the LoRAs
    vars: Mapping[str, Variable] = field(default_factory=dict)
    stacks: dict[str, Node] = field(default_factory=dict)  # the place of each
    params: dict[str, Any] = field(default_factory=dict)  # request parameters but for the prompt, and the stack
    axes: list[Axis] = field(default_factory=list)
    prompts: Sequence[Prompt] = ()
    plans: Sequence[Plan] = ()  # one of each prompt
    id: str = ""
    literal: bool = False  # its prompts are taken as they stand

    def get(self, name: str, default: Any = None) -> Any:
        """What it sets a key to."""
        return self.values[name][0] if name in self.values else default

    def place(self, name: str) -> Node:
        """Where it sets a key; its own place where it does not."""
        return self.values[name][1] if name in self.values else self.node

    @property
    def repeat(self) -> int:
        return int(self.get("repeat", 1))

    @property
    def skip(self) -> bool:
        return bool(self.get("skip", False))


# ---- names -----------------------------------------------------------------------------------


def digest(text: str) -> str:
    """Six hex digits that stand for a text."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


@lru_cache(maxsize=4096)
def label(text: str, limit: int = MAX_LABEL) -> str:
    """A piece of an ID: the words of a text, or a number as it is.

    What does not fit is replaced by a digest of the whole, so that two long prompts with one beginning stay apart,
    whatever stands around them in the file. Secrets in URLs are left out.
    """
    text = mask_secrets(text)
    if len(text) <= limit and _PLAIN.fullmatch(text):
        return text
    if size := _SIZE.fullmatch(text):
        return f"{size[1]}x{size[2]}"
    words = slug(text[:300], limit)
    if words == "untitled" and "untitled" not in text.lower():
        return digest(text) if text.strip() else "empty"
    if len(text) <= 300 and slug(text, limit + 20) == words:
        return words
    return slug(text[:300], limit - 7) + "-" + digest(text)


def shown(value: Any) -> str:
    """A value of an axis, for people."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, LocalImage):
        return value.path.replace("\\", "/").rpartition("/")[2]
    if isinstance(value, Mapping) and "path" in value:
        return f"{mask_secrets(str(value['path'])).rstrip('/').rpartition('/')[2]} {value.get('scale', 1):g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value)) or "none"
    return mask_secrets(str(value))[:MAX_SHOWN]


def axis_label(name: str, value: Any) -> str:
    """The label of a value of the axis ``name``."""
    if name == "seed" and value == -1:
        return "random"
    if isinstance(value, LocalImage):
        return label(shown(value).rpartition(".")[0] or shown(value))
    return label(value if isinstance(value, str) else shown(value))


class Names:
    """Names that are taken; each new one is made different from all."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def take(self, wanted: str, key: str) -> str:
        """``wanted``; where that is taken the same with a digest of ``key``, then with a number."""
        name = wanted
        if name in self._taken:
            tagged = name = f"{wanted}-{digest(key)}"
            number = self._next.get(tagged, 2)
            while name in self._taken:
                name = f"{tagged}-{number}"
                number += 1
            self._next[tagged] = number
        self._taken.add(name)
        return name


def distinct(labels: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The labels, each different."""
    names = Names()
    return [names.take(one, key) for one, key in zip(labels, keys, strict=True)]
