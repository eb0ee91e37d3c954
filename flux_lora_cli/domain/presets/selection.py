"""``--only``: some of the jobs, by globs on their whole ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from itertools import chain

from ...errors import NotFoundError
from ..job import Job
from ..suggest import nearest


def select(jobs: list[Job], globs: Sequence[str], skipped: Sequence[Job] = ()) -> list[Job]:
    """The jobs that any glob matches.

    Raises:
        NotFoundError: a glob that matches none, and no ``skipped`` job either: those exist, and are left out.
    """
    if not globs:
        return jobs
    patterns = [(glob, re.compile(translate(glob))) for glob in globs]
    for glob, pattern in patterns:
        if not any(pattern.match(job.id) for job in chain(jobs, skipped)):
            raise NotFoundError(f'no job matches "{glob}"', hint=_hint(glob, jobs))
    return [job for job in jobs if any(pattern.match(job.id) for _, pattern in patterns)]


def matching(jobs: list[Job], globs: Sequence[str]) -> list[Job]:
    """The jobs that any glob matches; all without globs."""
    patterns = [re.compile(translate(glob)) for glob in globs]
    return [job for job in jobs if not globs or any(pattern.match(job.id) for pattern in patterns)]


def _hint(glob: str, jobs: Sequence[Job]) -> str:
    ids = [job.id for job in jobs[:2000]]
    near = nearest(glob, ids)
    if near:
        return f'did you mean "{near}"?'
    if any(name.startswith(f"{glob}/") for name in ids):
        return f'the pattern is matched against the whole id; try "{glob}/*"'
    return f"the ids are: {', '.join(ids[:5])}{', …' if len(ids) > 5 else ''}" if ids else "there are no jobs"
