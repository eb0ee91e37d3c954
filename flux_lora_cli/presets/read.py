"""YAML 1.2 (core schema, as editors read it) into nodes with places.

Built on the parser's events and not on ``yaml.compose``: libyaml composes by recursion in C, which a megabyte of
``[`` or ``- - -`` drives into the end of the stack. Depth, size and aliases are bounded while reading.
"""

from __future__ import annotations

import re
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

_TOO_DEEP = f"nested more than {MAX_LEVELS} levels deep"
_WORDS: dict[str, Any] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= dict.fromkeys((_word, _word.capitalize(), _word.upper()), _value)
_STARTS = frozenset("0123456789+-.")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# What follows a text that a comment cuts; a comment proper has two spaces before it, and one after.
_CUT = re.compile(r" #| *#(?![ \n\r]|$)")


def resolve(text: str) -> Any:
    """The value of a plain scalar in YAML 1.2's core schema: ``010`` is ten, ``yes`` and ``12:30`` are text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _STARTS or not text.isascii():
        return text
    if _INT.fullmatch(text):
        return int(text) if len(text) <= MAX_DIGITS else float(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0) if len(text) <= MAX_DIGITS else float("inf")
    return float(text.replace(".", "")) if _SPECIAL.fullmatch(text) else text


class _StopReading(Exception):
    """The rest of the file cannot be read; the problem is noted."""


def read_yaml(text: str, source: Source, problems: Problems) -> Node | None:
    """The document's root; None where there is none to go on with (the reason is among the problems)."""
    start = Where(source.name, 1, 1)
    try:
        root = _Reader(text, source, problems).document()
        if root is None:
            problems.at(start, "", "the file is empty; start with `flux-lora preset new`")
        return root
    except _StopReading:
        pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(source.name, mark.line + 1, mark.column + 1) if mark else start
        lines = text.split("\n", mark.line + 1) if mark else []
        line = lines[mark.line] if mark and mark.line < len(lines) else ""
        problems.at(where, "", _why(error, line, where.column - 1))
    except yaml.reader.ReaderError as error:
        # Positions count characters in the pure reader, bytes of UTF-8 in libyaml: look for the character itself.
        code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
        before = text[: max(text.find(chr(code)), 0)] if 0 <= code < 0x110000 else ""
        where = Where(source.name, before.count("\n") + 1, len(before) - before.rfind("\n"))
        problems.at(where, "", f"the character U+{code:04X} is not allowed in YAML; leave it out")
    except (ValueError, OverflowError, RecursionError) as error:  # numbers in directives and escapes (%YAML 99999…)
        problems.at(start, "", f"cannot be read as YAML: {str(error)[:100]}")
    return None


def _why(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    """What is wrong with a line at a column, and what to write instead."""
    words = error.problem or "cannot be read"
    context = f" ({error.context})" if error.context and error.context not in words else ""
    char = line[column : column + 1]
    if "maximum nesting depth" in words:  # libyaml's own limit, from 0.2.6 on: its scanner is ahead of our count
        return _TOO_DEEP
    if "unknown escape" in words:
        escaped = char if char not in ("\\", "") else line[column + 1 : column + 2]
        write = f'write "\\\\{escaped}", or use single quotes'
        return f"not YAML: \\{escaped} is unknown in double quotes; {write}"
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent + char:
        words = "a tab where YAML allows spaces only; indent with spaces"
    elif char and char in "@`%&*":
        words += f"; text that begins with {char} goes in quotes"
    elif "mapping values are not allowed" in words:
        words += '; text with ": " in it goes in quotes'
    return f"not YAML: {words}{context}"


class _Reader:
    def __init__(self, text: str, source: Source, problems: Problems) -> None:
        loader: Any = yaml.CSafeLoader if HAS_LIBYAML else yaml.SafeLoader
        self._next = loader(text).get_event
        self._text = text
        self._source = source
        self._problems = problems
        self._written = 0
        self._aliased = 0
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._keys: dict[str, str] = {}
        self._path: list[str | int] = []

    def document(self) -> Node | None:
        """The root of the first document; None where there is none."""
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        root = self._node(self._next(), 0)
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._note(event, "a second document (---): a preset is one document")
        return root

    def _note(self, event: Any, message: str, key: str = "") -> None:
        mark = event.start_mark
        self._problems.at(Where(self._source.name, mark.line + 1, mark.column + 1), key, message)

    def _stop(self, event: Any, message: str) -> _StopReading:
        self._note(event, message)
        return _StopReading()

    def _node(self, event: Any, depth: int) -> Node:
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event)
        self._written += 1
        if self._written > MAX_VALUES:
            raise self._stop(event, f"more than {MAX_VALUES} values in one file")
        before = self._written + self._aliased
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if kind is yaml.ScalarEvent:
            node = self._scalar(event)
        elif depth >= MAX_LEVELS:
            raise self._stop(event, _TOO_DEEP)
        else:
            self._refuse_tag(event)
            mark, read = event.start_mark, self._map if kind is yaml.MappingStartEvent else self._list
            node = Node(read(depth + 1), self._source, mark.line + 1, mark.column + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._written + self._aliased - before + 1)
        return node

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._note(event, f"the tag {tag[:60]} is not allowed; put text in quotes instead")

    def _scalar(self, event: Any) -> Node:
        text, mark, style = event.value, event.start_mark, event.style or ""
        value, flag = text, ""
        if event.tag in ("tag:yaml.org,2002:str", "!"):
            style = style or "'"
        elif event.tag is not None:
            self._refuse_tag(event)
        elif not style:
            value = resolve(text)
            flag = "comment" if isinstance(value, str) and _CUT.match(self._text, event.end_mark.index) else ""
        elif style == '"' and "\xa0" in text and "\\_" in self._text[mark.index : event.end_mark.index]:
            flag = "space"
        return Node(value, self._source, mark.line + 1, mark.column + 1, text, style, flag)

    def _alias(self, event: Any) -> Node:
        name = event.anchor
        if name not in self._anchors:
            hint = "put text that begins with * in quotes"
            raise self._stop(event, f"the alias *{name[:60]} has no anchor before it; {hint}")
        target = self._anchors[name]
        if target is None:
            raise self._stop(event, f"the alias *{name[:60]} contains itself")
        self._grow(event, target[1])
        return target[0]

    def _grow(self, event: Any, size: int) -> None:
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            raise self._stop(event, f"aliases and merge keys that explode: over {MAX_ALIASED} values")

    def _list(self, depth: int) -> list[Node]:
        items: list[Node] = []
        self._path.append(0)
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            self._path[-1] = len(items)
            items.append(self._node(event, depth))
        self._path.pop()
        return items

    def _map(self, depth: int) -> dict[str, tuple[int, int, Node]]:
        entries: dict[str, tuple[int, int, Node]] = {}
        merged: list[tuple[Any, Node]] = []
        self._path.append("")
        while type(event := self._next()) is not yaml.MappingEndEvent:
            key = self._key(event, depth)
            self._path[-1] = key or ""
            value = self._node(self._next(), depth)
            if key == "<<" and not getattr(event, "style", None):
                merged.append((event, value))
            elif key in entries:
                message = f'the key "{key[:60]}" is a duplicate; it is already in line {entries[key][0]}'
                self._note(event, message, self._shown_path())
            elif key is not None:
                mark = event.start_mark
                entries[key] = (mark.line + 1, mark.column + 1, value)
        self._path.pop()
        for key_event, value in merged:
            self._merge(entries, key_event, value)
        return entries

    def _shown_path(self) -> str:
        """Where we are, as messages name it: ``jobs[2].loras[0].path``."""
        steps = [f"[{step}]" if isinstance(step, int) else f".{step[:80]}" for step in self._path]
        return "".join(steps).removeprefix(".")

    def _key(self, event: Any, depth: int) -> str | None:
        node = self._node(event, depth)
        if not isinstance(node.value, (list, dict)):
            return self._keys.setdefault(node.text, node.text)
        self._note(event, "a key must be text; quote braces and brackets")
        return None

    def _merge(self, entries: dict[str, tuple[int, int, Node]], event: Any, value: Node) -> None:
        for node in value.items:
            if not isinstance(node.value, dict):
                return self._note(event, "<< takes a mapping, or a list of mappings")
            self._grow(event, len(node.entries))
            for key, entry in node.entries.items():
                entries.setdefault(key, entry)
        return None
