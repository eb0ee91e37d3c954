"""The language walked over a document: typed values, and every problem with its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.language import (
    LORA,
    MERGED,
    NOT_IN_PRESETS,
    PLACES,
    Fields,
    Listed,
    Named,
    Shape,
    Text,
    Value,
)
from flux_lora_cli.presets.nodes import Node, Problems
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.service.models import Model, unknown_key
from flux_lora_cli.service.values import Parameter, check_lora, check_value, is_remote_image, typed
from flux_lora_cli.text import nearest, quoted

#: What stands for a value that is refused.
BAD: Any = object()

_SHORTENED = re.compile(r"\s*[-+]?[0-9.,]+[eE]\+?[0-9]+\s*")


def _kind(node: Node) -> str:
    """What a value is, as it was written."""
    match node.value:
        case None:
            return "there is nothing here (null)"
        case bool():
            return f"{quoted(node.value)} is a boolean"
        case str():
            return f"{quoted(node.value)} is text"
        case int() | float():
            return f"{node.text[:40]} is a number"
    return f"{quoted(node.value)} is not allowed here"


def _from_plain(value: Any, place: Node) -> Node:
    """Bare values as nodes, all in one place."""
    if isinstance(value, list):
        value = [_from_plain(item, place) for item in value]
    if isinstance(value, dict):
        value = {name: (place.line, place.column, _from_plain(item, place)) for name, item in value.items()}
    return Node(value, place.source, place.line, place.column, str(value), "json")


class Checker:
    """Checks documents for one model; ``files``: those that they name."""

    def __init__(self, problems: Problems, model: Model, files: Files) -> None:
        self.problems = problems
        self.model = model
        self._files = files

    def bad(self, node: Node, key: str, message: str) -> Any:
        """Note a problem; BAD."""
        self.problems.add(node, key, message)
        return BAD

    def refuse(self, node: Node, key: str, what: str, why: str = "") -> Any:
        """Note that a value is of the wrong kind; BAD."""
        return self.bad(node, key, f"{why or _kind(node)}; allowed: {what}")

    def check(self, shape: Shape, node: Node, key: str) -> Any:
        """The typed value of a node, those in a mapping each with its place; BAD where a problem was noted."""
        match shape:
            case Value():
                return self._value(shape, node, key)
            case Text():
                return self._text(shape, node, key)
            case Listed():
                return self._list(shape, node, key)
            case Fields():
                return self._lora(node, key) if shape is LORA else self._fields(shape, node, key)
            case Named():
                return self._names(shape, node, key)

    def merge(self, roots: Sequence[Node], language: Fields) -> Node:
        """One document of several: sections of names key by key, of everything else the last.

        What a later file replaces whole is not seen again; where it could not stand there at all, that is said here.
        """
        merged: dict[str, tuple[int, int, Node]] = {}
        for root in roots:
            for name, (line, column, node) in root.entries.items():
                before = merged[name][2] if name in merged else None
                if before is not None and before.entries and name in MERGED and isinstance(node.value, dict):
                    both = {**before.entries, **node.entries}
                    node = Node(both, node.source, node.line, node.column)
                elif before is not None and name in ("version", "extends", *MERGED):
                    self.check(language.fields[name], before, name)
                merged[name] = (line, column, node)
        return Node(merged, roots[-1].source, roots[-1].line, roots[-1].column)

    # ---- values ------------------------------------------------------------------------------------

    def _value(self, shape: Value, node: Node, key: str) -> Any:
        row, value = shape.row, node.plain()
        if node.style == "cell" and row.type in ("integer", "number") and _SHORTENED.fullmatch(node.text):
            why = f"{node.text.strip()} is how a spreadsheet shortens a long number, its last digits are lost"
            return self.bad(node, key, f"{why}; format the column as text, and write them all")
        if node.style == "cell":
            value = self._typed(row.type, node, key)
        elif value is None or (isinstance(value, (list, dict)) and row.type not in ("any", "size")):
            several = isinstance(value, list) and row.name in self.model.parameters
            return self.refuse(node, key, row.allowed + ("; to try several, list them under matrix" if several else ""))
        if value is BAD or (shape.filled and value == ""):
            return BAD if value is BAD else self.refuse(node, key, row.allowed)
        return self._checked(row, value, node, key)

    def _typed(self, kind: str, node: Node, key: str) -> Any:
        """What a cell means for a parameter of this type."""
        try:
            return typed(kind, node.text)
        except (ValueError, RecursionError) as error:
            return self.bad(node, key, f"begins like JSON and is not: {str(error)[:100]}")

    def _checked(self, row: Parameter, value: Any, node: Node, key: str) -> Any:
        found, problem = check_value(row, value)
        if problem is None:
            if row.type == "integer" and "e" in node.text.lower() and isinstance(node.value, float):
                why = "a spreadsheet that shortens a number loses its last digits; write them all"
                self.problems.note(node.where, "number", f"{node.text[:40]} is sent as {found}: {why}")
            return self._image(found, node, key) if row.type == "image" else found
        word = row.type == "boolean" and str(value).lower() in ("yes", "no", "on", "off")
        return self.bad(node, key, problem.message + (" (yes and no are text in YAML 1.2)" if word else ""))

    def _image(self, path: str, node: Node, key: str) -> Any:
        if is_remote_image(path):
            notes.note_secrets(path, node, self.problems)
            return path
        try:
            return self._files.image(path, node.source)
        except Refused as error:
            return self.bad(node, key, f"{quoted(path)}: {error}")

    def _lora(self, node: Node, key: str) -> Any:
        if isinstance(node.value, str):
            return self.bad(node, key, check_lora(node.value)[2])
        lora = self._fields(LORA, node, key)
        return BAD if lora is BAD else {"path": lora["path"][0], "scale": lora.get("scale", (1,))[0]}

    def _text(self, shape: Text, node: Node, key: str) -> Any:
        value = node.value
        scalar = isinstance(value, (bool, int, float))
        if shape.numbers and scalar and not isinstance(value, bool):
            return node.text
        if not isinstance(value, str):
            hint = f' (in quotes: "{node.text[:40]}")' if scalar and node.style == "" else ""
            return self.refuse(node, key, shape.what + hint)
        if shape.pattern and not re.fullmatch(shape.pattern, value):
            default = f"{quoted(value)} is not allowed here; allowed: {shape.what}"
            return self.bad(node, key, shape.why(value) or default)
        if shape.max_length and len(value) > shape.max_length:
            return self.bad(node, key, f"{len(value)} characters; allowed: at most {shape.max_length}")
        return value

    # ---- lists and mappings ------------------------------------------------------------------------

    def _list(self, shape: Listed, node: Node, key: str) -> Any:
        if node.style == "cell":
            names = [name for name in re.split(r"[\s;+,]+", node.text.strip()) if name]
            found = self._typed(shape.cell, node, key) if shape.cell else names
            if found is BAD:
                return BAD
            node = _from_plain(found, node)
        if shape.or_named and isinstance(node.value, dict):
            return self._names(shape.or_named, node, key)
        if not isinstance(node.value, list):
            if not shape.or_one or isinstance(node.value, dict):
                return self.refuse(node, key, shape.what)
            value = self.check(shape.item, node, key)
            return BAD if value is BAD else [value]
        if len(node.value) < shape.least:
            return self.refuse(node, key, shape.what, "an empty list")
        if len(node.value) > shape.most:
            most = f"{len(node.value)} {shape.noun} are too many; allowed: at most {shape.most} on {self.model.short}"
            return self.bad(node, key, most if shape.most else f"{self.model.short} takes no {shape.noun}")
        found = [self.check(shape.item, item, f"{key}[{number}]") for number, item in enumerate(node.value)]
        return BAD if not shape.keep_bad and BAD in found else found

    def _names(self, shape: Named, node: Node, key: str) -> Any:
        if not isinstance(node.value, dict):
            return self.refuse(node, key, shape.what)
        found = {}
        for name, (_, _, item) in node.entries.items():
            if self.problems.full(node.source.name):
                break
            path = f"{key}.{name[:80]}"
            if not re.fullmatch(shape.pattern, name):
                self.bad(node.key(name), path, f"{quoted(name)} is not a name; allowed: {shape.name_form}")
            value = self.check(shape.item, item, path)
            found[name] = ([] if value is BAD else value), item  # so that nothing that names it is wrong, too
        return found

    def _fields(self, shape: Fields, node: Node, key: str) -> Any:
        if not isinstance(node.value, dict):
            return self.refuse(node, key, shape.what)
        found: dict[str, tuple[Any, Node]] = {}
        for name, (_, _, item) in node.entries.items():
            if self.problems.full(node.source.name):
                return BAD
            path = f"{key}.{name[:80]}" if key else name[:80]
            if name in shape.fields:
                found[name] = self.check(shape.fields[name], item, path), item
            elif name.startswith("x-"):
                continue
            elif shape.request and not self.model.checked and name not in PLACES:
                found[name] = item.plain(), item
            else:
                found[name] = self.bad(node.key(name), path, self._unknown(shape, name)), item
        for name in shape.required:
            if name not in node.entries:
                missing = f'the key "{name}" is missing: {shape.fields[name].what}'
                found[name] = self.bad(node, key, missing), node
        good = {name: (value, item) for name, (value, item) in found.items() if value is not BAD}
        return BAD if shape.required and len(good) < len(found) else good

    def _unknown(self, shape: Fields, name: str) -> str:
        """Why a key is refused, with the nearest right one, or who decides what it means."""
        if name in PLACES:
            return f"this key belongs {PLACES[name]}, not here"
        option = NOT_IN_PRESETS.get(name.lower().replace("-", "_"))
        if option:
            return f"a preset cannot set this: it may come from a stranger; use {option}"
        if shape.request:
            problem = unknown_key(self.model, name, [key for key in shape.fields if key not in self.model.parameters])
            return f"unknown key; did you mean '{problem.suggestion}'?" if problem.suggestion else problem.message
        near = "scale" if shape is LORA and name == "weight" else nearest(name, shape.fields)  # as other tools call it
        return "unknown key" + (f"; did you mean '{near}'?" if near else "; known: " + ", ".join(shape.fields))
