"""Records and folders for the tests of this area."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.manifest_file import ManifestFile
from flux_lora_cli.domain.manifest import Head, Source
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State

SERVICE = "https://api.wavespeed.ai"
NOW = "2026-11-23T03:14:15.123Z"


def digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def planned(number: int, **changes: Any) -> JobRecord:
    key = digest(f"job {number}")
    values: dict[str, Any] = {
        "key": key,
        "id": f"dawn/{number}",
        "order": number,
        "preset": "nasa-posters",
        "fingerprint": key,
        "model": "wavespeed-ai/flux-dev-lora",
        "input": {
            "prompt": f"a lunar base é {number}",
            "size": "1024*1024",
            "seed": number,
            "loras": [{"path": "owner/nasa", "scale": 0.9}],
        },
    }
    return JobRecord(**{**values, **changes})


def submitted(number: int, task: str | None = None, **changes: Any) -> JobRecord:
    values: dict[str, Any] = {
        "state": State.SUBMITTED,
        "task_id": task or f"task-{number}",
        "intent_at": NOW,
        "attempts": 1,
        "price": Decimal("0.015"),
    }
    return planned(number, **{**values, **changes})


def completed(number: int, task: str | None = None, *, folder: Path | None = None, **changes: Any) -> JobRecord:
    content = f"image of {task or number}".encode() * 50
    output = OutputRecord(
        index=0,
        url=f"https://cdn.example/{number}.png",
        nsfw=False,
        file=f"image-{number}.png",
        sha256=digest(content),
        bytes=len(content),
        width=1024,
        height=1024,
        media_type="image/png",
        saved_at=NOW,
    )
    if folder is not None:
        path = folder / f"image-{number}.png"
        path.write_bytes(content)
        output.mtime_ns = path.stat().st_mtime_ns
    values: dict[str, Any] = {
        "state": State.COMPLETED,
        "task_status": "completed",
        "execution_ms": 2412,
        "outputs": [output],
    }
    return submitted(number, task, **{**values, **changes})


def head(service: str = SERVICE) -> Head:
    source = Source("nasa.yaml", digest("nasa"))
    return Head(service, service == "sandbox", "0.1.0", NOW, NOW, [source])


def write_folder(folder: Path, records: Iterable[JobRecord], service: str = SERVICE) -> list[JobRecord]:
    """Make an output folder as a run leaves it."""
    listed = list(records)
    with Ledger.open(folder, service) as ledger:
        ledger.save(listed)
    ManifestFile(folder, head(service)).write(listed)
    check_schema(folder)
    return listed


def read(folder: Path, service: str = SERVICE) -> list[JobRecord]:
    with Ledger.open(folder, service, create=False) as ledger:
        return list(ledger.jobs())


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text("utf-8"))


def check_schema(folder: Path) -> None:
    import jsonschema

    schema = json.loads((files("flux_lora_cli") / "resources/manifest.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(manifest(folder))


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a script in a process of its own; it can import the package and this module."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
