"""Answers of the API, decoded without I/O: every bad answer ends as one leaf of ``errors``."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from flux_lora_cli.domain.envelope import open_envelope, plain_words, raise_status, unreadable
from flux_lora_cli.domain.task import Task
from flux_lora_cli.domain.wire import HttpResponse, is_task_id
from flux_lora_cli.errors import Rejected

# What a task's own code means. [WaveSpeed error codes page]
_CODES = {
    1200: "content moderation refused the prompt or an image",
    1400: "the service found a parameter that it does not accept",
    1401: "the service misses a parameter",
    1402: "the service could not reach the input image or a LoRA's URL",
    1403: "the task failed at the service",
    1405: "the task failed at the service",
    5000: "the service had an internal error",
    5003: "the model is not available at the moment",
    5004: "the service ran out of time",
}
_STATUS = re.compile(r"[a-z][a-z_-]{0,39}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,2000}")
# Set by the transport itself, or the key's and nobody else's.
_OWN_HEADERS = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "host",
        "proxy-authorization",
        "transfer-encoding",
    }
)
#: Most outputs of a task that are believed; the API makes at most 4.
_MAX_OUTPUTS = 64
#: Most that a price or a balance is believed to be, in USD.
_MAX_MONEY = Decimal(10) ** 9


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """Where to put a file (``url``, with ``headers``), and the URL under which the service then knows it."""

    url: str
    headers: Mapping[str, str]
    download_url: str


def decode_submit(response: HttpResponse) -> Task:
    """The task that a submit made.

    Raises:
        KeyRefused, OutOfCredit, RateLimited, Rejected, Redirected: nothing was made.
        Uncertain, BadAnswer: something may have been made.
    """
    data = open_envelope(response, "submit")
    if not isinstance(data, dict) or not is_task_id(data.get("id")):
        raise unreadable(response, "an answer without a usable task id")
    return _task(data, data["id"], data.get("status") or "created")


def decode_task(response: HttpResponse, task_id: str) -> Task:
    """The state of one task.

    Raises:
        TaskNotFound: the service does not know it.
        KeyRefused, RateLimited, Redirected, Uncertain, BadAnswer: this look failed; the task may be well.
    """
    data = open_envelope(response, "look")
    if not isinstance(data, dict):
        raise unreadable(response, "an answer without a task")
    if data.get("id") not in (None, "", task_id):
        raise unreadable(response, "an answer about another task")
    if not isinstance(data.get("status"), str):
        raise unreadable(response, "a task without a status")
    return _task(data, task_id, data["status"])


def decode_predictions(response: HttpResponse) -> list[Task]:
    """One page of recent tasks. Items that name no task are left out; an empty page is the end.

    Raises:
        Rejected: this service, or this account, has no such list.
        KeyRefused, RateLimited, Redirected, Uncertain, BadAnswer: this page could not be read.
    """
    data = open_envelope(response, "list")
    items = data.get("items") if isinstance(data, dict) else data
    if items is None and isinstance(data, dict) and "items" in data:
        items = []
    if not isinstance(items, list):
        raise unreadable(response, "a list of tasks without a list")
    return [
        _task(item, item["id"], item.get("status") or "created")
        for item in items
        if isinstance(item, dict) and is_task_id(item.get("id"))
    ]


def decode_price(response: HttpResponse) -> Decimal | None:
    """What the request would cost in all, USD, after any discount; None where the service does not say."""
    return _quote(response, ("discounted_price", "price"))


def decode_unit_price(response: HttpResponse) -> Decimal | None:
    """What one image would cost, USD; None where the service does not say."""
    return _quote(response, ("unit_price", "price"))


def decode_balance(response: HttpResponse) -> Decimal | None:
    """The account's credit, USD; None where the service does not say."""
    if response.status in (404, 405, 501):
        return None
    data = open_envelope(response, "balance", money=True)
    value = _money(data.get("balance"), signed=True) if isinstance(data, dict) else None
    if value is None:
        raise unreadable(response, "an answer without a balance")
    return value


def decode_upload_ticket(response: HttpResponse) -> UploadTicket | None:
    """Where to put a file; None where the service has only the older upload."""
    if response.status in (404, 405, 501):
        return None
    data = open_envelope(response, "upload")
    upload = data.get("upload") if isinstance(data, dict) else None
    url = upload.get("url") if isinstance(upload, dict) else None
    download_url = data.get("download_url") if isinstance(data, dict) else None
    if not (isinstance(url, str) and url and isinstance(download_url, str) and download_url):
        raise unreadable(response, "an upload without a place to upload to")
    return UploadTicket(url, _upload_headers(upload.get("headers")), download_url)  # type: ignore[union-attr]  # a dict: it gave the url


def decode_upload_put(response: HttpResponse) -> None:
    """Whether the file arrived where the ticket said. The body, if any, is the storage's own and means nothing."""
    if not 200 <= response.status < 300:
        if response.status in (401, 403):
            # The storage's answer, not the service's: it says nothing about the key.
            raise Rejected(f"{response.host} refused the upload ({response.status})", "Try again.")
        raise_status(response, response.status, "upload", "")


def decode_upload_binary(response: HttpResponse) -> str:
    """The URL of a file sent by the older upload."""
    data = open_envelope(response, "upload")
    url = data.get("download_url") if isinstance(data, dict) else None
    if not isinstance(url, str) or not url:
        raise unreadable(response, "an upload without a URL")
    return url


def _task(data: dict[str, Any], task_id: str, status: object) -> Task:
    outputs = _outputs(data.get("outputs"))
    model, created_at = data.get("model"), data.get("created_at")
    inputs = data.get("inputs") if isinstance(data.get("inputs"), dict) else data.get("input")
    return Task(
        id=task_id,
        status=_status(status),
        model=sys.intern(plain_words(model)[:200]) or None,  # the same in every answer of a run
        outputs=outputs,
        nsfw=_nsfw(data.get("has_nsfw_contents"), len(outputs)),
        created_at=plain_words(created_at)[:64] or None,
        execution_ms=_execution_ms(data),
        error=_error(data),
        inputs=inputs if isinstance(inputs, dict) else None,
    )


def _status(status: object) -> str:
    """A status as a plain lower-case word. What is none of that is not known, and so "not finished yet"."""
    text = status.strip().lower() if isinstance(status, str) else ""
    return sys.intern(text) if _STATUS.fullmatch(text) else "unknown"


def _outputs(outputs: object) -> tuple[str, ...]:
    """One string an output, in order; "" for one that names nothing, so that the others keep their numbers."""
    if isinstance(outputs, str):
        outputs = [outputs] if outputs else []
    if not isinstance(outputs, list):
        return ()
    return tuple(_output(output) for output in outputs[:_MAX_OUTPUTS])


def _output(output: object) -> str:
    if isinstance(output, dict):
        names = ("url", "download_url", "image", "b64_json", "base64")
        output = next((output[name] for name in names if isinstance(output.get(name), str)), "")
    # JSON can spell half of a surrogate pair, which no file and no socket takes.
    return output.strip().encode("utf-8", "replace").decode() if isinstance(output, str) else ""


def _nsfw(flags: object, count: int) -> tuple[bool | None, ...]:
    """One flag an output. A missing one is not known, which is not the same as harmless."""
    if isinstance(flags, bool) and count == 1:
        flags = [flags]
    known = flags if isinstance(flags, list) else []
    return tuple(known[i] if i < len(known) and isinstance(known[i], bool) else None for i in range(count))


def _execution_ms(data: dict[str, Any]) -> int | None:
    timings = data.get("timings")
    inference = timings.get("inference") if isinstance(timings, dict) else None
    for value in (data.get("executionTime"), inference):
        # A day bounds it: what is longer is no duration of one image.
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400_000:
            return round(value)
    return None


def _error(data: dict[str, Any]) -> str:
    """Why a task failed: what its code means in plain words, then what the service said."""
    said = plain_words(data.get("error"))
    code = data.get("code")
    meaning = _CODES.get(code) if isinstance(code, int) and not isinstance(code, bool) else None
    return f"{meaning}: {said}" if meaning and said else meaning or said


def _quote(response: HttpResponse, names: tuple[str, ...]) -> Decimal | None:
    if 400 <= response.status < 500 and response.status not in (401, 403, 408, 429):
        return None
    try:
        data = open_envelope(response, "price", money=True)
    except Rejected:
        return None
    if not isinstance(data, dict):
        return None
    currency = data.get("currency")
    if isinstance(currency, str) and currency and currency.upper() not in ("USD", "$"):
        return None
    return next((value for name in names if (value := _money(data.get(name))) is not None), None)


def _money(value: object, *, signed: bool = False) -> Decimal | None:
    """An amount as a Decimal; None where it is none, or beyond belief."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    if isinstance(value, str) and len(value) > 40:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    if not amount.is_finite() or (amount < 0 and not signed) or abs(amount) > _MAX_MONEY:
        return None
    # More than 12 places is no price, and an exponent of -999999 is an attack on whoever prints it.
    exponent = amount.as_tuple().exponent
    return amount if isinstance(exponent, int) and exponent >= -12 else round(amount, 12)


def _upload_headers(headers: object) -> dict[str, str]:
    """The ticket's headers that are harmless to send."""
    if not isinstance(headers, dict):
        return {}
    return {
        name: value
        for name, value in list(headers.items())[:50]
        if isinstance(value, str)
        and _HEADER_NAME.fullmatch(name)
        and _HEADER_VALUE.fullmatch(value)
        and name.lower() not in _OWN_HEADERS
    }
