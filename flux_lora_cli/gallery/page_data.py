"""What the gallery's page knows, as small JSON: repeated texts are written once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flux_lora_cli._version import __version__
from flux_lora_cli.gallery.arrange import choose_axes
from flux_lora_cli.gallery.facets import facets_of
from flux_lora_cli.gallery.job_yaml import JOB_KEYS, KEY_ORDER
from flux_lora_cli.gallery.paths import link, link_base
from flux_lora_cli.gallery.run import Picture, Run, RunJob

#: A facet with more values than this is searched as text, not offered as a list.
LONGEST_LIST = 2000


class _Table:
    """Values written once, and named by their place."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def page_data(runs: Sequence[Run], page_folder: Path) -> dict[str, Any]:
    """Everything ``resources/gallery/1-data.js`` reads; its shape is described at the top of that file."""
    texts, stacks = _Table(), _Table()
    jobs: list[dict[str, Any]] = []
    items: list[list[Any]] = []
    rows = []
    for r, run in enumerate(runs):
        for job in run.jobs:
            for picture in job.pictures:
                rows.append((run, job, picture))
                items.append([len(jobs), *_item(picture)])
            jobs.append(_job(r, job, texts, stacks))
    facets = facets_of(rows)
    axes = choose_axes(facets)
    return {
        "version": __version__,
        "runs": [_run(run, page_folder) for run in runs],
        "texts": texts.values,
        "stacks": stacks.values,
        "keys": list(KEY_ORDER),
        "jobKeys": list(JOB_KEYS),
        "jobs": jobs,
        "items": items,
        "facets": [
            {"key": f.key, "label": f.label, "values": [v[:300] for v in f.values], "codes": list(f.codes)}
            for f in facets
            if len(f.values) <= LONGEST_LIST
        ],
        "axes": [None if i is None else facets[i].key for i in (axes.columns, axes.rows, axes.pages)],
    }


def _run(run: Run, page_folder: Path) -> dict[str, Any]:
    folder = run.folder.resolve()
    return {
        "name": folder.name,
        "base": link_base(page_folder, run.folder),
        "sandbox": run.sandbox,
        "service": run.service,
        "updated": run.updated_at,
    }


def _job(r: int, job: RunJob, texts: _Table, stacks: _Table) -> dict[str, Any]:
    loras = job.input.get("loras")
    full = {
        "r": r,
        "id": job.id,
        "al": list(job.aliases),
        "preset": job.preset,
        "fp": job.fingerprint,
        "st": job.state,
        "m": texts.place(job.model),
        "p": texts.place(_plain(job.input.get("prompt", ""))),
        "l": stacks.place(_plain(loras)) if isinstance(loras, list) else None,
        "in": {k: _plain(v) for k, v in job.input.items() if k not in ("prompt", "loras")},
        "task": job.task,
        "at": job.created_at,
        "ms": job.execution_ms,
        "cost": None if job.cost is None else format(job.cost, "f"),
        "err": job.error,
    }
    return {key: value for key, value in full.items() if value not in (None, "", [])}


def _item(picture: Picture) -> list[Any]:
    return [
        picture.index,
        None if picture.file is None else link(picture.file),
        picture.why,
        picture.nsfw,
        picture.sha256 if re.fullmatch("[0-9a-f]{64}", picture.sha256) else "",
        picture.bytes,
        picture.width,
        picture.height,
        picture.saved_at,
    ]


def _plain(value: Any) -> Any:
    """JSON as JavaScript holds it: whole floats as whole numbers, NaN and the infinities as text."""
    if isinstance(value, float):
        if value != value or abs(value) == float("inf"):
            return str(value)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return str(value)
    if isinstance(value, list):
        return [_plain(x) for x in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return value
