"""What the shell is offered when TAB is pressed: preset files, job ids, stacks, models, sizes, words.

Typer calls these with the command line as far as it is typed. They never raise and never print: where there is
nothing to offer, the shell goes on as it would without us. Nothing is imported before it is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flux_lora_cli.domain.presets import Loaded

_SUFFIXES = (".yaml", ".yml", ".txt", ".csv", ".jsonl")
#: TAB must answer at once: files looked at, folders deep, answers given, jobs expanded at most.
_MOST_FILES, _DEEPEST, _MOST_ANSWERS, _MOST_JOBS = 2000, 3, 200, 10_000
#: zsh evaluates what it is offered. Names of files with any other character are left to the shell's own completion;
#: ids of jobs and names of stacks that have one are no ids and names, and their preset offers nothing.
_HARMLESS = re.compile(r"[\w./@%+,=~-]+")

_SIZES = ("512*512", "768*768", "768*1024", "1024*768", "1024*1024", "1024*1536", "1536*1024", "1536*1536")


def preset_files(incomplete: str) -> list[str]:
    """Files that ``batch`` reads, also in folders below."""
    head, tail = os.path.split(incomplete)
    shown = f"{head}/" if head and not head.endswith("/") else head
    try:
        folder = Path(head).expanduser()
    except RuntimeError:  # there is no such user
        return []
    found = (shown + name for name in _below(folder, tail))
    return sorted(name for name in found if _HARMLESS.fullmatch(name))[:_MOST_ANSWERS]


def _below(folder: Path, start: str) -> Iterator[str]:
    """Relative names of preset files below a folder whose first part begins with ``start``, nearest first."""
    waiting = [("", 0)]
    budget = _MOST_FILES
    while waiting:
        base, depth = waiting.pop(0)
        try:
            entries = list(os.scandir(folder / base))[:budget]
        except OSError:
            continue
        budget -= len(entries)
        for entry in entries:
            if (not base and not entry.name.startswith(start)) or (entry.name.startswith(".") and not start):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < _DEEPEST:
                    waiting.append((f"{base}{entry.name}/", depth + 1))
            elif entry.name.lower().endswith(_SUFFIXES):
                yield base + entry.name


def job_ids(ctx: click.Context, incomplete: str) -> list[str]:
    """Ids of the jobs of the presets that stand on the command line."""
    loaded = _loaded(ctx, inspect=False)
    names = [] if loaded is None else [job.id for job in loaded.jobs]
    return [name for name in names if name.startswith(incomplete)][:_MOST_ANSWERS]


def adoptions(ctx: click.Context, incomplete: str) -> list[str]:
    """``JOB=`` of the jobs of the presets that stand on the command line; the task's id is known to nobody here."""
    return [f"{name}=" for name in job_ids(ctx, incomplete)]


def stacks(ctx: click.Context) -> list[str]:
    """LoRA stacks of the presets that stand on the command line."""
    loaded = _loaded(ctx, inspect=True)
    found = [] if loaded is None else [stack for preset in loaded.presets for stack in preset.stacks]
    return list(dict.fromkeys(found))


def _loaded(ctx: click.Context, *, inspect: bool) -> Loaded | None:
    named: Any = next((ctx.params[name] for name in ("presets", "files", "preset") if ctx.params.get(name)), None)
    # Behind an option that still lacks its value, click leaves the arguments unassigned.
    paths = [named] if isinstance(named, str) else list(named or ctx.args)
    paths = [path for path in paths if path != "-" and Path(path).is_file()]
    if not paths:
        return None
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.domain.presets import LoadOptions, load_sources

    try:
        return load_sources(
            paths,
            FolderPresetFiles(ctx.params.get("allow_path") or ()),
            LoadOptions(max_jobs=_MOST_JOBS, require_jobs=False, inspect=inspect, allow_unknown_model=True),
        )
    except Exception:  # a message in the middle of a command line that is being typed helps nobody
        return None


def models(incomplete: str) -> list[str]:
    """Short ids, or full ones where a full one was begun."""
    from flux_lora_cli.domain.models import MODEL_TABLES

    return [name if "/" in incomplete else name.rpartition("/")[2] for name in MODEL_TABLES]


def sizes() -> list[str]:
    """Common sizes; any within the model's limits is taken."""
    return list(_SIZES)


def settings(incomplete: str) -> list[str]:
    """``KEY=`` of the parameters that ``--set`` takes."""
    from flux_lora_cli.domain.models import MODEL_TABLES

    tables = [table for _, _, versions in MODEL_TABLES.values() for table in versions.values()]
    keys = dict.fromkeys(key for table in tables for key in table)
    return [f"{key}=" for key in (*keys, "stack", "model") if f"{key}=".startswith(incomplete)]


def words(*allowed: str) -> Callable[[], list[str]]:
    """A fixed list."""

    def offer() -> list[str]:
        return list(allowed)

    return offer
