"""Which task of the account is the one that a submission of unknown outcome made.

Values agree by meaning, however the service spells them. A seed that this tool drew tells more than anything else:
its 31 bits outweigh a clock, and a value that is spelled in a way we do not know.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.service.values import parse_lora
from flux_lora_cli.service.wire import BillItem, Task, parse_time

#: How far a time may be off, by the service's own clock; and where that clock, or a time's zone, is not known.
CLOCK_SLACK = timedelta(minutes=10)
UNSURE_SLACK = timedelta(days=1)
#: Seconds that a submission may take. [FAULTS: retry policy]
SUBMIT_TIMEOUT = 60.0

_ZONE = re.compile(r"(?:Z|[+-]\d\d:?\d\d)\s*$", re.IGNORECASE)
_SIZE = re.compile(r"(\d+)\s*[*x×,]\s*(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?(?:e[+-]?\d)?", re.IGNORECASE)
_HUGGING_FACE = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_FLAGS = {**dict.fromkeys(("true", "1", "yes", "on"), True), **dict.fromkeys(("false", "0", "no", "off"), False)}
_VERSION, _NO_NAME = re.compile(r"[:@][^/]*$"), re.compile(r"[^a-z0-9/]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_IMAGES = ("image", "mask_image")
_INPUTS = (*_IMAGES, "images", "loras")


def find_task(record: JobRecord, tasks: Iterable[Task]) -> dict[str, bool]:
    """IDs of the tasks that may be the record's; True for one that agrees in everything."""
    found = {task.id: _is_ours(record, task) for task in tasks}
    return {task_id: ours is True for task_id, ours in found.items() if ours is not False}


def bill_candidates(record: JobRecord, charges: Iterable[BillItem]) -> tuple[str, ...]:
    """IDs of tasks that were charged for about when ``record`` was submitted."""
    found = dict.fromkeys(
        charge.task_id
        for charge in charges
        if ("/" not in (charge.model or "") or _same_model(record.model, charge.model))  # a bill may have an ID of it
        and _in_time(record, charge.created_at) is not False
    )
    return tuple(task_id for task_id in found if task_id is not None)


def _is_ours(record: JobRecord, task: Task) -> bool | None:
    """Whether a task is the record's; None where it may be."""
    echoed, sent = task.inputs or {}, dict(record.input or {})
    one, other = _plain(sent.pop("seed", None)), _plain(echoed.get("seed"))
    seed = one == other if isinstance(other, float) else None
    same_model = _same_model(record.model, task.model)
    ours = seed is True and bool(record.seed_drawn)
    if seed is False or not (ours or same_model):
        return False
    values = {key: _same(key, value, echoed.get(key)) for key, value in sent.items()}
    values["prompt"] = _same_prompt(sent.get("prompt", ""), echoed.get("prompt"))
    foreign = any(not sent.get(key) and echoed.get(key) not in (None, "", [], "[]") for key in _INPUTS)
    differs = foreign or False in values.values()
    if ours:
        return True if values["prompt"] and same_model and not differs else None
    in_time = _in_time(record, task.created_at)
    if differs or (in_time is False and not (seed and record.seed_drawn is None)):
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
    if -CLOCK_SLACK <= after <= timedelta(seconds=SUBMIT_TIMEOUT) + CLOCK_SLACK:
        return True
    sure = record.service_clock is not None and _ZONE.search(created_at or "") is not None
    return False if sure or abs(after) > UNSURE_SLACK else None


# ---- values by meaning: True, False, or None where the echo does not tell ----


def _same(key: str, ours: Any, theirs: Any) -> bool | None:
    if theirs is None or theirs == "":
        return True if ours in ("", None, []) else None
    if key in _IMAGES:
        return _same_image(ours, theirs)
    if key == "images":
        return _each(_same_image, ours, theirs)
    return _each(_same_lora, ours, _decoded(theirs)) if key == "loras" else _agree(ours, theirs)


def _same_prompt(ours: object, theirs: object) -> bool | None:
    if not isinstance(theirs, str):
        return None
    one, other = _text(str(ours)), _text(theirs)
    for mark in ("…", "..."):
        if other.endswith(mark) and one != other and one.startswith(other.removesuffix(mark).rstrip()):
            return None  # shortened by the list
    return one == other


def _agree(ours: Any, theirs: Any) -> bool | None:
    """Whether two plain values mean the same: 123 is "123" is 123.0, 512*512 is 512x512, true is "true"."""
    if isinstance(ours, bool):
        flag = _FLAGS.get(str(theirs).strip().casefold())
        return None if flag is None else flag is ours
    if isinstance(ours, (list, tuple)):
        return _each(_agree, ours, theirs)
    if isinstance(theirs, (bool, Mapping, list, tuple)):
        return None
    one, other = _plain(ours), _plain(theirs)
    if isinstance(one, float) and isinstance(other, float) and not one.is_integer():
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def _plain(value: Any) -> Any:
    """A number as float, also of a text; a text without what spelling may change."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30:  # false for NaN, too
        return float(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    size = _SIZE.fullmatch(text)
    return f"{int(size[1])}*{int(size[2])}" if size else _text(text).casefold()


def _text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", html.unescape(text)).split())


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
    """Never False: an upload's address, a copy's, a picture that the list cuts short do not tell."""
    if not isinstance(theirs, str) or not theirs:
        return None
    digest = str(ours).partition("/")[2].partition(".")[0] if str(ours).startswith("inputs/") else ""
    if str(ours).partition("?")[0] == theirs.partition("?")[0] or (digest and digest in theirs.casefold()):
        return True
    try:
        data = base64.b64decode("".join(theirs.rpartition(",")[2].split()), validate=True)
    except ValueError:
        return None
    return True if hashlib.sha256(data).hexdigest() == digest else None
