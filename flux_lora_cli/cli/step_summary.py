"""The summary that GitHub Actions shows on a run's page: Markdown appended to ``$GITHUB_STEP_SUMMARY``."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flux_lora_cli.cli.job_verdict import Verdict, verdict
from flux_lora_cli.domain.records import JobRecord, OutputRecord
from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import ExitCode, FluxLoraError

#: GitHub takes 1 MiB a step [GitHub documentation: job summaries]; what is left out is counted instead.
_MOST_ROWS, _MOST_IMAGES = 100, 24
#: Longest text of a cell.
_LONGEST = 300
_COUNTS = ("jobs", "completed", "failed", "unknown", "pending", "images", "missing", "nsfw")


def step_summary(
    records: Iterable[JobRecord],
    counts: Mapping[str, Any],
    folder: Path,
    code: ExitCode,
    money: str,
    *,
    run_ended: FluxLoraError | None = None,
    fail_on_nsfw: bool = False,
) -> str:
    """A batch as Markdown: how it ended, counts, cost, what failed and why, images as linked thumbnails.

    Args:
        money: what it cost, in words of our own.
    """
    bad: list[tuple[JobRecord, Verdict]] = []
    images: list[tuple[JobRecord, OutputRecord]] = []
    for record in records:
        found = verdict(record, run_ended, fail_on_nsfw)
        if found.kind in ("failure", "error"):
            bad.append((record, found))
        images += [(record, output) for output in record.outputs if output.file is not None]
    parts = [_title(code), _table(counts), f"{money}\\\nFolder: {escape(str(folder))}"]
    if run_ended is not None:
        parts.append(_reason(run_ended))
    if bad:
        parts.append(_failures(bad))
    if images:
        parts.append(_images(images, folder))
    return "\n\n".join(parts) + "\n\n"


def summary_of_error(error: FluxLoraError) -> str:
    """A batch that ended before any job, with what is wrong in a table."""
    parts = [_title(error.exit_code), _reason(error)]
    if error.problems:
        rows = [f"| {escape(str(problem))} |" for problem in error.problems[:_MOST_ROWS]]
        parts.append("\n".join(["| Problem |", "| --- |", *rows]) + _more(len(error.problems) - _MOST_ROWS))
    return "\n\n".join(parts) + "\n\n"


def append(place: str, text: str) -> None:
    """Add to the step's summary. Raises OSError."""
    with Path(place).open("a", encoding="utf-8") as file:
        file.write(text)


def escape(text: str) -> str:
    """``text`` as plain words on one line: no HTML, no Markdown, no link and no mention comes of it."""
    line = " ".join(printable(text).split())
    line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    # A character reference never starts a piece of Markdown. [CommonMark 0.31, 2.5]
    return "".join(c if c.isalnum() or c in " ,.;-/…" else f"&#{ord(c)};" for c in line)


def _title(code: ExitCode) -> str:
    how = "done" if code is ExitCode.OK else f"exit code {code.value}: {code.meaning}"
    return f"### flux-lora: {how}"


def _table(counts: Mapping[str, Any]) -> str:
    names = [name for name in _COUNTS if name in ("jobs", "completed", "failed", "images") or counts.get(name)]
    head = " | ".join("NSFW" if name == "nsfw" else name.capitalize() for name in names)
    return f"| {head} |\n|{' ---: |' * len(names)}\n| {' | '.join(str(counts[name]) for name in names)} |"


def _reason(error: FluxLoraError) -> str:
    return f"**{escape(error.message)}** {escape(error.hint)}".rstrip()


def _failures(bad: list[tuple[JobRecord, Verdict]]) -> str:
    rows = ["| Job | Why | Reason |", "| --- | --- | --- |"]
    for record, found in bad[:_MOST_ROWS]:
        rows.append(f"| {escape(record.id or record.key)} | {escape(found.code)} | {escape(found.message)} |")
    return "\n".join(rows) + _more(len(bad) - _MOST_ROWS)


def _more(left: int) -> str:
    return f"\n\nand {left} more" if left > 0 else ""


def _images(images: list[tuple[JobRecord, OutputRecord]], folder: Path) -> str:
    rows = ["<details><summary>Images</summary>\n", "| Job | File | Preview |", "| --- | --- | --- |"]
    for record, output in images[:_MOST_IMAGES]:
        path = escape(f"{folder}/{output.file}")
        rows.append(f"| {escape(record.id or record.key)} | {path} | {_thumbnail(record, output)} |")
    return "\n".join(rows) + _more(len(images) - _MOST_IMAGES) + "\n\n</details>"


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
