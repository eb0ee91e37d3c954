"""From (status, headers, body) to the ``data`` of an answer, or to the error that it stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

from flux_lora_cli.domain.text import printable
from flux_lora_cli.domain.wire import HttpResponse, Kind
from flux_lora_cli.errors import (
    BadAnswer,
    FluxLoraError,
    KeyRefused,
    OutOfCredit,
    RateLimited,
    Redirected,
    Rejected,
    TaskNotFound,
    Uncertain,
)

#: Most brackets and commas in an answer. Each can stand for an object of some 100 bytes, so this bounds
#: memory; a full page of 100 tasks with five LoRAs and long prompts has under 50,000.
MAX_PIECES = 1_000_000
#: Most digits of a whole number. Python converts longer ones in quadratic time.
MAX_DIGITS = 40
#: Most characters of a message of the service that are shown.
MESSAGE_LIMIT = 500

# "400 Insufficient credits. Please top up." was seen in the wild; the rest are its likely relatives.
_NO_CREDIT = re.compile(
    r"insufficient\s+(account\s+)?(credit|balance|fund)|not\s+enough\s+(credit|balance|fund)"
    r"|out\s+of\s+credit|(credit|balance)s?\s+(is|are|has|have)?\s*(been\s+)?(insufficient|exhausted|too\s+low)"
    r"|please\s+top[\s-]?up",
    re.IGNORECASE,
)


def open_envelope(response: HttpResponse, kind: Kind, *, money: bool = False) -> Any:
    """The answer's ``data``, or the bare answer where there is no envelope.

    Args:
        money: read numbers with a point as Decimal instead of float.

    Raises:
        FluxLoraError: a leaf that says what the status (the envelope's own, where it has one) means for a
            call of this kind; BadAnswer where a success cannot be read.
    """
    if not 200 <= response.status < 300:
        raise_status(response, response.status, kind, _message_of(response))
    answer = read_json(response, money=money)
    if not isinstance(answer, dict):
        if isinstance(answer, list) and kind == "list":
            return answer
        raise unreadable(response, "no object")
    code = _envelope_code(answer, response)
    if code != 0 and not 200 <= code < 300:
        raise_status(response, code, kind, _words(answer))
    return answer["data"] if "data" in answer and not _is_bare_task(answer) else answer


def _is_bare_task(answer: dict[str, Any]) -> bool:
    return "id" in answer and "status" in answer


def _envelope_code(answer: dict[str, Any], response: HttpResponse) -> int:
    """The envelope's code; 0, which the service uses for "ok" elsewhere, where there is none."""
    code = answer.get("code")
    if _is_bare_task(answer):
        # Its code is the task's (1200, 5004 …), not the call's.
        return 0
    if isinstance(code, str) and re.fullmatch(r"[0-9]{1,4}", code):
        code = int(code)
    if code is None:
        return 0
    if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code <= 9999:
        raise unreadable(response, "a code that is no number")
    return code


def raise_status(response: HttpResponse, status: int, kind: Kind, message: str) -> NoReturn:
    """Raise what this status means for a call of this kind. ``message`` is the service's own, may be empty."""
    host = response.host
    said = f": {message}" if message else ""
    if status in (401, 403):
        raise KeyRefused(
            f"{host} refused the API key ({status}){said}",
            "Check WAVESPEED_API_KEY or the key file; a key is made and seen at https://wavespeed.ai/accesskey.",
        )
    if status == 429:
        raise RateLimited(
            f"{host} says that requests come too fast (429){said}",
            "Wait, or lower --rate.",
            retry_after=retry_after(response),
        )
    if 300 <= status < 400:
        target = _redirect_host(response)
        raise Redirected(
            f"{host} redirects API calls to {target} ({status}); this is never followed",
            "Check --base-url / WAVESPEED_BASE_URL; a sign-in page of the network can cause this, too.",
        )
    if status == 408 or 500 <= status < 600:
        uncertain = Uncertain(f"{host} had an error of its own ({status}){said}", "Try again later.")
        uncertain.retry_after = retry_after(response)
        raise uncertain
    if kind in ("look", "list"):
        # A look that failed is never a task that failed.
        if kind == "look" and status in (404, 410):
            raise TaskNotFound(
                f"{host} does not know the task ({status}){said}",
                "Check the id and the account; tasks are deleted after 7 days.",
            )
        if kind == "list" and status in (404, 405):
            raise Rejected(f"{host} has no list of recent tasks ({status}){said}")
        raise BadAnswer(f"{host} refused to tell the state of tasks ({status}){said}", "Try again later.")
    if status == 402 or (status in (400, 422) and _NO_CREDIT.search(message)):
        raise OutOfCredit(
            f"the account has no credit left ({status}){said}",
            "Top up at https://wavespeed.ai, then run the same command again.",
        )
    if 400 <= status < 500:
        raise Rejected(f"{host} refused the request ({status}){said or ': it gave no reason'}")
    raise BadAnswer(
        f"{host} answered with a code that means nothing to this program ({status}){said}",
        "If a base URL is set, check that it is WaveSpeed's API.",
    )


def unreadable(response: HttpResponse, what: str) -> BadAnswer:
    """The error for a success whose body is of no use."""
    return BadAnswer(
        f"{response.host} answered something that cannot be read: {what}",
        "If a base URL is set, check that it is WaveSpeed's API; else try again later.",
    )


def read_json(response: HttpResponse, *, money: bool = False) -> Any:
    """The body as JSON, in bounded time and memory.

    Raises:
        BadAnswer: it is none, or it is built to hurt.
    """
    body = response.body
    if not body.strip():
        raise unreadable(response, "nothing")
    if body.lstrip()[:1] == b"<":
        raise unreadable(response, "a web page in place of data")
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_PIECES:
        raise unreadable(response, "absurdly many values")
    fraction: Callable[[str], object] = Decimal if money else float
    try:
        return json.loads(
            body,
            parse_int=_whole_number,
            parse_float=lambda text: fraction(text[:400]),
            parse_constant=_no_number,
        )
    except RecursionError:
        raise unreadable(response, "absurdly deep nesting") from None
    except (ValueError, ArithmeticError, MemoryError):
        raise unreadable(response, "broken JSON") from None


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("absurd number")
    return int(text)


def _no_number(_text: str) -> None:
    """NaN and the infinities are no JSON; they stand for "not said"."""


def _message_of(response: HttpResponse) -> str:
    """The service's reason in an error's body, which may be anything; "" where it has none fit to show."""
    try:
        answer = read_json(response)
    except FluxLoraError:
        return ""
    return _words(answer) if isinstance(answer, dict) else ""


def _words(answer: dict[str, Any]) -> str:
    data = answer.get("data")
    nested = (data.get("error"), data.get("message")) if isinstance(data, dict) else ()
    for words in (answer.get("message"), answer.get("error"), answer.get("detail"), *nested):
        if text := plain_words(words):
            return text
    return ""


def plain_words(words: object) -> str:
    """A message of the service as one printable line of bounded length; "" where it is none."""
    if isinstance(words, dict):
        words = words.get("message") or words.get("error") or words.get("detail")
    if not isinstance(words, str):
        return ""
    text = printable(" ".join(words[: 4 * MESSAGE_LIMIT].split()))
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def retry_after(response: HttpResponse) -> float | None:
    """Seconds that ``Retry-After`` asks to wait, in either of its forms; None where it says nothing usable."""
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    if re.fullmatch(r"[0-9]{10,40}", text):
        return 1e9  # absurd, but plainly "not soon"
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return max(0.0, (moment - _server_now(response)).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def server_date(response: HttpResponse) -> datetime | None:
    """The server's clock, from the ``Date`` header."""
    try:
        moment = parsedate_to_datetime(response.headers.get("date", ""))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _server_now(response: HttpResponse) -> datetime:
    """The server's clock where it is told: a Retry-After date is meant on that one, ours may be wrong."""
    return server_date(response) or response.received_at


def _redirect_host(response: HttpResponse) -> str:
    target = response.headers.get("location", "")
    try:
        host = urlsplit(urljoin(f"https://{response.host}/", target)).hostname
    except ValueError:
        host = None
    return printable(host[:200]) if target and host else "an unnamed place"
