"""Which task of the account is the one that a submission of unknown outcome made.

Values agree by meaning, however the service spells them. A seed that this tool drew tells more than anything else:
its 31 bits outweigh a clock, and a value that is spelled in a way we do not know.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
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
_FLAGS = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}
_VERSION, _NO_NAME = re.compile(r"[:@][^/]*$"), re.compile(r"[^a-z0-9/]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_IMAGES = ("image", "mask_image", "images")
_EMPTY: tuple[Any, ...] = (None, "", [], {})


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
    echoed, sent = task.inputs or {}, record.input or {}
    one, other = _plain(sent.get("seed")), _plain(echoed.get("seed"))
    seed = one == other if isinstance(other, float) else None
    same_model = _same_model(record.model, task.model)
    ours = seed is True and bool(record.seed_drawn)
    if seed is False or not (ours or same_model):
        return False
    prompt = _same_prompt(str(sent.get("prompt", "")), echoed.get("prompt"))
    keys = {*sent, *_IMAGES, "loras"} - {"seed", "prompt"}
    alike = _all([prompt, *(_same(key, sent.get(key), echoed.get(key)) for key in keys)])
    if ours:
        return True if prompt and same_model and alike is not False else None
    in_time = _in_time(record, task.created_at)
    if alike is False or (in_time is False and not (seed and record.seed_drawn is None)):
        return False
    return True if seed and in_time and alike else None


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


def _same_prompt(ours: str, theirs: Any) -> bool | None:
    if not isinstance(theirs, str):
        return None
    if theirs.endswith(("…", "...")) and not ours.endswith(theirs[-3:]):
        return None  # shortened by the list
    return _text(ours) == _text(theirs)


def _same(key: str, ours: Any, theirs: Any) -> bool | None:
    if theirs in _EMPTY:  # lists leave out what is empty
        return True if ours in _EMPTY else None
    if key == "loras":
        theirs = [parse_lora(each) if isinstance(each, str) else each for each in theirs] if _many(theirs) else theirs
        return _alike(_plain(ours or ()), _plain(theirs))
    if key not in _IMAGES:
        return _alike(_plain(ours), _plain(theirs))
    one, other = (value if _many(value) else [value] for value in (ours, theirs))
    return _all(map(_same_image, one, other)) if ours and len(one) == len(other) else False


def _many(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _all(results: Iterable[bool | None]) -> bool | None:
    """False before None before True."""
    seen = set(results)
    return False if False in seen else None if None in seen else True


def _plain(value: Any) -> Any:
    """A value without what spelling may change: 123 is "123", 512*512 is 512x512, true is "yes" is 1."""
    if _many(value):
        return tuple(map(_plain, value))
    if isinstance(value, Mapping):  # a LoRA
        path = _HUGGING_FACE.sub("", str(value.get("path")).strip()).partition("?")[0]  # a query may hold a token
        return path.rstrip("/").removesuffix(".git").casefold(), _plain(value.get("scale", 1))
    if not isinstance(value, str):
        return float(value) if isinstance(value, (int, float)) and abs(value) < 1e30 else None
    text = _text(value).casefold()
    if text in _FLAGS or _NUMBER.fullmatch(text):
        return float(_FLAGS.get(text, text))
    size = _SIZE.fullmatch(text)
    return f"{int(size[1])}*{int(size[2])}" if size else text


def _alike(one: Any, other: Any) -> bool | None:
    """Two plain values: None where they are of kinds that cannot be compared."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return _all(map(_alike, one, other)) if len(one) == len(other) else False
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other if isinstance(one, str) and isinstance(other, str) else None


def _text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", html.unescape(text)).split())


def _same_image(ours: Any, theirs: Any) -> bool | None:
    """Never False: an upload's address, a copy's, a picture that the list cuts short do not tell."""
    if not isinstance(theirs, str):
        return None
    address = str(ours).partition("?")[0]
    digest = address.removeprefix("inputs/").partition(".")[0] if address.startswith("inputs/") else ""
    if address == theirs.partition("?")[0] or (digest and digest in theirs.casefold()):
        return True
    try:
        data = base64.b64decode("".join(theirs.rpartition(",")[2].split()), validate=True)
    except ValueError:
        return None
    return True if hashlib.sha256(data).hexdigest() == digest else None
