"""What may stand in a place of a preset, as shapes: text, numbers, lists, mappings.

``check`` returns the typed value of a node, or BAD when it has noted a problem; ``schema.py`` turns the same shapes
into JSON Schema. Nothing here touches files: local images are the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flux_lora_cli.presets.nodes import Node, Problems
from flux_lora_cli.service.models import Model, unknown_key
from flux_lora_cli.text import mask_secrets, nearest, quoted

#: What ``check`` returns for a value that is refused.
BAD: Any = object()


#: Values of one list in matrix, zip or vars.
MAX_AXIS = 100_000


#: What a preset may not decide, for it may come from a stranger; and who decides instead.
_NOT_IN_PRESETS = {
    **dict.fromkeys(("base_url", "host", "url", "service", "endpoint", "api_url"), "--base-url"),
    **dict.fromkeys(("api_key", "key", "token", "api_key_file", "authorization"), "WAVESPEED_API_KEY"),
    **dict.fromkeys(("output", "output_dir", "folder", "out", "dir"), "--output"),
    **dict.fromkeys(("filename", "filename_template"), "--filename"),
    **dict.fromkeys(("max_cost", "budget"), "--max-cost"),
    **{name.strip("-").replace("-", "_"): name for name in (
        "--max-jobs", "--price", "--rate", "--concurrency", "--timeout", "--task-timeout", "--poll-interval",
        "--allow-path", "--allow-custom-host", "--api-version",
    )},
}  # fmt: skip


@dataclass
class Checking:
    """What a check needs beside the node. ``image`` looks at a local file, and returns BAD where it is refused."""

    problems: Problems
    model: Model
    image: Callable[[Node, str], Any]

    def bad(self, node: Node, key: str, message: str) -> Any:
        self.problems.add(node, key, message)
        return BAD

    def refuse(self, node: Node, key: str, allowed: str, why: str = "") -> Any:
        """Note that a value is of the wrong kind."""
        why = why or ("there is nothing here (null)" if node.value is None else f"{shown(node)} is {kind(node.value)}")
        return self.bad(node, key, f"{why}; allowed: {allowed}")


def kind(value: Any) -> str:
    """What a value is, for "… is text"."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    return "text" if isinstance(value, str) else "not allowed here"


def shown(node: Node) -> str:
    """A value in a message, as it was written."""
    value = node.value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and node.text:
        return node.text if len(node.text) <= 40 else f"{node.text[:20]}… ({len(node.text)} characters)"
    return mask_secrets(quoted(value))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Base of all shapes. ``name``: its ``$defs`` entry in the schema, where several places share it."""

    doc: str = ""
    default: Any = None
    name: str = ""

    @property
    def words(self) -> str:
        """What is allowed, in words."""
        return "a value"

    def check(self, node: Node, key: str, on: Checking) -> Any:
        """The typed value; BAD where a problem was noted."""
        return node.plain()


@dataclass(frozen=True, kw_only=True)
class Text(Shape):
    """Text, perhaps of a certain form (``pattern`` matches the whole of it)."""

    pattern: str = ""
    what: str = "text"
    max_length: int = 0

    @property
    def words(self) -> str:
        return self.what

    def check(self, node: Node, key: str, on: Checking) -> Any:
        if not isinstance(node.value, str):
            number = isinstance(node.value, (bool, int, float)) and node.style == ""
            return on.refuse(node, key, self.words + (f' (in quotes: "{node.text[:40]}")' if number else ""))
        if self.pattern and not re.fullmatch(self.pattern, node.value):
            return on.bad(node, key, f"{shown(node)} is not allowed here; allowed: {self.words}")
        if self.max_length and len(node.value) > self.max_length:
            return on.bad(node, key, f"{len(node.value)} characters; allowed: at most {self.max_length}")
        return node.value


@dataclass(frozen=True, kw_only=True)
class Whole(Shape):
    """A whole number in a range."""

    low: int
    high: int

    @property
    def words(self) -> str:
        return f"a whole number from {self.low} to {self.high}" if self.low < self.high else str(self.low)

    def check(self, node: Node, key: str, on: Checking) -> Any:
        value = node.value
        if node.style == "cell" and re.fullmatch(r"\s*-?[0-9]{1,20}\s*", node.text):
            value = int(node.text)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return on.refuse(node, key, self.words)
        if not self.low <= value <= self.high:
            return on.bad(node, key, f"{shown(node)} is out of range; allowed: {self.words}")
        return value


@dataclass(frozen=True, kw_only=True)
class Flag(Shape):
    """True or false."""

    @property
    def words(self) -> str:
        return "true or false"

    def check(self, node: Node, key: str, on: Checking) -> Any:
        if node.style == "cell" and node.text.strip().lower() in ("true", "yes", "false", "no"):
            return node.text.strip().lower() in ("true", "yes")
        return node.value if isinstance(node.value, bool) else on.refuse(node, key, self.words)


@dataclass(frozen=True, kw_only=True)
class Listed(Shape):
    """A list.

    Args:
        or_one: also a single item, which counts as a list of one.
        keep_bad: a list with refused items is not refused whole; they are BAD in it.
    """

    item: Shape
    least: int = 1
    most: int = MAX_AXIS
    or_one: bool = False
    keep_bad: bool = False

    @property
    def words(self) -> str:
        return f"{self.item.words}, or a list of them" if self.or_one else "a list of one or more values"

    def check(self, node: Node, key: str, on: Checking) -> Any:
        if node.style == "cell" and self.or_one:
            return [name for name in re.split(r"[\s;+,]+", node.text.strip()) if name]
        if not isinstance(node.value, list):
            if not self.or_one or isinstance(node.value, dict):
                return on.refuse(node, key, self.words)
            value = self.item.check(node, key, on)
            return BAD if value is BAD else [value]
        if len(node.value) < self.least:
            return on.refuse(node, key, self.words, "an empty list")
        if len(node.value) > self.most:
            return on.bad(node, key, f"a list of {len(node.value)}; allowed: at most {self.most} values")
        found = [self.item.check(item, f"{key}[{number}]", on) for number, item in enumerate(node.value)]
        return BAD if not self.keep_bad and any(value is BAD for value in found) else found


@dataclass(frozen=True, kw_only=True)
class Named(Shape):
    """A mapping of names of one's own to values of one shape."""

    item: Shape
    pattern: str
    what: str

    @property
    def words(self) -> str:
        return f"a mapping of {self.what} to values"

    def check(self, node: Node, key: str, on: Checking) -> Any:
        if not isinstance(node.value, dict):
            return on.refuse(node, key, self.words)
        found = {}
        for name, (_, _, item) in node.entries.items():
            if on.problems.full(node.source.name):
                break
            if not re.fullmatch(self.pattern, name):
                on.bad(node.key(name), f"{key}.{name[:80]}", f"{quoted(name)} is not a name; allowed: {self.what}")
            found[name] = self.item.check(item, f"{key}.{name[:80]}", on)
        return {name: value for name, value in found.items() if value is not BAD}


@dataclass(frozen=True, kw_only=True)
class OneOf(Shape):
    """One shape for lists, another for mappings."""

    listed: Shape
    mapped: Shape

    @property
    def words(self) -> str:
        return self.listed.words

    def check(self, node: Node, key: str, on: Checking) -> Any:
        return (self.mapped if isinstance(node.value, dict) else self.listed).check(node, key, on)


@dataclass(frozen=True, kw_only=True)
class Fields(Shape):
    """A mapping with known keys; ``x-…`` keys hold anchors and are passed over.

    Args:
        elsewhere: why a key that is known in another place is refused here.
        open: other keys are taken as they are (a model without a table).
        parameters: these are the keys of a request, and a wrong one is told as the model's.
    """

    fields: Mapping[str, Shape]
    what: str = "a mapping (key: value)"
    required: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    open: bool = False
    parameters: bool = False

    @property
    def words(self) -> str:
        return self.what

    def check(self, node: Node, key: str, on: Checking) -> Any:
        if not isinstance(node.value, dict):
            return on.refuse(node, key, self.words)
        found: dict[str, Any] = {}
        good = True
        for name, (_, _, item) in node.entries.items():
            if on.problems.full(node.source.name):
                return BAD
            path = f"{key}.{name[:80]}" if key else name[:80]
            shape = self.fields.get(name)
            if shape is not None:
                found[name] = shape.check(item, path, on)
            elif self.open and name not in self.elsewhere and not name.startswith("x-"):
                found[name] = item.plain()
            elif not name.startswith("x-"):
                good = on.bad(node.key(name), path, self.unknown(name, on.model)) is not BAD
        for name in self.required:
            if name not in node.entries:
                good = on.bad(node, key, f'the key "{name}" is missing: {self.fields[name].words}') is not BAD
        strict = bool(self.required) and (not good or any(value is BAD for value in found.values()))
        return BAD if strict else {name: value for name, value in found.items() if value is not BAD}

    def unknown(self, name: str, model: Model) -> str:
        """Why a key is refused, with the nearest right one, or who decides what it means."""
        if name in self.elsewhere:
            return self.elsewhere[name]
        option = _NOT_IN_PRESETS.get(name.lower().replace("-", "_"))
        if option:
            return f"a preset cannot set this: it may come from a stranger; use {option}"
        if self.parameters:
            problem = unknown_key(model, name, [key for key in self.fields if key not in model.parameters])
            return f"unknown key; did you mean '{problem.suggestion}'?" if problem.suggestion else problem.message
        near = nearest(name, self.fields)
        return "unknown key" + (f"; did you mean '{near}'?" if near else "; known: " + ", ".join(self.fields))
