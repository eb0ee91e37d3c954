"""One parameter: the row of a model's table, and whether a value is allowed by it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .loras import check_lora
from .suggest import kind, nearest, show


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of a model's table. ``type``: string, integer, number, boolean, size, image, url or loras."""

    name: str
    type: str
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    doc: str
    #: Highest number of items, for ``loras``.
    max_items: int | None = None

    @property
    def allowed(self) -> str:
        """What may stand here, in words."""
        return _ALLOWED[self.type](self)


@dataclass(frozen=True, slots=True)
class ParamProblem:
    """What is wrong with one parameter. ``message`` is a whole sentence part, without the key."""

    key: str
    value: Any
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) > 1 else f"{value:g}"


def _range(p: Parameter, noun: str) -> str:
    if p.minimum is None or p.maximum is None:
        return noun
    if p.type == "integer":
        return f"{noun} from {int(p.minimum)} to {int(p.maximum)}"
    return f"{noun} from {_number(p.minimum)} to {_number(p.maximum)}"


def _size_words(p: Parameter) -> str:
    if p.minimum is None or p.maximum is None:
        return "WIDTH*HEIGHT"
    return f"WIDTH*HEIGHT, each from {int(p.minimum)} to {int(p.maximum)}"


_ALLOWED: dict[str, Callable[[Parameter], str]] = {
    "string": lambda p: "one of " + ", ".join(p.choices) if p.choices else "text",
    "integer": lambda p: _range(p, "a whole number"),
    "number": lambda p: _range(p, "a number"),
    "boolean": lambda p: "true or false",
    "size": _size_words,
    "image": lambda p: "a URL (http, https), a data URI, or a file",
    "url": lambda p: "a URL (http, https) or a data URI",
    "loras": lambda p: f"a list of at most {p.max_items} of {{path, scale}}",
}


# ---- checks, by type -------------------------------------------------------------------------


def check_value(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    """Return the value as it enters a job (28.0 as 28 for a whole number), and what is wrong with it."""
    return _CHECKS[p.type](p, value)


def _bad(p: Parameter, value: Any, why: str = "", suggestion: str = "") -> tuple[Any, ParamProblem]:
    shown = show(value)
    message = f"{shown} is {why or 'not allowed'}; allowed: {p.allowed}"
    if suggestion:
        message += f'; did you mean "{suggestion}"?'
    return value, ParamProblem(p.name, value, message, suggestion)


def _wrong_type(p: Parameter, value: Any) -> tuple[Any, ParamProblem]:
    noun = kind(value)
    why = noun if noun != show(value) else "not allowed here"
    return _bad(p, value, why)


def _check_string(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if not isinstance(value, str):
        return _wrong_type(p, value)
    if p.choices and value not in p.choices:
        return _bad(p, value, "not known", nearest(value, p.choices))
    return value, None


def _check_boolean(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    return (value, None) if isinstance(value, bool) else _wrong_type(p, value)


def _check_number(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _wrong_type(p, value)
    if isinstance(value, float) and not math.isfinite(value):
        return _bad(p, value, "not a finite number")
    if p.type == "integer" and isinstance(value, float):
        if not value.is_integer():
            return _bad(p, value, "not a whole number")
        value = int(value)
    if p.minimum is not None and p.maximum is not None and not p.minimum <= value <= p.maximum:
        return _bad(p, value, "out of range")
    return value, None


_SIZE = re.compile(r"([1-9][0-9]{0,4})\*([1-9][0-9]{0,4})")
_LOOSE_SIZE = re.compile(r"\s*([1-9][0-9]{0,4})\s*[x×X*,:]\s*([1-9][0-9]{0,4})\s*")


def _check_size(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if not isinstance(value, str):
        return _wrong_type(p, value)
    match = _SIZE.fullmatch(value)
    if match is None:
        loose = _LOOSE_SIZE.fullmatch(value)
        return _bad(p, value, "not a size", f"{loose[1]}*{loose[2]}" if loose else "")
    if p.minimum is not None and p.maximum is not None:
        for side in match.groups():
            if not p.minimum <= int(side) <= p.maximum:
                return _bad(p, value, "out of range")
    return value, None


_URL = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+(;[a-z0-9=.-]+)*;base64,[A-Za-z0-9+/\s]+=*\s*", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{256,}={0,2}\s*")


def is_remote_image(value: str) -> bool:
    """Whether an ``image`` goes to the service as it stands: nothing, a URL, a data URI, bare base64."""
    return not value or bool(_SCHEME.match(value[:40])) or bool(_BASE64.fullmatch(value))


def _check_image(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if not isinstance(value, str):
        return _wrong_type(p, value)
    if not value or _URL.fullmatch(value):
        return value, None
    if value[:5].lower() == "data:":
        if _DATA_URI.fullmatch(value):
            return value, None
        return _bad(p, value, "no data URI of an image (base64)")
    if _SCHEME.match(value) and not re.match(r"[A-Za-z]:[\\/]", value):
        return _bad(p, value, "not a URL that the service can fetch")
    if p.type == "url" and not _BASE64.fullmatch(value):
        return _bad(p, value, "not a URL")
    return value, None


def _check_loras(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if not isinstance(value, (list, tuple)):
        return _wrong_type(p, value)
    fixed = []
    for number, item in enumerate(value):
        lora, why = check_lora(item)
        if why:
            return value, ParamProblem(f"{p.name}[{number}]{why[0]}", value, why[1])
        fixed.append(lora)
    if p.max_items is not None and len(fixed) > p.max_items:
        why_many = f"{len(fixed)} LoRAs are too many; allowed: at most {p.max_items} on this model"
        return value, ParamProblem(p.name, value, why_many)
    return fixed, None


_CHECKS = {
    "string": _check_string,
    "boolean": _check_boolean,
    "integer": _check_number,
    "number": _check_number,
    "size": _check_size,
    "image": _check_image,
    "url": _check_image,
    "loras": _check_loras,
}
