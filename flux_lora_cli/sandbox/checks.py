"""Parameters checked as the documentation does; what it does not know is ignored (and billed)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from .messages import Refusal
from .models import MAX_SCALE, Parameter, table_of

_SIZE: Final = re.compile(r"([0-9]{1,5})\*([0-9]{1,5})")


def checked(model: str, version: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Every parameter of the model with the value that will be used; unknown keys are dropped.

    Raises:
        Refusal: 400, naming the first parameter that is wrong and what is allowed.
    """
    table = table_of(model, version)
    return {name: _value(name, item, inputs.get(name)) for name, item in table.items()}


def _value(name: str, item: Parameter, value: Any) -> Any:
    if value is None:
        return item.default
    return _CHECKS[item.kind](name, item, value)


def _refuse(name: str, why: str) -> Refusal:
    return Refusal(400, f"invalid parameter {name}: {why}")


def _in_range(name: str, item: Parameter, value: float) -> None:
    if (item.low is not None and value < item.low) or (item.high is not None and value > item.high):
        raise _refuse(name, f"{value} is not between {item.low} and {item.high}")


def _string(name: str, item: Parameter, value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse(name, "a string is expected")
    if item.choices and value not in item.choices:
        raise _refuse(name, f"one of {', '.join(item.choices)} is expected")
    return value


def _boolean(name: str, item: Parameter, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse(name, "a boolean is expected")
    return value


def _number(name: str, item: Parameter, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(name, "a number is expected")
    _in_range(name, item, value)
    return value


def _integer(name: str, item: Parameter, value: Any) -> int:
    number = _number(name, item, value)
    if number != int(number):
        raise _refuse(name, "a whole number is expected")
    return int(number)


def _size(name: str, item: Parameter, value: Any) -> str:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _refuse(name, "WIDTH*HEIGHT is expected")
    for side in match.groups():
        _in_range(name, item, int(side))
    return match.group()


def _loras(name: str, item: Parameter, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise _refuse(name, "an array is expected")
    if item.high is not None and len(value) > item.high:
        raise _refuse(name, f"at most {item.high} items")
    return [_lora(f"{name}[{place}]", entry) for place, entry in enumerate(value)]


def _lora(name: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise _refuse(name, "an object with path and scale is expected")
    path = entry.get("path")
    if not isinstance(path, str) or not path.strip():
        raise _refuse(f"{name}.path", "owner/name or a URL is required")
    if "scale" not in entry:
        raise _refuse(f"{name}.scale", "required")
    scale = _number(f"{name}.scale", Parameter("number", 1, 0, MAX_SCALE), entry["scale"])
    return {"path": path, "scale": scale}


_CHECKS: Final[dict[str, Callable[[str, Parameter, Any], Any]]] = {
    "string": _string,
    "boolean": _boolean,
    "number": _number,
    "integer": _integer,
    "size": _size,
    "loras": _loras,
}
