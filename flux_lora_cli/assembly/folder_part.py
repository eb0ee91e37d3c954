"""The part of a batch that a folder keeps to, where an engine says which one a process makes (``--shard auto``).

An engine's word changes when only some parts are started again, or their number is altered: element 2 of an array
of four becomes part 1 of 1, and would buy here what the folders of the other parts have.
"""

from __future__ import annotations

from pathlib import Path

from flux_lora_cli.adapters.ledger_reading import ReadLedger
from flux_lora_cli.errors import UsageError

#: Under this name the ledger keeps the part, as ``K/N``.
META = "auto_shard"


def check_part(folder: Path, ledger: ReadLedger, shard: tuple[int, int] | None, engine: str | None) -> None:
    """See whether the engine says what it said when it began this folder.

    A part that the user named is never refused: in one folder no job is paid twice.

    Raises:
        UsageError: it says another part.
    """
    if shard is None or engine is None:
        return
    known, now = ledger.meta(META), _text(shard)
    if known not in (None, now):
        raise UsageError(
            f"{folder} has part {known}, made with --shard auto, and {engine} now says {now};"
            " that would buy here what other parts have in their folders",
            f"Start all parts again as at first (finished ones cost nothing), or go on with this one: --shard {known}",
        )


def part_to_remember(ledger: ReadLedger, shard: tuple[int, int] | None, engine: str | None) -> dict[str, str]:
    """What the ledger has to keep, with the first records of a run; empty where there is nothing new."""
    if shard is None or engine is None or ledger.meta(META) is not None:
        return {}
    return {META: _text(shard)}


def _text(shard: tuple[int, int]) -> str:
    part, parts = shard
    return f"{part}/{parts}"
