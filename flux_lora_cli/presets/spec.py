"""A job before its expansion: its values, prompts and axes, from checked sections."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.labels import (
    MAX_SLUG,
    axis_label,
    distinct,
    label,
    shown,
)
from flux_lora_cli.presets.nodes import Node
from flux_lora_cli.presets.prompts import Options, Part, words_of
from flux_lora_cli.presets.shapes import Context, Spot
from flux_lora_cli.text import nearest, quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.expand import Plan

Loras = tuple[Mapping[str, Any], ...]
#: Values by name, each with its place.
Placed = Mapping[str, tuple[Any, Node]]


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

    def shown(self, number: int) -> dict[str, str]:
        """The same, for people."""
        return {column.name: column.shown[number] for column in self.columns}

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


# ---- sections ---------------------------------------------------------------------------------


class Sections:
    """What the checked sections of a document, and of a job, mean: values, LoRAs, variables, axes."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.problems = context.problems
        self.stacks: dict[str, Loras] = {}  # the LoRAs of each stack
        self.used_stacks: set[str] = set()  # the names of those that something names

    def values(self, typed: Placed, key: str) -> dict[str, tuple[Any, Node]]:
        """What a job, or the defaults, set; of ``stack`` the LoRAs."""
        found = dict(typed)
        if "loras" in typed:
            self.note_loras(*typed["loras"])
        if "stack" in typed:
            names, place = typed["stack"]
            found["stack"] = self._stack(place, names, f"{key}.stack"), place
        return found

    def variables(self, typed: Placed, key: str, shared: Mapping[str, Variable]) -> dict[str, Variable]:
        """The variables of a document, or, beside those that are ``shared``, of a job."""
        found = {}
        for number, (name, (texts, place)) in enumerate(typed.items(), len(shared)):
            order = shared[name].order if name in shared else number
            found[name] = Variable(name, place, f"{key}.{name}", order)
            self._note_equal(texts, place.items, f"{key}.{name}")
            for node in place.items if texts else ():
                notes.note_prompt(node.text, node, self.problems, typed, literal=False)
        return found

    def _note_equal(self, values: Sequence[Any], nodes: Sequence[Node], key: str) -> None:
        seen: set[str] = set()
        for value, node in zip(values, nodes, strict=False):
            if repr(value) in seen:
                random = key.endswith("seed") and value == -1
                again = f"several images of one job: repeat: {values.count(-1)}" if random else "delete one"
                return self.problems.note(node.where, "equal-choices", f"{key}: {shown(value)} is there twice; {again}")
            seen.add(repr(value))
        return None

    def note_loras(self, loras: Sequence[Any], node: Node) -> None:
        """Say which LoRAs of a list cannot be loaded."""
        notes.note_loras(loras, node, self.problems)
        upload = "the service cannot read it; upload it, to Hugging Face say, and write owner/name/FILE or its URL"
        for path in filter(None, (item.get("path") for item in node.items)):
            name, folder = path.value, path.source.folder
            local = isinstance(name, str) and bool(folder) and len(name) <= 1000 and "://" not in name
            if local and Path(folder, name).is_file():
                self.problems.note(path.where, "lora-path", f"{quoted(name)} is a file here; {upload}")

    def _stack(self, node: Node, names: Sequence[str], key: str) -> Loras | None:
        """The LoRAs of these stacks, joined; None where a name is not known."""
        self.used_stacks.update(names)
        unknown = {name for name in names if name not in self.stacks}
        for item, name in zip(node.items * len(names), names, strict=False):
            if name in unknown:
                self.problems.add(item, key, self.unknown_stack(name))
        if unknown:
            return None
        parts = [self.stacks[name] for name in names]
        notes.note_job_loras(parts, node, self.problems)
        return tuple(lora for part in parts for lora in part)

    def unknown_stack(self, name: str) -> str:
        """The message about a stack that does not exist."""
        near = nearest(name, self.stacks)
        known = ", ".join(self.stacks) or "none; a file's stacks stand under stacks"
        return f"no stack {quoted(name)}; " + (f"did you mean '{near}'?" if near else f"known: {known}")

    def axes(self, typed: Placed, prefix: str) -> list[Axis]:
        """The axes of ``matrix``, and the one of ``zip``."""
        axes = [Axis([column], key, place) for column, key, place in self._columns(typed, prefix, "matrix")]
        tied = [column for column, _, _ in self._columns(typed, prefix, "zip")]
        if not tied:
            return axes
        place, key = typed["zip"][1], f"{prefix}zip"
        if len({len(column.values) for column in tied}) > 1:
            told = ", ".join(f"{column.name} {len(column.values)}" for column in tied)
            self.problems.add(place, key, f"its lists go together, so they have one length; here: {told}")
            return axes
        for name in {axis.name for axis in axes} & {column.name for column in tied}:
            self.problems.add(place.key(name), f"{key}.{name}", f"{name} is in matrix, too; leave one out")
        return [*axes, Axis(tied, key, place, tied=True)]

    def _columns(self, typed: Placed, prefix: str, section: str) -> Iterator[tuple[Column, str, Node]]:
        """The keys of matrix or zip, each with its path and place."""
        for name, (values, place) in typed[section][0].items() if section in typed else ():
            key = f"{prefix}{section}.{name}"
            entries = [(name, values, place, key)]
            if name == "scale" and isinstance(values, dict):
                entries = [(f"scale {path}", *placed, f"{key}.{path}") for path, placed in values.items()]
            for full_name, listed, node, path in entries:
                column = self._column(full_name, listed, node, path)
                if column is not None:
                    yield column, path, node

    def _column(self, name: str, values: Any, place: Node, key: str) -> Column | None:
        if not isinstance(values, list):  # of a model that is not checked
            Spot(place, key, self.context).refuse("a list of one or more values")
        if not isinstance(values, list) or not values:  # refused
            return None
        nodes = place.items
        texts = list(map(shown, values))
        labels = [axis_label(name, value) for value in values]
        if name == "stack":
            texts = labels = ["+".join(value) or "none" for value in values]
            pairs = enumerate(zip(nodes, values, strict=True))
            values = [self._stack(node, names, f"{key}[{number}]") for number, (node, names) in pairs]
            if None in values:
                return None
        for value, item in zip(values, nodes, strict=False) if name == "loras" else ():
            self.note_loras(value, item)
        self._note_equal(values, nodes, key)
        return Column(name, values, nodes, distinct(labels, list(map(str, values))), texts)
