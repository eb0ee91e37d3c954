"""Jobs from prompts on the command line, with or without a preset's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import NotFoundError, UsageError
from ..job import Job
from .files import PresetFiles
from .loading import MAX_JOBS, LoadOptions, load_sources, raise_problems
from .nodes import Map, Scalar
from .problems import Problems
from .sources import prompt_preset


def build_prompt_jobs(
    prompts: Sequence[str],
    files: PresetFiles,
    options: LoadOptions | None = None,
    *,
    preset: str | None = None,
    stack: str | Sequence[str] | None = None,
    job: str | None = None,
) -> list[Job]:
    """The jobs of ``submit``.

    Prompts are literal unless ``options.expand``. With a preset they take its defaults and the named
    stack; with ``job``, a glob on expanded ids, the preset's own jobs are taken, and ``prompts``,
    if there are any, replace theirs one by one. The ids are those of the preset without options:
    the values of options, and the LoRAs of ``stack``, are put into the jobs that were found.

    Raises:
        NotFoundError, PresetError: as ``load_sources``.
        UsageError: nothing to submit, or options that do not go together.
    """
    options = options or LoadOptions()
    if stack is not None and preset is None:
        raise UsageError("--stack names a stack of a preset", hint="add --preset FILE")
    if job is not None:
        return _jobs_of_preset(prompts, files, options, preset, stack, job)
    if not prompts:
        raise UsageError("no prompt", hint='write one in quotes: flux-lora submit "a cat"')
    if preset is not None:
        _check_whole(preset, files, options)
    if stack is not None:
        options = replace(options, overrides={**options.overrides, "stack": stack})
    problems = Problems()
    nodes = [
        Map({"prompt": (number, 1, Scalar(text, number, 1, text))}, number, 1) for number, text in enumerate(prompts, 1)
    ]
    made = prompt_preset(nodes, preset, files, options, problems)
    if problems and made.count() > MAX_JOBS:
        raise_problems(problems, 1)
    jobs = list(made.expand(problems))
    raise_problems(problems, 1)
    return jobs


def _check_whole(preset: str, files: PresetFiles, options: LoadOptions) -> None:
    """Refuse a preset that is wrong anywhere, as ``batch`` would: nothing of it is sent. Raises PresetError."""
    whole = LoadOptions(
        api_version=options.api_version,
        allow_unknown_model=options.allow_unknown_model,
        max_jobs=None,
        require_jobs=False,
        inspect=True,
    )
    load_sources([preset], files, whole)


def _jobs_of_preset(
    prompts: Sequence[str],
    files: PresetFiles,
    options: LoadOptions,
    preset: str | None,
    stack: str | Sequence[str] | None,
    job: str,
) -> list[Job]:
    if preset is None:
        raise UsageError("--job names a job of a preset", hint="add --preset FILE")
    overrides = dict(options.overrides)
    if stack is not None:
        overrides["stack"] = stack
    if len(prompts) > 1:
        raise UsageError("--job takes at most one prompt", hint="leave out --job to use only the defaults")
    if prompts:
        overrides["prompt"] = prompts[0]
    options = replace(options, overrides=overrides, only=(job,), keep_ids=True)
    jobs = load_sources([preset], files, options).jobs
    if not jobs:
        raise NotFoundError(f'"{job}" matches only jobs with skip: true', hint="take skip out of the preset")
    seed = overrides.get("seed", options.set_overrides.get("seed"))
    if seed is not None and len(jobs) == 1:
        # Repeats count up from a fixed seed; one job alone takes the seed that was asked for.
        return [replace(jobs[0], seed=None if seed == -1 else seed)]
    return jobs
