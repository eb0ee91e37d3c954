"""Lists of jobs in plain formats, as nodes with places: ``.txt``, ``.csv``, JSON Lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flux_lora_cli.presets.job import Where
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.read import MAX_LEVELS, resolve
from flux_lora_cli.text import quoted

# A cell may hold a base64 image. [csv: a limit for the whole process, 131,072 by default]
_MAX_CELL = 64 * 1024 * 1024

#: Characters that no list means: C0 and C1 controls but for tab and line ends. NEL is a control, too.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_END = re.compile(r"\r\n|\r|\n")
_CELL = re.compile(r' *((?:"(?:[^"]|"")*")?[^,]*)(?:,|$)', re.DOTALL)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
#: First lines that name columns: ``id;prompt``.
_COLUMNS = re.compile(r'(?=.*\bprompt\b)"?[a-z_]+"?(?: *[,;\t] *"?[a-z_]+"?)+', re.IGNORECASE)


def decode(data: bytes, source: Source, problems: Problems) -> str | None:
    """UTF-8, with or without byte order marks at the beginning of lines; else a problem that says where."""
    if data[:2] in _UTF16 or (len(data) > 3 and data[1:2] == b"\0" and data[3:4] == b"\0"):
        problems.at(Where(source.name, 1, 1), "", "the file is UTF-16; save it as UTF-8")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        lines = data[: error.start].split(b"\n")
        where = Where(source.name, len(lines), len(lines[-1].decode("utf-8", "replace")) + 1)
        problems.at(where, "", f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8")
        return None
    return re.sub("(^|[\r\n])\ufeff+", r"\1", text) if "\ufeff" in text else text


def split_lines(text: str) -> list[str]:
    """Lines by ``\\n``, ``\\r\\n`` and ``\\r``, and by nothing else that Unicode takes for a break."""
    return _LINE_END.split(text)


def no_controls(text: str, source: Source, problems: Problems) -> bool:
    """Whether a list is free of control characters; the first of each line is told with its place."""
    if _CONTROL.search(text) is None:
        return True
    for number, line in enumerate(split_lines(text), 1):
        found = _CONTROL.search(line)
        if found:
            why = f"the control character U+{ord(found[0]):04X} is not allowed; delete it"
            problems.at(Where(source.name, number, found.start() + 1), "", why)
            if problems.full(source.name):
                break
    return False


def looks_like_table(text: str) -> str:
    """Why a text file is not a list of prompts but a table; "" where it is one."""
    first = next((line.strip() for line in split_lines(text) if line.strip() and not line.lstrip().startswith("#")), "")
    if _COLUMNS.fullmatch(first):
        return "a table (its first line names columns); give the .csv to `batch` itself"
    return "JSON Lines; give the .jsonl to `batch` itself" if first.startswith('{"') and '"prompt"' in first else ""


def stdin_bytes(data: str | bytes | None) -> bytes:
    """Standard input as bytes."""
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data or b""


def prompt_lines(text: str, source: Source) -> Iterator[Node]:
    """Prompts of a text file: one per line; empty lines and those that begin with ``#`` are skipped."""
    for number, line in enumerate(split_lines(text), 1):
        prompt = line.strip()
        if prompt and not prompt.startswith("#"):
            yield Node(prompt, source, number, len(line) - len(line.lstrip()) + 1, prompt, "line")


def read_list(kind: str, text: str, source: Source, problems: Problems) -> Iterator[Node]:
    """The jobs of a list, one mapping each. ``kind``: txt, csv or jsonl."""
    if not no_controls(text, source, problems):
        return iter(())
    if kind == "csv":
        return _read_csv(text, source, problems)
    if kind == "jsonl":
        return _read_json_lines(text, source, problems)
    return (
        Node({"prompt": (prompt.line, prompt.column, prompt)}, source, prompt.line, prompt.column)
        for prompt in prompt_lines(text, source)
    )


# ---- CSV -------------------------------------------------------------------------------------


def _read_csv(text: str, source: Source, problems: Problems) -> Iterator[Node]:
    """A job for each record; the first line names the keys, an empty cell is a key that is not set."""
    records = _records(text, source, problems)
    header = next(records, None)
    if header is None and not problems:
        problems.at(Where(source.name, 1, 1), "", "the file is empty; its first line names the columns (prompt, …)")
    if header is None or not _good_header(header, problems):
        return
    names = [cell.text.strip() for cell in header]
    for record in records:
        texts = [cell.text.strip() for cell in record]
        if texts[0].startswith("#") and not any(texts[1:]):  # quoted by a spreadsheet, for a comma in it
            continue
        prompt = texts[names.index("prompt")] if "prompt" in names[: len(texts)] else ""
        if sorted(map(str.lower, texts)) == sorted(names) or prompt.lower() == "prompt":
            problems.add(record[0], "", "the header again (two files joined?); delete this line")
            continue
        if any(cell.text.strip() for cell in record[len(names) :]):
            why = f"{len(record)} cells under {len(names)} columns; text with a comma goes in quotes"
            problems.add(record[len(names)], "", why)
        entries = {
            name: (head.line, head.column, cell)
            for name, head, cell in zip(names, header, record, strict=False)
            if name and cell.text.strip()
        }
        if entries:
            yield Node(entries, source, record[0].line, record[0].column)


def _records(text: str, source: Source, problems: Problems) -> Iterator[list[Node]]:
    """The records with the place of every cell; comment lines (``#``) and empty ones are skipped."""
    lines = [f"{line}\n" for line in split_lines(text)]
    csv.field_size_limit(_MAX_CELL)
    at = 0
    while at < len(lines):
        start, at = at, at + 1
        if not lines[start].strip() or lines[start].lstrip().startswith("#"):
            continue
        reader = csv.reader((lines[n] for n in range(start, len(lines))), strict=True, skipinitialspace=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            where = Where(source.name, start + 1, max(lines[start].find('"'), 0) + 1)
            if "unexpected end" in str(error):
                return problems.at(where, "", "a quoted cell that is never closed")
            if other := re.match(r'"[^"]*" *([;\t])', lines[start]):
                return problems.at(where, "", _separated(other[1]))
            why = f"not CSV: {str(error)[:100]}"
            if "expected after" in why:
                why = 'text after the closing quote of a cell; write "" for a quote inside a quoted cell'
            problems.at(where, "", why)
            continue
        at = start + reader.line_num
        raw = "".join(lines[start:at]).rstrip("\n")
        record = []
        for cell, found in zip(cells, _CELL.finditer(raw), strict=False):
            before = raw[: found.start(1)].rpartition("\n")
            line = start + 1 + raw.count("\n", 0, found.start(1))
            record.append(Node(cell, source, line, len(before[2]) + 1, cell, "cell"))
        yield record
    return None


def _separated(mark: str) -> str:
    return f"the columns are separated by {'semicolons' if mark == ';' else 'tabs'}; save the file with commas"


def _good_header(header: Sequence[Node], problems: Problems) -> bool:
    first = header[0].text
    why = ""
    if first.strip().lower().startswith("sep="):
        why = "a spreadsheet's sep= line; delete it, and save the file with commas"
    elif len(header) == 1:
        if ";" in first or "\t" in first:
            why = _separated(";" if ";" in first else "tab")
        elif "," in first:
            why = "the header is one quoted cell; each column has a name of its own: prompt,seed"
    if why:
        problems.add(header[0], "", why)
        return False
    seen: set[str] = set()
    for number, cell in enumerate(header, 1):
        name = cell.text.strip()
        if not name:
            problems.add(cell, "", f"column {number} has no name")
        elif name in seen:
            problems.add(cell, name[:80], "a duplicate column")
        seen.add(name)
    return True


# ---- JSON Lines ------------------------------------------------------------------------------


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs: a key may be there twice."""


class _Float(float):
    """A number with a point or an exponent, and how it was written."""

    def __init__(self, text: str) -> None:
        self.text = text


_decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=resolve, parse_float=_Float)
_COLON = re.compile(r"\s*:\s*")
_HALF = re.compile("[\ud800-\udfff]")


def _read_json_lines(text: str, source: Source, problems: Problems) -> Iterator[Node]:
    for number, line in enumerate(split_lines(text), 1):
        if not line.strip():
            continue
        column, why = 1, 'a line is a job as a JSON object: {"prompt": "…"}; plain prompts go in a .txt file'
        try:
            value = _decoder.decode(line)
            if isinstance(value, _Pairs):
                yield _JsonLine(line, number, source, problems, line.index("{")).node(value, f"line {number}")
                continue
        except json.JSONDecodeError as error:
            column, why = error.colno, f"not JSON: {error.msg}"
        except RecursionError:
            why = f"nested more than {MAX_LEVELS} levels deep"
        problems.at(Where(source.name, number, column), "", why)


@dataclass
class _JsonLine:
    """Gives the values of a line their places: its keys are found one after the other, as they stand in it."""

    line: str
    number: int
    source: Source
    problems: Problems
    at: int

    def node(self, value: Any, key: str, depth: int = 0) -> Node:
        """A value as a node, at the place that has been reached; ``null`` is a key that is not set."""
        node = Node(None, self.source, self.number, self.at + 1)
        if depth > MAX_LEVELS:
            self.problems.add(node, key, f"nested more than {MAX_LEVELS} levels deep")
        elif isinstance(value, _Pairs):
            node.value = {}
            for name, item in value:
                self._entry(node, name, item, f"{key}.{name[:80]}", depth + 1)
        elif isinstance(value, list):
            node.value = [self.node(item, f"{key}[{n}]", depth + 1) for n, item in enumerate(value)]
        else:
            if isinstance(value, str) and _HALF.search(value):
                self.problems.add(
                    node, key, "half of a surrogate pair (\\ud800 to \\udfff); write both halves, or neither"
                )
            node.value = value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            node.text, node.style = str(node.value), "json"
            if isinstance(value, _Float):
                node.value, node.text = float(value), value.text
        return node

    def _entry(self, parent: Node, name: str, value: Any, key: str, depth: int) -> None:
        column = self._find(name)
        item = self.node(value, key, depth)
        if name in parent.entries:
            place = Where(self.source.name, self.number, column)
            self.problems.at(place, key, f"the key {quoted(name)} is a duplicate; it is already in this object")
        if value is not None:
            parent.entries[name] = (self.number, column, item)

    def _find(self, name: str) -> int:
        """The column of the next key of this name; the place that is reached is then that of its value."""
        text = json.dumps(name)
        start = self.line.find(text, self.at)
        while start >= 0 and not (colon := _COLON.match(self.line, start + len(text))):
            start = self.line.find(text, start + 1)
        if start < 0 or not colon:  # spelled with needless escapes: the rest of the line is told at its end
            start = self.at = len(self.line)
        else:
            self.at = colon.end()
        return start + 1
