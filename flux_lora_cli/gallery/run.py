"""A run as the gallery sees it: what its manifest says, with every type defended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import FolderError, NotFoundError
from flux_lora_cli.gallery.paths import confined_image

MANIFEST = "manifest.json"
#: The manifest's version that this code reads.
VERSION = 1
#: The states of a job, as the manifest writes them.
STATES = ("planned", "submitting", "unknown", "submitted", "completed", "failed", "skipped")


@dataclass(frozen=True, slots=True)
class Picture:
    """One output of a job.

    Attributes:
        index: 0-based; None where the job has no outputs yet.
        file: path relative to the run's folder, checked to be an image inside it; None where there is none.
        why: for people, why there is no file; "" where there is one.
        width, height: pixels. ``bytes``: of the file. ``saved_at``: UTC ISO.
    """

    index: int | None
    file: str | None = None
    why: str = ""
    nsfw: bool | None = None
    sha256: str = ""
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    saved_at: str = ""


@dataclass(frozen=True, slots=True)
class RunJob:
    """One job of a manifest; ``cost`` in USD, None where it is not known."""

    id: str
    preset: str
    state: str
    model: str
    input: Mapping[str, Any]
    fingerprint: str = ""
    aliases: tuple[str, ...] = ()
    task: str = ""
    created_at: str = ""
    execution_ms: int | None = None
    cost: Decimal | None = None
    error: str = ""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One output folder."""

    folder: Path
    service: str
    sandbox: bool
    updated_at: str
    jobs: tuple[RunJob, ...] = field(default=())

    def pictures(self) -> Iterator[tuple[RunJob, Picture]]:
        """Every picture with its job, in the manifest's order; a job without outputs once."""
        for job in self.jobs:
            for picture in job.pictures:
                yield job, picture


def read_run(folder: Path) -> Run:
    """Read ``folder/manifest.json``.

    Raises:
        NotFoundError: there is no such folder.
        FolderError: it holds no manifest, or one that cannot be read.
    """
    raw = _load(folder)
    entries = raw.get("jobs")
    jobs = tuple(_job(folder, entry) for entry in _list(entries) if isinstance(entry, dict))
    return Run(
        folder=folder,
        service=_text(raw.get("service")),
        sandbox=raw.get("sandbox") is True,
        updated_at=_text(raw.get("updated_at")),
        jobs=jobs,
    )


def _load(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder")
    path = folder / MANIFEST
    try:
        raw = _parse(path.read_bytes())
    except FileNotFoundError as error:
        raise FolderError(f"{folder} holds no {MANIFEST}", "name a folder that batch, wait or merge wrote") from error
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{path} is not valid JSON", "run the batch again: it is written anew") from error
    if not isinstance(raw, dict):
        raise FolderError(f"{path} is not a manifest: its top level is no object")
    version = raw.get("version")
    if version != VERSION or isinstance(version, bool):
        raise FolderError(f"{path} has version {version!r}, this program reads {VERSION}", "update flux-lora")
    return raw


def _parse(data: bytes) -> Any:
    """JSON, with lone surrogates replaced: no encoding can write them again."""
    raw = json.loads(data)
    if b"\\ud" in data.lower():
        raw = json.loads(json.dumps(raw, ensure_ascii=False).encode("utf-8", "replace"))
    return raw


def _job(folder: Path, entry: dict[str, Any]) -> RunJob:
    request, task = _dict(entry.get("request")), _dict(entry.get("task"))
    state = entry.get("state")
    state = state if state in STATES else "unknown"
    error = _text(entry.get("error")) or _text(task.get("error"))
    outputs = [o for o in _list(entry.get("outputs")) if isinstance(o, dict)]
    pictures = tuple(_picture(folder, position, output) for position, output in enumerate(outputs))
    return RunJob(
        id=_text(entry.get("id")) or _text(task.get("id")),
        preset=_text(entry.get("preset")),
        state=state,
        model=_text(request.get("model")) or _text(task.get("model")),
        input=_dict(request.get("input")),
        fingerprint=_text(entry.get("fingerprint")),
        aliases=tuple(a for a in _list(entry.get("aliases")) if isinstance(a, str)),
        task=_text(task.get("id")),
        created_at=_text(task.get("created_at")),
        execution_ms=_count(task.get("execution_ms")),
        cost=_money(entry.get("cost_usd")),
        error=error,
        pictures=pictures or (Picture(None, why=_why_none(state, error)),),
    )


def _picture(folder: Path, position: int, output: dict[str, Any]) -> Picture:
    named = output.get("file")
    found = confined_image(folder, named)
    if found is not None:
        why = ""
    elif named:
        why = "the file is gone" if isinstance(named, str) else "no usable file name"
    else:
        why = "not saved: " + (_text(output.get("error")) or "not asked for, or not fetched yet")
    nsfw = output.get("nsfw")
    index = _count(output.get("index"))
    return Picture(
        index=position if index is None else index,
        file=named if found is not None and isinstance(named, str) else None,
        why=why,
        nsfw=nsfw if isinstance(nsfw, bool) else None,
        sha256=_text(output.get("sha256")),
        bytes=_count(output.get("bytes")),
        width=_count(output.get("width")),
        height=_count(output.get("height")),
        saved_at=_text(output.get("saved_at")),
    )


def _why_none(state: str, error: str) -> str:
    if state == "failed":
        return f"failed: {error or 'no reason given'}"
    if state == "unknown":
        return "outcome of the submit unknown; held"
    return {"skipped": "skipped", "completed": "no output"}.get(state, "not made yet")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _money(value: object) -> Decimal | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        money = Decimal(value)
    except InvalidOperation:
        return None
    return money if money.is_finite() else None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
