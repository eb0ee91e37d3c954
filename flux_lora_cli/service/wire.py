"""What goes over the wire, without I/O: requests out, answers in: tasks, prices, the bill.

Paths and field names: the API page for v2, the v3 documentation and the official clients' source for the rest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from flux_lora_cli.errors import Rejected, UsageError
from flux_lora_cli.service.envelope import Answer, items_of, money, open_envelope, plain_words, unreadable
from flux_lora_cli.service.models import MODEL_ID, Version

#: Most outputs of a task that are believed; the API makes at most 4.
MAX_OUTPUTS = 64

# ---- tasks --------------------------------------------------------------------------------------

#: Spellings of statuses that mean the documented one. [seen in third-party captures]
_SPELLINGS = {
    **dict.fromkeys(("succeeded", "success", "complete", "succeeded(completed)", "completed(succeeded)"), "completed"),
    **dict.fromkeys(("canceled", "aborted"), "cancelled"),
    **dict.fromkeys(("timed_out", "timed-out", "timedout"), "timeout"),
    **dict.fromkeys(("errored", "failure"), "failed"),
}
#: Statuses after which a task does not change. [API page; official SDK source; the last three: captures]
TERMINAL = frozenset({"completed", "failed", "cancelled", "timeout", "deleted", "error", "rejected", "expired"})

# What a task's own code means. [error codes page of the documentation]
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


@dataclass(frozen=True, slots=True)
class Task:
    """What the service says of a task.

    Attributes:
        id: a plain token (letters, digits, ``-`` and ``_``).
        status: lower case, spellings unified; one that is not in TERMINAL means "not finished yet".
        model: as the service names it; None where it did not say.
        outputs: URLs, data URIs or bare base64; "" for an entry that names nothing.
        nsfw: one entry per output; None where the service did not say.
        created_at: ISO timestamp as sent, by the service's clock.
        execution_ms: milliseconds (``executionTime`` on v2, ``timings.inference`` on v3).
        error: the reason of a failure, "" where there is none.
        inputs: the request as the list of predictions echoes it; None where it does not.
    """

    id: str
    status: str
    model: str | None = None
    outputs: tuple[str, ...] = ()
    nsfw: tuple[bool | None, ...] = ()
    created_at: str | None = None
    execution_ms: int | None = None
    error: str = ""
    inputs: Mapping[str, Any] | None = None

    @property
    def terminal(self) -> bool:
        """Whether the task will not change any more."""
        return self.status in TERMINAL

    @property
    def completed(self) -> bool:
        """Whether the task ended well."""
        return self.status == "completed"

    @property
    def created(self) -> datetime | None:
        """``created_at`` as an aware time; None where it cannot be read."""
        return parse_time(self.created_at)


def is_task_id(text: object) -> bool:
    """Whether this is a plain token, safe in a URL, a path and a terminal."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text) is not None


def submit_path(model: str, version: Version) -> str:
    """The path of a submission; UsageError where this is not a model ID."""
    if not MODEL_ID.fullmatch(model):
        raise UsageError(f"not a valid model ID: {model[:80]!r}", "A model ID looks like wavespeed-ai/flux-dev-lora.")
    return f"/api/{version}/{quote(model)}"


def result_path(task_id: str, version: Version) -> str:
    """The path of a poll. It comes from the ID alone: the service's own ``urls.get`` may name another host."""
    if not is_task_id(task_id):
        raise UsageError(f"not a valid task ID: {task_id[:80]!r}", "A task ID has letters, digits, - and _ only.")
    return f"/api/{version}/predictions/{task_id}/result"


def predictions_body(page: int, page_size: int, created_after: datetime | None = None) -> dict[str, Any]:
    """One page of recent tasks, newest first, with their inputs. ``page`` counts from 1."""
    body: dict[str, Any] = {"page": page, "page_size": page_size, "include_inputs": True}
    return {**body, "created_after": iso_seconds(created_after)} if created_after else body


def iso_seconds(moment: datetime) -> str:
    """Whole seconds of UTC, as the official clients write them."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time, with up to nine decimals, as aware UTC; None where it is not one."""
    try:
        moment = datetime.fromisoformat((text or "")[:64].strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def decode_submit(answer: Answer) -> Task:
    """The task that a submission made. After Uncertain and BadAnswer something may have been made, too."""
    data = open_envelope(answer, "submit")
    if not isinstance(data, dict) or not is_task_id(data.get("id")):
        raise unreadable(answer, "an answer without a usable task ID")
    return _task(data, data["id"])


def decode_task(answer: Answer, task_id: str) -> Task:
    """The state of one task. Any error but TaskNotFound says that this poll failed; the task may be well."""
    data = open_envelope(answer, "poll")
    if not isinstance(data, dict) or not isinstance(data.get("status"), str):
        raise unreadable(answer, "an answer without a task's status")
    if data.get("id") not in (None, "", task_id):
        raise unreadable(answer, "an answer about another task")
    return _task(data, task_id)


def decode_predictions(answer: Answer) -> list[Task]:
    """One page of recent tasks. Items that name no task are left out; an empty page is the end."""
    items = items_of(answer, open_envelope(answer, "list"))
    return [_task(item, item["id"]) for item in items if isinstance(item, dict) and is_task_id(item.get("id"))]


def _task(data: dict[str, Any], task_id: str) -> Task:
    outputs: Any = next((data[name] for name in ("outputs", "output", "images") if data.get(name)), [])
    found = tuple(map(_output, (outputs if isinstance(outputs, list) else [outputs])[:MAX_OUTPUTS]))
    inputs = next((data[name] for name in ("inputs", "input") if isinstance(data.get(name), dict)), None)
    return Task(
        id=task_id,
        status=status_word(data.get("status") or "created"),
        model=sys.intern(plain_words(data.get("model"))[:200]) or None,  # the same in every answer of a run
        outputs=found,
        nsfw=_nsfw(data.get("has_nsfw_contents"), len(found)),
        created_at=plain_words(data.get("created_at"))[:64] or None,
        execution_ms=_execution_ms(data),
        error=_error(data),
        inputs=inputs,
    )


def status_word(status: object) -> str:
    """A status as a plain lower-case word. Anything else is not known, and so "not finished yet"."""
    text = re.sub(r"\s+", "_", status.strip().lower()) if isinstance(status, str) else ""
    plain = re.fullmatch(r"[a-z][a-z_-]{0,39}(\([a-z_-]{1,39}\))?", text)
    return sys.intern(_SPELLINGS.get(text, text)) if plain else "unknown"


def _output(output: object) -> str:
    """One output; "" for one that names nothing, so that the others keep their numbers."""
    if isinstance(output, list) and len(output) == 1:
        output = output[0]
    if isinstance(output, dict):
        names = ("url", "download_url", "image", "b64_json", "base64")
        output = next((output[name] for name in names if isinstance(output.get(name), str)), "")
    text = output.strip().encode("utf-8", "replace").decode() if isinstance(output, str) else ""
    if match := re.match(r"https?://", text, re.IGNORECASE):
        return match[0].lower() + text[match.end() :]
    # Base64, or a data URI of it, in the standard alphabet and padded; any other text as it is.
    head, comma, payload = text.partition(",") if text[:5].lower() == "data:" else ("", "", text)
    if not re.fullmatch(r"[A-Za-z0-9+/_\s-]+=*\s*", payload):
        return text
    packed = "".join(payload.split()).replace("-", "+").replace("_", "/").rstrip("=")
    return f"{head.lower() if comma else ''}{comma}{packed}{'=' * (-len(packed) % 4)}"


def _nsfw(flags: object, count: int) -> tuple[bool | None, ...]:
    """One flag per output. A missing one is not known, which is not the same as harmless."""
    known = [flags] if isinstance(flags, bool) and count == 1 else flags if isinstance(flags, list) else []
    return tuple([*(each if isinstance(each, bool) else None for each in known), *[None] * count][:count])


def _execution_ms(data: dict[str, Any]) -> int | None:
    timings = data.get("timings")
    inference = timings.get("inference") if isinstance(timings, dict) else None
    for value in (data.get("executionTime"), inference):
        # A day bounds it: no image takes longer.
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400_000:
            return round(value)
    return None


def _error(data: dict[str, Any]) -> str:
    """Why a task failed: what its code means in plain words, then what the service said."""
    said, code = plain_words(data.get("error")), data.get("code")
    meaning = _CODES.get(code, "") if isinstance(code, int) else ""
    return ": ".join(filter(None, (meaning, said)))


# ---- money --------------------------------------------------------------------------------------

#: USD per request; less is not believed.
MIN_PRICE = Decimal("0.000001")
#: Most task IDs per search of the bill. [official client source]
MAX_BILL_IDS = 100


@dataclass(frozen=True, slots=True)
class BillItem:
    """One entry of the bill.

    Attributes:
        kind: ``deduct``, ``refund``, or another word of the service.
        price: as sent, sign and all; None where it is not a number.
        shown: the price as it came, with a unit or currency where one was named.
        unit: the currency or unit named beside the price; "" for none. [pages differ in units]
        task_id: None for a charge that is not a task's.
    """

    id: str
    kind: str
    price: Decimal | None
    shown: str
    unit: str = ""
    created_at: str | None = None
    task_id: str | None = None
    model: str | None = None

    @property
    def created(self) -> datetime | None:
        """``created_at`` as an aware time; None where it cannot be read."""
        return parse_time(self.created_at)


@dataclass(frozen=True, slots=True)
class BillPage:
    """One page of the bill. ``unread``: entries that cannot be understood."""

    items: tuple[BillItem, ...]
    has_more: bool
    unread: int = 0


def bill_body(
    page: int, page_size: int, task_ids: Sequence[str], start: datetime | None, end: datetime | None
) -> dict[str, Any]:
    """A search of the bill: of at most 100 tasks, or of a time, ``end`` excluded."""
    body: dict[str, Any] = {"page": page, "page_size": page_size}
    body |= {"prediction_uuids": list(task_ids)} if task_ids else {}
    return body | {name: iso_seconds(at) for name, at in (("start_time", start), ("end_time", end)) if at is not None}


def decode_price(answer: Answer) -> tuple[Decimal | None, str]:
    """What the request (or one image: ``unit_price``) would cost, USD, None where the service does not say; a note on
    what was odd about it. A discount that cannot be believed is none.
    """
    try:
        data = open_envelope(answer, "price", exact=True)
    except Rejected:
        return None, ""
    currency = data.get("currency") if isinstance(data, dict) else "none"
    if currency not in (None, "", "USD", "usd", "$", "US$"):
        return None, ""
    said = next(
        (data[name] for name in ("price", "unit_price", "discounted_price") if data.get(name) is not None), None
    )
    full, cheaper = money(data.get("price", data.get("unit_price"))), data.get("discounted_price")
    if full is None or full < MIN_PRICE:
        odd = f"the service quotes a price of {plain_words(str(said))}, which cannot be one"
        return None, odd if said is not None else ""
    discounted = full if cheaper is None else money(cheaper)
    if discounted is not None and MIN_PRICE <= discounted <= full:
        return discounted, ""
    odd = f"the service quotes a discounted price of {plain_words(str(cheaper))} beside a price of {full}"
    return full, f"{odd}; the full one counts"


def decode_balance(answer: Answer) -> Decimal | None:
    """The account's credit, USD; None where the service does not say."""
    try:
        data = open_envelope(answer, "balance", exact=True)
    except Rejected:
        return None
    value = money(data.get("balance")) if isinstance(data, dict) else None
    if value is None:
        raise unreadable(answer, "an answer without a balance")
    return value


def decode_bill(answer: Answer) -> BillPage:
    """One page of the bill. Raises ServiceError where this service, or this key, has none."""
    data = open_envelope(answer, "bill", exact=True)
    entries = items_of(answer, data)
    items = tuple(item for item in map(_bill_item, entries) if item is not None)
    if entries and not items:
        raise unreadable(answer, "a bill without a readable entry")
    return BillPage(items, isinstance(data, dict) and data.get("has_more") is True, len(entries) - len(items))


def _bill_item(item: object) -> BillItem | None:
    if not isinstance(item, dict):
        return None
    kind, uuid = plain_words(item.get("billing_type")).lower(), plain_words(item.get("uuid"))[:128]
    task = item["prediction"] if isinstance(item.get("prediction"), dict) else {}
    unit = plain_words(item.get("currency") or item.get("unit"))[:20]
    if not kind or not uuid:
        return None
    return BillItem(
        id=uuid,
        kind=kind[:40],
        price=money(item.get("price")),
        shown=f"{plain_words(str(item.get('price')))[:40]} {unit}".strip(),
        unit=unit,
        created_at=plain_words(item.get("created_at"))[:64] or None,
        task_id=task["uuid"] if is_task_id(task.get("uuid")) else None,
        model=plain_words(task.get("model_uuid"))[:200] or None,
    )
