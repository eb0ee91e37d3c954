"""From the spend and save options to the settings of a run."""

from __future__ import annotations

import os

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.option_values import choice
from flux_lora_cli.cli.options import SaveOptions, SpendOptions
from flux_lora_cli.workflow.context import Settings

#: Seconds between two Progress events: on a terminal they are drawn, elsewhere each is a line.
_TERMINAL, _PLAIN = 0.25, 30.0


def run_settings(spend: SpendOptions | None, save: SaveOptions, console: Console, shards: int = 1) -> Settings:
    """Settings for a run; a shard takes its part of rate, concurrency and budget.

    Raises:
        UsageError: a word that is none of those allowed.
    """
    choice("--nsfw", save.nsfw, ("keep", "quarantine", "skip"))
    if spend is not None:
        choice("--on-unknown", spend.on_unknown, ("reconcile", "hold", "resubmit"))
    rate = spend.rate if spend else None
    max_cost = spend.max_cost if spend else None
    return Settings(
        concurrency=max(1, save.concurrency // shards),
        poll_interval=save.poll_interval,
        timeout=save.timeout,
        task_timeout=save.task_timeout,
        rate=None if rate is None else rate / shards,
        max_cost=None if max_cost is None else max_cost / shards,
        on_unknown=spend.on_unknown if spend else "reconcile",
        nsfw=save.nsfw,
        download=not save.no_download,
        progress_every=_TERMINAL if live(console) else _PLAIN,
        explain=console.verbose,
    )


def live(console: Console) -> bool:
    """Whether the live display is shown: somebody watches, on a terminal that can draw over a line."""
    return console.err_is_terminal and not console.quiet and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
