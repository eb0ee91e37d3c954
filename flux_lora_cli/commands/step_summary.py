"""The summary that GitHub Actions shows on a run's page: Markdown appended to ``$GITHUB_STEP_SUMMARY``."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flux_lora_cli.commands.ci import Verdict
from flux_lora_cli.errors import ExitCode, FluxLoraError
from flux_lora_cli.folder.manifest import summary
from flux_lora_cli.folder.records import JobRecord, OutputRecord
from flux_lora_cli.text import printable

#: GitHub takes 1 MiB per step [GitHub documentation: job summaries]; what is left out is counted instead.
_MAX_ROWS, _MAX_IMAGES = 100, 24
#: Characters of a cell.
_MAX_CELL = 300
_COUNTS = ("jobs", "completed", "failed", "unknown", "pending", "images", "missing", "nsfw")


def step_summary(
    verdicts: Sequence[tuple[JobRecord, Verdict]],
    folder: Path,
    code: ExitCode,
    money: str,
    ended: FluxLoraError | None,
) -> str:
    """A batch as Markdown: how it ended, counts, cost, what failed and why, images as linked thumbnails.

    Args:
        money: what it cost, in words of our own.
    """
    counts = summary(record for record, _ in verdicts)
    bad = [(record, found) for record, found in verdicts if found.kind in ("failure", "error")]
    images = [(record, output) for record, _ in verdicts for output in record.outputs if output.file is not None]
    parts = [_title(code), _table(counts), f"This run: {money or 'no cost'}\\\nFolder: {escape(str(folder))}"]
    if ended is not None:
        parts.append(_reason(ended))
    if bad:
        rows = [f"| {escape(r.id or r.key)} | {escape(v.code)} | {escape(v.message)} |" for r, v in bad[:_MAX_ROWS]]
        parts.append("\n".join(["| Job | Why | Reason |", "| --- | --- | --- |", *rows]) + _more(len(bad) - _MAX_ROWS))
    if images:
        parts.append(_images(images, folder))
    return "\n\n".join(parts) + "\n\n"


def summary_of_error(error: FluxLoraError) -> str:
    """A batch that ended before any job, with what is wrong in a table."""
    parts = [_title(error.exit_code), _reason(error)]
    if error.problems:
        rows = [f"| {escape(str(problem))} |" for problem in error.problems[:_MAX_ROWS]]
        parts.append("\n".join(["| Problem |", "| --- |", *rows]) + _more(len(error.problems) - _MAX_ROWS))
    return "\n\n".join(parts) + "\n\n"


def escape(text: str) -> str:
    """``text`` as plain words on one line: no HTML, no Markdown, no link and no mention comes of it."""
    line = " ".join(printable(text).split())
    line = line if len(line) <= _MAX_CELL else line[: _MAX_CELL - 1] + "…"
    # A character reference never starts a piece of Markdown. [CommonMark 0.31, 2.5]
    return "".join(c if c.isalnum() or c in " ,.;-/…" else f"&#{ord(c)};" for c in line)


def _title(code: ExitCode) -> str:
    return f"### flux-lora: {'done' if code is ExitCode.OK else f'exit code {code.value}: {code.meaning}'}"


def _table(counts: Mapping[str, Any]) -> str:
    names = [name for name in _COUNTS if name in ("jobs", "completed", "failed", "images") or counts.get(name)]
    head = " | ".join("NSFW" if name == "nsfw" else name.capitalize() for name in names)
    return f"| {head} |\n|{' ---: |' * len(names)}\n| {' | '.join(str(counts[name]) for name in names)} |"


def _reason(error: FluxLoraError) -> str:
    return f"**{escape(error.message)}** {escape(error.hint)}".rstrip()


def _more(left: int) -> str:
    return f"\n\nand {left:,} more" if left > 0 else ""


def _images(images: Sequence[tuple[JobRecord, OutputRecord]], folder: Path) -> str:
    rows = ["<details><summary>Images</summary>\n", "| Job | File | Preview |", "| --- | --- | --- |"]
    for record, output in images[:_MAX_IMAGES]:
        path = escape(f"{folder}/{output.file}")
        rows.append(f"| {escape(record.id or record.key)} | {path} | {_thumbnail(record, output)} |")
    return "\n".join(rows) + _more(len(images) - _MAX_IMAGES) + "\n\n</details>"


def _thumbnail(record: JobRecord, output: OutputRecord) -> str:
    """A small picture that leads to the large one, where the service shows it to everybody.

    A URL with a query may carry a signature, which is nobody else's business.
    """
    url = output.url or ""
    if not url.startswith("https://") or "?" in url or "#" in url:
        return ""
    link = html.escape(printable(url)).replace("|", "%7C").replace(" ", "%20")
    if output.nsfw:
        return f'<a href="{link}">flagged NSFW</a>'
    name = html.escape(printable(record.id or record.key)).replace("|", "&#124;")
    return f'<a href="{link}"><img src="{link}" width="128" alt="{name}"></a>'
