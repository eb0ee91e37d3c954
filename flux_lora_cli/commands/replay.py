"""``flux-lora replay``: submit again the request that made an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.inputs import model_tables, request, warn_unchecked
from flux_lora_cli.commands.options import RunOptions, argument, command, flag
from flux_lora_cli.commands.running import check
from flux_lora_cli.commands.submit import submit_jobs
from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.text import printable

if TYPE_CHECKING:
    from flux_lora_cli.gallery.replay import ReplaySource
    from flux_lora_cli.presets.job import Job
    from flux_lora_cli.service.models import Models

EXAMPLES = """
flux-lora replay out/a-cat-0f3c-0.png --wait
flux-lora replay out dawn/nasa/1 --steps 40 --wait -o better
flux-lora replay out/a-cat-0f3c-0.png --to-preset > cat.yaml
flux-lora replay out dawn/nasa/1 --to-preset | tail -n +4 >> cat.yaml
"""


@command
def replay(
    target: Annotated[Path, argument("TARGET", "A saved image, or a folder.", Path)],
    job: Annotated[str | None, argument("JOB", "With a folder: the job's ID.")] = None,
    wait: Annotated[bool, flag("--wait", "Wait for the task and save its images.")] = False,
    to_preset: Annotated[bool, flag("--to-preset", "Print the job as a preset; submit nothing.")] = False,
    *,
    options: RunOptions,
    console: Console,
) -> int:
    """Submit again the request that made an image: the same model, parameters and seed.

    The request is read from inside the image (see embed), from the manifest beside it, or from a folder's manifest by
    the job's ID. The options for parameters vary it. What the sandbox made is made again with --sandbox; the service
    makes it only where --base-url or --yes says that it may cost money.
    """
    from flux_lora_cli.gallery.replay import find_request

    check(options, console)
    found = find_request(target, job)
    models = model_tables(options.models, options)
    if options.model is None and options.api_version is None:  # as it was made: ranges differ
        options.api_version = found.api_version
    again = _job(found, options, models)
    if to_preset:
        return _print_preset(again, options, console)
    if found.sandbox and not (options.sandbox or options.dry_run or {"base_url", "yes"} & console.given):
        raise UsageError(
            f"{found.where} was made by the sandbox; submitting it to the service costs money",
            "Add --sandbox to make it there again; to pay for it, name the service: --base-url https://api.wavespeed.ai",
        )
    warn_unchecked([models.find(again.model, options.api_version, allow_unknown=True)], console)
    return submit_jobs([again], models, options, console, wait=wait)


def _job(found: ReplaySource, options: RunOptions, models: Models) -> Job:
    """The request as a job, varied by the options.

    Raises UsageError: the model does not take a value, or a secret is not at hand; NotFoundError: an image is gone.
    """
    from flux_lora_cli.folder.records import is_masked
    from flux_lora_cli.gallery.replay import renamed
    from flux_lora_cli.presets.sources import Files
    from flux_lora_cli.service.models import check_request
    from flux_lora_cli.service.values import is_remote_image

    asked = request(options)
    given = asked["set_overrides"]
    named = given.pop("model", found.job.model)
    model = models.find(options.model or named, options.api_version, allow_unknown=options.allow_unknown_model)
    given |= model.named_image(asked["overrides"])
    seed = given.pop("seed", found.job.seed)
    params: dict[str, Any] = {**found.job.params, **given}
    images, files = dict(found.job.images), Files(options.allow_path or ())
    for key in ("image", "images"):
        values = params.get(key)
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or value in images or not value or is_remote_image(value):
                continue
            if key not in given:
                raise NotFoundError(
                    f"the input image {printable(value)} of {found.where} is gone", "Name one with --image."
                )
            image = files.given_image(value)
            images[image.sha256], params[key] = image, renamed(params[key], value, image.sha256)
    if secret := next((key for key, value in params.items() if is_masked(value)), ""):
        raise UsageError(
            f"{found.where}: {secret} had a secret in it, which is not kept", f"Give it again: --set {secret}=…"
        )
    if problems := check_request(model, params if seed is None else {**params, "seed": seed}):
        raise UsageError("; ".join(map(str, problems)), f"The request is {found.where}.")
    return replace(found.job, model=model.id, params=params, seed=None if seed == -1 else seed, images=images)


def _print_preset(job: Job, options: RunOptions, console: Console) -> int:
    from flux_lora_cli.gallery.replay import renamed
    from flux_lora_cli.presets.job import job_as_yaml
    from flux_lora_cli.service.models import Models

    request = dict(job.params) if job.seed is None else {**job.params, "seed": job.seed}
    for image in job.images.values():  # a preset names them by their paths
        request = {key: renamed(value, image.sha256, image.path) for key, value in request.items()}
    own = Models.builtin().find(job.model, allow_unknown=True).version
    version = options.api_version if options.api_version != own else None
    text = job_as_yaml(job.model, request, job_id=job.id, version=version)
    console.result(text.rstrip("\n"))
    console.record("job", {"id": job.id, "model": job.model, "input": request, "yaml": text})
    return 0
