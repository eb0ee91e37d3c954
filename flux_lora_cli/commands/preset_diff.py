"""``flux-lora preset diff``: what a change of presets would buy, as text, Markdown or annotations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from flux_lora_cli.commands.ci import annotation
from flux_lora_cli.commands.console import Console, counts_text, plain, some, value_text
from flux_lora_cli.commands.inputs import load_options, selection
from flux_lora_cli.commands.options import ExpandOptions, ModelsOptions, ServiceOptions, argument, command, option
from flux_lora_cli.commands.values import money, price
from flux_lora_cli.engine.budget import dollars, sum_prices
from flux_lora_cli.engine.budget import plain as decimal
from flux_lora_cli.errors import BudgetError, NotFoundError
from flux_lora_cli.text import counted, masked, quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.diff import Change, Difference

EXAMPLES = """
flux-lora preset diff presets
flux-lora preset diff presets --from origin/main... -o flux-lora-output/posters
flux-lora preset diff presets --from origin/main... --format markdown --fail-over 5
"""

Format = Literal["text", "markdown", "github"]
#: Characters of a comment [GitHub: 65,536], and room for the end of one that is cut.
_MAX_COMMENT, _ROOM = 65_536, 400
#: Notes that a comment shows, and characters of each.
_MAX_NOTES, _MAX_NOTE = 10, 1_000
#: Characters of a text that are shown, from a little before where two differ.
_MAX_TEXT = 200
_MARKS = {"changed": "~", "added": "+", "removed": "-", "renamed": ">"}


@command
def preset_diff(
    paths: Annotated[list[Path], argument("PATH", "Presets, or folders of presets.", Path)],
    models: ModelsOptions,
    options: ExpandOptions,
    console: Console,
    from_: Annotated[
        str, option("--from", "REV|DIR", "Old side (default: HEAD); A... is the merge base of A and HEAD.")
    ] = "HEAD",
    output: Annotated[
        Path | None, option("--output -o", "DIR", "Do not count what this output folder has.", Path)
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Format,
        option(
            "--format", "text|markdown|github", "Print text (default), Markdown for a comment, or GitHub annotations."
        ),
    ] = "text",
    fail_over: Annotated[Decimal | None, option("--fail-over", "USD", "Exit with 8 above this cost.", money)] = None,
    per_image: Annotated[Decimal | None, option("--price", "USD", "Instead of the documented price.", price)] = None,
) -> int:
    """Show what a change of presets would buy: jobs added, removed, renamed and changed.

    The new side is the work tree as it is. The old side is read from git alone, with all files that the presets name.
    A job is bought where neither the old side nor DIR has the same request. Nothing is sent or spent.
    """
    from flux_lora_cli.presets.diff import compare

    console.github = format == "github"
    settings = load_options(
        models, ServiceOptions.offline(options.api_version), require_jobs=False, **selection([], options)
    )
    bought = set() if output is None else _bought(output, console)
    allow = models.allow_path or ()
    found = compare(paths, from_, settings, allow, bought, per_image)
    for note in found.notes:
        console.warn(note, "old_side")
    for change in found.changes:
        data = {name: getattr(change, name) for name in ("change", "old_id", "preset", "parameters", "images")}
        usd = None if change.cost is None else decimal(change.cost)
        console.record("change", {"id": change.job.id, **data, "cost_usd": usd})
    images = sum(change.images for change in found.changes)
    cost = sum_prices(change.cost for change in found.changes)
    floor = any(change.is_floor for change in found.changes)
    told = "price not known" if cost is None else f"{'from ' if floor else ''}{dollars(cost)}"
    to_buy = f"{counted(images, 'image')} to buy, {told}" if images else "nothing to buy"
    counts = f"{_count(found.changes)}, {found.unchanged:,} unchanged"
    summary = f"{counts} since {plain(from_)}; {to_buy}"
    if format == "github":
        texts = _github(found, summary)
    elif format == "markdown":
        texts = _markdown(found, f"**{counts}** since {_code(from_)}: {to_buy}")
    else:
        texts = _blocks(found, markdown=False)
    for text in texts:
        console.result(text)
    usd = None if cost is None else decimal(cost)
    console.summary.update(changes=len(found.changes), unchanged=found.unchanged, images=images, cost_usd=usd)
    console.info(summary)
    if fail_over is not None and images and (cost is None or floor or cost > fail_over):
        raise BudgetError(
            f"--fail-over {dollars(fail_over)} is not kept: {to_buy}",
            "Ask for fewer images, raise --fail-over, or name the price with --price USD.",
        )
    return 0


def _bought(folder: Path, console: Console) -> set[str]:
    """Fingerprints of what an output folder has paid for; nothing in it is changed."""
    from flux_lora_cli.folder.ledger import read_ledger
    from flux_lora_cli.folder.manifest import read_manifest
    from flux_lora_cli.folder.records import State

    records = []
    for read in (read_manifest, read_ledger):
        with suppress(NotFoundError):
            records += read(folder).records
    if not records:
        console.warn(f"{folder} holds no results: nothing is counted as bought", "folder")
    not_paid = (State.PLANNED, State.SKIPPED)
    return {record.fingerprint for record in records if record.fingerprint and record.state not in not_paid}


# ---- forms -----------------------------------------------------------------------------------


def _blocks(found: Difference, markdown: bool) -> Iterator[str]:
    """A text for each job, the first of a preset under a title; text from outside is made safe."""
    show, indent = (_code, "\n  - ") if markdown else (plain, "\n      ")
    for preset, group in groupby(sorted(found.changes, key=lambda c: c.preset), key=lambda c: c.preset):
        changes = list(group)
        block = f"\n### {show(preset)}\n\n{_count(changes)}\n\n" if markdown else f"{show(preset)}: {_count(changes)}\n"
        for change in changes:
            block += f"- **{change.change}**" if markdown else f"  {_MARKS[change.change]}"
            block += f" {show(change.job.id)}"
            block += f" (was {show(change.old_id)})" if change.old_id and change.change == "renamed" else ""
            block += f", {counted(change.images, 'image')}" if change.images else ""
            for name, old, new, place in _values(change):
                block += f"{indent}{show(name)}: {show(old)} → {show(new)} ({show(place)})"
            if change.change == "added":
                block += f"{indent}prompt: {show(_shown(change.job.params.get('prompt', '')))}"
            yield block
            block = ""


def _markdown(found: Difference, head: str) -> Iterator[str]:
    """A comment of at most 65,536 characters: the first jobs whole, then their number."""
    notes = [f"> {_code(note[:_MAX_NOTE])}" for note in found.notes[:_MAX_NOTES]]
    if more := len(found.notes) - len(notes):
        notes.append(f"> … and {counted(more, 'more preset')} with an invalid old side.")
    lines, hidden = "\n".join([head, "", *notes]), 0
    for block in _blocks(found, markdown=True):
        hidden += len(lines) + len(block) > _MAX_COMMENT - _ROOM
        lines += "" if hidden else f"\n{block}"
    yield lines
    if hidden:
        yield f"\n… and {counted(hidden, 'more job')} not shown here."


def _github(found: Difference, summary: str) -> Iterator[str]:
    """One annotation for each place that changed something, however many jobs it changes."""
    places: dict[tuple[str, str], list[str]] = {}
    for change in found.changes:
        job, was = change.job, f" (was {change.old_id})" if change.change == "renamed" else ""
        for name, old, new, place in _values(change):
            places.setdefault((place, f"{name}: {old} → {new}"), []).append(job.id)
        if change.change != "changed":
            places.setdefault((f"{job.where.file}:{job.where.line}", change.change), []).append(job.id + was)
    for (place, what), ids in places.items():
        file, _, line = place.rpartition(":")
        yield annotation("notice", plain(f"{what}: {some(ids, 3)}"), plain(file), int(line))
    for note in found.notes:
        yield annotation("warning", plain(note))
    yield annotation("notice", summary)


def _count(changes: Sequence[Change]) -> str:
    counts = Counter[str](change.change for change in changes)
    return counts_text({kind: counts[kind] for kind in _MARKS}, "no changes")


def _values(change: Change) -> Iterator[tuple[str, str, str, str]]:
    """Name, old and new value, and place of each parameter that changed, each safe to print."""
    for name, value in change.parameters.items():
        old, new = value["from"], value["to"]
        if isinstance(old, str) and isinstance(new, str) and max(len(old), len(new)) > _MAX_TEXT:
            start = next((n for n, (a, b) in enumerate(zip_longest(old, new)) if a != b), 0) - _MAX_TEXT // 2
            old, new = (f"…{text[start:]}" if start > 0 else text for text in (old, new))
        yield plain(name), _shown(old), _shown(new), plain(f"{value['file']}:{value['line']}")


def _shown(value: object) -> str:
    text = value_text(masked(value), lambda each: "default" if each is None else quoted(each, _MAX_TEXT))
    return plain(text)


def _code(text: str) -> str:
    """Text as Markdown shows it unchanged, whatever it holds: no mention, no link, no HTML."""
    shown = plain(text) or " "
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"
