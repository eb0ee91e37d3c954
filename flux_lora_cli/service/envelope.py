"""From (status, headers, body) to the ``data`` of an answer, or to the error that it stands for. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NoReturn

from flux_lora_cli.errors import (
    AnswerTooLong,
    BadAnswer,
    KeyRefused,
    OutOfCredit,
    RateLimited,
    Redirected,
    Rejected,
    ServiceError,
    TaskNotFound,
    Uncertain,
)
from flux_lora_cli.service.hosts import show_host
from flux_lora_cli.text import mask_secrets, printable

#: What a call is for: the meaning of an error depends on it.
Kind = Literal["submit", "poll", "list", "price", "balance", "upload", "models", "bill"]
#: Most brackets and commas in an answer, each of which may stand for 60 bytes of memory. [a page of 100 tasks has under
#: 50,000, the catalogue of 1,100 models about 700,000]
MAX_PIECES = 1_500_000
#: Most characters of a message that are shown.
MESSAGE_LIMIT = 500
#: Amounts beyond this, in USD, are not believed.
MAX_MONEY = Decimal(10) ** 9

# "400 Insufficient credits. Please top up." was seen in the wild; the rest are its likely relatives.
_NO_CREDIT = re.compile(
    r"(insufficient|not\s+enough|out\s+of)\s+(account\s+)?(credit|balance|fund)|please\s+top[\s-]?up"
    r"|(credit|balance)s?\s+(is|are|has|have)?\s*(been\s+)?(insufficient|exhausted|too\s+low)",
    re.IGNORECASE,
)
#: Where an envelope has words.
_WORDS = ("message", "error", "detail", "data")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_CHECK_KEY = (
    "Check WAVESPEED_API_KEY or the key file; keys are made at https://wavespeed.ai/accesskey, and a new one is not "
    "valid before the account's first top-up."
)
_CHECK_URL = "If a base URL is set, check that it is WaveSpeed's API; otherwise try again later."


class NoSuchList(Rejected):
    """The service, or this key, has no list of recent predictions."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""
    host: str = "the service"
    received_at: datetime = _LONG_AGO  # this machine's clock when the headers had come
    clean: Callable[[str], str] = str  # masks the API key, which a server may echo

    def plain(self, words: object, limit: int = MESSAGE_LIMIT) -> str:
        """Words of the service as one printable line of bounded length, without secrets; "" where there are none."""
        if isinstance(words, dict):
            words = words.get("message") or words.get("error") or words.get("detail")
        if not isinstance(words, str):
            return ""
        text = printable(self.clean(mask_secrets(" ".join(words[: 4 * MESSAGE_LIMIT].split()))))
        return text if len(text) <= limit else text[: limit - 1] + "…"


def open_envelope(answer: Answer, kind: Kind) -> Any:
    """The answer's ``data``, or the bare answer where there is no envelope.

    Raises what the status (the envelope's own, where it has one) means for a call of this kind; BadAnswer where a
    success cannot be read.
    """
    if not 200 <= answer.status < 300:
        raise_status(answer, answer.status, kind, _said(answer))
    value = _read_json(answer)
    if not isinstance(value, dict):
        return value
    data, digits = value.get("data", value), str(value.get("code") or 0)
    if not re.fullmatch("[0-9]{1,4}", digits):
        raise unreadable(answer, "its code is not a number")
    code = int(digits)
    # Sync mode ends after 90 s with code 5004 while the task goes on. [official client source]
    goes_on = code >= 1000 and fields(data).get("id") and fields(data).get("status")
    if code != 0 and not 200 <= code < 300 and not goes_on:
        raise_status(answer, code, kind, _words(answer, value))
    return data


def raise_status(answer: Answer, status: int, kind: Kind, message: str | None) -> NoReturn:
    """Raise what this status means for a call of this kind.

    Args:
        message: the service's own words; None for a page of a firewall or proxy before it.
    """
    host, own, wait = answer.host, message is not None, retry_after(answer)
    said = f" ({status}): {message}" if message else f" ({status})"
    page = "" if own or not answer.body else ": a firewall's or proxy's page, not an answer of the API"
    no_credit = status == 402 or (status in (400, 403, 422) and _NO_CREDIT.search(message or ""))
    if no_credit and kind in ("submit", "upload"):
        hint = "Top up at https://wavespeed.ai, then run the same command again."
        raise OutOfCredit(f"the account has no credit left{said}", hint)
    if kind == "list" and status in (403, 404, 405):
        raise NoSuchList(f"{host} has no list of recent tasks for this key{said}")
    # A page under 401, too: that is about who asks, so that no other request would fare better.
    if status == 401 or (status == 403 and own and kind not in ("bill", "models")):
        what = "wants a sign-in" if page else "refused the API key"
        raise KeyRefused(f"{host} {what}{said}{page}", _CHECK_KEY)
    if status in (425, 429):
        raise RateLimited(f"{host} is rate limiting requests{said}", "Wait, or lower --rate.", retry_after=wait)
    if 300 <= status < 400:
        where = show_host(answer.headers.get("location", ""))
        hint = "Check --base-url / WAVESPEED_BASE_URL; a sign-in page of the network can cause this, too."
        raise Redirected(f"{host} redirects API calls to {where} ({status}); this is never followed", hint)
    if status in (408, 499) or 500 <= status < 600:
        raise Uncertain(f"{host} answered with a server error{said}", "Try again later.", retry_after=wait)
    if kind == "poll" and status in (404, 410):
        hint = "Check the ID and the account; tasks are deleted after 7 days."
        raise TaskNotFound(f"{host} does not know the task{said}", hint)
    refused = 400 <= status < 500
    if refused and kind in ("bill", "models"):
        what = "the bill" if kind == "bill" else "the catalogue of models"
        raise ServiceError(f"{host} does not show {what} to this key{said}", _CHECK_URL)
    if refused and (own or status in (404, 405) or kind not in ("poll", "balance")):
        raise Rejected(f"{host} refused the request{said}{page}", "Check what the message names.")
    raise BadAnswer(f"{host} gave an unexpected answer{said}", _CHECK_URL)


def unreadable(answer: Answer, what: str) -> BadAnswer:
    """The error for a success whose body is of no use."""
    return BadAnswer(f"{answer.host} sent an answer that cannot be read: {what}", _CHECK_URL)


def _read_json(answer: Answer) -> Any:
    """The body as JSON, in bounded time and memory; BadAnswer where it is not JSON, or built to hurt."""
    if sum(map(answer.body.count, (b",", b"[", b"{"))) > MAX_PIECES:
        raise AnswerTooLong(f"{answer.host} sent too long an answer (over {MAX_PIECES:,} values)", _CHECK_URL)
    try:
        # NaN and the infinities are not JSON: they stand for "not said".
        return json.loads(answer.body, parse_constant=lambda _: None)
    except (ValueError, MemoryError, RecursionError):
        raise unreadable(answer, "not valid JSON (a web page, cut short, or nothing)") from None


def _said(answer: Answer) -> str | None:
    """The words of an error as the service writes them: a JSON object with a code or words; None for others' pages."""
    try:
        value = _read_json(answer)
    except BadAnswer:
        return None
    return _words(answer, value) if isinstance(value, dict) and {"code", "error_code", *_WORDS} & value.keys() else None


def _words(answer: Answer, value: dict[str, Any]) -> str:
    return next(filter(None, (answer.plain(value.get(name)) for name in _WORDS)), "")


def fields(value: Any) -> dict[str, Any]:
    """An object of an answer; {} where something else came."""
    return value if isinstance(value, dict) else {}


def items_of(answer: Answer, data: Any) -> list[Any]:
    if isinstance(data, dict) and "items" in data:
        data = [] if data["items"] is None else data["items"]
    if not isinstance(data, list):
        raise unreadable(answer, "not a list")
    return data


def money(value: object) -> Decimal | None:
    """An amount, of either sign; None where it is not one, or beyond belief."""
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        return None
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", value):
        return None
    amount = Decimal(str(value))  # of a float the digits that it was read from
    if not amount.is_finite() or not -MAX_MONEY <= amount <= MAX_MONEY:
        return None
    # More than 12 places is not a price, and an exponent of -999999 is an attack on whoever prints it.
    exponent = amount.as_tuple().exponent
    return amount if isinstance(exponent, int) and exponent >= -12 else round(amount, 12)


def retry_after(answer: Answer) -> float | None:
    """Seconds that ``Retry-After`` asks to wait, in either of its forms; None where it says nothing usable."""
    text = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,40}(\.[0-9]{1,9})?", text):
        return min(float(text), 1e9)
    moment = http_date(text)
    now = http_date(answer.headers.get("date", "")) or answer.received_at  # it is meant on the server's clock
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def http_date(text: str) -> datetime | None:
    """An HTTP date, aware; None where it is not one."""
    try:
        moment = parsedate_to_datetime(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
