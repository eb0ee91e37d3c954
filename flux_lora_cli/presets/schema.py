"""The JSON Schema (2020-12) of presets and the README's tables, from the shapes that the checker reads.

What a schema cannot say (names of stacks and variables, files, counts after expansion, whether prompts can be read)
the checker alone refuses; in all else the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from flux_lora_cli.presets.keys import SECTIONS, any_model, preset_language
from flux_lora_cli.presets.language import (
    LORA,
    LORA_NAME,
    LORA_SCALE,
    LORA_URL,
    LoraPath,
    Loras,
    Param,
    Scale,
    VarValue,
)
from flux_lora_cli.presets.shapes import Fields, Flag, Listed, Named, OneOf, Shape, Text, Whole
from flux_lora_cli.service.models import DEFAULT_MODEL, Model, Models, Parameter

Schema = dict[str, Any]

# "$" alone matches before a final newline in Python, not in ECMAScript; this end is the same in both.
_END = r"$(?!\n)"
_URL = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#]+\S*" + _END
_DATA = (
    r"^[Dd][Aa][Tt][Aa]:[Ii][Mm][Aa][Gg][Ee]/[A-Za-z0-9.+-]+(;[A-Za-z0-9=.-]+)*;"
    r"[Bb][Aa][Ss][Ee]64,[A-Za-z0-9+/\s]+=*\s*" + _END
)
_NO_SCHEME = r"^(?![A-Za-z][A-Za-z0-9+.-]+:)"
_BASE64 = r"^[A-Za-z0-9+/\r\n]{256,}={0,2}\s*" + _END


def schema(models: Models | None = None) -> Schema:
    """The whole schema. A preset's parameters are those of its model; of any model, where another file names it."""
    models = models or Models.builtin()
    default = models.find(DEFAULT_MODEL)
    own: dict[str, Model] = {}
    for model in models:
        own.setdefault(model.id, models.find(model.id))
    definitions: Schema = {}
    writers = {name: _Writer(model, models, definitions) for name, model in own.items()}
    loose = _Writer(any_model(models), models, definitions)
    definitions["once"] = _once({name for model in own.values() for name in (*model.parameters, "stack")})
    shorts = [name for model in own.values() for name in dict.fromkeys((model.short, model.id))]
    rules: list[Schema] = [
        {
            "if": {"required": ["model"], "properties": {"model": {"enum": list(dict.fromkeys((m.short, m.id)))}}},
            "then": writers[m.id].top(),
        }
        for m in own.values()
    ]
    without: Schema = {"if": {"required": ["extends"]}, "then": loose.top(), "else": writers[default.id].top()}
    rules.append({"if": {"not": {"required": ["model"]}}, "then": without})
    top = preset_language(default, models)
    properties: Schema = {name: {"description": shape.doc} for name, shape in top.fields.items()}
    properties["model"] = {"description": top.fields["model"].doc, "enum": shorts, "default": default.short}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flux-lora preset",
        "description": "Jobs for models that take LoRAs.",
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in SECTIONS],
        "allOf": [_prompt_rule(default), *rules],
        "$defs": definitions,
    }


class _Writer:
    """The schema of a preset for one model. Shapes with a name become definitions, which models share if they can."""

    def __init__(self, model: Model, models: Models, definitions: Schema) -> None:
        self.definitions = definitions
        fields = preset_language(model, models).fields
        self._top = {key: self.of(shape) for key, shape in fields.items() if key != "model"}

    def top(self) -> Schema:
        return {"properties": self._top}

    def of(self, shape: Shape) -> Schema:
        """The schema of a shape: a reference where it has a name."""
        schema = self._described(shape)
        if not shape.name:
            return schema
        name = shape.name
        for number in count(2):  # another model's of this name may differ
            if self.definitions.setdefault(name, schema) == schema:
                break
            name = f"{shape.name}-{number}"
        return {"$ref": f"#/$defs/{name}"}

    def _described(self, shape: Shape) -> Schema:
        schema = {"description": shape.doc} if shape.doc else {}
        schema |= self._body(shape)
        if shape.default is not None and not isinstance(shape, Text) and shape.default != ():
            schema["default"] = shape.default
        return schema

    def _body(self, shape: Shape) -> Schema:
        match shape:
            case LoraPath():
                return {"type": "string", "pattern": f"^({LORA_NAME}|{LORA_URL}){_END}"}
            case Text():
                return _text(shape)
            case Whole():
                return {"type": "integer", "minimum": shape.low, "maximum": shape.high}
            case Flag():
                return {"type": "boolean"}
            case Scale():
                return {"type": "number", "minimum": LORA_SCALE[0], "maximum": LORA_SCALE[1]}
            case VarValue():
                return {"type": ["string", "number"]}
            case Param():
                return _parameter(shape.row)
            case Loras():
                most = {"maxItems": shape.most} if shape.most is not None else {}
                return {"type": "array", **most, "items": self.of(LORA)}
            case Listed():
                item = self.of(shape.item)
                many = {"type": "array", "minItems": shape.least, "maxItems": shape.most, "items": item}
                return {"anyOf": [item, many]} if shape.or_one else many
            case Named():
                names = {"pattern": f"^{shape.pattern}{_END}"}
                return {"type": "object", "propertyNames": names, "additionalProperties": self.of(shape.item)}
            case OneOf():
                return {"anyOf": [self.of(shape.listed), self.of(shape.mapped)]}
            case Fields():
                return self._fields(shape)
        return {}

    def _fields(self, shape: Fields) -> Schema:
        schema: Schema = {
            "type": "object",
            "properties": {name: self.of(item) for name, item in shape.fields.items()},
            "patternProperties": {"^x-": True},
            "additionalProperties": shape.open,
        }
        if shape.required:
            schema["required"] = list(shape.required)
        if shape.name == "job":
            schema["allOf"] = [{"$ref": "#/$defs/once"}]
        return schema


def _once(names: set[str]) -> Schema:
    """What a job sets itself is not an axis of its own matrix or zip, too."""
    rules: list[Schema] = [{"not": {"required": ["prompt", "prompts_file"]}}]
    for name in sorted(names):
        absent = {section: {"not": {"required": [name]}} for section in ("matrix", "zip")}
        rules.append({"if": {"required": [name]}, "then": {"properties": absent}})
    return {"allOf": rules}


def _text(shape: Text) -> Schema:
    schema: Schema = {"type": "string"}
    if shape.pattern:
        schema["pattern"] = f"^({shape.pattern}){_END}"
    if shape.max_length:
        schema["maxLength"] = shape.max_length
    return schema


def _parameter(row: Parameter) -> Schema:
    if row.choices:
        return {"enum": list(row.choices)}
    if row.type == "size":
        low, high = int(row.minimum or 1), int(row.maximum or 999_999)
        side = _digits(low, high)
        return {"type": "string", "pattern": rf"^({side})\*({side}){_END}"}
    if row.type in ("integer", "number"):
        limits: Schema = {"minimum": row.minimum, "maximum": row.maximum}
        return {"type": row.type} | {name: limit for name, limit in limits.items() if limit is not None}
    if row.type == "boolean":
        return {"type": "boolean"}
    if row.type in ("image", "url", "images"):
        patterns = [_URL, _DATA, *([_BASE64] if row.type == "url" else [r"^[A-Za-z]:[\\/]", _NO_SCHEME])]
        one: Schema = {"type": "string", "anyOf": [{"pattern": pattern} for pattern in patterns]}
        if row.type == "url":
            one["anyOf"].append({"maxLength": 0})
        if row.type != "images":
            return one
        most = {"maxItems": row.max_items} if row.max_items is not None else {}
        return {"type": "array", **most, "items": {**one, "minLength": 1}}
    return {"type": "string"} if row.type == "string" else {}


def _digits(low: int, high: int) -> str:
    """A pattern of the whole numbers from low to high, without leading zeros."""
    parts = []
    while low <= high:
        power = 1
        while low % (power * 10) == 0 and low + power * 10 - 1 <= high and low >= power * 10:
            power *= 10
        lead = low // power
        last = lead
        while last % 10 != 9 and (last + 2) * power - 1 <= high:
            last += 1
        head, first = str(lead)[:-1], str(lead)[-1]
        digit = first if last == lead else f"[{first}-{str(last)[-1]}]"
        tail = "" if power == 1 else "[0-9]" * (len(str(power)) - 1)
        parts.append(head + digit + tail)
        low = (last + 1) * power
    return "|".join(parts)


def _prompt_rule(default: Model) -> Schema:
    """Without a base to inherit from, and without a prompt for all, every job has a prompt."""
    elsewhere = [
        {"required": ["extends"]},
        *(
            {"required": [section], "properties": {section: {"type": "object", "required": ["prompt"]}}}
            for section in ("defaults", "matrix", "zip")
        ),
    ]
    own_axes = [
        {"required": [section], "properties": {section: {"type": "object", "required": ["prompt"]}}}
        for section in ("matrix", "zip")
    ]
    job = {"anyOf": [{"required": ["prompt"]}, {"required": ["prompts_file"]}, *own_axes]}
    return {"if": {"not": {"anyOf": elsewhere}}, "then": {"properties": {"jobs": {"items": job}}}}


# ---- tables for people ---------------------------------------------------------------------------


def markdown(model: Model | None = None, models: Models | None = None) -> str:
    """The keys of a preset and of a job, and the parameters of a model, as Markdown tables."""
    models = models or Models.builtin()
    model = model or models.find(DEFAULT_MODEL)
    language = preset_language(model, models)
    jobs = language.fields["jobs"]
    assert isinstance(jobs, Listed) and isinstance(jobs.item, Fields)
    keys = {name: shape for name, shape in jobs.item.fields.items() if name not in model.parameters}
    rows = {name: shape for name, shape in jobs.item.fields.items() if name in model.parameters}
    return "\n".join([*_table("key of a preset", language.fields), "", *_table("key of a job", keys), "", *_table(
        f"parameter of {model.short}", rows)]) + "\n"  # fmt: skip


def _table(title: str, fields: Mapping[str, Shape]) -> list[str]:
    lines = [f"| {title} | value | default | |", "|---|---|---|---|"]
    for name, shape in fields.items():
        value = str(shape.default).lower() if isinstance(shape.default, bool) else shape.default
        default = "" if value in (None, "", ()) else f"`{value}`"
        cells = (f"`{name}`", shape.words, default, shape.doc)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines
