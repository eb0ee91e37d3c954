"""Records as JSON and back: the manifest's entry of a job, and what the ledger alone keeps beside it.

One table tells how each object is written and how it is read. What is read may come from anywhere, so all of it is
checked. The entry is what is shown and shared: secrets inside URLs are masked in it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple, Union

from flux_lora_cli.folder.files import is_safe_path
from flux_lora_cli.folder.records import JobRecord, OutputRecord, PastTask, State
from flux_lora_cli.text import mask_secrets, masked

#: Characters of a name, message or URL that are kept; what is longer is not read back.
MAX_TEXT = 65_536
_MAX_DEPTH = 100
_MAX_WHOLE, _MAX_COST = 2**63 - 1, Decimal(10) ** 12
_HASH = re.compile(r"[0-9a-f]{64}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# No name of an image: what Windows forbids, a dot file, an end in a dot or a space, what the tool uses itself.
_NOT_AN_IMAGE = re.compile(
    r'[<>:"|?*]|(?:^|/)\.|[ .](?:/|$)|^(?:manifest\.json|index\.html|ledger\.sqlite3.*|inputs/.*)$', re.IGNORECASE
)


class EntryError(ValueError):
    """What was read is not what it should be. The text says where, from the outside in."""


# ---- JSON -----------------------------------------------------------------------------------

_readable = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode


def dumps(value: object) -> str:
    """One line of JSON; text as it is, but for what UTF-8 cannot carry (half a surrogate pair)."""
    text = _readable(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def loads(text: str) -> Any:
    """JSON, strictly. Raises EntryError."""
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise EntryError(f"it is not valid JSON: {str(error)[:100]}") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number of JSON")
    return number


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


@lru_cache(maxsize=256)
def decimal_text(amount: Decimal | None) -> str | None:
    """An amount as plain digits without exponent or trailing zeros: ``0.015``."""
    return None if amount is None else format(amount.normalize() + 0, "f")


# ---- tables ---------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of value: how it is read (which may raise EntryError) and written (None: as it is).

    ``required``: it may not be missing or null; ``rare``: it is written only where there is something to write.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Any] | None = None
    required: bool = False
    rare: bool = False


#: Names in the JSON, each with the field of the record and its kind, or with the table of an object inside. A null is
#: the field's default.
Table = dict[str, Union["tuple[str, Kind]", "Table"]]


def _fields(**kinds: Kind) -> Table:
    """Fields that have the same name in the JSON."""
    return {name: (name, kind) for name, kind in kinds.items()}


def read_fields(table: Table, value: Any, at: str = "") -> dict[str, Any]:
    """The fields that an object gives. Raises EntryError.

    Args:
        at: its place, for the message.
    """
    if not isinstance(value, dict):
        raise EntryError(f"{at} is not an object")
    found: dict[str, Any] = {}
    for name, column in table.items():
        item = value.get(name)
        try:
            if isinstance(column, dict):
                found.update(read_fields(column, item))
            elif item is not None:
                found[column[0]] = column[1].read(item)
            elif column[1].required:
                raise EntryError(" is missing")
        except EntryError as error:
            raise EntryError(f"{at}.{name}{error}") from None
    return found


def write_fields(table: Table, record: object) -> dict[str, Any]:
    """The object that shows the fields of a record."""
    written: dict[str, Any] = {}
    for name, column in table.items():
        if isinstance(column, dict):
            written[name] = write_fields(column, record)
            continue
        field, (_, write, _, rare) = column
        value = getattr(record, field)
        if write is not None:
            value = write(value)
        if not rare or (value is not None and value is not False and value != {}):
            written[name] = value
    return written


def many(make: Callable[..., Any], table: Table, gather: Callable[[Any], Any] = list) -> Kind:
    """A list of objects, each a ``make`` of its fields."""

    def read(value: Any) -> Any:
        return gather(make(**read_fields(table, item, f"[{number}]")) for number, item in enumerate(_list(value)))

    return Kind(read, lambda items: [write_fields(table, item) for item in items])


# ---- kinds ----------------------------------------------------------------------------------


def _checked(wanted: type | tuple[type, ...], what: str, is_right: Callable[[Any], object] = lambda value: True) -> Any:
    def read(value: Any) -> Any:
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool) or not is_right(value):
            raise EntryError(f" is not {what}")
        return value

    return read


def _shared(value: Any, left: int = _MAX_DEPTH) -> Any:
    """Keys and short texts, which many records have alike, are kept once."""
    if not left:
        raise EntryError(" is nested too deeply")
    if isinstance(value, dict):
        return {intern(name): _shared(item, left - 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_shared(item, left - 1) for item in value]
    return intern(value) if isinstance(value, str) and len(value) <= 32 else value


def _is_amount(text: str) -> bool:
    try:
        return len(text) <= 256 and 0 <= Decimal(text) <= _MAX_COST
    except InvalidOperation:  # of a comparison with NaN, too
        return False


def _shown(text: str | None) -> str | None:
    return None if text is None else mask_secrets(text[:MAX_TEXT])[:MAX_TEXT]


def _kept_url(url: str | None) -> str | None:
    """None for a whole image in base64: the task's result has it."""
    return None if url is None or len(url) > MAX_TEXT // 2 else url


def _secret(value: Any) -> Any:
    """What the entry shows masked; None for anything else."""
    return value if masked(value) != value else None


_any_text = _checked(str, f"a text of at most {MAX_TEXT:,} characters", lambda text: len(text) <= MAX_TEXT)
_list = _checked(list, "a list")
_object = _checked(dict, "an object")
_amount = _checked(str, "an amount", _is_amount)
_state = _checked(
    str, f"one of {', '.join(state.value for state in State)}", {state.value for state in State}.__contains__
)


def _text(value: Any) -> Any:
    return _shared(_any_text(value))


TEXT = Kind(_text, _shown)
REQUIRED_TEXT = Kind(_text, required=True)
FLAG = Kind(_checked(bool, "true, false or null"))
_RARE_TEXT = Kind(_text, rare=True)
_URL = Kind(_any_text, lambda url: _shown(_kept_url(url)))
_ID = Kind(_checked(str, "a task ID", _TASK_ID.fullmatch))
_SHA256 = Kind(_checked(str, "a SHA-256", _HASH.fullmatch))
_FILE = Kind(_checked(str, "the name of an image in this folder",
                      lambda name: is_safe_path(name) and not _NOT_AN_IMAGE.search(name)))  # fmt: skip
_MONEY = Kind(lambda value: Decimal(_amount(value)), decimal_text)
_WHOLE = Kind(_checked(int, "a whole number", lambda number: 0 <= number <= _MAX_WHOLE),
              lambda number: number if 0 <= (number or 0) <= _MAX_WHOLE else None)  # fmt: skip
_RARE_NUMBER = Kind(_checked((int, float), "a number"), rare=True)
_STATE = Kind(lambda value: State(_state(value)), lambda state: state.value, required=True)
_INPUT = Kind(lambda value: _shared(_object(value)), masked)
_NAMES = Kind(lambda value: tuple(_text(name) for name in _list(value)), masked)
_AXES = Kind(lambda value: {intern(name): _text(choice) for name, choice in _object(value).items()}, masked,
             rare=True)  # fmt: skip

# ---- the manifest's entry -------------------------------------------------------------------

_OUTPUT = _fields(
    index=_WHOLE._replace(required=True), url=_URL, nsfw=FLAG, file=_FILE, sha256=_SHA256, bytes=_WHOLE, width=_WHOLE,
    height=_WHOLE, media_type=TEXT, saved_at=TEXT, error=TEXT,
)  # fmt: skip
_PAST: Table = {
    **_fields(task_id=_ID, error=TEXT),
    "cost_usd": ("cost", _MONEY),
    "refunded_usd": ("refunded", _MONEY),
    "submitted_at": ("intent_at", TEXT),
}
_TASK: Table = {
    "id": ("task_id", _ID),
    "model": ("task_model", TEXT),
    "status": ("task_status", TEXT),
    "created_at": ("task_created_at", TEXT),
    "execution_ms": ("execution_ms", _WHOLE),
    "error": ("task_error", TEXT),
    "matched_by": ("matched_by", TEXT),
}
_JOB: Table = {
    **_fields(id=TEXT, aliases=_NAMES, preset=TEXT, fingerprint=_SHA256, state=_STATE),
    "request": _fields(model=TEXT, input=_INPUT),
    "task": _TASK,
    **_fields(outputs=many(OutputRecord, _OUTPUT)._replace(required=True), attempts=_WHOLE),
    "cost_usd": ("cost", _MONEY),
    **_fields(error=TEXT, history=many(PastTask, _PAST, tuple), axes=_AXES),
    "refunded_usd": ("refunded", _MONEY._replace(write=lambda usd: decimal_text(usd or None), rare=True)),
    "submitted_at": ("intent_at", _RARE_TEXT),
}
#: What the ledger keeps beside it: the real request, where it was sent, the price, files on their way.
_PRIVATE_OUTPUT: Table = {
    **_fields(mtime_ns=_RARE_NUMBER, writing=_FILE._replace(rare=True), temp=_RARE_TEXT),
    **_fields(left_out=FLAG._replace(rare=True), url=Kind(_any_text, lambda url: _secret(_kept_url(url)), rare=True)),
}
_PRIVATE: Table = {
    **_fields(api_version=_RARE_TEXT, service_clock=_RARE_NUMBER, price=_MONEY._replace(rare=True)),
    **_fields(input=_INPUT._replace(write=_secret, rare=True), outputs=many(dict, _PRIVATE_OUTPUT)),
}


def entry(record: JobRecord) -> str:
    """The manifest's entry of a job, as JSON."""
    return dumps(write_fields(_JOB, record))


def private(record: JobRecord) -> str:
    """What the ledger keeps beside the entry, as JSON."""
    return dumps(write_fields(_PRIVATE, record))


def record_of(value: Any, at: str, order: int = 0, key: str | None = None) -> JobRecord:
    """The record of an entry.

    The key is the fingerprint, or ``task:ID`` without one. Paths lie inside the folder as far as their text tells;
    links are for ``files.inside`` to check, and hashes for whoever uses the file.

    Args:
        at: its place, for messages: ``jobs[3]``.
        key: where the ledger has one of its own for it.

    Raises EntryError: something is not as the format says. Nothing is left out, for such a job would be paid again.
    """
    fields = read_fields(_JOB, value, at)
    cost, task_id, fingerprint = fields.pop("cost", None), fields.get("task_id"), fields.get("fingerprint")
    if key is None and fingerprint is None and task_id is None:
        raise EntryError(f"{at} has neither a fingerprint nor a task")
    record = JobRecord(key or fingerprint or f"task:{task_id}", order=order, **fields)
    if len({output.index for output in record.outputs}) != len(record.outputs):
        raise EntryError(f"{at}.outputs has one index twice")
    if cost is not None and (record.attempts or task_id):
        earlier = sum((past.cost - past.refunded for past in record.history if past.cost is not None), Decimal(0))
        record.price = max(cost - earlier, Decimal(0)) + record.refunded
    return record


def add_private(record: JobRecord, value: Any, at: str) -> None:
    """Add to a record what the ledger kept beside its entry. Raises EntryError."""
    fields = {"price": None, **read_fields(_PRIVATE, value, at)}
    for output, more in zip(record.outputs, fields.pop("outputs", ()), strict=False):
        _set(output, more)
    _set(record, fields)


def _set(record: object, fields: Mapping[str, Any]) -> None:
    for field, value in fields.items():
        setattr(record, field, value)
