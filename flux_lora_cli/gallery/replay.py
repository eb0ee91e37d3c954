"""From an image back to its job: by the request inside it, by its hash in a manifest, or by a job's ID."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import BadImage, FluxLoraError, FolderError, NotFoundError, UsageError
from flux_lora_cli.folder.files import inside, read_regular_file
from flux_lora_cli.folder.ledger import Ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME, Manifest, read_manifest
from flux_lora_cli.folder.records import JobRecord, is_masked
from flux_lora_cli.gallery.embed import READ_LIMIT, input_names, read_request
from flux_lora_cli.gallery.pictures import no_job
from flux_lora_cli.presets.job import Job, LocalImage
from flux_lora_cli.presets.sources import Files
from flux_lora_cli.text import quoted, slug


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """A request that was made once.

    Attributes:
        job: the request as a job; not yet checked against its model. A local input image that is gone stands in
            ``params`` as it was recorded, and in ``missing``.
        sandbox: it was made by the sandbox: replay it there.
        service: the origin of the service that made it, or ``sandbox``; "" where unknown.
        api_version: ``v2`` or ``v3``; None where unknown.
        where: for people, where the request was found.
        missing: recorded names of local input images that are gone.
        masked: keys whose value has a secret masked: it cannot be sent as it is.
    """

    job: Job
    sandbox: bool
    service: str
    api_version: str | None
    where: str
    missing: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()


def find_request(target: Path, job: str | None = None) -> ReplaySource:
    """The request behind a saved image, or behind a job of a folder.

    Args:
        target: an image, or an output folder.
        job: with a folder, the job's ID, one of its aliases, or its task's; not needed where there is only one.

    Raises:
        NotFoundError: no such file, folder or job; or an image that nothing at hand explains.
        UsageError: a folder of several jobs without ``job``, or an image with one.
        BadImage: the image cannot be read.
        FolderError: the folder's manifest cannot be read.
    """
    if not target.exists():
        raise NotFoundError(f"{target}: no such file or folder")
    if target.is_dir():
        manifest = read_manifest(target)
        return _from_record(_pick(manifest, target, job), manifest, target)
    if job is not None:
        raise UsageError(f"{target} is a file; a job's ID goes with a folder")
    return _from_image(target)


def _from_image(target: Path) -> ReplaySource:
    try:
        data = read_regular_file(target, READ_LIMIT)
    except OSError as error:
        raise BadImage(f"{target} cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    above = target.resolve().parents[:8]  # a template's ``/`` makes folders in the output folder
    for folder in above:
        with suppress(NotFoundError, FolderError):  # no manifest, or one of another program
            manifest = read_manifest(folder)
            for record in manifest.records:
                if any(output.sha256 == digest for output in record.outputs):
                    return _from_record(record, manifest, folder)
    embedded = read_request(data)
    if embedded is None:
        raise NotFoundError(
            f"nothing says how {target} was made: it carries no request, and no {MANIFEST_NAME} near it lists it",
            "Name its folder and its job: flux-lora replay DIR JOB",
        )
    inputs = input_names(embedded["input"])
    folder = next((each for each in above if all((each / name).is_file() for name in inputs)), target.parent)
    return _source(embedded, folder, f"the request inside {target}")


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


def _from_record(record: JobRecord, manifest: Manifest, folder: Path) -> ReplaySource:
    known = _from_ledger(record, manifest, folder) or record
    request = known.input or record.input
    if not record.model or not request:
        raise NotFoundError(
            f"the request of {quoted(record.name, 200)} is not known: another program submitted it",
            "To make a new one: flux-lora submit",
        )
    document = {
        "model": record.model, "input": request, "job": {"id": record.id, "preset": record.preset},
        "service": manifest.service, "sandbox": manifest.sandbox, "api_version": known.api_version,
    }  # fmt: skip
    return _source(document, folder, f"job {quoted(record.name, 200)} of {folder}")


def _from_ledger(record: JobRecord, manifest: Manifest, folder: Path) -> JobRecord | None:
    """The ledger's own record, which keeps what the manifest masks; None where there is none that can be read."""
    path = folder / "ledger.sqlite3"
    if path.is_file():
        with suppress(FluxLoraError), Ledger.open(path, manifest.service, read_only=True) as ledger:
            return ledger.find(record.key)
    return None


def _source(document: Mapping[str, Any], folder: Path, where: str) -> ReplaySource:
    """The source that a document describes, as ``embed.request_json`` writes one; its input images in ``folder``."""
    named = document.get("job")
    named = named if isinstance(named, dict) else {}
    texts = (named.get("id"), named.get("preset"), document.get("service"))
    job_id, preset, service = (text if isinstance(text, str) else "" for text in texts)
    version, params = document.get("api_version"), dict(document["input"])
    seed = params.pop("seed", None)
    images, missing = {}, []
    for name in input_names(params):
        image = _kept_image(folder, name)
        if image is None:
            missing.append(name)
            continue
        images[image.sha256] = image
        params = {key: _renamed(value, name, image.sha256) for key, value in params.items()}
    job = Job(
        id=job_id or slug(str(params.get("prompt") or "")),
        preset=preset or "replay",
        model=document["model"],
        params=params,
        seed=seed if type(seed) is int and seed >= 0 else None,
        images=images,
    )
    return ReplaySource(
        job=job,
        sandbox=document.get("sandbox") is True,
        service=service,
        api_version=version if version in ("v2", "v3") else None,
        where=where,
        missing=tuple(missing),
        masked=tuple(key for key, value in params.items() if is_masked(value)),
    )


def _renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, list):
        return [new if item == old else item for item in value]
    return new if value == old else value


def _kept_image(folder: Path, name: str) -> LocalImage | None:
    """The input image that the folder kept, if it is what its name says."""
    with suppress(FluxLoraError):
        if (path := inside(folder, name)) and path.stem == (image := Files(()).given_image(str(path))).sha256:
            return image
    return None
