"""A job before its expansion: its prompts, its axes, and the names for what is chosen along them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any

from flux_lora_cli.presets.job import LocalImage
from flux_lora_cli.presets.nodes import Node
from flux_lora_cli.text import mask_secrets, slug

#: Longest slug of a prompt, and longest label of one choice, in characters.
MAX_SLUG, MAX_LABEL = 60, 40
#: Longest text of a choice in ``Job.axes``.
MAX_SHOWN = 80

Loras = tuple[Mapping[str, Any], ...]
_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+)\*([0-9]+)")


@dataclass(eq=False)
class Axis:
    """Values that multiply a job, a row at a time: one key of ``matrix``, or the keys of ``zip`` tied together.

    Attributes:
        names: the keys; ``scale PATH`` for the scale of a named LoRA.
        rows: a value for each key; of ``stack`` the LoRAs, joined.
        labels: of each row, for IDs.
        shown: of each value, for people.
        nodes: the place of each value.
        parts: of ``zip``, the axes that are tied together.
    """

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    labels: list[str]
    shown: list[tuple[str, ...]]
    nodes: list[tuple[Node, ...]]
    key: str
    place: Node
    parts: Sequence[Axis] = ()

    @property
    def name(self) -> str:
        return " + ".join(self.names)

    def without(self, names: Iterable[str]) -> Axis | None:
        """This axis without some of its keys; None where none is left."""
        parts = self.parts or [self]
        kept = [part for part in parts if part.name not in names]
        if len(kept) == len(parts):
            return self
        return tie(kept, self.key, self.place) if kept else None

    def column(self, name: str) -> list[Any]:
        """The values of one of its keys."""
        return [row[self.names.index(name)] for row in self.rows] if name in self.names else []


def tie(axes: Sequence[Axis], key: str, place: Node) -> Axis:
    """Axes of one length as one: the first values go together, the second ones, …"""

    def rows(columns: Iterable[list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
        return [tuple(cell for (cell,) in row) for row in zip(*columns, strict=True)]

    values = rows(axis.rows for axis in axes)
    labels = [label("+".join(row), MAX_SLUG) for row in zip(*(axis.labels for axis in axes), strict=True)]
    return Axis(
        tuple(axis.name for axis in axes),
        values,
        distinct(labels, list(map(str, values))),
        rows(axis.shown for axis in axes),
        rows(axis.nodes for axis in axes),
        key,
        place,
        axes,
    )


@dataclass(eq=False)
class Prompt:
    """A prompt and its place. ``literal``: taken as it stands. ``row``: of the zip axis that it belongs to.

    ``absent``: there is none, and none is sent (a model that is not checked, or takes no prompt).
    """

    text: str
    node: Node
    literal: bool = False
    label: str = ""
    axis: Axis | None = None
    row: int = 0
    absent: bool = False


@dataclass(eq=False)
class VarDef:
    """A variable as written. ``many``: a list, which multiplies the jobs that use it."""

    name: str
    texts: list[tuple[str, Node]]
    many: bool
    node: Node
    key: str
    used: bool = False


@dataclass
class Spec:
    """One entry of ``jobs`` (or line of a list), checked.

    Attributes:
        params: defaults and the job's own, without prompt, seed and loras; a local image as ``LocalImage``.
        places: the node that each value came from (also ``seed``, ``stack``, ``loras``, ``prompt``, ``model``), and,
            as ``stack NAME``, each stack.
        stack: LoRAs of its stack; None where it names none.
        plans: the ``Plan`` of each prompt.
    """

    node: Node
    key: str
    params: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Node] = field(default_factory=dict)
    prompts: list[Prompt] = field(default_factory=list)
    axes: list[Axis] = field(default_factory=list)
    vars: Mapping[str, VarDef] = field(default_factory=dict)
    stack: Loras | None = None
    loras: Loras | None = None
    id: str = ""
    explicit_id: bool = False
    seed: int | None = None
    repeat: int = 1
    sample: int | None = None
    sample_seed: int = 0
    skip: bool = False
    plans: list[Any] = field(default_factory=list)

    @property
    def many_prompts(self) -> bool:
        return any(prompt.label for prompt in self.prompts)


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
