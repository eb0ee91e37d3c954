"""What GitHub Actions shows of a batch on the page of its run: counts, cost, what failed and why, images as links."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from flux_lora_cli.errors import ExitCode, FluxLoraError
from flux_lora_cli.folder.manifest import summary
from flux_lora_cli.folder.records import JobRecord, OutputRecord
from flux_lora_cli.text import mask_secrets, printable

#: Names the file that it is appended to.
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
#: Rows and images that are listed, the rest is counted; characters of a cell. GitHub takes 1 MiB per step.
#: [GitHub documentation: job summaries]
_MAX_ROWS, _MAX_IMAGES, _MAX_CELL = 100, 24, 300
_ALWAYS = ("jobs", "completed", "failed", "images")
_COUNTS = (*_ALWAYS, "unknown", "pending", "skipped", "missing", "nsfw")


def of_run(
    records: Sequence[JobRecord], bad: Sequence[tuple[str, str, str]], folder: Path, code: ExitCode, money: str,
    ended: FluxLoraError | None,
) -> str:  # fmt: skip
    """A batch as Markdown.

    Args:
        bad: of each job that is not as it should be: ID, code, reason.
        money: what it cost, in words of our own.
        ended: why it stopped before its jobs were done, if it did.
    """
    counts = summary(records)
    names = [name for name in _COUNTS if name in _ALWAYS or counts[name]]
    images = [(record, output) for record in records for output in record.outputs if output.file is not None]
    previews = [[_plain(r.id or r.key), _plain(f"{folder}/{o.file}"), _thumbnail(r, o)] for r, o in images]
    parts = [
        _title(code),
        _table([name.capitalize() for name in names], [[str(counts[name]) for name in names]], "---:"),
        f"This run: {money or 'no cost'}\\\nFolder: {_plain(str(folder))}",
        _reason(ended) if ended is not None else "",
        _table(["Job", "Why", "Reason"], [list(map(_plain, row)) for row in bad]) if bad else "",
        _table(["Job", "File", "Preview"], previews, most=_MAX_IMAGES) if previews else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n\n"


def of_error(error: FluxLoraError) -> str:
    """A batch that ended before any job, with what is wrong in a table."""
    rows = [[_plain(str(problem))] for problem in error.problems]
    parts = [_title(error.exit_code), _reason(error), _table(["Problem"], rows) if rows else ""]
    return "\n\n".join(filter(None, parts)) + "\n\n"


def _title(code: ExitCode) -> str:
    return f"### flux-lora: {'done' if code is ExitCode.OK else f'exit code {code.value}: {code.meaning}'}"


def _reason(error: FluxLoraError) -> str:
    return f"**{_plain(error.message)}** {_plain(error.hint)}".rstrip()


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], rule: str = "---", most: int = _MAX_ROWS) -> str:
    lines = [heads, [rule] * len(heads), *rows[:most]]
    more = f"\n\nand {len(rows) - most:,} more" if len(rows) > most else ""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + more


def _plain(text: str) -> str:
    """``text`` as plain words on one line: no HTML, no Markdown, no link and no mention comes of it."""
    line = " ".join(printable(mask_secrets(text)).split())
    line = line if len(line) <= _MAX_CELL else line[: _MAX_CELL - 1] + "…"
    # A character reference never starts a piece of Markdown. [CommonMark 0.31, 2.5]
    return "".join(c if c.isalnum() or c in " ,.;-/…" else f"&#{ord(c)};" for c in line)


def _thumbnail(record: JobRecord, output: OutputRecord) -> str:
    """A small picture that leads to the large one, where the service shows it to everybody.

    A URL with a query may carry a signature, which is nobody else's business.
    """
    url = output.url or ""
    if not url.startswith("https://") or set(url) & set("?#@"):
        return ""
    link = html.escape(printable(url)).replace("|", "%7C").replace(" ", "%20")
    if output.nsfw:
        return f'<a href="{link}">flagged NSFW</a>'
    return f'<a href="{link}"><img src="{link}" width="128" alt="{_plain(record.id or record.key)}"></a>'
