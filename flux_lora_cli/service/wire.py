"""What goes over the wire, without I/O: requests out, answers in: tasks, prices, the bill.

Paths and field names: the API page for v2, the v3 documentation and the official clients' source for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from flux_lora_cli.errors import Rejected
from flux_lora_cli.service.envelope import Answer, fields, items_of, money, open_envelope, raise_status, unreadable
from flux_lora_cli.service.values import is_number

#: Most outputs of a task that are believed (the API makes at most 4), and milliseconds that it took: a day.
MAX_OUTPUTS, MAX_MS = 64, 86_400_000

#: Spellings of statuses that mean the documented one. [seen in third-party captures]
_SPELLINGS = {
    **dict.fromkeys(("succeeded", "success", "complete"), "completed"),
    **dict.fromkeys(("canceled", "aborted"), "cancelled"),
    **dict.fromkeys(("timed_out", "timedout"), "timeout"),
    **dict.fromkeys(("errored", "failure"), "failed"),
}
#: Statuses after which a task does not change. [API page; official SDK source; the last three: captures]
TERMINAL = frozenset({"completed", "failed", "cancelled", "timeout", "deleted", "error", "rejected", "expired"})

# What a task's own code means. [error codes page of the documentation]
_CODES = {
    1200: "content moderation refused the prompt or an image",
    1400: "the service does not accept a parameter",
    1401: "a parameter that the service needs is missing",
    1402: "the service could not reach the input image or a LoRA's URL",
    1403: "the task failed at the service",
    1405: "the task failed at the service",
    5000: "the service had an internal error",
    5003: "the model is not available at the moment",
    5004: "the service ran out of time",
}


@dataclass(frozen=True, slots=True)
class Task:
    id: str  # a plain token: letters, digits, - and _
    status: str  # lower case, spellings unified; one that is not in TERMINAL means "not finished yet"
    model: str | None = None  # as the service names it
    outputs: tuple[str, ...] = ()  # URLs, data URIs or bare base64; "" for an entry that names nothing
    nsfw: tuple[bool | None, ...] = ()  # one per output; None where the service did not say
    created_at: str | None = None  # ISO timestamp as sent, by the service's clock
    execution_ms: int | None = None
    error: str = ""  # why it failed
    inputs: Mapping[str, Any] | None = None  # the request, where the list of predictions echoes it

    @property
    def terminal(self) -> bool:
        """Whether the task will not change any more."""
        return self.status in TERMINAL

    @property
    def completed(self) -> bool:
        return self.status == "completed"


def is_task_id(text: object) -> bool:
    """Whether this is safe in a URL, a path and a terminal."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text) is not None


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time, with up to nine decimals, as aware UTC; None where it is not one."""
    try:
        moment = datetime.fromisoformat((text or "")[:64].strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def decode_submit(answer: Answer) -> Task:
    """The task that a submission made. After Uncertain and BadAnswer something may have been made, too."""
    data = fields(open_envelope(answer, "submit"))
    if not is_task_id(data.get("id")):
        raise unreadable(answer, "no valid task ID")
    return _task(answer, data, data["id"])


def decode_task(answer: Answer, task_id: str) -> Task:
    """The state of one task. Any error but TaskNotFound says that this poll failed; the task may be well."""
    data = fields(open_envelope(answer, "poll"))
    if not isinstance(data.get("status"), str):
        raise unreadable(answer, "a task without a status")
    if data.get("id") not in (None, "", task_id):
        raise unreadable(answer, "the task is another")
    return _task(answer, data, task_id)


def decode_predictions(answer: Answer) -> list[Task]:
    """One page of recent tasks. Items that name no task are left out; an empty page is the end."""
    items = items_of(answer, open_envelope(answer, "list"))
    named = ((item, item.get("id") or item.get("uuid")) for item in map(fields, items))
    tasks = [_task(answer, item, str(name)) for item, name in named if is_task_id(name)]
    if items and not tasks:
        raise unreadable(answer, "no entry of the list names a task")
    return tasks


def _task(answer: Answer, data: dict[str, Any], task_id: str) -> Task:
    outputs = data.get("outputs") or data.get("output") or data.get("images") or []
    found = tuple(_output(answer, each) for each in (outputs if isinstance(outputs, list) else [outputs])[:MAX_OUTPUTS])
    times: tuple[Any, ...] = (data.get("executionTime"), fields(data.get("timings")).get("inference"))
    code = data["code"] if isinstance(data.get("code"), int) else 0
    return Task(
        id=task_id,
        status=_status(data.get("status") or "created"),
        model=answer.plain(data.get("model"), 200) or None,
        outputs=found,
        nsfw=_nsfw(data.get("has_nsfw_contents"), len(found)),
        created_at=answer.plain(data.get("created_at"), 64) or None,
        execution_ms=next((round(each) for each in times if is_number(each) and 0 <= each <= MAX_MS), None),
        error=": ".join(filter(None, (_CODES.get(code), answer.plain(data.get("error"))))),
        inputs=fields(data.get("inputs")) or fields(data.get("input")) or None,
    )


def _status(status: object) -> str:
    """A plain lower-case word. Anything else is not known, and so "not finished yet"."""
    text = re.sub(r"[\s-]+", "_", status.strip().lower()) if isinstance(status, str) else ""
    word = re.match("[a-z][a-z_]{0,39}", text)  # the first of "succeeded(completed)"
    return _SPELLINGS.get(word[0], word[0]) if word else "unknown"


def _output(answer: Answer, output: Any) -> str:
    """One output; "" for one that names nothing, so that the others keep their numbers."""
    if isinstance(output, list) and len(output) == 1:
        output = output[0]
    if isinstance(output, dict):
        output = output.get("url") or output.get("image")
    text = output.strip().encode("utf-8", "replace").decode() if isinstance(output, str) else ""
    if url := re.match("https?:", text, re.IGNORECASE):
        return answer.clean(url[0].lower() + text[url.end() :])
    # Base64, or a data URI of it; in the standard alphabet, and padded.
    head, comma, payload = text.rpartition(",")
    packed = "".join(payload.split()).replace("-", "+").replace("_", "/").rstrip("=")
    text = f"{head.lower()}{comma}{packed}{'=' * (-len(packed) % 4)}"
    return answer.clean(text) if len(text) < 10_000 else text


def _nsfw(flags: object, count: int) -> tuple[bool | None, ...]:
    """One flag per output. A missing one is not known, which is not the same as harmless."""
    known = [flags] if isinstance(flags, bool) and count == 1 else flags if isinstance(flags, list) else []
    return tuple([*(each if isinstance(each, bool) else None for each in known), *[None] * count][:count])


# ---- money --------------------------------------------------------------------------------------

#: USD per request; less is not believed.
MIN_PRICE = Decimal("0.000001")
#: Most task IDs per search of the bill. [official client source]
MAX_BILL_IDS = 100


@dataclass(frozen=True, slots=True)
class BillItem:
    id: str
    kind: str  # deduct, refund, or another word of the service
    price: Decimal | None  # as sent, sign and all; None where it is not a number
    shown: str  # the price as it came, with its unit
    unit: str = ""  # the currency or unit that was named beside it; pages differ
    created_at: str | None = None
    task_id: str | None = None  # None for a charge that is not a task's
    model: str | None = None
    failed: bool = False  # the task, as the bill knows it


@dataclass(frozen=True, slots=True)
class BillPage:
    """One page of the bill. ``unread``: entries that cannot be understood."""

    items: tuple[BillItem, ...]
    has_more: bool
    unread: int


def decode_price(answer: Answer) -> tuple[Decimal | None, str]:
    """What the request (or one image: ``unit_price``) would cost, USD, None where the service does not say; a note on
    what was odd about it. A discount that cannot be believed is none.
    """
    try:
        data = fields(open_envelope(answer, "price"))
    except Rejected:
        return None, ""
    full, cheaper = data.get("price", data.get("unit_price")), data.get("discounted_price")
    if full is None or data.get("currency") not in (None, "", "USD", "usd", "$", "US$"):
        return None, ""
    price = money(full)
    if price is None or price < MIN_PRICE:
        return None, f"the service quotes a price of {answer.plain(str(full))}, which cannot be one"
    discounted = price if cheaper is None else money(cheaper)
    if discounted is not None and MIN_PRICE <= discounted <= price:
        return discounted, ""
    odd = f"the service quotes a discounted price of {answer.plain(str(cheaper))} beside a price of {price}"
    return price, f"{odd}; the full one counts"


def decode_balance(answer: Answer) -> Decimal | None:
    """The account's credit, USD; None where the service does not say."""
    try:
        value = money(fields(open_envelope(answer, "balance")).get("balance"))
    except Rejected:
        return None
    if value is None:
        raise unreadable(answer, "no balance")
    return value


def decode_bill(answer: Answer) -> BillPage:
    """One page of the bill. Raises ServiceError where this service, or this key, has none."""
    data = open_envelope(answer, "bill")
    entries = items_of(answer, data)
    items = tuple(item for entry in map(fields, entries) if (item := _bill_item(answer, entry)) is not None)
    if entries and not items:
        raise unreadable(answer, "no entry of the bill is readable")
    more = fields(data).get("has_more")  # where it does not say, the next page does
    return BillPage(items, bool(entries) if more is None else more in (True, "true"), len(entries) - len(items))


def _bill_item(answer: Answer, item: dict[str, Any]) -> BillItem | None:
    kind, uuid = answer.plain(item.get("billing_type"), 40).lower(), answer.plain(item.get("uuid"), 128)
    if not kind or not uuid:
        return None
    price, unit = item.get("price"), answer.plain(item.get("currency") or item.get("unit"), 20)
    task = fields(item.get("prediction"))
    return BillItem(
        id=uuid,
        kind=kind,
        price=money(price),
        shown=f"{'no price' if price is None else answer.plain(str(price), 40)} {unit}".strip(),
        unit=unit,
        created_at=answer.plain(item.get("created_at"), 64) or None,
        task_id=task["uuid"] if is_task_id(task.get("uuid")) else None,
        model=answer.plain(task.get("model_uuid"), 200) or None,
        failed=_status(task.get("status")) in TERMINAL - {"completed", "deleted"},
    )


# ---- uploads ------------------------------------------------------------------------------------

# Set by the transport itself, or the key's and nobody else's.
_OWN_HEADERS = frozenset(
    ("authorization", "connection", "content-length", "cookie", "host", "proxy-authorization", "transfer-encoding")
)


def decode_upload(answer: Answer) -> tuple[str, dict[str, str], str]:
    """Where to put a file, with which headers, and the URL under which the service then knows it.

    The older upload, which takes the file at once, has the last of them only.
    """
    data = fields(open_envelope(answer, "upload"))
    upload = fields(data.get("upload"))
    url, download_url = upload.get("url", ""), data.get("download_url")
    if not isinstance(url, str) or not isinstance(download_url, str) or not download_url:
        raise unreadable(answer, "no URL for the upload")
    given = fields(upload.get("headers")).items()
    return url, {name: str(value) for name, value in given if name.lower() not in _OWN_HEADERS}, download_url


def check_upload_put(answer: Answer) -> None:
    """Raise what the storage's status means. Its refusal says nothing about the key, and its body nothing at all."""
    if answer.status in (401, 403):
        raise Rejected(f"{answer.host} refused the upload ({answer.status})", "Try again.")
    if not 200 <= answer.status < 300:
        raise_status(answer, answer.status, "upload", "")
