"""A job: one request that somebody wants made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a source file; line and column count from 1, 0 where there is none."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An input image on disk. ``path`` is absolute, links resolved; ``sha256`` in lower-case hex."""

    path: str
    sha256: str
    bytes: int
    media_type: str
    extension: str


@dataclass(frozen=True, slots=True)
class Job:
    """One expanded job.

    Attributes:
        id: unique in its preset (``dawn/a-lunar-base/nasa/1``).
        preset: the preset's name.
        model: full model id (``wavespeed-ai/flux-dev-lora``).
        params: request parameters as the user wrote them after merging, under the API's names;
            no defaults filled in; no ``seed``; no ``image`` where ``image`` below is a local file;
            ``loras`` is a list of ``{"path": str, "scale": int | float}``.
        seed: a fixed seed, or None where the tool draws one (none given, or -1).
        repeat: 1-based number among the repeats of one job; 1 where it is not repeated.
        image: a local input image.
        where: the place that a message about this job names.
    """

    id: str
    preset: str
    model: str
    params: Mapping[str, Any]
    seed: int | None = None
    repeat: int = 1
    image: LocalImage | None = None
    where: Where = Where("")
