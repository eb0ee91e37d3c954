"""Sources named on the command line, into jobs: every problem of every file, or every job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import PresetError
from ..job import Job
from .counting import check_limit, multiplication
from .expansion import job_count
from .files import PresetFiles
from .one_preset import OnePreset
from .overrides import Overrides
from .problems import Problems
from .selection import matching, select
from .sources import read_source

#: Without ``--max-jobs``.
MAX_JOBS = 1_000


@dataclass(frozen=True)
class LoadOptions:
    """How to load.

    Attributes:
        overrides: typed values of named options, by parameter (also ``model`` and ``stack``).
        set_overrides: typed values of ``--set``; they stand below the named ones.
        max_jobs: more jobs than this are an error; None for no limit.
        expand: variables and choices in the prompts of .txt, .csv and .jsonl.
        only: globs on whole job ids; empty for all.
        api_version: "v2" or "v3".
        model: ``--model``; wins over the presets' own.
        allow_unknown_model: take a model that has no table, and check loosely.
        stdin: the text (or bytes) of standard input, for ``-``.
        require_jobs: a preset without jobs is an error.
        inspect: count and describe only; ``jobs`` stays empty.
        keep_ids: overrides replace values in the expanded jobs, and leave axes, and so ids, as the preset has them.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    set_overrides: Mapping[str, Any] = field(default_factory=dict)
    max_jobs: int | None = MAX_JOBS
    expand: bool = False
    only: Sequence[str] = ()
    api_version: str = "v2"
    model: str | None = None
    allow_unknown_model: bool = False
    stdin: str | bytes | None = None
    require_jobs: bool = True
    inspect: bool = False
    keep_ids: bool = False


@dataclass(frozen=True)
class PresetInfo:
    """What ``preset list`` tells of one file."""

    file: str
    name: str
    description: str
    model: str
    stacks: tuple[str, ...]
    jobs: int


@dataclass(frozen=True)
class Loaded:
    """Everything that the sources ask for.

    Attributes:
        jobs: expanded, in the order of the sources, those that ``--only`` leaves.
        sources: (path, SHA-256) of every file that was read, those of the command line first.
        names: the presets' names, in order.
        total: jobs before ``--only``.
        multiplication: how the total comes about, "2 × 40 × 12 = 960".
        skipped: ids of jobs with ``skip: true``, not expanded.
        skipped_jobs: those jobs, expanded as far as they are few: for the manifest.
        presets: one entry a source.
    """

    jobs: list[Job]
    sources: list[tuple[str, str]]
    names: tuple[str, ...]
    total: int
    multiplication: str
    skipped: tuple[str, ...] = ()
    skipped_jobs: list[Job] = field(default_factory=list)
    presets: tuple[PresetInfo, ...] = ()


def load_sources(paths: Sequence[str], files: PresetFiles, options: LoadOptions | None = None) -> Loaded:
    """Read, check and expand presets.

    Raises:
        NotFoundError: a path does not exist, ``-`` without a line, ``only`` matches nothing.
        UsageError: an override that the model does not take.
        PresetError: with every problem of every file, or more than ``max_jobs`` jobs.
    """
    options = options or LoadOptions()
    overrides = Overrides.of(options, files)
    problems = Problems()
    presets = [read_source(path, files, options, overrides, problems) for path in paths]
    specs = [spec for preset in presets for spec in preset.specs]
    total = check_limit([(p.file, p.line, p.specs) for p in presets], options.max_jobs, problems)
    if problems and total > (MAX_JOBS if options.max_jobs is None else options.max_jobs):
        raise_problems(problems, len(paths))
    jobs = [] if options.inspect else [job for preset in presets for job in preset.expand(problems)]
    raise_problems(problems, len(paths))
    sources: dict[str, str] = {}
    for preset in presets:
        sources[preset.file] = preset.sha256
    for preset in presets:
        for path, digest in preset.read.items():
            sources.setdefault(path, digest)
    skipped = [] if options.inspect else _skipped_jobs(presets, options)
    return Loaded(
        select(jobs, options.only, skipped),
        list(sources.items()),
        tuple(preset.name for preset in presets),
        total,
        multiplication(specs),
        tuple(name for preset in presets for name in preset.skipped),
        matching(skipped, options.only),
        tuple(_info(preset) for preset in presets),
    )


def _skipped_jobs(presets: Sequence[OnePreset], options: LoadOptions) -> list[Job]:
    """Left out jobs, for the record. So many that ``max_jobs`` would refuse them are not worth one."""
    jobs: list[Job] = []
    for preset in presets:
        if sum(map(job_count, preset.skipped_specs)) <= (options.max_jobs or MAX_JOBS):
            jobs.extend(preset.expand_skipped())
    return jobs


def _info(preset: OnePreset) -> PresetInfo:
    return PresetInfo(
        preset.file,
        preset.name,
        preset.description,
        preset.model_id,
        tuple(preset.stacks),
        preset.count(),
    )


def raise_problems(problems: Problems, files: int) -> None:
    """Raise PresetError if there is any problem."""
    if not problems:
        return
    found = problems.sorted()
    count = len(found)
    noun = "problem" if count == 1 else "problems"
    where = "the preset" if files == 1 else f"{files} presets"
    raise PresetError(f"{count} {noun} in {where}; nothing was sent", problems=found)
