"""What the shell is offered beside what Typer and the shell know themselves. TAB is no place for an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from flux_lora_cli.presets.load import Loaded
    from flux_lora_cli.service.models import Models

#: TAB must answer at once: answers given, jobs expanded at most.
_MAX_ANSWERS, _MAX_JOBS = 200, 10_000
#: zsh evaluates what it is offered, so nothing else is.
_HARMLESS = re.compile(r"[\w./@%+,=~-]+")


def _offers(names: Callable[[typer.Context], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            found = list(dict.fromkeys(names(ctx)))
        except Exception:  # whatever is wrong with the files that the command line names
            return []
        return [name for name in found if name.startswith(incomplete) and _HARMLESS.fullmatch(name)][:_MAX_ANSWERS]

    return offered


@_offers
def models(ctx: typer.Context) -> Iterable[str]:
    """Short names of the models with a table."""
    return (model.short for model in _tables(ctx))


@_offers
def job_ids(ctx: typer.Context) -> Iterable[str]:
    """IDs of the jobs of the presets that stand on the command line."""
    return (job.id for job in _loaded(ctx).jobs)


@_offers
def stacks(ctx: typer.Context) -> Iterable[str]:
    """Names of the LoRA stacks of these presets."""
    return (name for preset in _loaded(ctx).presets for name in preset.builder.stacks)


def _tables(ctx: typer.Context) -> Models:
    from flux_lora_cli.commands.inputs import model_tables, offline_service

    file = ctx.params.get("models") or ctx.params.get("file")
    return model_tables(Path(file) if file else None, offline_service())


def _loaded(ctx: typer.Context) -> Loaded:
    from flux_lora_cli.presets.load import LoadOptions, load_presets

    given = ctx.params.get("presets") or ctx.params.get("preset") or ctx.args  # args: behind an option without a value
    paths = [path for path in ([given] if isinstance(given, str) else given) if Path(path).is_file()]
    return load_presets(*paths, options=LoadOptions(models=_tables(ctx), max_jobs=_MAX_JOBS))
