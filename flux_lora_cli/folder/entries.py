"""A record as JSON: the manifest's entry of a job, and beside it, for the ledger, what only we need.

The entry is what is shown and shared: secrets inside URLs are masked in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from functools import lru_cache
from typing import Any

from flux_lora_cli.folder.records import JobRecord, OutputRecord, PastTask
from flux_lora_cli.text import mask_secrets

#: Characters of a name, message or URL that are kept; what is longer could not be read back.
MAX_TEXT = 65_536

_MASKED = re.compile(r"://\*\*\*@|=\*\*\*")

_readable = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode
_ascii = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def dumps(value: object) -> str:
    """One line of JSON; text as it is, but for what UTF-8 cannot carry (half a surrogate pair)."""
    text = _readable(value)
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        return _ascii(value)
    return text


def masked(value: Any) -> Any:
    """``value`` with the secrets inside the URLs of every text masked."""
    kind = type(value)
    if kind is str:
        return mask_secrets(value)
    if kind is int or kind is bool or kind is float or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: masked(item) for key, item in value.items()}
    return [masked(item) for item in value] if isinstance(value, (list, tuple)) else value


def is_masked(value: Any) -> bool:
    """Whether a request came from a manifest, with a secret masked: it names the job, but cannot be sent."""
    if isinstance(value, str):
        return _MASKED.search(value) is not None
    if isinstance(value, Mapping):
        return any(map(is_masked, value.values()))
    return isinstance(value, (list, tuple)) and any(map(is_masked, value))


@lru_cache(maxsize=256)
def decimal_text(amount: Decimal | None) -> str | None:
    """An amount as plain digits without exponent or trailing zeros: ``0.015``."""
    return None if amount is None else format(amount.normalize() + 0, "f")


def entry(record: JobRecord) -> dict[str, Any]:
    """The manifest's entry of a job. ``axes`` and ``refunded_usd`` only where there are any."""
    document: dict[str, Any] = {
        "id": _shown(record.id),
        "aliases": list(record.aliases),
        "preset": record.preset,
        "fingerprint": record.fingerprint,
        "state": record.state.value,
        "request": {"model": record.model, "input": masked(record.input)},
        "task": {
            "id": record.task_id,
            "model": record.task_model,
            "status": _shown(record.task_status),
            "created_at": _shown(record.task_created_at),
            "execution_ms": record.execution_ms if 0 <= (record.execution_ms or 0) < 2**63 else None,
            "error": _shown(record.task_error),
            "matched_by": record.matched_by,
        },
        "outputs": [_output_entry(output) for output in record.outputs],
        "attempts": record.attempts,
        "cost_usd": decimal_text(record.cost),
        "error": _shown(record.error),
        "history": [_past_entry(past) for past in record.history],
    }
    if record.axes:
        document["axes"] = dict(record.axes)
    if record.refunded:
        document["refunded_usd"] = decimal_text(record.refunded)
    return document


def _shown(text: str | None) -> str | None:
    return None if text is None else mask_secrets(text[:MAX_TEXT])[:MAX_TEXT]


def _kept_url(output: OutputRecord) -> str | None:
    """None for a whole image in base64: the task's result has it."""
    return None if output.url is None or len(output.url) > MAX_TEXT // 2 else output.url


def _output_entry(output: OutputRecord) -> dict[str, Any]:
    return {
        "index": output.index,
        "url": masked(_kept_url(output)),
        "nsfw": output.nsfw,
        "file": output.file,
        "sha256": output.sha256,
        "bytes": output.bytes,
        "width": output.width,
        "height": output.height,
        "media_type": output.media_type,
        "saved_at": output.saved_at,
        "error": _shown(output.error),
    }


def _past_entry(past: PastTask) -> dict[str, Any]:
    return {
        "task_id": past.task_id,
        "error": _shown(past.error),
        "cost_usd": decimal_text(past.cost),
        "refunded_usd": decimal_text(past.refunded),
        "submitted_at": past.intent_at,
    }


_PRIVATE = ("api_version", "intent_at", "service_clock")
_PRIVATE_OUTPUT = {
    f.name: f.default for f in fields(OutputRecord) if f.name in ("mtime_ns", "writing", "temp", "left_out")
}


def private(record: JobRecord) -> dict[str, Any]:
    """What the ledger keeps beside the entry: the real request, times, prices, files on their way."""
    document: dict[str, Any] = {name: value for name in _PRIVATE if (value := getattr(record, name)) is not None}
    if record.price is not None:
        document["price"] = decimal_text(record.price)
    if masked(record.input) != record.input:
        document["input"] = record.input
    outputs = [_private_output(output) for output in record.outputs]
    if any(outputs):
        document["outputs"] = outputs
    return document


def _private_output(output: OutputRecord) -> dict[str, Any]:
    document = {name: value for name, default in _PRIVATE_OUTPUT.items() if (value := getattr(output, name)) != default}
    url = _kept_url(output)
    if masked(url) != url:
        document["url"] = url
    return document
