"""The keys of a job that stand for themselves: id, repeat, sample, sample_seed, skip."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..job import Where
from ..suggest import show
from .labels import digest
from .nodes import Node
from .spec import MOST_REPEATS, JobSpec
from .values import BAD, Origin, boolean, text_of, whole_number

#: Nothing that a shell, a glob or a path takes for its own.
JOB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
MOST_ID_CHARACTERS = 120
#: Of ``sample_seed``: what every JSON reader keeps exact.
MOST_SAMPLE_SEED = 2**53 - 1
_JOB_ID = re.compile(JOB_ID)


def _id(spec: JobSpec, origin: Origin, node: Node, key: str) -> None:
    spec.id_where = Where(origin.file, node.line, node.column)
    text = text_of(origin, node, key)
    if text is BAD:
        spec.id = digest(key)
        return
    if not _JOB_ID.fullmatch(text) or len(text) > MOST_ID_CHARACTERS:
        allowed = f"letters, digits and . _ - /, at most {MOST_ID_CHARACTERS}"
        origin.bad(node, key, f"{show(text)} is no id; allowed: {allowed}")
    spec.id = text


def _repeat(spec: JobSpec, origin: Origin, node: Node, key: str) -> None:
    number = whole_number(origin, node, key, 1, MOST_REPEATS)
    spec.repeat = 1 if number is BAD else number


def _sample(spec: JobSpec, origin: Origin, node: Node, key: str) -> None:
    number = whole_number(origin, node, key, 1, MOST_REPEATS)
    spec.sample = None if number is BAD else number


def _sample_seed(spec: JobSpec, origin: Origin, node: Node, key: str) -> None:
    number = whole_number(origin, node, key, 0, MOST_SAMPLE_SEED)
    spec.sample_seed = 0 if number is BAD else number


def _skip(spec: JobSpec, origin: Origin, node: Node, key: str) -> None:
    spec.skip = boolean(origin, node, key) is True


#: Key to reader.
SIMPLE_KEYS: dict[str, Callable[[JobSpec, Origin, Node, str], None]] = {
    "id": _id,
    "repeat": _repeat,
    "sample": _sample,
    "sample_seed": _sample_seed,
    "skip": _skip,
}
