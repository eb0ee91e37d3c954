"""What may stand in a place of a preset. A shape checks a node, and says the same as JSON Schema."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.nodes import Node, Problems
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.service.models import Model, unknown_key
from flux_lora_cli.service.values import (
    BASE64,
    DATA_URI,
    URL,
    Parameter,
    check_lora,
    check_value,
    is_remote_image,
    typed,
)
from flux_lora_cli.text import nearest, quoted

Schema = dict[str, Any]

#: What stands for a value that is refused.
BAD: Any = object()
#: Values of one list in matrix, zip or vars.
MAX_AXIS = 25_000

_KINDS: Mapping[type, str] = {bool: "a boolean", int: "a number", float: "a number", str: "text"}
_SHORTENED = re.compile(r"\s*[-+]?[0-9.,]+[eE]\+?[0-9]+\s*")


@dataclass(frozen=True, slots=True)
class Context:
    """What a document is checked with, and where its problems go."""

    problems: Problems
    model: Model
    files: Files


@dataclass(frozen=True, slots=True)
class Spot:
    """A node to check, and its path."""

    node: Node
    key: str
    context: Context

    def bad(self, message: str) -> Any:
        """Note a problem; BAD."""
        self.context.problems.add(self.node, self.key, message)
        return BAD

    def refuse(self, what: str, why: str = "") -> Any:
        """Note that a value is of the wrong kind; BAD."""
        value = self.node.value
        kind = _KINDS.get(type(value), "not allowed here")
        shown = self.node.text[:40] if kind == "a number" else quoted(value)
        found = "there is nothing here (null)" if value is None else f"{shown} is {kind}"
        return self.bad(f"{why or found}; allowed: {what}")

    def to(self, node: Node, step: str) -> Spot:
        """A node in this one; ``step`` (``.name``, ``[0]``) leads there."""
        return Spot(node, f"{self.key}{step[:80]}".removeprefix("."), self.context)


@dataclass(frozen=True, kw_only=True)
class Shape(ABC):
    what: str = ""  # in words
    doc: str = ""
    name: str = ""  # its $defs entry in the schema, where several places share it

    def check(self, at: Spot) -> Any:
        """The typed value of a node, those in a mapping each with its place; BAD where a problem was noted."""
        if at.node.style == "cell":
            try:
                at = at.to(at.node.holding(self._of_cell(at.node.text)), "")
            except (ValueError, RecursionError) as error:
                return at.bad(f"cannot be read: {str(error)[:200]}")
        return self._check(at)

    def schema(self, definitions: Schema) -> Schema:
        """The same as JSON Schema: a reference where it has a name."""
        body = ({"description": self.doc} if self.doc else {}) | self._schema(definitions)
        if not self.name:
            return body
        for number in count(1):  # another model's of this name may differ
            name = self.name if number == 1 else f"{self.name}-{number}"
            if definitions.setdefault(name, body) == body:
                break
        return {"$ref": f"#/$defs/{name}"}

    def _of_cell(self, text: str) -> Any:
        """What a cell of a table means here. Raises ValueError, RecursionError."""
        return text

    @abstractmethod
    def _check(self, at: Spot) -> Any: ...

    @abstractmethod
    def _schema(self, definitions: Schema) -> Schema: ...


@dataclass(frozen=True, kw_only=True)
class Value(Shape):
    """A request parameter, or what is described like one: a number, a boolean, …"""

    row: Parameter
    filled: bool = False  # no empty text

    def _of_cell(self, text: str) -> Any:
        if self.row.type in ("integer", "number") and _SHORTENED.fullmatch(text):
            why = f"{text.strip()} is how a spreadsheet shortens a long number, its last digits are lost"
            raise ValueError(f"{why}; format the column as text, and write them all")
        return typed(self.row.type, text)

    def _check(self, at: Spot) -> Any:
        row, node, value = self.row, at.node, at.node.plain()
        if value is None or (isinstance(value, (list, dict)) and row.type not in ("any", "size")):
            several = isinstance(value, list) and row.name in at.context.model.parameters
            return at.refuse(row.allowed + ("; to try several, list them under matrix" if several else ""))
        found, problem = check_value(row, value)
        if problem is not None:
            word = row.type == "boolean" and str(value).lower() in ("yes", "no", "on", "off")
            return at.bad(problem.message + (" (yes and no are text in YAML 1.2)" if word else ""))
        if self.filled and not found:
            return at.refuse(row.allowed)
        if row.type == "integer" and isinstance(node.value, float) and "e" in node.text.lower():
            why = "a spreadsheet that shortens a number loses its last digits; write them all"
            at.context.problems.note(node.where, "number", f"{node.text[:40]} is sent as {found}: {why}")
        return self._image(found, at) if row.type == "image" else found

    def _image(self, path: str, at: Spot) -> Any:
        if is_remote_image(path):
            notes.note_secrets(path, at.node, at.context.problems)
            return path
        try:
            return at.context.files.image(path, at.node.source)
        except Refused as error:
            return at.bad(f"{quoted(path)}: {error}")

    def _schema(self, definitions: Schema) -> Schema:
        row = self.row
        found: Schema = {} if row.default in (None, ()) else {"default": row.default}
        found |= {"minLength": 1} if self.filled else {}
        if row.choices:
            return {"enum": list(row.choices)} | found
        match row.type:
            case "size":
                side = _numbers(int(row.minimum or 1), int(row.maximum or 999_999))
                return {"type": "string", "pattern": whole(rf"({side})\*({side})")} | found
            case "integer" | "number":
                limits = {"minimum": row.minimum, "maximum": row.maximum}
                return {"type": row.type} | {name: limit for name, limit in limits.items() if limit is not None} | found
            case "image" | "url":
                local = [r"^(?![A-Za-z][A-Za-z0-9+.-]+:)", r"^[A-Za-z]:[\\/]"]
                more = local if row.type == "image" else [whole(portable(BASE64)), whole("")]
                patterns = [whole(portable(URL)), whole(portable(DATA_URI)), *more]
                return {"type": "string", "anyOf": [{"pattern": pattern} for pattern in patterns]} | found
        return ({} if row.type == "any" else {"type": row.type}) | found


@dataclass(frozen=True, kw_only=True)
class Text(Shape):
    pattern: str = ""  # of the whole text
    max_length: int = 0
    why: Callable[[str], str | None] = lambda value: None  # why a text is not of that form
    numbers: bool = False  # a number counts as text, as it was written

    def _check(self, at: Spot) -> Any:
        node, value = at.node, at.node.value
        if self.numbers and type(value) in (int, float):
            return node.text
        if not isinstance(value, str):
            plain = isinstance(value, (bool, int, float)) and node.style == ""
            return at.refuse(self.what + (f' (in quotes: "{node.text[:40]}")' if plain else ""))
        if self.pattern and not re.fullmatch(self.pattern, value):
            return at.bad(self.why(value) or f"{quoted(value)} is not allowed here; allowed: {self.what}")
        if self.max_length and len(value) > self.max_length:
            return at.bad(f"{len(value)} characters; allowed: at most {self.max_length}")
        return value

    def _schema(self, definitions: Schema) -> Schema:
        found: Schema = {"type": ["string", "number"] if self.numbers else "string"}
        found |= {"pattern": whole(self.pattern)} if self.pattern else {}
        return found | ({"maxLength": self.max_length} if self.max_length else {})


@dataclass(frozen=True, kw_only=True)
class Named(Shape):
    """A mapping of names of one's own to values of one shape."""

    what: str = "a mapping of names to values"
    item: Shape
    pattern: str
    name_form: str  # the pattern in words

    def _check(self, at: Spot) -> Any:
        if not isinstance(at.node.value, dict):
            return at.refuse(self.what)
        found = {}
        for name, item in at.node.entries.items():
            if at.context.problems.full(at.node.source.name):
                break
            if not re.fullmatch(self.pattern, name):
                at.to(at.node.key(name), f".{name}").bad(f"{quoted(name)} is not a name; allowed: {self.name_form}")
            value = self.item.check(at.to(item, f".{name}"))
            found[name] = ([] if value is BAD else value), item  # so that nothing that names it is wrong, too
        return found

    def _schema(self, definitions: Schema) -> Schema:
        names = {"pattern": whole(self.pattern)}
        return {"type": "object", "propertyNames": names, "additionalProperties": self.item.schema(definitions)}


@dataclass(frozen=True, kw_only=True)
class Listed(Shape):
    what: str = "a list of one or more values"
    item: Shape
    least: int = 1
    most: int = MAX_AXIS
    or_one: bool = False  # a single item counts as a list of one
    or_named: Named | None = None
    keep_bad: bool = False  # a list with refused items is not refused whole; they are BAD in it
    noun: str = "values"
    cell: str = ""  # the type of a table's cell that stands for such a list; "" for names

    def _of_cell(self, text: str) -> Any:
        return typed(self.cell, text) if self.cell else [name for name in re.split(r"[\s;+,]+", text) if name]

    def _check(self, at: Spot) -> Any:
        value = at.node.value
        if self.or_named and isinstance(value, dict):
            return self.or_named.check(at)
        if not isinstance(value, list) and (not self.or_one or isinstance(value, dict)):
            return at.refuse(self.what)
        number, short = len(at.node.items), at.context.model.short
        if number < self.least:
            return at.refuse(self.what, "an empty list")
        if number > self.most:
            most = f"{number} {self.noun} are too many; allowed: at most {self.most} on {short}"
            return at.bad(most if self.most else f"{short} takes no {self.noun}")
        steps = (f"[{index}]" if isinstance(value, list) else "" for index in range(number))
        found = [self.item.check(at.to(item, step)) for item, step in zip(at.node.items, steps, strict=True)]
        return BAD if not self.keep_bad and BAD in found else found

    def _schema(self, definitions: Schema) -> Schema:
        item = self.item.schema(definitions)
        many = {"type": "array", "minItems": self.least, "maxItems": self.most, "items": item}
        other = item if self.or_one else self.or_named.schema(definitions) if self.or_named else None
        return many if other is None else {"anyOf": [other, many]}


@dataclass(frozen=True, kw_only=True)
class Fields(Shape):
    """A mapping with known keys; ``x-…`` keys hold anchors and are passed over."""

    fields: Mapping[str, Shape]
    hints: Mapping[str, str]  # of keys that are wrong here: more than that they are unknown
    request: bool = False  # a wrong key is told as the model's; where that has no table, all are taken as they are

    def _check(self, at: Spot) -> Any:
        if not isinstance(at.node.value, dict):
            return at.refuse(self.what)
        model, found = at.context.model, {}
        for name, item in at.node.entries.items():
            if at.context.problems.full(at.node.source.name):
                return BAD
            if name in self.fields:
                found[name] = self.fields[name].check(at.to(item, f".{name}")), item
            elif self.request and not model.checked and not name.startswith("x-") and name not in self.hints:
                found[name] = item.plain(), item
            elif not name.startswith("x-"):
                found[name] = at.to(at.node.key(name), f".{name}").bad(self._unknown(name, model)), item
        return self._typed(found, at)

    def _typed(self, found: dict[str, tuple[Any, Node]], at: Spot) -> Any:
        return {name: (value, item) for name, (value, item) in found.items() if value is not BAD}

    def _unknown(self, name: str, model: Model) -> str:
        """Why a key is refused, with the nearest right one, or who decides what it means."""
        if hint := self.hints.get(name.lower().replace("-", "_")):
            return hint
        if self.request:
            problem = unknown_key(model, name, [key for key in self.fields if key not in model.parameters])
            return f"unknown key; did you mean '{problem.suggestion}'?" if problem.suggestion else problem.message
        near = nearest(name, self.fields)
        return "unknown key" + (f"; did you mean '{near}'?" if near else "; known: " + ", ".join(self.fields))

    def _schema(self, definitions: Schema) -> Schema:
        return {
            "type": "object",
            "properties": {name: item.schema(definitions) for name, item in self.fields.items()},
            "patternProperties": {"^x-": True},
            "additionalProperties": False,
        } | ({"allOf": [{"$ref": "#/$defs/once"}]} if self.name == "job" else {})


class Lora(Fields):
    def _check(self, at: Spot) -> Any:
        text = isinstance(at.node.value, str)
        return at.bad(check_lora(at.node.value)[2]) if text else super()._check(at)

    def _typed(self, found: dict[str, tuple[Any, Node]], at: Spot) -> Any:
        if "path" not in found:
            return at.bad(f'the key "path" is missing: {self.fields["path"].what}')
        values = {"path": BAD, "scale": 1} | {name: value for name, (value, _) in found.items()}
        return BAD if BAD in values.values() else values

    def _schema(self, definitions: Schema) -> Schema:
        return super()._schema(definitions) | {"required": ["path"]}


# ---- patterns ----------------------------------------------------------------------------------


def portable(form: re.Pattern[str]) -> str:
    """The pattern of a form; letters in any case are spelled out, for JSON Schema has no flags."""
    if not form.flags & re.IGNORECASE:
        return form.pattern
    either = re.sub("[a-z]{2,}", lambda word: "".join(f"[{c.upper()}{c}]" for c in word[0]), form.pattern)
    return either.replace("a-z", "A-Za-z")


def whole(pattern: str) -> str:
    """A pattern that matches the whole of a text: ``$`` alone matches before a last newline in Python, too."""
    return rf"^({pattern})$(?!\n)"


def _numbers(low: int, high: int) -> str:
    """A pattern of the whole numbers from low to high, without leading zeros."""
    parts = []
    while low <= high:
        free = 1  # how many numbers the last digits, all free, stand for
        while low % (free * 10) == 0 and low + free * 10 - 1 <= high:
            free *= 10
        first = low // free
        last = min(first // 10 * 10 + 9, (high + 1) // free - 1)
        parts.append(f"{first // 10 or ''}[{first % 10}-{last % 10}]" + "[0-9]" * (len(str(free)) - 1))
        low = (last + 1) * free
    return "|".join(parts)
