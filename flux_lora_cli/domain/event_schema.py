"""The JSON Schema (2020-12) of one line of ``--json``, made from the event classes themselves."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from flux_lora_cli.domain import events
from flux_lora_cli.errors import ExitCode

#: The line that ends every ``--json`` output; it has no class, for each command adds its own counts.
SUMMARY = "summary"

_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}
_MONEY = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def build_event_schema() -> dict[str, Any]:
    """The schema of any line: one of the events, told apart by ``event``."""
    kinds = {kind.event: kind for kind in event_classes()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One line of flux-lora --json",
        "description": "Each line of standard output is one of these objects; the last is always a summary.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in (*kinds, SUMMARY)],
        "$defs": {**{name: _event(kind) for name, kind in kinds.items()}, SUMMARY: _summary()},
    }


def event_classes() -> Iterator[type[events.Event]]:
    """Every class of ``domain.events`` that is a line, in the order in which they are written there."""
    for kind in vars(events).values():
        if inspect.isclass(kind) and issubclass(kind, events.Event) and kind.event:
            yield kind


def _event(kind: type[events.Event]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {
        "description": " ".join((inspect.getdoc(kind) or "").split()),
        "type": "object",
        "properties": {
            "event": {"const": kind.event},
            **{field.name: _property(field.name, hints[field.name]) for field in fields(kind)},
        },
        # Fields that have a default are written all the same: a reader may count on every one.
        "required": ["event", *(field.name for field in fields(kind))],
        "additionalProperties": False,
    }


def _property(name: str, hint: Any) -> dict[str, Any]:
    known = _by_name(name)
    options = [part for part in _parts(hint) if part is not type(None)]
    schema = known if known is not None else _type(options[0])
    if len(options) == len(_parts(hint)):
        return schema
    return {**schema, "type": [schema["type"], "null"]}


def _by_name(name: str) -> dict[str, Any] | None:
    if name.endswith("_usd"):
        return _MONEY
    if name == "sha256":
        return _SHA256
    return None


def _parts(hint: Any) -> tuple[Any, ...]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.get_args(hint)
    return (hint,)


def _type(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0])}
    if origin is dict:
        return {"type": "object"}
    return _TYPES[hint]


def _summary() -> dict[str, Any]:
    return {
        "description": "The last line: how the command ended, and counts that depend on the command.",
        "type": "object",
        "properties": {
            "event": {"const": SUMMARY},
            "exit_code": {
                "enum": [int(code) for code in ExitCode],
                "description": "; ".join(f"{code.value}: {code.meaning}" for code in ExitCode),
            },
        },
        "required": ["event", "exit_code"],
    }
