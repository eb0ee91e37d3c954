"""Lists of jobs in plain formats, as nodes with places: ``.txt``, ``.csv``, JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from flux_lora_cli.presets.job import Where
from flux_lora_cli.presets.nodes import MAX_DIGITS, MAX_LEVELS, Node, Problems, Source, repeated
from flux_lora_cli.text import quoted

# A cell may hold a base64 image. [csv: a limit for the whole process, 131,072 by default]
_MAX_CELL = 64 * 1024 * 1024

#: Characters that no list means: C0 and C1 controls but for tab and line ends. NEL is a control, too.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_END = re.compile(r"\r\n|\r|\n")
_CELL = re.compile(r' *(?:"(?:[^"]|"")*"[^,]*|[^,]*)(?:,|$)', re.DOTALL)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes, source: Source, problems: Problems) -> str | None:
    """UTF-8, with or without byte order marks at the beginning of lines; else a problem that says where."""
    if data[:2] in _UTF16 or (len(data) > 3 and data[1:2] == b"\0" and data[3:4] == b"\0"):
        problems.at(Where(source.name, 1, 1), "", "the file is UTF-16; save it as UTF-8")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        why = f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        problems.at(Where(source.name, line, column), "", why)
        return None
    return re.sub("(^|[\r\n])\ufeff+", r"\1", text) if "\ufeff" in text else text


def split_lines(text: str) -> list[str]:
    """Lines by ``\\n``, ``\\r\\n`` and ``\\r``, and by nothing else that Unicode takes for a break."""
    return _LINE_END.split(text)


def no_controls(text: str, source: Source, problems: Problems) -> bool:
    """Whether a list is free of control characters; the first ones are told with their places."""
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
    if kind == "txt":
        return (_job([("prompt", node, node.line, node.column)], node) for node in prompt_lines(text, source))
    if kind == "csv":
        return _read_csv(text, source, problems)
    return _read_json_lines(text, source, problems)


def _job(cells: list[tuple[str, Node, int, int]], place: Node) -> Node:
    return Node(
        {key: (line, column, node) for key, node, line, column in cells}, place.source, place.line, place.column
    )


# ---- CSV -------------------------------------------------------------------------------------


def _read_csv(text: str, source: Source, problems: Problems) -> Iterator[Node]:
    """A job for each record; the first line names the keys, an empty cell is a key that is not set."""
    records = _records(text, source, problems)
    header = next(records, None)
    if header is None:
        if not problems:
            problems.at(Where(source.name, 1, 1), "", "the file is empty; its first line names the columns (prompt, …)")
        return
    if not _good_header(header, problems):
        return
    names = [cell.text.strip() for cell in header]
    for record in records:
        if [cell.text.strip() for cell in record] == names:
            problems.add(record[0], "", "the header again (two files joined?); delete this line")
            continue
        if len(record) > len(names) and any(cell.text.strip() for cell in record[len(names) :]):
            why = f"{len(record)} cells under {len(names)} columns; text with a comma goes in quotes"
            problems.add(record[len(names)], "", why)
        cells = [
            (name, cell, head.line, head.column)
            for name, head, cell in zip(names, header, record, strict=False)
            if name and cell.text.strip()
        ]
        if cells:
            yield _job(cells, record[0])


def _records(text: str, source: Source, problems: Problems) -> Iterator[list[Node]]:
    """The records with the place of every cell; comment lines (``#``) and empty ones are skipped."""
    lines = [f"{line}\n" for line in split_lines(text)]
    csv.field_size_limit(_MAX_CELL)
    at = 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].startswith("#"):
            at += 1
            continue
        last = len(lines) if '"' in lines[at] else at + 1
        rest = (lines[n] for n in range(at, last))
        reader = csv.reader(rest, strict=True, skipinitialspace=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            why = "a quoted cell that is never closed" if "unexpected end" in str(error) else _why_csv(str(error))
            problems.at(Where(source.name, at + 1, max(lines[at].find('"'), 0) + 1), "", why)
            if "unexpected end" in str(error):
                return
            at += 1
            continue
        raw = "".join(lines[at : at + reader.line_num]).rstrip("\n")
        places = [found.start() + len(found[0]) - len(found[0].lstrip(" ")) for found in _CELL.finditer(raw)]
        record = []
        for cell, place in zip(cells, places, strict=False):
            line = raw.count("\n", 0, place)
            column = place - (raw.rfind("\n", 0, place) + 1) + 1
            record.append(Node(cell, source, at + 1 + line, column, cell, "cell"))
        at += reader.line_num
        if record:
            yield record


def _why_csv(error: str) -> str:
    if "expected after" in error:
        return 'text after the closing quote of a cell; write "" for a quote inside a quoted cell'
    return f"not CSV: {error[:100]}"


def _good_header(header: list[Node], problems: Problems) -> bool:
    first = header[0]
    if len(header) == 1:
        if first.text.strip().lower().startswith("sep="):
            problems.add(first, "", "a spreadsheet's sep= line; delete it, and save the file with commas")
            return False
        for mark, name in ((";", "semicolons"), ("\t", "tabs")):
            if mark in first.text:
                problems.add(first, "", f"the columns are separated by {name}; save the file with commas")
                return False
        if "," in first.text:
            problems.add(first, "", "the header is one quoted cell; each column has a name of its own: prompt,seed")
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


class _NotJson(ValueError):
    pass


class _Twice(dict[str, Any]):
    """An object in which a key stands twice."""

    key = ""


def _read_json_lines(text: str, source: Source, problems: Problems) -> Iterator[Node]:
    for number, line in enumerate(split_lines(text), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(
                line, object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float, parse_int=_int
            )
        except json.JSONDecodeError as error:
            problems.at(Where(source.name, number, error.colno), "", f"not JSON: {error.msg}")
            continue
        except _NotJson as error:
            why, _, shown = str(error).partition("\0")
            problems.at(Where(source.name, number, max(line.find(shown), 0) + 1), "", why)
            continue
        except RecursionError:
            problems.at(Where(source.name, number, 1), "", f"nested more than {MAX_LEVELS} levels deep")
            continue
        if isinstance(value, dict):
            yield _object(value, line, Node(None, source, number, len(line) - len(line.lstrip()) + 1), problems)
        else:
            why = 'a line is a job as a JSON object: {"prompt": "…"}; plain prompts go in a .txt file'
            problems.at(Where(source.name, number, 1), "", why)


def _object(value: dict[str, Any], line: str, place: Node, problems: Problems) -> Node:
    """A job; a key with null is one that is not set."""
    entries = {}
    for key, item in value.items():
        found = _key_at(line, key)
        column, after = (found.start() + 1, found.end() + 1) if found else (place.column, place.column)
        if item is not None:
            where = Node(None, place.source, place.line, after)
            entries[key] = (place.line, column, _node(item, where, f"line {place.line}.{key[:80]}", line, problems, 1))
    node = Node(entries, place.source, place.line, place.column)
    if isinstance(value, _Twice):
        _twice(value, line, place, f"line {place.line}", problems)
    return node


def _node(value: Any, place: Node, key: str, line: str, problems: Problems, depth: int) -> Node:
    if depth > MAX_LEVELS:
        problems.add(place, key, f"nested more than {MAX_LEVELS} levels deep")
        return Node(None, place.source, place.line, place.column)
    if isinstance(value, dict):
        if isinstance(value, _Twice):
            _twice(value, line, place, key, problems)
        entries = {
            name: (place.line, place.column, _node(item, place, f"{key}.{name[:80]}", line, problems, depth + 1))
            for name, item in value.items()
            if item is not None
        }
        return Node(entries, place.source, place.line, place.column)
    if isinstance(value, list):
        items = [_node(item, place, f"{key}[{n}]", line, problems, depth + 1) for n, item in enumerate(value)]
        return Node(items, place.source, place.line, place.column)
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode() if not value.isprintable() else value
    return Node(value, place.source, place.line, place.column, str(value), "json")


def _key_at(line: str, key: str, nth: int = 0) -> re.Match[str] | None:
    found = list(
        takewhile(lambda n: n[0] <= nth, enumerate(re.finditer(re.escape(json.dumps(key)) + r"\s*:\s*", line)))
    )
    return found[nth][1] if len(found) > nth else None


def _twice(value: _Twice, line: str, place: Node, key: str, problems: Problems) -> None:
    found = _key_at(line, value.key, 1)
    where = Where(place.source.name, place.line, found.start() + 1 if found else place.column)
    problems.at(
        where, f"{key}.{value.key[:80]}", f"the key {quoted(value.key)} is a duplicate; it is already in this object"
    )


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    twice = _Twice(value)
    twice.key = repeated(key for key, _ in pairs) or ""
    return twice


def _constant(name: str) -> Any:
    raise _NotJson(f"{name} is not a number in JSON\0{name}")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _NotJson(f"{text[:40]} is not a finite number\0{text}")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _NotJson(f"{text[:20]}… is a huge number of {len(text)} digits\0{text}")
    return int(text)


def stdin_bytes(data: str | bytes | None) -> bytes:
    """Standard input as bytes."""
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data or b""


def looks_like_table(text: str) -> str:
    """Why a text file is not a list of prompts but a table; "" where it is one."""
    first = next((line.strip() for line in io.StringIO(text, newline=None) if line.strip()), "").lower()
    if re.fullmatch(r'"?(id|prompt)"?[,;\t].*|.*[,;\t]"?prompt"?([,;\t].*)?', first) and not first.startswith("#"):
        names = [name.strip(' "') for name in re.split("[,;\t]", first)]
        if all(re.fullmatch(r"[a-z_]+", name) for name in names) and "prompt" in names:
            return "a table (its first line names columns); give the .csv to `batch` itself"
    if first.startswith('{"') and '"prompt"' in first:
        return "JSON Lines; give the .jsonl to `batch` itself"
    return ""
