"""Whether what a folder says of itself is true."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema

_SCHEMA = Path(__file__).parents[2] / "flux_lora_cli" / "resources" / "manifest.schema.json"
_PENDING = ("planned", "submitting", "submitted")


@lru_cache(maxsize=1)
def _validator() -> Any:
    return jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8")))


def manifest(folder: Path, files: bool = True) -> dict[str, Any]:
    """The manifest: valid, its sums right, its claims about files checked on disk."""
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    _validator().validate(document)
    jobs, outputs = document["jobs"], []
    for job in jobs:
        outputs += [(job, output) for output in job["outputs"]]
        for output in job["outputs"]:
            if output["file"] is not None and files:
                data = (folder / output["file"]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == output["sha256"], output["file"]
                assert len(data) == output["bytes"]
    states = [job["state"] for job in jobs]
    images = [output for _, output in outputs if output["file"] is not None]
    expected = {
        "jobs": len(jobs),
        **{state: states.count(state) for state in ("completed", "failed", "unknown", "skipped")},
        "pending": sum(states.count(state) for state in _PENDING),
        "images": len(images),
        "nsfw": sum(output["nsfw"] is True for _, output in outputs),
    }
    summary = document["summary"]
    assert {name: summary[name] for name in expected} == expected
    costs = [Decimal(job["cost_usd"]) for job in jobs if job["cost_usd"] is not None]
    if summary["cost_usd"] is not None:
        assert Decimal(summary["cost_usd"]) == sum(costs)
    return document


def saved(folder: Path) -> list[str]:
    """Files that the manifest calls saved, each there and whole."""
    return [o["file"] for job in manifest(folder)["jobs"] for o in job["outputs"] if o["file"] is not None]


def leftovers(folder: Path) -> list[str]:
    """Side files and temporary files that an orderly end leaves none of."""
    names = [path.name for path in folder.rglob("*")]
    return [name for name in names if name.startswith(".") or name.endswith(("-wal", "-shm", "-journal"))]
