"""What made an image: found by its embedded request, by its hash in a manifest, or by a job's id."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import FolderError, NotFoundError, UsageError
from flux_lora_cli.gallery.embed import read_embedded
from flux_lora_cli.gallery.run import MANIFEST, Run, RunJob, read_run

#: A template's ``/`` makes folders, so a manifest may lie some levels above an image.
LEVELS_UP = 8


@dataclass(frozen=True, slots=True)
class FoundRequest:
    """A request that was made once.

    Attributes:
        model: full model id, as the manifest or the image says; not yet checked.
        input: request parameters as they were sent; not yet checked. A local image is ``inputs/SHA256.ext``.
        folder: the folder to which such a path is relative.
        where: for people, where the request was found.
        job_id: the job's id, "" where it is not known.
    """

    model: str
    input: Mapping[str, Any]
    folder: Path
    where: str
    job_id: str = ""


def find_request(target: Path, job: str | None = None) -> FoundRequest:
    """The request behind a saved image, or behind a job of a folder.

    Args:
        target: an image, or an output folder.
        job: with a folder, the job's id or one of its aliases; not needed where it is the only one.

    Raises:
        NotFoundError: no such file, folder or job; or an image that nothing at hand explains.
        UsageError: a folder of several jobs without ``job``, or an image with one.
        FolderError: the folder's manifest cannot be read.
    """
    if target.is_dir():
        return _from_job(_pick(read_run(target), job), target)
    if job is not None:
        raise UsageError(f"{target} is a file; a job's name goes with a folder")
    embedded = read_embedded(target)
    if embedded is not None:
        known = embedded.get("job")
        job_id = known.get("id") if isinstance(known, dict) else ""
        return FoundRequest(
            model=embedded["model"],
            input=embedded["input"],
            folder=_input_folder(target, embedded["input"]),
            where=f"the request inside {target}",
            job_id=job_id if isinstance(job_id, str) else "",
        )
    return _by_hash(target)


def _pick(run: Run, wanted: str | None) -> RunJob:
    if wanted is None:
        if len(run.jobs) == 1:
            return run.jobs[0]
        raise UsageError(
            f"{run.folder} holds {len(run.jobs)} jobs: say which", "flux-lora replay DIR JOB, or name an image"
        )
    # An edited job stands there twice: the later entry is what the preset says now.
    for job in reversed(run.jobs):
        if wanted == job.id or wanted in job.aliases:
            return job
    near = difflib.get_close_matches(wanted, [job.id for job in run.jobs], 1)
    raise NotFoundError(f"{run.folder} has no job {wanted!r}", f"did you mean {near[0]!r}?" if near else "")


def _from_job(job: RunJob, folder: Path) -> FoundRequest:
    if not job.model or not job.input:
        raise NotFoundError(f"the manifest does not know the request of {job.id!r}", "another tool submitted it")
    return FoundRequest(job.model, job.input, folder, f"job {job.id} in {folder / MANIFEST}", job.id)


def _by_hash(image: Path) -> FoundRequest:
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    for folder in _folders_above(image):
        if not (folder / MANIFEST).is_file():
            continue
        try:
            run = read_run(folder)
        except FolderError:
            continue  # a manifest.json of some other program, further up
        for job, picture in run.pictures():
            if picture.sha256 == digest:
                return _from_job(job, folder)
    raise NotFoundError(
        f"nothing says how {image} was made: it carries no request, and no {MANIFEST} near it knows its hash",
        "name its folder and its job: flux-lora replay DIR JOB",
    )


def _folders_above(path: Path) -> Iterator[Path]:
    yield from list(path.resolve().parents)[:LEVELS_UP]


def _input_folder(image: Path, request: Mapping[str, Any]) -> Path:
    """The nearest folder above the image that holds the request's input image."""
    named = request.get("image")
    if isinstance(named, str) and named.startswith("inputs/") and ".." not in named:
        for folder in _folders_above(image):
            if (folder / named).is_file():
                return folder
    return image.parent
