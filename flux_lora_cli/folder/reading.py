"""JSON of the manifest and the ledger back to records. It may come from anywhere: everything is checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from sys import intern
from types import MappingProxyType
from typing import Any

from flux_lora_cli.folder.entries import MAX_TEXT
from flux_lora_cli.folder.files import is_safe_path
from flux_lora_cli.folder.records import JobRecord, OutputRecord, PastTask, State

#: A job has at most 4 images (``num_images``); a task of another tool may have more.
MAX_OUTPUTS = 1_000
MAX_ALIASES = 100_000
MAX_HISTORY = 10_000
MAX_DEPTH = 100
_NOTHING, _MAX_COST = Decimal(0), Decimal(10) ** 12
_MAX_WHOLE = 2**63 - 1

_HASH = re.compile(r"[0-9a-f]{64}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# No name of an image: what Windows forbids, a dot file, an end in a dot or a space, what the tool uses itself.
_NOT_AN_IMAGE = re.compile(
    r'[<>:"|?*]|(?:^|/)\.|[ .](?:/|$)|^(?:manifest\.json|index\.html|ledger\.sqlite3.*|inputs/.*)$', re.IGNORECASE
)
#: Shared by the records without any, for 100,000 empty ones would take 6 MB.
_NO_AXES: Mapping[str, str] = MappingProxyType({})


class EntryError(ValueError):
    """What was read is not what it should be. The text says where."""


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)


def loads(text: str) -> Any:
    """JSON, strictly. Raises EntryError."""
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise EntryError(f"it is not valid JSON: {str(error)[:100]}") from None


def record_of(value: object, at: str, order: int = 0, key: str | None = None) -> JobRecord:
    """The record of an entry. What a manifest does not hold (times of intents and of files) is None.

    The key is the fingerprint, or ``task:ID`` without one. Paths lie inside the folder as far as their text tells;
    links are for ``files.inside`` to check, and hashes for whoever uses the file.

    Args:
        at: its place, for messages: ``jobs[3]``.
        key: where the ledger has one of its own for it.

    Raises:
        EntryError: something is not as the format says. Nothing is left out: a job that is not read would be paid
            for again.
    """
    document = _mapping(value, at)
    request = _mapping(document.get("request"), f"{at}.request")
    task = _mapping(document.get("task"), f"{at}.task")
    fingerprint = _matching(document.get("fingerprint"), f"{at}.fingerprint", _HASH)
    task_id = _matching(task.get("id"), f"{at}.task.id", _TASK_ID)
    if key is None and fingerprint is None and task_id is None:
        raise EntryError(f"{at} has neither a fingerprint nor a task")
    aliases = _list(document.get("aliases"), f"{at}.aliases", MAX_ALIASES)
    history = _list(document.get("history", []), f"{at}.history", MAX_HISTORY)
    outputs = _list(document.get("outputs"), f"{at}.outputs", MAX_OUTPUTS)
    record = JobRecord(
        key=key or fingerprint or f"task:{task_id}",
        id=_text(document.get("id"), f"{at}.id"),
        order=order,
        aliases=tuple(_text(alias, f"{at}.aliases") or "" for alias in aliases),
        preset=_word(document.get("preset"), f"{at}.preset"),
        fingerprint=key if key == fingerprint else fingerprint,
        state=_state(document.get("state"), at),
        model=_word(request.get("model"), f"{at}.request.model"),
        input=_input(request.get("input"), f"{at}.request.input"),
        axes=_axes(document.get("axes", {}), f"{at}.axes"),
        task_id=task_id,
        task_model=_word(task.get("model"), f"{at}.task.model"),
        task_status=_word(task.get("status"), f"{at}.task.status"),
        task_created_at=_text(task.get("created_at"), f"{at}.task.created_at"),
        task_error=_text(task.get("error"), f"{at}.task.error") or "",
        execution_ms=_whole(task.get("execution_ms"), f"{at}.task.execution_ms"),
        matched_by=_word(task.get("matched_by"), f"{at}.task.matched_by"),
        attempts=_whole(document.get("attempts"), f"{at}.attempts") or 0,
        refunded=_money(document.get("refunded_usd"), f"{at}.refunded_usd") or _NOTHING,
        history=tuple(_past(past, f"{at}.history[{number}]") for number, past in enumerate(history)),
        error=_text(document.get("error"), f"{at}.error"),
        outputs=[_output(output, f"{at}.outputs[{number}]") for number, output in enumerate(outputs)],
    )
    if len(outputs) > 1 and len({output.index for output in record.outputs}) != len(outputs):
        raise EntryError(f"{at}.outputs has one index twice")
    record.price = _present_price(record, _money(document.get("cost_usd"), f"{at}.cost_usd"))
    return record


def add_private(record: JobRecord, value: object, at: str) -> None:
    """Add to a record what the ledger kept beside its entry. Raises EntryError."""
    document = _mapping(value, at)
    price = document.get("price")
    record.price = _money(price, f"{at}.price")
    record.api_version = _word(document.get("api_version"), f"{at}.api_version")
    record.intent_at = _text(document.get("intent_at"), f"{at}.intent_at")
    clock = document.get("service_clock")
    if clock is not None and (isinstance(clock, bool) or not isinstance(clock, (int, float))):
        raise EntryError(f"{at}.service_clock is not a number")
    record.service_clock = clock
    if "input" in document:
        record.input = _input(document["input"], f"{at}.input")
    kept = _list(document.get("outputs", []), f"{at}.outputs", MAX_OUTPUTS)
    for output, more in zip(record.outputs, kept, strict=False):
        _add_private_output(output, _mapping(more, f"{at}.outputs"), f"{at}.outputs")


def _add_private_output(output: OutputRecord, more: Mapping[str, Any], at: str) -> None:
    output.mtime_ns = _whole(more.get("mtime_ns"), f"{at}.mtime_ns")
    output.left_out = more.get("left_out") is True
    output.url = _text(more.get("url"), f"{at}.url") or output.url
    output.writing = _image_path(more.get("writing"), f"{at}.writing")
    output.temp = _text(more.get("temp"), f"{at}.temp")


def _present_price(record: JobRecord, cost: Decimal | None) -> Decimal | None:
    if cost is None or not (record.attempts or record.task_id):
        return None
    earlier = sum((past.cost - past.refunded for past in record.history if past.cost is not None), Decimal(0))
    return max(cost - earlier, Decimal(0)) + record.refunded


def _past(value: object, at: str) -> PastTask:
    document = _mapping(value, at)
    return PastTask(
        task_id=_matching(document.get("task_id"), f"{at}.task_id", _TASK_ID),
        error=_text(document.get("error"), f"{at}.error"),
        cost=_money(document.get("cost_usd"), f"{at}.cost_usd"),
        refunded=_money(document.get("refunded_usd"), f"{at}.refunded_usd") or Decimal(0),
        intent_at=_text(document.get("submitted_at"), f"{at}.submitted_at", 64),
    )


def _output(value: object, at: str) -> OutputRecord:
    document = _mapping(value, at)
    nsfw = document.get("nsfw")
    if nsfw is not None and not isinstance(nsfw, bool):
        raise EntryError(f"{at}.nsfw is not true, false or null")
    index = _whole(document.get("index"), f"{at}.index")
    if index is None:
        raise EntryError(f"{at}.index is missing")
    return OutputRecord(
        index=index,
        url=_text(document.get("url"), f"{at}.url"),
        nsfw=nsfw,
        file=_image_path(document.get("file"), f"{at}.file"),
        sha256=_matching(document.get("sha256"), f"{at}.sha256", _HASH),
        bytes=_whole(document.get("bytes"), f"{at}.bytes"),
        width=_whole(document.get("width"), f"{at}.width"),
        height=_whole(document.get("height"), f"{at}.height"),
        media_type=_word(document.get("media_type"), f"{at}.media_type"),
        saved_at=_text(document.get("saved_at"), f"{at}.saved_at", 64),
        error=_text(document.get("error"), f"{at}.error"),
    )


def _image_path(value: object, at: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not is_safe_path(value) or _NOT_AN_IMAGE.search(value):
        raise EntryError(f"{at} leads out of the folder, or to a file of another kind")
    return value


def _input(value: object, at: str) -> dict[str, Any] | None:
    if value is None:
        return None
    document: dict[str, Any] = _shared(_mapping(value, at), at, MAX_DEPTH)
    return document


def _shared(value: Any, at: str, left: int) -> Any:
    """JSON data in which keys and short texts, which many records have alike, are kept once."""
    if not left:
        raise EntryError(f"{at} is nested too deeply")
    if isinstance(value, dict):
        return {intern(name): _shared(item, at, left - 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_shared(item, at, left - 1) for item in value]
    return intern(value) if isinstance(value, str) and len(value) <= 32 else value


def _axes(value: object, at: str) -> Mapping[str, str]:
    axes = _mapping(value, at)
    return {intern(name): _word(choice, at) or "" for name, choice in axes.items()} if axes else _NO_AXES


def _state(value: object, at: str) -> State:
    try:
        return State(value)
    except ValueError:
        raise EntryError(f"{at}.state is not one of {', '.join(state.value for state in State)}") from None


def _mapping(value: object, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EntryError(f"{at} is not an object")
    return value


def _list(value: object, at: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise EntryError(f"{at} is not a list of at most {most:,}")
    return value


def _text(value: object, at: str, most: int = MAX_TEXT) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > most):
        raise EntryError(f"{at} is not a text of at most {most:,} characters")
    return value


def _word(value: object, at: str) -> str | None:
    """A text that many records share."""
    text = _text(value, at)
    return None if text is None else intern(text)


def _matching(value: object, at: str, pattern: re.Pattern[str]) -> str | None:
    text = _text(value, at)
    if text is not None and not pattern.fullmatch(text):
        raise EntryError(f"{at} is not of its form")
    return text


def _whole(value: object, at: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_WHOLE):
        raise EntryError(f"{at} is not a whole number")
    return value


def _money(value: object, at: str) -> Decimal | None:
    text = _text(value, at, 256)
    amount = None if text is None else _amount(text)
    if text is not None and amount is None:
        raise EntryError(f"{at} is not an amount")
    return amount


@lru_cache(maxsize=1024)
def _amount(text: str) -> Decimal | None:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= _MAX_COST else None
