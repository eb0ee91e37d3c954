"""What the shell is offered on TAB: models, and the jobs and stacks of the presets on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_lora_cli.commands.inputs import model_tables

if TYPE_CHECKING:
    import typer

    from flux_lora_cli.presets.load import Loaded
    from flux_lora_cli.service.models import Models

#: TAB must answer at once: answers given, jobs expanded at most.
_MAX_ANSWERS, _MAX_JOBS = 200, 10_000
#: zsh evaluates what it is offered, so nothing else is.
_HARMLESS = re.compile(r"[\w./@%+,=~-]+")


def _offers(names: Callable[[typer.Context], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    """What the shell is offered. TAB is no place for an error: whatever is wrong with the files named so far."""

    def offered(ctx: Any, incomplete: str) -> list[str]:
        with suppress(Exception):
            found = [name for name in dict.fromkeys(names(ctx)) if name.startswith(incomplete)]
            return [name for name in found if _HARMLESS.fullmatch(name)][:_MAX_ANSWERS]
        return []

    return offered


@_offers
def offer_models(ctx: typer.Context) -> Iterable[str]:
    return (model.short for model in _tables(ctx))


@_offers
def offer_jobs(ctx: typer.Context) -> Iterable[str]:
    return (job.id for job in _presets(ctx).jobs)


@_offers
def offer_stacks(ctx: typer.Context) -> Iterable[str]:
    return (name for preset in _presets(ctx).presets for name in preset.stacks)


def _tables(ctx: typer.Context) -> Models:
    from flux_lora_cli.commands.options import ServiceOptions

    return model_tables(ctx.params.get("models") or ctx.params.get("file"), ServiceOptions.offline())


def _presets(ctx: typer.Context) -> Loaded:
    """The presets that stand on the command line."""
    from flux_lora_cli.presets.load import LoadOptions, load_presets

    given = ctx.params.get("presets") or ctx.params.get("preset") or ctx.args  # args: behind an option without a value
    paths = [path for path in ([given] if isinstance(given, str) else given) if Path(path).is_file()]
    return load_presets(*paths, options=LoadOptions(models=_tables(ctx), max_jobs=_MAX_JOBS))
