"""YAML read into nodes with places, from parser events, with every limit that a hostile file needs.

Going by events, and not by PyYAML's composer, bounds depth and size while reading,
keeps places of keys, and resolves scalars and merge keys by rules of our own.
"""

from __future__ import annotations

from typing import Any

import yaml

from .nodes import Entry, Map, Node, Scalar, Seq, key_path
from .problems import Problems
from .scalars import resolve

#: Deeper than any preset is; the API's own nesting is six levels.
MOST_LEVELS = 40
TOO_DEEP = f"nested more than {MOST_LEVELS} levels deep"
#: Values in one file. Without libyaml a value costs 25 times as much [measured], so fewer are taken.
MOST_VALUES = 2_000_000
MOST_VALUES_WITHOUT_LIBYAML = 80_000
#: Values that aliases and merge keys may add to those that are written out.
MOST_ALIASED = 100_000

HAS_LIBYAML: bool = bool(yaml.__with_libyaml__)


class _Stop(Exception):
    """The rest of the file cannot be read; the problem is noted."""


def read_yaml(text: str, file: str, problems: Problems, *, libyaml: bool = HAS_LIBYAML) -> Node | None:
    """Return the document's root, or None where there is none to go on with (the reason is among the problems)."""
    reader = _Reader(text, file, problems, libyaml)
    try:
        return reader.document()
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        _syntax(error, text, file, problems)
    except yaml.reader.ReaderError as error:
        _bad_character(error, text, file, problems)
    except (ValueError, OverflowError, RecursionError) as error:
        # Of numbers in directives and escapes (%YAML 99999…, "\UFFFFFFFF").
        problems.add(file, 1, 1, "", f"not readable as YAML: {str(error)[:100]}")
    return None


class _Reader:
    def __init__(self, text: str, file: str, problems: Problems, libyaml: bool) -> None:
        loader: Any = yaml.CSafeLoader if libyaml else yaml.SafeLoader
        self._next = loader(text).get_event
        self._file = file
        self._problems = problems
        self._most = MOST_VALUES if libyaml else MOST_VALUES_WITHOUT_LIBYAML
        self._written = 0
        self._aliased = 0
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._keys: dict[str, str] = {}
        #: Keys and numbers that lead to what is read now.
        self._path: list[str | int] = []

    def document(self) -> Node | None:
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            self._note(1, 1, "the file is empty; start with `flux-lora preset new`")
            return None
        root = self._node(self._next(), 0)
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            mark: Any = event.start_mark
            self._note(mark.line + 1, mark.column + 1, "a second document (---): a preset is one document")
        return root

    def _note(self, line: int, column: int, message: str) -> None:
        self._problems.add(self._file, line, column, "", message)

    def _stop(self, event: Any, message: str) -> _Stop:
        self._note(event.start_mark.line + 1, event.start_mark.column + 1, message)
        return _Stop()

    def _node(self, event: Any, depth: int) -> Node:
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event)
        self._written += 1
        if self._written > self._most:
            raise self._stop(event, f"more than {self._most} values in one file")
        if event.tag is not None:
            self._tag(event)
        before = self._written + self._aliased
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        mark = event.start_mark
        node: Node
        if kind is yaml.ScalarEvent:
            node = self._scalar(event, mark.line + 1, mark.column + 1)
        elif depth >= MOST_LEVELS:
            raise self._stop(event, TOO_DEEP)
        elif kind is yaml.MappingStartEvent:
            node = self._map(mark.line + 1, mark.column + 1, depth + 1)
        else:
            node = self._seq(mark.line + 1, mark.column + 1, depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._written + self._aliased - before + 1)
        return node

    def _tag(self, event: Any) -> None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        mark = event.start_mark
        self._note(mark.line + 1, mark.column + 1, f"the tag {tag[:60]} is not allowed; put text in quotes instead")

    def _scalar(self, event: Any, line: int, column: int) -> Scalar:
        text = event.value
        if not event.style and event.tag is None:  # libyaml says "", the pure parser None
            value, trap = resolve(text)
            return Scalar(value, line, column, text, trap)
        return Scalar(text, line, column, text)

    def _alias(self, event: Any) -> Node:
        name = event.anchor
        if name not in self._anchors:
            hint = "; put text that begins with * in quotes"
            raise self._stop(event, f"the alias *{name[:60]} has no anchor before it{hint}")
        target = self._anchors[name]
        if target is None:
            raise self._stop(event, f"the alias *{name[:60]} contains itself")
        self._grow(event, target[1])
        return target[0]

    def _grow(self, event: Any, size: int) -> None:
        self._aliased += size
        if self._aliased > MOST_ALIASED:
            raise self._stop(event, f"aliases and merge keys that explode: over {MOST_ALIASED} values")

    def _seq(self, line: int, column: int, depth: int) -> Seq:
        items: list[Node] = []
        get = self._next
        event = get()
        path = self._path
        path.append(0)
        while type(event) is not yaml.SequenceEndEvent:
            path[-1] = len(items)
            items.append(self._node(event, depth))
            event = get()
        path.pop()
        return Seq(items, line, column)

    def _map(self, line: int, column: int, depth: int) -> Map:
        entries: dict[str, Entry] = {}
        merged: list[tuple[Any, Node]] = []
        get = self._next
        event = get()
        path = self._path
        path.append("")
        while type(event) is not yaml.MappingEndEvent:
            key = self._key(event, depth)
            mark = event.start_mark
            path[-1] = key or ""
            value = self._node(get(), depth)
            if key == "<<" and not getattr(event, "style", None):
                merged.append((event, value))
            elif key is not None:
                if key in entries:
                    first = entries[key][0]
                    message = f'the key "{key[:60]}" is a duplicate; it already stands in line {first}'
                    self._problems.add(self._file, mark.line + 1, mark.column + 1, key_path(path), message)
                else:
                    entries[key] = (mark.line + 1, mark.column + 1, value)
            event = get()
        path.pop()
        for key_event, value in merged:
            self._merge(entries, key_event, value)
        return Map(entries, line, column)

    def _key(self, event: Any, depth: int) -> str | None:
        if type(event) is yaml.ScalarEvent:
            if event.tag is not None:
                self._tag(event)
            text: str = event.value
            if event.anchor is not None:
                where: Any = event.start_mark
                self._anchors[event.anchor] = (Scalar(text, where.line + 1, where.column + 1, text), 1)
            return self._keys.setdefault(text, text)
        node = self._node(event, depth)
        if isinstance(node, Scalar):  # an alias of a scalar
            return node.text
        mark: Any = event.start_mark
        self._note(mark.line + 1, mark.column + 1, "a key must be text; quote braces and brackets")
        return None

    def _merge(self, entries: dict[str, Entry], event: Any, value: Node) -> None:
        for node in value.items if isinstance(value, Seq) else [value]:
            if not isinstance(node, Map):
                mark = event.start_mark
                self._note(mark.line + 1, mark.column + 1, "<< takes a mapping, or a list of mappings")
                return
            self._grow(event, len(node.entries))
            for key, entry in node.entries.items():
                entries.setdefault(key, entry)


# ---- errors of the parser ----------------------------------------------------------------------


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        problems.add(file, 1, 1, "", f"not YAML: {error.problem}")
        return
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    char = line[mark.column : mark.column + 1]
    words = error.problem or "cannot be read"
    if "maximum nesting depth" in words:  # libyaml's own limit, from 0.2.6 on: its scanner is ahead of our count
        problems.add(file, mark.line + 1, mark.column + 1, "", TOO_DEEP)
        return
    if "\t" in indent or char == "\t":
        words = "a tab where YAML allows spaces only; indent with spaces"
    elif char in ("@", "`", "%", "&", "*"):
        words += f"; text that begins with {char} goes in quotes"
    elif "mapping values are not allowed" in words:
        words += '; text with ": " in it goes in quotes'
    context = f" ({error.context})" if error.context and error.context not in words else ""
    problems.add(file, mark.line + 1, mark.column + 1, "", f"not YAML: {words}{context}")


def _bad_character(error: yaml.reader.ReaderError, text: str, file: str, problems: Problems) -> None:
    # Positions count characters in the pure reader, bytes of UTF-8 in libyaml: look for the character itself.
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
    place = text.find(chr(code)) if 0 <= code < 0x110000 else -1
    before = text[: max(place, 0)]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    problems.add(file, line, column, "", f"the character U+{code:04X} is not allowed in YAML; leave it out")
