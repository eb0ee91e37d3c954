"""``flux-lora replay``: submit again what made an image."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.options import SaveOptions, ServiceOptions, SpendOptions
from flux_lora_cli.cli.request_options import GenerateOptions
from flux_lora_cli.cli.text_options import check_text
from flux_lora_cli.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from flux_lora_cli.domain.job import Job, LocalImage
    from flux_lora_cli.gallery.replay import FoundRequest

_KEPT_INPUT = re.compile(r"inputs/[0-9a-f]{64}\.[a-z0-9]{1,5}")


def replay(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A saved image, or a folder.", show_default=False)],
    generate: GenerateOptions,
    spend: SpendOptions,
    service: ServiceOptions,
    save: SaveOptions,
    console: Console,
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="The job's id, with a folder.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the task and save its images.")] = False,
    to_preset: Annotated[
        bool, typer.Option("--to-preset", help="Print the job as YAML instead of submitting it.")
    ] = False,
) -> int:
    """Submit again what made an image: the same model, parameters and seed.

    The request is read from inside the image (see embed), from the manifest beside it by its hash, or from a
    folder's manifest by the job's id. The generate options vary it.
    """
    from flux_lora_cli.cli.service import check
    from flux_lora_cli.cli.submit_run import dry_run, run

    check(service)
    check_text("JOB", job or "")
    found = _found(target, job)
    service = _as_made(found, service, console)
    again = _job(found, generate, service)
    if to_preset:
        return _print_preset(again, console)
    if spend.dry_run:
        return dry_run([again], spend, console)
    return run([again], (spend, save, service), console, wait=wait)


def _found(target: Path, job: str | None) -> FoundRequest:
    from flux_lora_cli.gallery.replay import find_request

    if not target.exists():
        raise NotFoundError(f"{target}: no such file or folder")
    return find_request(target, job)


def _as_made(found: FoundRequest, service: ServiceOptions, console: Console) -> ServiceOptions:
    """The API version under which the image was made, unless one is named: each has ranges and defaults of its own."""
    from flux_lora_cli.cli.service import typed
    from flux_lora_cli.domain.parameters import find_model, version_of

    version = version_of(find_model(found.model), found.input)
    if version == service.api_version or typed("api_version"):
        return service
    console.explain(f"{found.where} is one of API {version}, so it is sent there")
    return replace(service, api_version=version)


def _job(found: FoundRequest, generate: GenerateOptions, service: ServiceOptions) -> Job:
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.cli.generate import named_overrides, set_overrides
    from flux_lora_cli.domain.job import Job
    from flux_lora_cli.domain.parameters import check_params, find_model
    from flux_lora_cli.domain.text import slug

    files = FolderPresetFiles(generate.allow_path or ())
    version = service.api_version
    recorded = dict(found.input)
    if version == "v3" and recorded.get("enable_safety_checker") is True:
        del recorded["enable_safety_checker"]  # what v2 records without being asked, and v3 does not know
    params: dict[str, Any] = {
        **recorded,
        **set_overrides(generate.set_, version),
        **named_overrides(generate, version),
    }
    name = generate.model or params.pop("model", None) or found.model
    model = find_model(name)
    if model is None and not generate.allow_unknown_model:
        raise UsageError(
            f"{found.where}: no model {name!r} is known", "Take it all the same with --allow-unknown-model."
        )
    image = _image(params, found, files)
    problems = check_params(model, params, version)
    if problems:
        raise UsageError("; ".join(f"{p.key}: {p.message}" for p in problems), f"The request is {found.where}.")
    seed = params.pop("seed", None)
    job_id = found.job_id or slug(str(params.get("prompt") or ""))
    return Job(job_id, "replay", model.id if model else name, params, seed if seed != -1 else None, image=image)


def _image(params: dict[str, Any], found: FoundRequest, files: Any) -> LocalImage | None:
    """Take a local input image out of the parameters; the copy that the folder kept counts."""
    from flux_lora_cli.domain.parameters import is_remote_image

    value = params.get("image")
    if not isinstance(value, str) or not value or is_remote_image(value):
        return None
    kept = found.input.get("image") == value
    if kept and not _KEPT_INPUT.fullmatch(value):
        raise UsageError(f"{found.where}: the input image {value!r} is no kept copy", "Name one with --image.")
    path = found.folder / value if kept else Path(value)
    if kept and not path.is_file():
        raise NotFoundError(f"the input image {path} is gone", "Name another with --image.")
    image: LocalImage = files.given_image(str(path))
    del params["image"]
    return image


def _print_preset(job: Job, console: Console) -> int:
    from flux_lora_cli.domain.events import Record
    from flux_lora_cli.gallery.job_yaml import job_as_yaml

    request = {**job.params}
    if job.seed is not None:
        request["seed"] = job.seed
    if job.image is not None:
        request["image"] = job.image.path
    text = job_as_yaml(job.id, job.model, request)
    console.document(text)
    console.event(Record("job", {"id": job.id, "model": job.model, "input": request, "yaml": text}))
    return 0


command = build(
    replay,
    "replay",
    examples="""\
  flux-lora replay out/a-cat-0f3c-0.png --wait
  flux-lora replay out dawn/nasa/1 --steps 40 --wait -o better
  flux-lora replay out/a-cat-0f3c-0.png --to-preset >> presets/cats.yaml""",
)
