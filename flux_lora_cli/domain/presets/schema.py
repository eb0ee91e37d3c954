"""The JSON Schema (2020-12) of preset files, made from the same tables that the checker reads.

The file in the package is what this makes; a test compares them. What a schema cannot say
(names of stacks and variables, files, counts after expansion) the checker alone refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..loras import LORA_SCALE
from ..parameters import DEFAULT_MODEL, MODELS, Parameter
from .checker import MOST_VALUES_OF_AXIS, NAME, STACK_NAME
from .job_keys import JOB_ID, MOST_ID_CHARACTERS, MOST_SAMPLE_SEED
from .spec import FILE_KEYS, MOST_REPEATS

Schema = dict[str, Any]

# "$" alone matches before a final newline in Python, not in ECMAScript; this end is the same in both.
_END = r"$(?!\n)"
_URL = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#]+\S*" + _END
_DATA = (
    r"^[Dd][Aa][Tt][Aa]:[Ii][Mm][Aa][Gg][Ee]/[A-Za-z0-9.+-]+(;[A-Za-z0-9=.-]+)*;"
    r"[Bb][Aa][Ss][Ee]64,[A-Za-z0-9+/\s]+=*\s*" + _END
)
_NO_SCHEME = r"^(?![A-Za-z][A-Za-z0-9+.-]+:)"
_LORA_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)+" + _END


def build_schema(api_version: str = "v2") -> Schema:
    """The whole schema, for one API version's tables (the shipped one is for v2, the default)."""
    rows = MODELS[DEFAULT_MODEL].parameters[api_version]
    names = [name for model in MODELS.values() for name in (model.short, model.id)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flux-lora preset",
        "description": "Jobs for WaveSpeed's FLUX LoRA models.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "version": {"description": "Version of the language.", "const": 1},
            "name": {
                "description": "The preset's name; default: the file's.",
                "type": "string",
                "pattern": r"\S",
                "maxLength": 200,
            },
            "description": {"description": "For people; shown by preset list.", "type": "string"},
            "extends": _one_or_list(
                {"type": "string"}, "Presets that this one builds on, relative to this file; later ones win.", 1
            ),
            "model": {"description": "Short or full id.", "default": MODELS[DEFAULT_MODEL].short, "enum": names},
            "defaults": {
                "description": "Request parameters for every job.",
                **_object({**_parameters(rows), "stack": _ref("stack")}),
            },
            "stacks": {
                "description": "LoRA stacks by name.",
                "type": "object",
                "propertyNames": {"pattern": f"^{STACK_NAME}{_END}"},
                "additionalProperties": _ref("loras"),
            },
            "vars": _ref("vars"),
            "matrix": _ref("matrix"),
            "jobs": {
                "description": "What to make.",
                "type": "array",
                "minItems": 1,
                "items": _ref("job"),
            },
        },
        "anyOf": [{"required": [name]} for name in FILE_KEYS[3:]],
        "allOf": [_prompt_rule(), *_model_rules(api_version)],
        "$defs": {**_definitions(rows), "job": _job(rows)},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _one_or_list(item: Schema, description: str, least: int = 0) -> Schema:
    return {"description": description, "anyOf": [item, {"type": "array", "minItems": least, "items": item}]}


def _list(item: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "maxItems": MOST_VALUES_OF_AXIS, "items": item}


def _definitions(rows: Mapping[str, Parameter]) -> Schema:
    low, high = LORA_SCALE
    text = {"type": ["string", "number"]}
    return {
        "loras": {
            "description": rows["loras"].doc,
            "type": "array",
            "maxItems": rows["loras"].max_items,
            "items": {
                **_object(
                    {
                        "path": {
                            "description": "owner/name as on Hugging Face, or a URL.",
                            "type": "string",
                            "anyOf": [{"pattern": _LORA_NAME}, {"pattern": _URL}],
                        },
                        "scale": {
                            "description": "Weight of the LoRA.",
                            "type": "number",
                            "minimum": low,
                            "maximum": high,
                            "default": 1,
                        },
                    }
                ),
                "required": ["path"],
            },
        },
        "stack": _one_or_list({"type": "string"}, "A stack, or several, joined."),
        "vars": {
            "description": "Variables of prompts, ${name}; a list multiplies the jobs that use it.",
            "type": "object",
            "propertyNames": {"pattern": f"^{NAME}{_END}"},
            "additionalProperties": {"anyOf": [text, _list(text)]},
        },
        "matrix": {
            "description": "Every combination of these values, for every job.",
            **_object({**{k: _list(v) for k, v in _parameters(rows).items()}, "stack": _list(_ref("stack"))}),
        },
    }


def _job(rows: Mapping[str, Parameter]) -> Schema:
    keys: Schema = {
        "id": {
            "description": "Unique in the file; default: the slug of the prompt.",
            "type": "string",
            "pattern": f"^{JOB_ID}{_END}",
            "maxLength": MOST_ID_CHARACTERS,
        },
        "stack": _ref("stack"),
        "vars": _ref("vars"),
        "matrix": _ref("matrix"),
        "repeat": _whole("Tasks for each combination, each with a seed of its own.", 1, MOST_REPEATS, 1),
        "sample": _whole("Draw so many of the combinations.", 1, MOST_REPEATS),
        "sample_seed": _whole("Decides which are drawn.", 0, MOST_SAMPLE_SEED, 0),
        "skip": {"description": "Leave this job out.", "type": "boolean", "default": False},
        "prompts_file": {"description": "A file of prompts, one a line.", "type": "string"},
    }
    both: list[Schema] = [{"not": {"required": ["prompt", "prompts_file"]}}]
    for name in (*rows, "stack"):
        in_matrix = {"matrix": {"type": "object", "required": [name]}}
        both.append({"not": {"required": [name, "matrix"], "properties": in_matrix}})
    return {**_object({**_parameters(rows), **keys}), "allOf": both}


def _whole(description: str, low: int, high: int, default: int | None = None) -> Schema:
    schema: Schema = {"description": description, "type": "integer", "minimum": low, "maximum": high}
    return schema if default is None else {**schema, "default": default}


def _parameters(rows: Mapping[str, Parameter]) -> Schema:
    return {name: _parameter(row) for name, row in rows.items()}


def _parameter(row: Parameter) -> Schema:
    if row.type == "loras":
        return _ref("loras")
    schema: Schema = {"description": row.doc, **_type(row)}
    if row.default is not None:
        schema["default"] = row.default
    return schema


def _type(row: Parameter) -> Schema:
    if row.type == "size":
        side = _digits(int(row.minimum or 1), int(row.maximum or 99999))
        return {"type": "string", "pattern": rf"^({side})\*({side}){_END}"}
    if row.type in ("integer", "number"):
        return {"type": row.type, "minimum": _bare(row.minimum), "maximum": _bare(row.maximum)}
    if row.type == "boolean":
        return {"type": "boolean"}
    if row.choices:
        return {"enum": list(row.choices)}
    if row.type in ("image", "url"):
        patterns = [_URL, _DATA, r"^[A-Za-z]:[\\/]", _NO_SCHEME] if row.type == "image" else [_URL, _DATA]
        return {"type": "string", "anyOf": [{"pattern": pattern} for pattern in patterns]}
    return {"type": "string"}


def _bare(value: float | None) -> float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _digits(low: int, high: int) -> str:
    """A pattern of the whole numbers from low to high, of one or more digits each."""
    parts = []
    while low <= high:
        top, power = low, 1
        while (
            low % (power * 10) == 0 and low + power * 10 - 1 <= high and len(str(low)) == len(str(low + power * 10 - 1))
        ):
            power *= 10
        lead = low // power
        last = lead
        while last % 10 != 9 and (last + 2) * power - 1 <= high:
            last += 1
        top = (last + 1) * power - 1
        head, first = str(lead)[:-1], str(lead)[-1]
        digit = first if last == lead else f"[{first}-{str(last)[-1]}]"
        tail = "" if power == 1 else "[0-9]{" + str(len(str(power)) - 1) + "}"
        parts.append(head + digit + tail)
        low = top + 1
    return "|".join(parts)


def _prompt_rule() -> Schema:
    """Without a base to inherit from, and without a prompt for all, every job has a prompt."""
    elsewhere = [
        {"required": ["extends"]},
        *(
            {"required": [section], "properties": {section: {"type": "object", "required": ["prompt"]}}}
            for section in ("defaults", "matrix")
        ),
    ]
    own_axis = {"required": ["matrix"], "properties": {"matrix": {"type": "object", "required": ["prompt"]}}}
    job = {"anyOf": [{"required": ["prompt"]}, {"required": ["prompts_file"]}, own_axis]}
    return {"if": {"not": {"anyOf": elsewhere}}, "then": {"properties": {"jobs": {"items": job}}}}


def _model_rules(api_version: str) -> list[Schema]:
    """Models that take less than the default one."""
    loosest = MODELS[DEFAULT_MODEL].parameters[api_version]
    rules = []
    for model in MODELS.values():
        narrow: Schema = {}
        for name, row in model.parameters[api_version].items():
            if name == "loras" and row.max_items != loosest[name].max_items:
                narrow[name] = {"maxItems": row.max_items}
            elif (row.minimum, row.maximum) != (loosest[name].minimum, loosest[name].maximum):
                narrow[name] = _type(row)
        if narrow:
            condition = {"required": ["model"], "properties": {"model": {"enum": [model.short, model.id]}}}
            rules.append({"if": condition, "then": {"properties": _narrowed(narrow)}})
    return rules


def _narrowed(narrow: Schema) -> Schema:
    section = {"properties": narrow}
    matrix = {"properties": {name: {"items": schema} for name, schema in narrow.items()}}
    sections: Schema = {"defaults": section, "matrix": matrix}
    if "loras" in narrow:
        sections["stacks"] = {"additionalProperties": narrow["loras"]}
    sections["jobs"] = {"items": {"properties": {**narrow, "matrix": matrix}}}
    return sections
