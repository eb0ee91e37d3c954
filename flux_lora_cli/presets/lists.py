"""Lists of jobs in plain formats, as nodes with places: ``.txt``, ``.csv``, JSON Lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence

from flux_lora_cli.presets.job import Where
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.read import TOO_DEEP, decode, read_yaml, split_lines

#: How the names of lists end, and their kinds.
LISTS = {".txt": "txt", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
# A cell may hold a base64 image. [csv: a limit for the whole process, 131,072 by default]
_MAX_CELL = 64 * 1024 * 1024
#: Cells of a record that are looked at; each costs 200 bytes, and all keys of a job are fewer than 50.
_MAX_COLUMNS = 10_000

_CELL = re.compile(r' *((?:"(?:[^"]|"")*")?[^,]*)(?:,|$)', re.DOTALL)
#: First lines that name columns: ``id;prompt``; and those of tables that are not separated by commas.
_COLUMNS = re.compile(r'(?=.*\bprompt\b)"?[a-z_]+"?(?: *[,;\t] *"?[a-z_]+"?)+', re.IGNORECASE)
_NO_COMMAS = re.compile(r'\s*(?:sep=|"?[a-z_]+"? *[;\t])', re.IGNORECASE)
#: Escapes of JSON; a pair of surrogates is one character. And characters that YAML takes for the end of a line.
_SPELLED = re.compile(r"\\(?:u(d[89ab]..)\\u(d[c-f]..)|.)|[\u2028\u2029]", re.IGNORECASE)


def looks_like_table(text: str) -> str:
    """Why a text file is not a list of prompts but a table; "" where it is one."""
    first = next((line.strip() for line in split_lines(text) if line.strip() and not line.lstrip().startswith("#")), "")
    if _COLUMNS.fullmatch(first):
        return "a table (its first line names columns); give the .csv to `batch` itself"
    return "JSON Lines; give the .jsonl to `batch` itself" if first.startswith('{"') and '"prompt"' in first else ""


def prompt_lines(text: str, source: Source) -> Iterator[Node]:
    """Prompts of a text file: one per line; empty lines and those that begin with ``#`` are skipped."""
    for number, line in enumerate(split_lines(text), 1):
        prompt = line.strip()
        if prompt and not prompt.startswith("#"):
            yield Node(prompt, source, number, len(line) - len(line.lstrip()) + 1, prompt, "line")


def read_list(kind: str, data: bytes, source: Source, problems: Problems) -> Iterator[Node]:
    """The jobs of a list, one mapping each. ``kind``: txt, csv or jsonl."""
    text = decode(data, source, problems)
    if text is None:
        return iter(())
    if kind == "csv":
        return _read_csv(text, source, problems)
    if kind == "jsonl":
        return _read_json_lines(text, source, problems)
    return (Node({"prompt": prompt}, source, prompt.line, prompt.column) for prompt in prompt_lines(text, source))


def _read_json_lines(text: str, source: Source, problems: Problems) -> Iterator[Node]:
    """JSON is YAML, which has the places; ``null`` is a key that is not set."""
    for number, line in enumerate(split_lines(text), 1):
        if not line.strip():
            continue
        column, why = 1, 'a line is a job as a JSON object: {"prompt": "…"}; plain prompts go in a .txt file'
        try:
            if isinstance(json.loads(line, parse_constant=_refuse), dict):
                line = _SPELLED.sub(_in_yaml, line.replace("\t", " "))
                if (node := read_yaml(line, source, problems, line=number, nulls=False)) is not None:
                    yield node
                continue
        except ValueError as error:  # json.JSONDecodeError, with its column; a number of too many digits
            column, why = getattr(error, "colno", 1), f"not JSON: {getattr(error, 'msg', error)}"
        except RecursionError:
            why = TOO_DEEP
        problems.at(Where(source.name, number, column), "", why)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not finite")


def _in_yaml(match: re.Match[str]) -> str:
    """What JSON writes in another way than YAML."""
    if match[1]:
        return f"\\U{0x10000 + (int(match[1], 16) - 0xD800) * 0x400 + int(match[2], 16) - 0xDC00:08x}"
    return match[0] if match[0][0] == "\\" else f"\\u{ord(match[0]):04x}"


# ---- CSV -------------------------------------------------------------------------------------


def _read_csv(text: str, source: Source, problems: Problems) -> Iterator[Node]:
    """A job for each record; the first line names the keys, an empty cell is a key that is not set."""
    lines = split_lines(text)
    start = next((number for number, line in enumerate(lines) if not _is_skipped(line)), 0)
    if not lines[start].strip() or _NO_COMMAS.match(lines[start]):
        why = "the first line names the columns, separated by commas: no semicolons or tabs, no sep= line before it"
        return problems.at(Where(source.name, start + 1, 1), "", why)
    records = _records(lines, source, problems)
    header = next(records, [])
    names = [cell.text.strip() for cell in header]
    seen = {""}
    for number, (cell, name) in enumerate(zip(header, names, strict=True), 1):
        if name in seen:
            problems.add(cell, "", f"column {number} has no name, or a duplicate one")
        seen.add(name)
    for record in records if header else ():
        texts = [cell.text.strip() for cell in record]
        if texts[0].startswith("#") and not any(texts[1:]):  # quoted by a spreadsheet, for a comma in it
            continue
        prompt = dict(zip(names, texts, strict=False)).get("prompt", "")
        if sorted(map(str.lower, texts)) == sorted(names) or prompt.lower() == "prompt":
            problems.add(record[0], "", "the header again (two files joined?); delete this line")
            continue
        if any(texts[len(names) :]):
            why = f"{len(record)} cells under {len(names)} columns; text with a comma goes in quotes"
            problems.add(record[len(names)], "", why)
        for head, cell in zip(header, record, strict=False):
            cell.key_at = head.line, head.column
        cells = zip(names, record, strict=False)
        if entries := {name: cell for name, cell in cells if name and cell.text.strip()}:
            yield Node(entries, source, record[0].line, record[0].column)
    return None


def _is_skipped(line: str) -> bool:
    """Whether a line is empty, or a comment."""
    return not line.strip() or line.lstrip().startswith("#")


def _records(lines: Sequence[str], source: Source, problems: Problems) -> Iterator[list[Node]]:
    """The records with the place of every cell; comment lines (``#``) and empty ones are skipped."""
    csv.field_size_limit(_MAX_CELL)
    at = 0
    while at < len(lines):
        start, at = at, at + 1
        if _is_skipped(lines[start]):
            continue
        reader = csv.reader((f"{lines[n]}\n" for n in range(start, len(lines))), strict=True, skipinitialspace=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            open_end = "unexpected end" in str(error)
            why = 'text after the closing quote of a cell; write "" for a quote inside a quoted cell'
            why = "a quoted cell that is never closed" if open_end else why
            problems.at(Where(source.name, start + 1, max(lines[start].find('"'), 0) + 1), "", why)
            if open_end:
                return
            continue
        at = start + reader.line_num
        raw = "\n".join(lines[start:at])
        record, line, begin, last = [], start + 1, 0, 0
        for cell, found in zip(cells[:_MAX_COLUMNS], _CELL.finditer(raw), strict=False):
            here = found.start(1)
            if passed := raw.count("\n", last, here):
                line, begin = line + passed, raw.rfind("\n", last, here) + 1
            record.append(Node(cell, source, line, here - begin + 1, cell, "cell"))
            last = here
        yield record
