"""Write the JSON Schema (2020-12) of one line of ``--json`` into the package, from the event classes themselves."""

import inspect
import json
import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

from flux_lora_cli.engine import events
from flux_lora_cli.errors import ExitCode

TARGET = Path(__file__).parent.parent / "flux_lora_cli" / "resources" / "event.schema.json"
#: The line that ends every ``--json`` output; it has no class, for each command adds its own counts.
SUMMARY = {
    "description": "The last line: how the command ended, and counts that depend on the command.",
    "type": "object",
    "properties": {
        "event": {"const": "summary"},
        "exit_code": {
            "enum": [int(code) for code in ExitCode],
            "description": "; ".join(f"{code.value}: {code.meaning}" for code in ExitCode),
        },
    },
    "required": ["event", "exit_code"],
}
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}
BY_NAME = {"_usd": r"^-?[0-9]+(\.[0-9]+)?$", "sha256": "^[0-9a-f]{64}$"}


def build() -> dict[str, Any]:
    """The schema of any line: one of the events, told apart by ``event``."""
    classes = [kind for kind in vars(events).values() if inspect.isclass(kind) and issubclass(kind, events.Event)]
    defs = {kind.event: event_schema(kind) for kind in classes if kind.event} | {"summary": SUMMARY}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One line of flux-lora --json",
        "description": "Each line of standard output is one of these objects; the last is always a summary.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in defs],
        "$defs": defs,
    }


def event_schema(kind: type[events.Event]) -> dict[str, Any]:
    """The schema of one event. Fields that have a default are written all the same: a reader may count on each."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    return {
        "description": " ".join((inspect.getdoc(kind) or "").split()),
        "type": "object",
        "properties": {"event": {"const": kind.event}, **{name: field_schema(name, hints[name]) for name in names}},
        "required": ["event", *names],
        "additionalProperties": False,
    }


def field_schema(name: str, hint: Any) -> dict[str, Any]:
    """The schema of one field."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    schema = type_schema(next(part for part in parts if part is not type(None)))
    pattern = next((pattern for ending, pattern in BY_NAME.items() if name.endswith(ending)), None)
    if pattern:
        schema["pattern"] = pattern
    return {**schema, "type": [schema["type"], "null"]} if type(None) in parts else schema


def type_schema(hint: Any) -> dict[str, Any]:
    """The schema of a type; a tuple of mixed parts is a list of any."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        uniform = len(arguments) == 2 and arguments[1] is ...
        return {"type": "array", **({"items": type_schema(arguments[0])} if uniform else {})}
    return {"type": TYPES[origin or hint]}


if __name__ == "__main__":
    TARGET.write_text(json.dumps(build(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
