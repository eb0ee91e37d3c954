"""What the manifests of several folders say of themselves, as one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flux_lora_cli import errors
from flux_lora_cli._version import __version__
from flux_lora_cli.adapters.manifest_file import read_head
from flux_lora_cli.domain.manifest import Head, Source


def joined_head(target: Path, folders: Sequence[Path], service: str, now: datetime) -> tuple[Head, bool]:
    """Return the head for the manifest of ``target``, and whether it says more than the one that is there.

    Made when the first of them was made, of the sources of all. What is of no use in a manifest that came
    from elsewhere is left out.
    """
    own = _read(target)
    heads = [own, *(_read(folder) for folder in folders)]
    stamp = now.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sources = list(dict.fromkeys(source for head in heads for source in _sources(head)))
    created = [head["created_at"] for head in heads if _short_text(head.get("created_at"))]
    head = Head(
        service=service,
        sandbox=service == "sandbox" or any(head.get("sandbox") is True for head in heads),
        tool_version=__version__,
        created_at=min(created, default=stamp),
        updated_at=stamp,
        sources=sources,
    )
    same = own.get("created_at") == head.created_at and list(_sources(own)) == sources
    return head, not same


def _read(folder: Path) -> dict[str, Any]:
    try:
        head = read_head(folder)
    except errors.ManifestDamaged:
        return {}
    return head if isinstance(head, dict) else {}


def _sources(head: dict[str, Any]) -> list[Source]:
    listed = head.get("sources")
    return [
        Source(item["path"], item["sha256"])
        for item in (listed if isinstance(listed, list) else ())
        if isinstance(item, dict) and _short_text(item.get("path")) and _short_text(item.get("sha256"))
    ]


def _short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 4096
