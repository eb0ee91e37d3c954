"""What the command line asks of the presets: options, and some of their jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any

from flux_lora_cli.errors import NotFoundError
from flux_lora_cli.presets.job import Job
from flux_lora_cli.service.models import (
    Models,
    Version,
)
from flux_lora_cli.text import nearest, quoted

#: Without ``--max-jobs``. [CONTRACT: command line]
MAX_JOBS = 1_000


@dataclass(frozen=True)
class LoadOptions:
    """How to load.

    Attributes:
        overrides: typed values of named options, by parameter (also ``model`` and ``stack``).
        set_overrides: typed values of ``--set``; they stand below the named ones.
        max_jobs: more jobs than this are an error; None for no limit.
        expand: read variables and choices in the prompts of lists, too.
        only: globs on whole job IDs; empty for all.
        only_ids: literal job IDs (``--only-file``); None for all.
        model: ``--model``; wins over the presets' own.
        stdin: the bytes (or text) of standard input, for ``-``.
        strict: notes are problems.
        require_jobs: a preset without jobs is an error.
        inspect: check and count only; ``jobs`` stays empty.
        keep_ids: overrides replace values in the expanded jobs, and leave axes, and so IDs, as the preset has them.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    set_overrides: Mapping[str, Any] = field(default_factory=dict)
    max_jobs: int | None = MAX_JOBS
    expand: bool = False
    only: Sequence[str] = ()
    only_ids: Sequence[str] | None = None
    api_version: Version | None = None
    models: Models = field(default_factory=Models.builtin)
    model: str | None = None
    allow_unknown_model: bool = False
    stdin: str | bytes | None = None
    strict: bool = False
    require_jobs: bool = True
    inspect: bool = False
    keep_ids: bool = False


def select(jobs: list[Job], options: LoadOptions, skipped: Sequence[Job] = ()) -> list[Job]:
    """The jobs that ``only`` and ``only_ids`` leave.

    Raises:
        NotFoundError: a glob or ID that matches none, and no skipped job either: those exist, and are left out.
    """
    known = {job.id for job in (*jobs, *skipped)}
    for name in options.only_ids or ():
        if name not in known:
            raise NotFoundError(f"no job {quoted(name)}", _hint(name, jobs))
    for glob in options.only:
        pattern = re.compile(translate(glob))
        if not any(pattern.match(name) for name in known):
            raise NotFoundError(f"no job matches {quoted(glob)}", _hint(glob, jobs))
    return matching(jobs, options)


def matching(jobs: list[Job], options: LoadOptions) -> list[Job]:
    """The jobs that any glob matches and the IDs name; all where there are neither."""
    patterns = [re.compile(translate(glob)) for glob in options.only]
    names = None if options.only_ids is None else set(options.only_ids)
    return [
        job
        for job in jobs
        if (not patterns or any(p.match(job.id) for p in patterns)) and (names is None or job.id in names)
    ]


def _hint(glob: str, jobs: Sequence[Job]) -> str:
    ids = [job.id for job in jobs[:2000]]
    near = nearest(glob, ids)
    if near:
        return f"did you mean '{near}'?"
    if any(name.startswith(f"{glob}/") for name in ids):
        return f"the pattern is matched against the whole ID; try '{glob}/*'"
    return f"the IDs are: {', '.join(ids[:5])}{', …' if len(ids) > 5 else ''}" if ids else "there are no jobs"
