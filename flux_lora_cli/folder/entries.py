"""Records as JSON and back: how a field is written, read and checked.

What is read may come from anywhere, so all of it is checked. Secrets inside URLs are masked, but for those that the
ledger has to know, which keeps the rest of a record beside the manifest's entry.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, field, fields, is_dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple, TypeAlias

from flux_lora_cli.folder.files import is_safe_path
from flux_lora_cli.text import masked

#: Fields that are sent to where they came from, and so kept with the secrets in them.
_SENT = frozenset({"input", "url"})
_MAX_DEPTH = 100
_MAX_WHOLE, _MAX_COST = 2**63 - 1, Decimal(10) ** 12
# No name of an image: what Windows forbids, a dot file, an end in a dot or a space, what the tool uses itself.
_NOT_AN_IMAGE = re.compile(
    r'[<>:"|?*]|(?:^|/)\.|[ .](?:/|$)|^(?:manifest\.json|index\.html|ledger\.sqlite3.*|inputs/.*)$', re.IGNORECASE
)


class EntryError(ValueError):
    """What was read is not what it should be. The text says where, from the outside in."""


# ---- JSON -----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def decimal_text(amount: Decimal | None) -> str | None:
    """An amount as plain digits without exponent or trailing zeros: ``0.015``."""
    return None if amount is None else format(amount.normalize() + 0, "f")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, default=decimal_text)
_ascii_encoder = json.JSONEncoder(allow_nan=False, default=decimal_text)


def dumps(value: object) -> str:
    """One line of JSON; text as it is, but for half a surrogate pair."""
    text = _encoder.encode(value)
    try:
        text.encode()  # UTF-8 cannot carry those
    except UnicodeEncodeError:
        return _ascii_encoder.encode(value)
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

# ---- kinds of values: what reads one checks it, and raises EntryError -----------------------

Reader = Callable[[Any], Any]
# Kinds of texts and numbers, as annotations of fields name them.
Sha256: TypeAlias = str
TaskId: TypeAlias = str
ImageName: TypeAlias = str
Whole: TypeAlias = int


def _kind(what: str, types: Any, is_right: Reader | None = None, convert: Reader | None = None) -> Reader:
    def read(value: Any) -> Any:
        fits = isinstance(value, types) and (types is bool or not isinstance(value, bool))
        if not fits or (is_right is not None and not is_right(value)):
            raise EntryError(f" is not {what}")
        return value if convert is None else convert(value)

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


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_amount(text: str) -> bool:
    try:
        return len(text) <= 256 and 0 <= Decimal(text) <= _MAX_COST
    except InvalidOperation:  # of a comparison with NaN, too
        return False


def _is_image_name(name: str) -> bool:
    return is_safe_path(name) and not _NOT_AN_IMAGE.search(name)


def many(make: type, gather: Reader = list) -> Reader:
    """A list of objects, each a ``make``."""
    read = _kind("a list", list)
    return lambda value: gather(make(**read_fields(make, item, f"[{at}]")) for at, item in enumerate(read(value)))


def word_of(words: type[Enum]) -> Reader:
    """A word of an Enum."""
    known = {word.value: word for word in words}
    return _kind(f"one of {', '.join(known)}", str, known.__contains__, known.__getitem__)


#: By how the type of a field is written, ``| None`` aside.
KINDS: dict[str, Reader] = {
    "str": _kind("a text", str, None, _shared),
    "bool": _kind("true, false or null", bool),
    "int": _kind("a number", int),
    "float": _kind("a number", (int, float)),
    "Whole": _kind("a whole number", int, lambda number: 0 <= number <= _MAX_WHOLE),
    "Decimal": _kind("an amount", str, _is_amount, Decimal),
    "TaskId": _kind("a task ID", str, re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch),
    "Sha256": _kind("a SHA-256", str, re.compile(r"[0-9a-f]{64}").fullmatch),
    "ImageName": _kind("the name of an image in this folder", str, _is_image_name),
    "tuple[str, ...]": _kind("a list of texts", list, _are_texts, lambda texts: tuple(_shared(texts))),
    "Mapping[str, str]": _kind("an object of texts", dict, lambda texts: _are_texts(texts.values()), _shared),
    "Mapping[str, Any]": _kind("an object", dict, None, _shared),
}

# ---- the fields of a record -----------------------------------------------------------------


def kept(at: str | None, default: Any = None, *, rare: bool = False) -> Any:
    """A field that JSON does not simply have under its own name.

    Args:
        at: its name there, ``task.id`` inside of an object; "": its own, and the entry does not show it; None: it is
            not kept.
        rare: the entry leaves it out where it is empty.
    """
    metadata = {"at": at, "rare": rare}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


class _Column(NamedTuple):
    """How a field is kept: under the name ``at``, inside of the object ``within`` if that is not empty."""

    name: str
    within: str
    at: str
    read: Reader
    required: bool
    rare: bool
    hidden: bool


@lru_cache
def _columns(of: Any) -> list[_Column]:
    found = []
    for each in fields(of):
        read, at = KINDS.get(str(each.type).removesuffix(" | None")), each.metadata.get("at", each.name)
        if read is not None and at is not None:
            within, _, last = (at or each.name).rpartition(".")
            required = each.default is MISSING and each.default_factory is MISSING
            found.append(_Column(each.name, within, last, read, required, each.metadata.get("rare", False), not at))
    return found


def write_fields(record: Any, mask: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entry that shows a record; and the rest, in the same places: what is not shown, or shown with secrets masked.

    ``whole`` puts them together.

    Args:
        mask: False where there are no secrets.
    """
    entry: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, within, at, _, _, rare, hidden in _columns(record.__class__):
        value = shown = getattr(record, name)
        if isinstance(value, (list, tuple)) and value and is_dataclass(value[0]):
            parts = [write_fields(each, mask) for each in value]
            shown, more = [part[0] for part in parts], [part[1] for part in parts]
            if any(more):
                rest[at] = more
        elif mask and value is not None and not hidden:
            shown = masked(value)
            if shown != value and name in _SENT:
                (rest.setdefault(within, {}) if within else rest)[at] = value
        if not hidden:
            inside = entry.setdefault(within, {}) if within else entry
            if shown or not rare:
                inside[at] = shown
        elif value is not None:
            rest[at] = value
    return entry, rest


def whole(entry: Any, rest: Any) -> Any:
    """An entry with the rest of its record."""
    if isinstance(entry, dict) and isinstance(rest, dict):
        return {**entry, **{name: whole(entry.get(name), more) for name, more in rest.items()}}
    if isinstance(entry, list) and isinstance(rest, list):
        return [whole(*pair) for pair in zip(entry, rest, strict=True)]
    return rest


def read_fields(of: type, value: Any, place: str) -> dict[str, Any]:
    """The fields of a record that an object gives. Raises EntryError.

    Args:
        place: where it was found, for messages: ``jobs[3]``.
    """
    if not isinstance(value, dict):
        raise EntryError(f"{place} is not an object")
    found: dict[str, Any] = {}
    for name, within, at, read, required, *_ in _columns(of):
        holder = value.get(within) if within else value
        if not isinstance(holder, dict):
            raise EntryError(f"{place}.{within} is not an object")
        item = holder.get(at)
        try:
            if item is not None or required:
                found[name] = read(item)
        except EntryError as error:
            raise EntryError(f"{'.'.join(filter(None, (place, within, at)))}{error}") from None
    return found
