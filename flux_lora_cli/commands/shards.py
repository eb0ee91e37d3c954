"""``--shard K/N`` and ``--shard auto``: which part of a batch this process makes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from flux_lora_cli.errors import UsageError

#: More parts than this is a slip of the finger.
MAX_PARTS = 10_000

_FORM = re.compile(r"([0-9]{1,6})\s*/\s*([0-9]{1,6})")

#: (index variable, count variable or None, index of the first part, engine). In this order, for engines nest.
#: [documentation of each: GitLab CI predefined variables; Slurm job arrays; AWS Batch array jobs; Kubernetes Jobs]
ENGINES = (
    ("CI_NODE_INDEX", "CI_NODE_TOTAL", 1, "GitLab CI"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", None, "Slurm"),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", 0, "AWS Batch"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", 0, "Kubernetes"),
)


def parse_shard(text: str, env: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(K, N), K counting from 1.

    Raises:
        UsageError: not of the form, out of range, or ``auto`` where no engine says where we are.
    """
    if text.strip().lower() == "auto":
        return _auto(env)
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise UsageError(f"--shard {text!r}: write K/N (the first of four is 1/4), or auto")
    return _checked(int(match[1]), int(match[2]), f"--shard {text}")


def engine_of(text: str, env: Mapping[str, str] = os.environ) -> str | None:
    """The engine that ``auto`` asks, by name; None where the part is named, or no engine is there."""
    if text.strip().lower() != "auto":
        return None
    return next((engine for index_name, _, _, engine in ENGINES if index_name in env), None)


def _auto(env: Mapping[str, str]) -> tuple[int, int]:
    for index_name, count_name, first, engine in ENGINES:
        if index_name in env:
            index, count = _number(env, index_name), _number(env, count_name)
            part = _slurm_part(env, index, count) if first is None else index - first + 1
            return _checked(part, count, f"--shard auto ({engine})")
    names = ", ".join(name for name, *_ in ENGINES)
    raise UsageError(
        "--shard auto: no engine tells which part this is",
        f"It is read from {names} and the matching counts; or write --shard K/N.",
    )


def _slurm_part(env: Mapping[str, str], index: int, count: int) -> int:
    """The place of an element in its array, counting from 1.

    An array with gaps (``--array=1,3,4,6``) tells its elements neither which they are nor of how many they once
    were a part: all of them are refused, or some would make the jobs of others.
    """
    first = _number(env, "SLURM_ARRAY_TASK_MIN", 0)
    step = max(1, _number(env, "SLURM_ARRAY_TASK_STEP", 1))
    expected = first + step * (count - 1)
    last = _number(env, "SLURM_ARRAY_TASK_MAX", expected)
    if last != expected or (index - first) % step:
        raise UsageError(
            f"--shard auto (Slurm): an array of {count} from {first} to {last} has gaps, so which part"
            f" element {index} makes is not known",
            "Submit the whole range, like --array=1-4 (finished parts cost nothing), or name the part: --shard K/N.",
        )
    return (index - first) // step + 1


def _number(env: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = env.get(name, "")
    if text.isascii() and text.isdigit():
        return int(text)
    if default is not None and not text:
        return default
    hint = (
        "A Kubernetes Job does not pass its number of completions: set JOB_COMPLETIONS in its template."
        if name == "JOB_COMPLETIONS"
        else ""
    )
    raise UsageError(
        f"--shard auto: {name} is {text!r}, not a number" if text else f"--shard auto: {name} is not set", hint
    )


def _checked(part: int, parts: int, what: str) -> tuple[int, int]:
    if not 1 <= parts <= MAX_PARTS or not 1 <= part <= parts:
        raise UsageError(f"{what}: part {part} of {parts} does not exist; parts count from 1, at most {MAX_PARTS:,}")
    return part, parts
