"""Jobs from plain text and CSV, as nodes with places."""

from __future__ import annotations

from collections.abc import Iterator

from .nodes import CELL, Entry, Map, Scalar
from .problems import Problems


def decode(data: bytes, file: str, problems: Problems) -> str | None:
    """UTF-8, with or without a byte order mark; else a problem that says where."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            why = "the file is UTF-16; save it as UTF-8"
        else:
            why = f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        problems.add(file, line, column, "", why)
        return None


def split_lines(text: str) -> list[str]:
    """Lines by ``\\n`` and ``\\r\\n`` alone: what editors count, whatever else Unicode takes for a break."""
    return text.replace("\r\n", "\n").split("\n")


def prompt_lines(text: str) -> Iterator[Scalar]:
    """Prompts of a text file: one a line; empty lines and those that begin with ``#`` are none."""
    for number, line in enumerate(split_lines(text), 1):
        prompt = line.strip()
        if prompt and not prompt.startswith("#"):
            yield Scalar(prompt, number, len(line) - len(line.lstrip()) + 1, prompt)


def read_text(text: str) -> list[Map]:
    """A job for each prompt."""
    return [Map({"prompt": (s.line, s.column, s)}, s.line, s.column) for s in prompt_lines(text)]


class _Cells:
    """RFC 4180 records with the place of every cell, which the csv module does not tell."""

    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._text = text.replace("\r\n", "\n").replace("\r", "\n")
        self._file = file
        self._problems = problems
        self._at = 0
        self._line = 1
        self._start = 0  # of the line

    def records(self) -> Iterator[list[Scalar]]:
        while self._at < len(self._text):
            record = self._record()
            if len(record) > 1 or record[0].text.strip():
                yield record

    def _record(self) -> list[Scalar]:
        cells = []
        while True:
            cells.append(self._cell())
            if self._at >= len(self._text):
                return cells
            end = self._text[self._at]
            self._at += 1
            if end == "\n":
                self._line += 1
                self._start = self._at
                return cells

    def _cell(self) -> Scalar:
        line, column = self._line, self._at - self._start + 1
        if self._text.startswith('"', self._at):
            text = self._quoted(line, column)
        else:
            end = self._at
            while end < len(self._text) and self._text[end] not in ",\n":
                end += 1
            text = self._text[self._at : end]
            self._at = end
        return Scalar(text, line, column, text, CELL)

    def _quoted(self, line: int, column: int) -> str:
        pieces = []
        at = self._at + 1
        while True:
            end = self._text.find('"', at)
            if end < 0:
                self._problems.add(self._file, line, column, "", 'a quoted cell that is never closed (")')
                self._at = len(self._text)
                return ""
            pieces.append(self._text[at:end])
            if not self._text.startswith('""', end):
                break
            pieces.append('"')
            at = end + 2
        text = "".join(pieces)
        breaks = text.count("\n")
        if breaks:
            self._line += breaks
            self._start = self._text.rfind("\n", 0, end) + 1
        self._at = end + 1
        if self._at < len(self._text) and self._text[self._at] not in ",\n":
            message = 'text after the closing quote; write "" for a quote inside a quoted cell'
            self._problems.add(self._file, self._line, self._at - self._start + 1, "", message)
            while self._at < len(self._text) and self._text[self._at] not in ",\n":
                self._at += 1
        return text


def read_csv(text: str, file: str, problems: Problems) -> list[Map]:
    """A job for each record; the first line names the keys, an empty cell is a key not set."""
    records = _Cells(text, file, problems).records()
    header = next(records, None)
    if header is None:
        problems.add(file, 1, 1, "", "the file is empty; its first line names the columns (prompt, seed, …)")
        return []
    names = [cell.text.strip() for cell in header]
    for number, cell in enumerate(header):
        if not names[number]:
            problems.add(file, cell.line, cell.column, "", f"column {number + 1} has no name")
        elif names[number] in names[:number]:
            problems.add(file, cell.line, cell.column, names[number], "a duplicate column")
    jobs = []
    for record in records:
        if len(record) > len(names):
            extra = record[len(names)]
            message = f"{len(record)} cells under {len(names)} columns; text with a comma goes in quotes"
            problems.add(file, extra.line, extra.column, "", message)
        entries: dict[str, Entry] = {}
        for cell_name, head, cell in zip(names, header, record, strict=False):
            if cell.text.strip():
                entries[cell_name] = (head.line, head.column, cell)
        if entries:
            jobs.append(Map(entries, record[0].line, record[0].column))
    return jobs
