"""What goes on beside the jobs of a run: progress, and the manifest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flux_lora_cli.engine.budget import plain
from flux_lora_cli.engine.events import Progress
from flux_lora_cli.errors import FolderError

if TYPE_CHECKING:
    from flux_lora_cli.engine.run import Run


async def tell_progress(run: Run) -> None:
    """Tell where the run stands, now and then."""
    while True:
        await asyncio.sleep(run.settings.progress_every)
        run.emit(progress(run))


def progress(run: Run) -> Progress:
    """Where the run stands. The time left is this run's own: what earlier runs took does not count."""
    now = run.time()
    elapsed, ended = now - run.began, run.done + run.failed
    oldest = sorted((since, name) for name, since in run.turns.in_flight.values())[:3]
    return Progress(
        jobs=run.expected,
        done=run.done_before + run.done,
        failed=run.failed,
        in_flight=len(run.turns.in_flight),
        saving=run.fetcher.fetching,
        images=run.fetcher.saved,
        cost_usd=plain(run.turns.budget.spent),
        elapsed_seconds=round(elapsed, 1),
        remaining_seconds=round((run.expected - run.done_before - ended) * elapsed / ended, 1) if ended else None,
        oldest=tuple((name, round(now - since, 1)) for since, name in oldest),
    )


async def keep_manifest(run: Run) -> None:
    """Write the manifest whenever it is due."""
    while True:
        try:
            await run.store.write_manifest_if_due(run.pool, run.time)
        except FolderError as error:
            run.abort(error)
            return
        await asyncio.sleep(0.25)
