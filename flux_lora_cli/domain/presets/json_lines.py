"""JSON lines as nodes with places: a job an object, one a line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # undocumented, but the decoder's own
from typing import Any

from .nodes import Entry, Map, Node, Scalar, Seq, key_path
from .problems import Problems
from .scalars import MOST_DIGITS
from .text_readers import split_lines
from .yaml_reader import MOST_LEVELS

_SPACE = re.compile(r"[ \t\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
#: A key and a plain value (text without escapes, a short whole number, a word), and what follows them.
_PAIR = re.compile(
    r'[ \t\r]*"([A-Za-z_0-9]+)"[ \t\r]*:[ \t\r]*'
    r'(?:"([^"\\\x00-\x1f\ud800-\udfff]*)"|(-?(?:0|[1-9][0-9]{0,15}))|(true|false|null))'
    r"[ \t\r]*([,}])"
)


class _Bad(Exception):
    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


def read_json_lines(text: str, file: str, problems: Problems) -> Iterator[Map]:
    """The object of each line, one at a time, for all at once would be most of the memory of a large file.

    Empty lines are skipped, a line that cannot be read is a problem.
    """
    for number, line in enumerate(split_lines(text), 1):
        if not line.strip():
            continue
        try:
            node = _plain_object(line, number) or _Line(line, number, file, problems).whole()
        except _Bad as error:
            problems.add(file, number, error.at + 1, "", error.message)
            continue
        if isinstance(node, Map):
            yield node
        else:
            message = 'a line is a job as a JSON object: {"prompt": "…"}; plain prompts go in a .txt file'
            problems.add(file, number, node.column, "", message)


def _plain_object(line: str, number: int) -> Map | None:
    """An object of plain values, as most lines are, in a fraction of the time; None for any other line."""
    if line[:1] != "{":
        return None
    entries: dict[str, Entry] = {}
    at = 1
    while found := _PAIR.match(line, at):
        key, text, whole, word, close = found.groups()
        if key in entries:
            return None
        if text is not None:
            value = Scalar(text, number, found.start(2), text)
        elif whole is not None:
            value = Scalar(int(whole), number, found.start(3) + 1, whole)
        else:
            value = Scalar(_WORDS[word], number, found.start(4) + 1, word)
        entries[sys.intern(key)] = (number, found.start(1), value)
        at = found.end()
        if close == "}":
            return None if line[at:].strip(" \t\r") else Map(entries, number, 1)
    return None


class _Line:
    def __init__(self, text: str, number: int, file: str, problems: Problems) -> None:
        self._text = text
        self._number = number
        self._file = file
        self._problems = problems
        self._at = 0
        #: Keys and numbers that lead to what is read now.
        self._path: list[str | int] = [f"line {number}"]

    def whole(self) -> Node:
        node = self._value(0)
        self._skip()
        if self._at < len(self._text):
            raise _Bad("text after the end of the JSON value; one object a line", self._at)
        return node

    def _skip(self) -> str:
        char = self._text[self._at : self._at + 1]
        if char and char in " \t\r":
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            char = self._text[self._at : self._at + 1]
        return char

    def _value(self, depth: int) -> Node:
        char = self._skip()
        column = self._at + 1
        if char in ("{", "[") and depth >= MOST_LEVELS:
            raise _Bad(f"nested more than {MOST_LEVELS} levels deep", self._at)
        if char == "{":
            return self._object(column, depth + 1)
        if char == "[":
            return self._array(column, depth + 1)
        if char == '"':
            text = self._string()
            return Scalar(text, self._number, column, text)
        return self._bare(column)

    def _string(self) -> str:
        try:
            text, self._at = scanstring(self._text, self._at + 1, True)
        except JSONDecodeError as error:
            raise _Bad(f"not JSON: {error.msg}", min(error.pos, len(self._text))) from None
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise _Bad("not JSON: half of a surrogate pair (\\ud800 to \\udfff)", self._at - 1)
        return str(text)

    def _bare(self, column: int) -> Scalar:
        found = _NUMBER.match(self._text, self._at)
        if found:
            self._at = found.end()
            return self._number_node(found, column)
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return Scalar(value, self._number, column, word)
        raise _Bad("not JSON: a value is expected here (text in double quotes)", self._at)

    def _number_node(self, found: re.Match[str], column: int) -> Scalar:
        text = found[0]
        if len(text) > 2 * MOST_DIGITS or (not found[1] and not found[2] and len(text) > MOST_DIGITS):
            raise _Bad(f"a huge number of {len(text)} characters", column - 1)
        value = float(text) if found[1] or found[2] else int(text)
        if value in (float("inf"), float("-inf")):
            raise _Bad(f"{text} is a huge number", column - 1)
        return Scalar(value, self._number, column, text)

    def _array(self, column: int, depth: int) -> Seq:
        self._at += 1
        items: list[Node] = []
        if self._skip() == "]":
            self._at += 1
            return Seq(items, self._number, column)
        path = self._path
        path.append(0)
        while True:
            path[-1] = len(items)
            items.append(self._value(depth))
            if self._separator("]") == "]":
                path.pop()
                return Seq(items, self._number, column)

    def _separator(self, close: str) -> str:
        char = self._skip()
        if char not in (",", close) or not char:
            raise _Bad(f"not JSON: , or {close} is expected here", self._at)
        self._at += 1
        return char

    def _object(self, column: int, depth: int) -> Map:
        self._at += 1
        entries: dict[str, Entry] = {}
        if self._skip() == "}":
            self._at += 1
            return Map(entries, self._number, column)
        path = self._path
        path.append("")
        while True:
            if self._skip() != '"':
                raise _Bad("not JSON: a key in double quotes is expected here", self._at)
            start = self._at + 1
            key = sys.intern(self._string())  # the same few in every line
            if self._skip() != ":":
                raise _Bad("not JSON: : is expected after a key", self._at)
            self._at += 1
            path[-1] = key
            value = self._value(depth)
            if key in entries:
                message = f'the key "{key[:60]}" is a duplicate; it already stands in column {entries[key][1]}'
                self._problems.add(self._file, self._number, start, key_path(path), message)
            entries.setdefault(key, (self._number, start, value))
            if self._separator("}") == "}":
                path.pop()
                return Map(entries, self._number, column)
