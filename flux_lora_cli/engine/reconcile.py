"""Which task of the account is the one that a submission of unknown outcome made.

Values agree by meaning, however the service spells them. A seed that this tool drew tells more than anything else:
its 31 bits outweigh a clock, and a value that is spelled in a way we do not know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import json
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.service.models import Models, UnknownModel, Version
from flux_lora_cli.service.values import parse_lora
from flux_lora_cli.service.wire import BillItem, Task, parse_time

#: How far a time may be off, by the service's own clock; and where that clock, or a time's zone, is not known.
CLOCK_SLACK = timedelta(minutes=10)
UNSURE_SLACK = timedelta(days=1)
#: Seconds that a submission may take. [FAULTS: retry policy]
SUBMIT_TIMEOUT = 60.0
#: Bytes of an echoed image up to which a difference may mean that the list cuts it short.
MAYBE_CUT = 4096

_ZONE = re.compile(r"(?:Z|[+-]\d\d:?\d\d)\s*$", re.IGNORECASE)
_SIZE = re.compile(r"\s*(\d+)\s*[*x×,]\s*(\d+)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,40}(?:\.\d{1,40})?(?:e[+-]?\d{1,2})?", re.IGNORECASE)
_HUGGING_FACE = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_FLAGS = {**dict.fromkeys(("true", "1", "yes", "on"), True), **dict.fromkeys(("false", "0", "no", "off"), False)}
_VERSION, _NO_NAME = re.compile(r"[:@][^/]*$"), re.compile(r"[^a-z0-9/]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_IMAGES = ("image", "mask_image", "images")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a list shows for one job: IDs of tasks that agree in everything, and of those that merely may be it."""

    matches: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()

    def joined(self, more: Findings) -> Findings:
        """These and those of another part of the list."""
        return Findings(_distinct(self.matches + more.matches), _distinct(self.candidates + more.candidates))

    def without(self, claimed: Collection[str]) -> Findings:
        """These, less the tasks that belong to other jobs."""
        return Findings(*(tuple(i for i in ids if i not in claimed) for ids in (self.matches, self.candidates)))


def find_task(record: JobRecord, tasks: Iterable[Task]) -> Findings:
    """Look for the task of ``record`` among ``tasks``."""
    found = [(task.id, _is_ours(record, task)) for task in tasks]
    return Findings(*(_distinct(task for task, ours in found if ours is wanted) for wanted in (True, None)))


def bill_candidates(record: JobRecord, charges: Iterable[BillItem]) -> tuple[str, ...]:
    """IDs of tasks that were charged for about when ``record`` was submitted."""
    return _distinct(
        charge.task_id
        for charge in charges
        if charge.task_id is not None
        and ("/" not in (charge.model or "") or _same_model(record.model, charge.model))  # a bill may have an ID of it
        and _in_time(record, charge.created_at) is not False
    )


def _distinct(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


def _is_ours(record: JobRecord, task: Task) -> bool | None:
    """Whether a task is the record's; None where it may be."""
    echoed = task.inputs or {}
    number = _number(echoed.get("seed"))
    seed = None if number is None else number == _number((record.input or {}).get("seed"))
    ours = seed is True and bool(record.seed_drawn)
    if seed is False or not (ours or _same_model(record.model, task.model)):
        return False
    values = _compare_inputs(record, echoed)
    in_time = _in_time(record, task.created_at)
    if ours:
        alike = False not in values.values() and values["prompt"] and _same_model(record.model, task.model)
        return True if alike else None
    if False in values.values() or (in_time is False and not (seed and record.seed_drawn is None)):
        return False
    return True if seed and in_time and None not in values.values() else None


def _same_model(ours: str | None, theirs: str | None) -> bool:
    """A service may name its own models with or without the provider in front, a version behind, or by a number."""
    if not ours or not theirs or _UUID.fullmatch(theirs):
        return True
    one, other = (_NO_NAME.sub("", _VERSION.sub("", name.casefold())).strip("/") for name in (ours, theirs))
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def _in_time(record: JobRecord, created_at: str | None) -> bool | None:
    """Whether a task was made when the record was submitted; None where the clocks do not tell."""
    made, meant = parse_time(created_at), parse_time(record.intent_at)
    if made is None or meant is None:
        return None
    after = made - meant - timedelta(seconds=record.service_clock or 0.0)

    def within(slack: timedelta) -> bool:
        return -slack <= after <= timedelta(seconds=SUBMIT_TIMEOUT) + slack

    sure = record.service_clock is not None and _ZONE.search(created_at or "") is not None
    return True if within(CLOCK_SLACK) else None if not sure and within(UNSURE_SLACK) else False


# ---- values by meaning ----


def _compare_inputs(record: JobRecord, echoed: Mapping[str, Any]) -> dict[str, bool | None]:
    """For each value but the seed whether the echo agrees; None where it does not tell."""
    sent = dict(record.input or {})
    sent.pop("seed", None)
    results = {key: _same(record, key, value, echoed.get(key)) for key, value in sent.items()}
    results["prompt"] = _same_prompt(sent.get("prompt", ""), echoed.get("prompt"))
    for key in (*_IMAGES, "loras"):
        if not sent.get(key) and echoed.get(key) not in (None, "", [], "[]"):
            results[key] = False  # it has an input that ours has not
    return results


def _same(record: JobRecord, key: str, ours: Any, theirs: Any) -> bool | None:
    if theirs is None or theirs == "":  # lists leave out what they take for a default
        default = _defaults(record.model or "", record.api_version).get(key)
        return True if ours in ("", None, []) or _agree(ours, default) else None
    if key == "images":
        return _each(_same_image, ours, theirs)
    if key == "loras":
        return _each(_same_lora, ours, _decoded(theirs))
    return _same_image(ours, theirs) if key in _IMAGES else _agree(ours, theirs)


@lru_cache(maxsize=64)
def _defaults(model: str, api_version: str | None) -> Mapping[str, Any]:
    """What the built-in table documents: another one is not needed, for what it does not tell is left open."""
    version: Version | None = "v2" if api_version == "v2" else "v3" if api_version == "v3" else None
    try:
        found = Models.builtin().find(model, version, allow_unknown=True)
    except UnknownModel:
        return {}
    return {name: parameter.default for name, parameter in found.parameters.items()}


def _same_prompt(ours: object, theirs: object) -> bool | None:
    if not isinstance(theirs, str):
        return None
    one, other = _text(str(ours)), _text(theirs)
    for mark in ("…", "..."):
        if other.endswith(mark) and one != other and one.startswith(other.removesuffix(mark).rstrip()):
            return None  # shortened by the list
    return one == other


def _text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", html.unescape(text)).split())


def _agree(ours: Any, theirs: Any) -> bool | None:
    """Whether two plain values mean the same: 123 is "123" is 123.0, 512*512 is 512x512, true is "true"; None where
    they are of kinds that cannot be compared.
    """
    if isinstance(ours, bool) or isinstance(theirs, bool):
        flags = [_FLAGS.get(str(value).strip().casefold()) for value in (ours, theirs)]
        return None if None in flags else flags[0] == flags[1]
    one, other = _number(ours), _number(theirs)
    if one is not None and other is not None:
        return one == other or (not float(one).is_integer() and math.isclose(one, other, rel_tol=1e-6))
    if isinstance(ours, str) and isinstance(theirs, str):
        return _word(ours) == _word(theirs)
    if isinstance(ours, (list, tuple)):
        return _each(_agree, ours, theirs)
    return None if isinstance(theirs, (Mapping, list, tuple)) else bool(ours == theirs)


def _word(text: str) -> str:
    size = _SIZE.fullmatch(text)
    return f"{int(size[1])}*{int(size[2])}" if size else _text(text).casefold()


def _number(value: Any) -> int | float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value) if re.search(r"[.e]", value, re.IGNORECASE) else int(value)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if plain and abs(value) < 1e40 else None  # false for NaN, too


def _each(same: Callable[[Any, Any], bool | None], ours: Sequence[Any], theirs: Any) -> bool | None:
    """Two lists in order: False before None before True."""
    if not isinstance(theirs, (list, tuple)):
        return None
    seen = set(map(same, ours, theirs))
    return False if len(ours) != len(theirs) or False in seen else None if None in seen else True


def _decoded(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def _same_lora(ours: Mapping[str, Any], theirs: Any) -> bool | None:
    if isinstance(theirs, str):
        theirs = parse_lora(theirs)
    if not isinstance(theirs, Mapping) or not isinstance(theirs.get("path"), str):
        return None
    if _lora_path(str(ours.get("path"))) != _lora_path(theirs["path"]):
        return False
    return theirs.get("scale") is None or _agree(ours.get("scale"), theirs["scale"])


def _lora_path(path: str) -> str:
    """Without a query (it may hold a token, which a list may leave out), a final slash, the provider's address."""
    return _HUGGING_FACE.sub("", path.strip()).partition("?")[0].rstrip("/").removesuffix(".git").casefold()


def _same_image(ours: Any, theirs: Any) -> bool | None:
    """Whether an echoed image is ours; None where that cannot be told, as of an upload's URL, or a copy's."""
    if not isinstance(theirs, str) or not theirs:
        return None
    if ours == theirs or str(ours).partition("?")[0] == theirs.partition("?")[0]:
        return True
    digest = str(ours).partition("/")[2].partition(".")[0] if str(ours).startswith("inputs/") else ""
    if digest and digest in theirs.casefold():
        return True
    if not digest or "://" in theirs:
        return None
    if re.fullmatch(r"(?:sha256:)?[0-9a-f]{64}", theirs.strip().casefold()):
        return False  # another's
    try:
        data = base64.b64decode("".join(theirs.rpartition(",")[2].split()), validate=True)
    except (binascii.Error, ValueError):
        return None  # shortened by the list
    if hashlib.sha256(data).hexdigest() == digest:
        return True
    return None if len(data) <= MAYBE_CUT else False
