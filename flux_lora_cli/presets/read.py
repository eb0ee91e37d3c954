"""Bytes into text, and YAML 1.2 (core schema, as editors read it) into nodes with places.

Built on the parser's events and not on ``yaml.compose``: libyaml composes by recursion in C, which a megabyte of
``[`` or ``- - -`` drives into the end of the stack. Depth, size and aliases are bounded while reading.
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass, field
from sys import intern
from typing import Any

import yaml

from flux_lora_cli.presets.job import Where
from flux_lora_cli.presets.nodes import Node, Problems, Source

#: Deeper than any preset is; the API's own nesting is six levels.
MAX_LEVELS = 40
#: Digits of a number that is kept exactly; the largest seed has ten.
MAX_DIGITS = 40
#: Values in one file. Without libyaml a value costs 25 times as much [measured], so fewer are taken.
HAS_LIBYAML = bool(yaml.__with_libyaml__)
MAX_VALUES = 600_000 if HAS_LIBYAML else 60_000
#: Values that aliases and merge keys may add to those that are written out.
MAX_ALIASED = 100_000

TOO_DEEP = f"nested more than {MAX_LEVELS} levels deep"
_FORMS = (str.lower, str.title, str.upper)
_WORDS = {"": None, "~": None} | {
    form(word): value for word, value in (("null", None), ("true", True), ("false", False)) for form in _FORMS
}
_STARTS = frozenset("0123456789+-.")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
#: Characters that no file means: C0 and C1 controls (NEL, too) but for tab and line ends; and what is none.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_LINE_END = re.compile(r"\r\n|\r|\n")
# What follows a text that a comment cuts; a comment proper has two spaces before it, and one after.
_CUT = re.compile(r" #| *#(?![ \n\r]|$)")


def decode(data: bytes, source: Source, problems: Problems) -> str | None:
    """A file's text, without byte order marks at the beginning of lines; None where it is not text, which is told."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        lines = data[: error.start].split(b"\n")
        where = Where(source.name, len(lines), len(lines[-1].decode("utf-8", "replace")) + 1)
        problems.at(where, "", f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8")
        return None
    if _CONTROL.search(text):
        for number, line in enumerate(split_lines(text), 1):
            if problems.full(source.name):
                break
            if found := _CONTROL.search(line):
                why = f"the control character U+{ord(found[0]):04X} is not allowed; delete it"
                problems.at(Where(source.name, number, found.start() + 1), "", why)
        return None
    return re.sub("(^|[\r\n])\ufeff+", r"\1", text) if "\ufeff" in text else text


def split_lines(text: str) -> list[str]:
    """Lines by ``\\n``, ``\\r\\n`` and ``\\r``, and by nothing else that Unicode takes for a break."""
    return _LINE_END.split(text)


def resolve(text: str) -> Any:
    """The value of a plain scalar in YAML 1.2's core schema: ``010`` is ten, ``yes`` and ``12:30`` are text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _STARTS:
        return text
    if _INT.fullmatch(text):
        base = 0 if text[1:2] in ("o", "x") else 10
        return int(text, base) if len(text) <= MAX_DIGITS else float("inf" if base == 0 else text)
    return float(text.replace(".", "") if text[-1].isalpha() else text) if _FLOAT.fullmatch(text) else text


class _Stop(yaml.MarkedYAMLError):
    """The rest of the file cannot be read, for a reason of ours."""

    def __init__(self, event: Any, why: str) -> None:
        super().__init__(problem=why, problem_mark=event.start_mark)


def read_yaml(text: str, source: Source, problems: Problems, *, line: int = 1, nulls: bool = True) -> Node | None:
    """The document's root; None where there is none to go on with (the reason is among the problems).

    Args:
        line: of the file, at which the text begins.
        nulls: whether a key without a value stays, to be refused; else it is left out, as JSON's null means.
    """
    row, column = 0, 0
    try:
        root = _Reader(text, source, problems, line, nulls).document()
        if root is not None:
            return root
        why = "the file is empty; start with `flux-lora preset new`"
    except yaml.MarkedYAMLError as error:
        why = str(error.problem)
        if mark := error.problem_mark or error.context_mark:
            row, column = mark.line, mark.column
        if not isinstance(error, _Stop):
            why = _why(why, (text.split("\n", row + 1)[row:] or [""])[0], column)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # numbers in directives (%YAML 9999…)
        why = f"cannot be read as YAML: {str(error)[:100]}"
    problems.at(Where(source.name, row + line, column + 1), "", why)
    return None


def _why(words: str, line: str, column: int) -> str:
    """What is wrong with a line at a column, and what to write instead."""
    rest = line[column:]
    if "maximum nesting depth" in words:  # libyaml's own limit, from 0.2.6 on: its scanner is ahead of our count
        return TOO_DEEP
    if "unknown escape" in words:
        char = rest.lstrip("\\")[:1]
        words = f'\\{char} is unknown in double quotes; write "\\\\{char}", or use single quotes'
    elif "\t" in line[: len(line) - len(line.lstrip())] + rest[:1]:
        words = "a tab where YAML allows spaces only; indent with spaces"
    elif rest[:1] and rest[0] in "@`%&*":
        words += f"; text that begins with {rest[0]} goes in quotes"
    elif "mapping values are not allowed" in words:
        words += '; text with ": " in it goes in quotes'
    return f"not YAML: {words}"


@dataclass
class _Reader:
    text: str
    source: Source
    problems: Problems
    first: int
    nulls: bool
    written: int = 0
    aliased: int = 0
    anchors: dict[str, tuple[Node, int] | None] = field(default_factory=dict)
    path: list[str | int] = field(default_factory=list)

    def __post_init__(self) -> None:
        loader: Any = yaml.CSafeLoader if HAS_LIBYAML else yaml.SafeLoader
        self._next = loader(self.text).get_event

    def document(self) -> Node | None:
        """The root of the first document; None where there is none."""
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        root = self._node(self._next())
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._note(event, "a second document (---): a preset is one document")
        return root

    def _place(self, event: Any) -> tuple[int, int]:
        return event.start_mark.line + self.first, event.start_mark.column + 1

    def _note(self, event: Any, message: str, key: str = "") -> None:
        self.problems.at(Where(self.source.name, *self._place(event)), key, message)

    def _node(self, event: Any) -> Node:
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event)
        self.written += 1
        if self.written > MAX_VALUES:
            raise _Stop(event, f"more than {MAX_VALUES} values in one file")
        before = self.written + self.aliased
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if event.tag is not None and not (kind is yaml.ScalarEvent and event.tag in ("tag:yaml.org,2002:str", "!")):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._note(event, f"the tag {tag[:60]} is not allowed; put text in quotes instead")
        if kind is yaml.ScalarEvent:
            node = self._scalar(event)
        elif len(self.path) >= MAX_LEVELS:
            raise _Stop(event, TOO_DEEP)
        else:
            read = self._map if kind is yaml.MappingStartEvent else self._list
            node = Node(read(), self.source, *self._place(event))
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.written + self.aliased - before + 1)
        return node

    def _scalar(self, event: Any) -> Node:
        text, end = event.value, event.end_mark.index
        style = event.style or ("'" if event.tag else "")
        value, flag = text, ""
        if not style:
            value = resolve(text)
            flag = "comment" if isinstance(value, str) and _CUT.match(self.text, end) else ""
        elif style == '"' and "\xa0" in text and "\\_" in self.text[event.start_mark.index : end]:
            flag = "space"
        return Node(value, self.source, *self._place(event), text, style, flag)

    def _alias(self, event: Any) -> Node:
        name = event.anchor
        if name not in self.anchors:
            hint = "put text that begins with * in quotes"
            raise _Stop(event, f"the alias *{name[:60]} has no anchor before it; {hint}")
        target = self.anchors[name]
        if target is None:
            raise _Stop(event, f"the alias *{name[:60]} contains itself")
        self._grow(event, target[1])
        return copy(target[0])  # which has a key of its own

    def _grow(self, event: Any, size: int) -> None:
        self.aliased += size
        if self.aliased > MAX_ALIASED:
            raise _Stop(event, f"aliases and merge keys that explode: over {MAX_ALIASED} values")

    def _list(self) -> list[Node]:
        items: list[Node] = []
        self.path.append(0)
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            self.path[-1] = len(items)
            items.append(self._node(event))
        self.path.pop()
        return items

    def _map(self) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merged: list[tuple[Any, Node]] = []
        self.path.append("")
        while type(event := self._next()) is not yaml.MappingEndEvent:
            name = self._node(event)
            key = intern(name.text)  # each text once: keys are many, and alike
            self.path[-1] = key
            value = self._node(self._next())
            if isinstance(name.value, (list, dict)):
                self._note(event, "a key must be text; quote braces and brackets")
            elif key == "<<" and not getattr(event, "style", None):
                merged.append((event, value))
            elif key in entries:
                message = f'the key "{key[:60]}" is a duplicate; it is already in line {entries[key].key_at[0]}'
                self._note(event, message, self._shown_path())
            elif self.nulls or value.value is not None:
                value.key_at = self._place(event)
                entries[key] = value
        self.path.pop()
        for event, value in merged:
            for node in value.items:
                if isinstance(node.value, dict):
                    self._grow(event, len(node.entries))
                    for key, inner in node.entries.items():
                        entries.setdefault(key, inner)
                else:
                    self._note(event, "<< takes a mapping, or a list of mappings")
        return entries

    def _shown_path(self) -> str:
        """Where we are, as messages name it: ``jobs[2].loras[0].path``."""
        steps = [f"[{step}]" if isinstance(step, int) else f".{step[:80]}" for step in self.path]
        return "".join(steps).removeprefix(".")
