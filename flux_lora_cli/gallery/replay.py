"""From an image back to its job: by the request inside it, by its hash in a manifest, or by a job's ID."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import FluxLoraError, FolderError, NotFoundError, UsageError
from flux_lora_cli.folder.files import explained, inside
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME, Manifest, read_manifest
from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.folder.verify import input_files
from flux_lora_cli.gallery.embed import read_image, read_request
from flux_lora_cli.gallery.pictures import no_job
from flux_lora_cli.presets.job import Job, LocalImage
from flux_lora_cli.presets.sources import Files
from flux_lora_cli.service.models import Version
from flux_lora_cli.text import quoted, slug


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """A request that was made once.

    Attributes:
        job: the request as a job; not yet checked against its model. A local input image that is gone stands in
            ``params`` as it was recorded (``inputs/…``), and so does a secret that is masked.
        sandbox: it was made by the sandbox: replay it there.
        api_version: ``v2`` or ``v3``; None where unknown.
        where: for people, where the request was found.
    """

    job: Job
    sandbox: bool
    api_version: Version | None
    where: str


def find_request(target: Path, job: str | None = None) -> ReplaySource:
    """The request behind a saved image, or behind a job of a folder: its ID, one of its aliases, or its task's.

    Raises:
        NotFoundError: no such file, folder or job; or an image that nothing at hand explains.
        UsageError: a folder of several jobs without ``job``, or an image with one.
        BadImage, FolderError: the image, or the folder's manifest, cannot be read.
    """
    with explained(target):
        if not target.exists():
            raise NotFoundError(f"{target}: no such file or folder")
    if target.is_dir():
        manifest = read_manifest(target)
        return _from_folder(_pick(manifest, target, job), manifest, target)
    if job is not None:
        raise UsageError(f"{target} is a file; a job's ID goes with a folder")
    return _from_image(target)


def _pick(manifest: Manifest, folder: Path, wanted: str | None) -> JobRecord:
    records = manifest.records
    if wanted is None:
        if len(records) == 1:
            return records[0]
        raise UsageError(
            f"{folder} holds {len(records):,} jobs: which one?", f"Name one: flux-lora replay {folder} JOB"
        )
    for record in reversed(records):  # an edited job stands there twice: the later entry is what the preset says now
        if wanted in (record.id, record.task_id, *record.aliases):
            return record
    raise no_job(folder, wanted, [record.name for record in records])


def _from_image(target: Path) -> ReplaySource:
    data = read_image(target)
    digest = hashlib.sha256(data).hexdigest()
    above = target.resolve().parents[:8]  # a template's ``/`` makes folders in the output folder
    for folder in above:
        with suppress(NotFoundError, FolderError):  # no manifest, or one of another program
            manifest = read_manifest(folder)
            for record in manifest.records:
                if any(output.sha256 == digest for output in record.outputs):
                    return _from_folder(record, manifest, folder)
    found = read_request(data)
    if found is None:
        raise NotFoundError(
            f"nothing says how {target} was made: it carries no request, and no {MANIFEST_NAME} near it lists it",
            "Name its folder and its job: flux-lora replay DIR JOB",
        )
    named: dict[str, Any] = found["job"] if isinstance(found.get("job"), dict) else {}
    record = JobRecord("", id=_text(named.get("id")), preset=_text(named.get("preset")), model=found["model"])
    record.input, record.api_version = found["input"], _text(found.get("api_version"))
    names = list(input_files(record))
    folder = next((each for each in above if all((each / name).is_file() for name in names)), target.parent)
    return _source(record, folder, found.get("sandbox") is True, f"the request inside {target}")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _from_folder(record: JobRecord, manifest: Manifest, folder: Path) -> ReplaySource:
    where = f"job {quoted(record.name, 200)} of {folder}"
    if (folder / LEDGER_NAME).is_file():  # it keeps what the manifest masks
        with suppress(FluxLoraError), Ledger.open(folder / LEDGER_NAME, manifest.service, read_only=True) as ledger:
            known = ledger.find(record.key)
            if known is not None:
                record = replace(record, input=known.input or record.input, api_version=known.api_version)
    if not record.model or not record.input:
        raise NotFoundError(
            f"the request of {quoted(record.name, 200)} is not known: another program submitted it",
            "To make a new one: flux-lora submit",
        )
    return _source(record, folder, manifest.sandbox, where)


def _source(record: JobRecord, folder: Path, sandbox: bool, where: str) -> ReplaySource:
    """What a record asks for; its input images in ``folder``."""
    params = dict(record.input or {})
    seed = params.pop("seed", None)
    images = {}
    for name in input_files(record):
        if image := _kept_image(folder, name):
            images[image.sha256] = image
            params = {key: renamed(value, name, image.sha256) for key, value in params.items()}
    job = Job(
        id=record.id or slug(str(params.get("prompt") or "")),
        preset=record.preset or "replay",
        model=record.model or "",
        params=params,
        seed=seed if type(seed) is int and seed >= 0 else None,
        images=images,
    )
    version: Any = record.api_version if record.api_version in ("v2", "v3") else None
    return ReplaySource(job, sandbox, version, where)


def renamed(value: Any, old: str, new: str) -> Any:
    """An image, or a list of them, with the new name of one."""
    if isinstance(value, list):
        return [renamed(item, old, new) for item in value]
    return new if value == old else value


def _kept_image(folder: Path, name: str) -> LocalImage | None:
    """The input image that the folder kept, if it is what its name says."""
    with suppress(FluxLoraError):
        if (path := inside(folder, name)) and path.stem == (image := Files(()).given_image(str(path))).sha256:
            return image
    return None
