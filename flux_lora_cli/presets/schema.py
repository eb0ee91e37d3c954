"""The JSON Schema (2020-12) of presets, from the table that the checker walks.

What a schema cannot say (names of stacks and variables, files, counts after expansion, whether prompts can be read)
the checker alone refuses; in all else the two agree.
"""

from __future__ import annotations

from itertools import chain, count
from typing import Any

from flux_lora_cli.presets.language import (
    SECTIONS,
    Fields,
    Listed,
    Named,
    Shape,
    Text,
    Value,
    portable,
    preset_language,
)
from flux_lora_cli.service.models import DEFAULT_MODEL, Model, Models
from flux_lora_cli.service.values import BASE64, DATA_URI, URL, Parameter

Schema = dict[str, Any]

# "$" alone matches before a final newline in Python, not in ECMAScript; this end is the same in both.
_END = r"$(?!\n)"
_FILE = r"^(?![A-Za-z][A-Za-z0-9+.-]+:)"


def schema(models: Models | None = None) -> Schema:
    """The whole schema. A preset's parameters are those of its model; of any model, where another file names it."""
    models = models or Models.builtin()
    own = {model.id: models.find(model.id) for model in models}
    default = own[DEFAULT_MODEL]
    definitions: Schema = {}
    bodies: dict[str, Schema] = {}
    names: dict[str, list[str]] = {}
    for number, model in enumerate(own.values(), 1):
        definitions[f"model-{number}"] = {"properties": _of_model(model, definitions), **_needs(model)}
        bodies[model.id] = {"$ref": f"#/$defs/model-{number}"}
        names[model.id] = list(dict.fromkeys((model.short, model.id)))
    definitions["once"] = _once({name for model in own.values() for name in (*model.parameters, "stack")})
    rules: list[Schema] = [
        {"if": {"required": ["model"], "properties": {"model": {"enum": names[each]}}}, "then": body}
        for each, body in bodies.items()
    ]
    without = {"if": {"required": ["extends"]}, "then": {"anyOf": [*bodies.values()]}, "else": bodies[default.id]}
    rules.append({"if": {"not": {"required": ["model"]}}, "then": without})
    top = preset_language(default).fields
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flux-lora preset",
        "description": "Jobs for models that take LoRAs.",
        "type": "object",
        "properties": {
            **{name: {"description": shape.doc} for name, shape in top.items()},
            "model": {"description": top["model"].doc, "enum": [*chain(*names.values())], "default": default.short},
        },
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in SECTIONS],
        "allOf": [_given("prompt", {"required": ["prompts_file"]}), *rules],
        "$defs": definitions,
    }


def _of_model(model: Model, definitions: Schema) -> Schema:
    """The properties of a preset for one model; what has a name is among the definitions."""
    fields = preset_language(model).fields
    return {name: _schema(shape, definitions) for name, shape in fields.items() if name != "model"}


def _schema(shape: Shape, definitions: Schema) -> Schema:
    """The schema of a shape: a reference where it has a name."""
    body = ({"description": shape.doc} if shape.doc else {}) | _body(shape, definitions)
    if not shape.name:
        return body
    for number in count(1):  # another model's of this name may differ
        name = shape.name if number == 1 else f"{shape.name}-{number}"
        if definitions.setdefault(name, body) == body:
            break
    return {"$ref": f"#/$defs/{name}"}


def _body(shape: Shape, definitions: Schema) -> Schema:
    def of(inner: Shape) -> Schema:
        return _schema(inner, definitions)

    match shape:
        case Value():
            default = {} if shape.row.default in (None, ()) else {"default": shape.row.default}
            return _value(shape.row) | default | ({"minLength": 1} if shape.filled else {})
        case Text():
            pattern = {"pattern": _whole(shape.pattern)} if shape.pattern else {}
            longest = {"maxLength": shape.max_length} if shape.max_length else {}
            return {"type": ["string", "number"] if shape.numbers else "string", **pattern, **longest}
        case Listed():
            item = of(shape.item)
            many = {"type": "array", "minItems": shape.least, "maxItems": shape.most, "items": item}
            others = [item] if shape.or_one else [of(shape.or_named)] if shape.or_named else []
            return {"anyOf": [*others, many]} if others else many
        case Named():
            names = {"pattern": _whole(shape.pattern)}
            return {"type": "object", "propertyNames": names, "additionalProperties": of(shape.item)}
        case Fields():
            return {
                "type": "object",
                "properties": {name: of(item) for name, item in shape.fields.items()},
                "patternProperties": {"^x-": True},
                "additionalProperties": False,
                **({"required": list(shape.required)} if shape.required else {}),
                **({"allOf": [{"$ref": "#/$defs/once"}]} if shape.name == "job" else {}),
            }
    return {}


def _value(row: Parameter) -> Schema:
    if row.choices:
        return {"enum": list(row.choices)}
    match row.type:
        case "size":
            side = _numbers(int(row.minimum or 1), int(row.maximum or 999_999))
            return {"type": "string", "pattern": _whole(rf"({side})\*({side})")}
        case "integer" | "number":
            limits = {"minimum": row.minimum, "maximum": row.maximum}
            return {"type": row.type} | {name: limit for name, limit in limits.items() if limit is not None}
        case "boolean" | "string":
            return {"type": row.type}
        case "image":
            return _image(_FILE, r"^[A-Za-z]:[\\/]")
        case "url":
            return _image(_whole(portable(BASE64)), _whole(""))
    return {}


def _image(*more: str) -> Schema:
    patterns = (_whole(portable(URL)), _whole(portable(DATA_URI)), *more)
    return {"type": "string", "anyOf": [{"pattern": pattern} for pattern in patterns]}


def _whole(pattern: str) -> str:
    """A pattern that matches the whole of a text."""
    return f"^({pattern}){_END}"


def _numbers(low: int, high: int) -> str:
    """A pattern of the whole numbers from low to high, without leading zeros."""
    parts = []
    while low <= high:
        free = 1  # how many numbers the last digits, all free, stand for
        while low % (free * 10) == 0 and low + free * 10 - 1 <= high:
            free *= 10
        first = low // free
        last = min(first // 10 * 10 + 9, (high + 1) // free - 1)
        parts.append(f"{first // 10 or ''}[{first % 10}-{last % 10}]" + "[0-9]" * (len(str(free)) - 1))
        low = (last + 1) * free
    return "|".join(parts)


def _once(names: set[str]) -> Schema:
    """What a job sets itself is not an axis of its own matrix or zip, too."""
    rules: list[Schema] = [{"not": {"required": ["prompt", "prompts_file"]}}]
    for name in [*sorted(names), "prompts_file"]:
        axis = "prompt" if name == "prompts_file" else name
        absent = {section: {"not": {"required": [axis]}} for section in ("matrix", "zip")}
        rules.append({"if": {"required": [name]}, "then": {"properties": absent}})
    return {"allOf": rules}


def _needs(model: Model) -> Schema:
    """That every job has what the model requires."""
    rows = model.parameters.values()
    rules = [_given(row.name) for row in rows if row.required and row.name not in ("prompt", "seed", "loras")]
    return {"allOf": rules} if rules else {}


def _given(name: str, *instead: Schema) -> Schema:
    """Without a base to inherit from, and without this parameter for all, every job has it."""

    def holds(*sections: str) -> list[Schema]:
        inner = {"type": "object", "required": [name]}
        return [{"required": [section], "properties": {section: inner}} for section in sections]

    job = {"anyOf": [{"required": [name]}, *instead, *holds("matrix", "zip")]}
    shared = {"anyOf": [{"required": ["extends"]}, *holds("defaults", "matrix", "zip")]}
    return {"if": {"not": shared}, "then": {"properties": {"jobs": {"items": job}}}}
