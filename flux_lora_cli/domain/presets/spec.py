"""A job before its expansion, typed and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..job import Where
from .variables import Scope

#: Of one job; more is a slip of the keyboard, not a plan.
MOST_REPEATS = 100_000

JOB_KEYS = ("id", "stack", "vars", "matrix", "repeat", "sample", "sample_seed", "skip", "prompts_file")
FILE_KEYS = ("version", "name", "description", "extends", "model", "defaults", "stacks", "vars", "matrix", "jobs")

Loras = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A matrix axis: a parameter (or ``stack``), its values, and their labels in ids."""

    name: str
    values: Sequence[Any]
    labels: Sequence[str]


@dataclass(slots=True)
class PromptText:
    """A prompt and its place."""

    text: str
    where: Where
    #: Taken as it stands, without variables and choices.
    literal: bool = False


@dataclass(slots=True)
class JobSpec:
    """One entry of ``jobs`` (or line of a file).

    ``params`` holds defaults and the job's own, without prompt and seed; ``image`` may be a LocalImage.
    ``stack`` is None where the job names none.
    """

    where: Where
    key: str
    params: dict[str, Any]
    prompts: list[PromptText]
    scope: Scope
    axes: Sequence[Axis] = ()
    stack: Loras | None = None
    id: str = ""
    id_where: Where = field(default_factory=lambda: Where(""))
    explicit_id: bool = False
    seed: int | None = None
    repeat: int = 1
    sample: int | None = None
    sample_seed: int = 0
    skip: bool = False
    from_file: bool = False
    plans: list[Any] = field(default_factory=list)
