"""Which task in the account's list is the one that a submit of unknown outcome made."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.domain.task import Task

#: How far the service's clock and ours may be apart. A drawn seed tells tasks apart far better than time.
CLOCK_SLACK = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a list shows for one job: tasks that agree in everything, and tasks that merely could be it."""

    matches: tuple[str, ...]
    candidates: tuple[str, ...]

    def joined(self, more: Findings) -> Findings:
        """These and those of another part of the list."""
        if not (more.matches or more.candidates):
            return self
        return Findings(_distinct(self.matches + more.matches), _distinct(self.candidates + more.candidates))

    def without(self, claimed: Collection[str]) -> Findings:
        """These, less the tasks that belong to other jobs."""
        return Findings(
            tuple(task for task in self.matches if task not in claimed),
            tuple(task for task in self.candidates if task not in claimed),
        )


def find(record: JobRecord, tasks: Iterable[Task], claimed: Collection[str], until: datetime | None = None) -> Findings:
    """Look for the task of ``record`` among ``tasks``, those in ``claimed`` left out.

    ``candidates`` are tasks of the model and the time whose inputs the list does not tell, or tells only in part.
    """
    matches: list[str] = []
    candidates: list[str] = []
    for task in tasks:
        if task.id in claimed or _other_seed(record, task):
            continue
        if not _model_agrees(record, task) or not _time_agrees(record, task, until):
            continue
        agrees = inputs_agree(record.input or {}, task.inputs)
        if agrees:
            matches.append(task.id)
        elif agrees is None:
            candidates.append(task.id)
    return Findings(_distinct(matches), _distinct(candidates))


def _distinct(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


def _other_seed(record: JobRecord, task: Task) -> bool:
    """Whether the seed alone rules a task out: it does for nearly all of a long list."""
    if not task.inputs or "seed" not in task.inputs:
        return False
    return bool(_plain(task.inputs["seed"]) != _plain((record.input or {}).get("seed")))


def inputs_agree(sent: Mapping[str, Any], echoed: Mapping[str, Any] | None) -> bool | None:
    """Whether the list's echo is our request; None where it does not tell enough."""
    if not echoed or "seed" not in echoed or "prompt" not in echoed:
        return None
    complete = True
    for key, value in sent.items():
        if key == "image":
            same = _same_image(str(value), echoed.get("image"))
            complete = complete and same is not None
        else:
            # A list may leave out what it takes for a default; what it does tell has to agree.
            same = key not in echoed or _plain(value) == _plain(echoed[key]) or not (value or echoed[key])
        if same is False:
            return False
    if not sent.get("image") and echoed.get("image"):
        return False
    return True if complete else None


def _model_agrees(record: JobRecord, task: Task) -> bool:
    # A service may name its own models with or without the provider in front.
    return not task.model or not record.model or task.model.rsplit("/", 1)[-1] == record.model.rsplit("/", 1)[-1]


def _time_agrees(record: JobRecord, task: Task, until: datetime | None) -> bool:
    made, meant = parse_time(task.created_at), parse_time(record.intent_at)
    if made is None or meant is None:
        return True
    return made >= meant - CLOCK_SLACK and (until is None or made <= until + CLOCK_SLACK)


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time as an aware UTC datetime; None where it is none."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(_trim_fraction(text.strip()).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def _trim_fraction(text: str) -> str:
    # Python 3.10 reads three or six digits of a fraction only; services send up to nine.
    head, dot, rest = text.partition(".")
    if not dot:
        return text
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[:digits][:6]:0<6}{rest[digits:]}"


def _same_image(ours: str, theirs: object) -> bool | None:
    """Whether an echoed image is the one we sent; None where that cannot be told."""
    if not ours:
        return not theirs
    if not isinstance(theirs, str) or not theirs:
        return None  # left out: a list need not carry megabytes of inline images
    if ours == theirs:
        return True
    if not ours.startswith("inputs/"):
        return False
    if theirs.startswith(("http://", "https://")):
        return None  # an upload's URL, or the service's own copy
    data = theirs.partition(",")[2] if theirs.startswith("data:") else theirs
    try:
        digest = hashlib.sha256(base64.b64decode(data, validate=True)).hexdigest()
    except (binascii.Error, ValueError):
        return None  # shortened by the list
    return ours.split("/", 1)[1].startswith(digest)


def _plain(value: Any) -> Any:
    """``value`` so that equal requests compare equal: 1 and 1.0, lists and tuples."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
