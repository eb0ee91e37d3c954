"""What the shell is offered when TAB is pressed. Nothing here raises or prints, and all heavy imports are inside."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from flux_lora_cli.presets.load import Loaded
    from flux_lora_cli.service.models import Models

_SUFFIXES = (".yaml", ".yml", ".txt", ".csv", ".jsonl")
#: TAB must answer at once: folders deep, files looked at, answers given, jobs expanded at most.
_MAX_DEPTH, _MAX_FILES, _MAX_ANSWERS, _MAX_JOBS = 3, 2_000, 200, 10_000
#: zsh evaluates what it is offered, so nothing else is.
_HARMLESS = re.compile(r"[\w./@%+,=~-]+")


def preset_files(incomplete: str) -> list[str]:
    """Files that ``batch`` reads, also in folders below."""
    head, tail = os.path.split(incomplete)
    shown = f"{head}/" if head and not head.endswith("/") else head
    try:
        folder = Path(head).expanduser()
    except RuntimeError:  # there is no such user
        return []
    return _offered(sorted(shown + name for name in _below(folder, tail)), incomplete)


def _below(folder: Path, start: str) -> Iterator[str]:
    waiting, left = [("", 0)], _MAX_FILES
    while waiting and left > 0:
        base, depth = waiting.pop(0)
        try:
            entries = list(os.scandir(folder / base))[:left]
        except OSError:
            continue
        left -= len(entries)
        for entry in entries:
            if (not base and not entry.name.startswith(start)) or (entry.name.startswith(".") and not start):
                continue
            if entry.is_dir(follow_symlinks=False) and depth < _MAX_DEPTH:
                waiting.append((f"{base}{entry.name}/", depth + 1))
            elif entry.name.lower().endswith(_SUFFIXES):
                yield base + entry.name


def job_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """IDs of the jobs of the presets that stand on the command line."""
    loaded = _loaded(ctx)
    return _offered([job.id for job in loaded.jobs] if loaded else [], incomplete)


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Short names of the models with a table; full ones, where none of those fits."""
    known = _tables(ctx)
    return _offered([m.short for m in known], incomplete) or _offered([m.id for m in known], incomplete)


def _offered(names: Iterable[str], incomplete: str) -> list[str]:
    found = (name for name in dict.fromkeys(names) if name.startswith(incomplete) and _HARMLESS.fullmatch(name))
    return list(found)[:_MAX_ANSWERS]


def _tables(ctx: typer.Context) -> Models:
    """The tables that this command line names; the built-in ones where those cannot be read."""
    from flux_lora_cli.commands.inputs import model_tables
    from flux_lora_cli.commands.options import ServiceOptions
    from flux_lora_cli.service.models import Models

    given = ctx.params
    service = ServiceOptions(bool(given.get("sandbox")), given.get("base_url"), allow_custom_host=True)
    file = given.get("models") or given.get("file")
    try:
        return model_tables(Path(file) if file else None, service)
    except Exception:  # TAB is no place to say what is wrong with them
        return Models.builtin()


def _loaded(ctx: typer.Context) -> Loaded | None:
    """The presets that stand on the command line; None where there are none, or they cannot be read."""
    from flux_lora_cli.presets.load import LoadOptions, load_presets

    given = ctx.params.get("presets") or ctx.params.get("preset") or ctx.args  # args: behind an option without a value
    paths = [path for path in ([given] if isinstance(given, str) else given) if Path(path).is_file()]
    try:
        options = LoadOptions(models=_tables(ctx), max_jobs=_MAX_JOBS)
        return load_presets(*paths, options=options) if paths else None
    except Exception:  # whatever is wrong with them, TAB is no place to say it
        return None
