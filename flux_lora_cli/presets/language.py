"""The preset language, described once: the checker, the JSON Schema and the defaults come from this table (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from flux_lora_cli.presets.nodes import Node
from flux_lora_cli.presets.shapes import Fields, Listed, Lora, Named, Schema, Shape, Text, Value, portable
from flux_lora_cli.presets.sources import FILE_ENDS
from flux_lora_cli.service.models import DEFAULT_MODEL, Model, Models
from flux_lora_cli.service.values import LORA_NAME, LORA_URL, MAX_ITEMS, SCALE, Parameter, lora_path_problem

#: Sections of which a preset has at least one: what makes jobs, or what others extend.
SECTIONS = ("extends", "model", "defaults", "stacks", "vars", "matrix", "zip", "jobs")
#: Sections that ``extends`` merges key by key; of all others the last file's stands.
MERGED = ("defaults", "stacks", "vars", "matrix")
#: What a file says of itself alone.
OF_ONE_FILE = ("version", "name", "description", "extends")
#: What a preset may not decide, for it may come from a stranger; and what on the command line does.
_NOT_IN_PRESETS = {"api_key": "WAVESPEED_API_KEY", "host": "--base-url"} | {
    option.replace("-", "_"): f"--{option}"
    for option in (
        "base-url", "api-key-file", "api-version", "allow-custom-host", "allow-path", "output", "filename", "max-cost",
        "max-jobs", "price", "rate", "concurrency", "timeout", "task-timeout", "poll-interval",
    )
}  # fmt: skip
#: Of one job; more is a slip of the keyboard, not a plan.
MAX_REPEATS = 100_000
#: What every JSON reader keeps exact.
MAX_SAMPLE_SEED = 2**53 - 1
MAX_ID = 120


def _file(kind: str) -> str:
    """The pattern of the names of files."""
    return portable(re.compile(rf"[\s\S]*({'|'.join(map(re.escape, FILE_ENDS[kind]))})", re.IGNORECASE))


# IDs of jobs: nothing that a shell, a glob or a path takes for its own.
_JOB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
_LORA_PATH = f"{portable(LORA_NAME)}|{portable(LORA_URL)}"


def _whole(name: str, doc: str, low: int, high: int, default: int | None = None) -> Value:
    return Value(row=Parameter(name, "integer", default, low, high), doc=doc)


_SCALE = Value(row=SCALE, doc="Weight of the LoRA.")
_SCALES = Listed(item=_SCALE, doc="Scales of the last LoRA, or, by path, of a named one.")
_LORA_FORM = "owner/name (as on Hugging Face) or a URL"
_LORA = Lora(
    name="lora",
    what="{path: owner/name, scale: 1}",
    hints={"weight": "unknown key; did you mean 'scale'?"},  # as other tools call it
    fields={
        "path": Text(doc="owner/name as on Hugging Face, or a URL.", what=_LORA_FORM, pattern=_LORA_PATH,
                     why=lora_path_problem),
        "scale": _SCALE,
    },
)  # fmt: skip
_IMAGE = Value(row=Parameter("images", "image"), filled=True)
_STACK = Listed(
    name="stack", doc="A stack, or several, joined.", what="the name of a stack, or a list of them",
    item=Text(what="the name of a stack"), least=0, or_one=True,
)  # fmt: skip
_VARS = Named(
    name="vars",
    doc="Variables of prompts, ${name}; a list multiplies the jobs that use it.",
    item=Listed(
        what="text or a number, or a list of them", item=Text(what="text or a number", numbers=True), or_one=True
    ),
    pattern=r"[A-Za-z_][A-Za-z0-9_-]*",
    name_form="a name of letters, digits, _ and -",
)
_BY_PATH = Named(item=Listed(item=_SCALE), pattern=f"({_LORA_PATH})", name_form="the path of a LoRA")
_JOB = {
    "id": Text(
        doc="Unique in the file; by default the slug of the prompt.", pattern=_JOB_ID, max_length=MAX_ID,
        what=f"letters, digits and . _ - /, at most {MAX_ID}",
    ),
    "stack": _STACK,
    "vars": _VARS,
    "repeat": _whole("repeat", "Tasks for each combination, each with a seed of its own.", 1, MAX_REPEATS, 1),
    "sample": _whole("sample", "Draw this many of the combinations.", 1, MAX_REPEATS),
    "sample_seed": _whole("sample_seed", "Decides which are drawn.", 0, MAX_SAMPLE_SEED, 0),
    "skip": Value(row=Parameter("skip", "boolean", False), doc="Leave this job out."),
    "prompts_file": Text(
        doc="A text file of prompts, one per line.", pattern=_file("text"),
        what="a text file (.txt) with one prompt per line; a table (.csv, .jsonl) is given to `batch` itself",
    ),
}  # fmt: skip
_TOP = {
    "version": _whole("version", "Version of the language.", 1, 1),
    "name": Text(
        doc="The preset's name; by default the file's.", pattern=r"[\s\S]*\S[\s\S]*", max_length=200,
        what="a name of 1 to 200 characters",
    ),
    "description": Text(doc="For people; shown by `preset list`.", what="text"),
    "extends": Listed(
        doc="Presets that this one builds on, relative to this file; later ones win.",
        what="a path of a .yaml file, or a list of them",
        item=Text(what="a path of a .yaml file", pattern=_file("preset")), or_one=True,
    ),
    "model": Text(doc="Short or full ID; by default flux-dev-lora.", what="the ID of a model", name="model"),
}  # fmt: skip
#: Keys of a job that are not parameters.
JOB_KEYS = (*_JOB, "matrix", "zip")
#: Of keys that stand in a wrong place: where they belong, or who decides what they mean.
_PLACES = {**dict.fromkeys(JOB_KEYS, "in a job"), **dict.fromkeys((*_TOP, *MERGED, "jobs"), "at the top of the file")}
_BELONG = {name: f"this key belongs {place}, not here" for name, place in _PLACES.items()}
_HINTS = _BELONG | {
    name: f"a preset cannot set this: it may come from a stranger; use {option}"
    for name, option in _NOT_IN_PRESETS.items()
}


def preset_language(model: Model) -> Fields:
    """What a preset for this model may hold."""

    hints = _HINTS if model.checked else _BELONG  # what a model without a table takes is not known

    def of_request(name: str, what: str, doc: str, fields: dict[str, Shape]) -> Fields:
        return Fields(name=name, what=what, doc=doc, fields=fields, hints=hints, request=True)

    parameters = {name: _parameter(row) for name, row in model.parameters.items()}
    most = model.max_loras if model.checked else None
    loras = parameters.get("loras") or _parameter(Parameter("loras", "loras", max_items=most))
    axes: dict[str, Shape] = {name: Listed(item=shape) for name, shape in (*parameters.items(), ("stack", _STACK))}
    lists = "a mapping of parameters to lists of values"
    together = "Lists of one length whose values go together: the first with the first, …"
    by_path = {"scale": replace(_SCALES, or_named=_BY_PATH)}
    matrix = of_request("matrix", lists, "Every combination of these values, for every job.", axes | by_path)
    tied = of_request("zip", lists, together, {**axes, "scale": _SCALES})
    job = {**parameters, **_JOB, "matrix": matrix, "zip": tied}
    shared = {**parameters, "stack": _STACK}
    stacks = Named(
        doc="LoRA stacks by name.", item=loras, pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*",
        name_form="a name of letters, digits and . _ -",
    )  # fmt: skip
    fields = {
        **_TOP,
        "defaults": of_request("", "a mapping of parameters to values", "Request parameters for every job.", shared),
        "stacks": stacks,
        "vars": _VARS,
        "matrix": matrix,
        "zip": tied,
        "jobs": Listed(
            doc="What to make.", most=1_000_000, keep_bad=True,
            item=of_request("job", "a mapping of a job's keys; write - prompt: …", "", job),
        ),
    }  # fmt: skip
    what = "a mapping: version, defaults, jobs, …; a list of prompts is a .txt file"
    return Fields(what=what, fields=fields, hints=_HINTS)


def _parameter(row: Parameter) -> Shape:
    """What a parameter may be."""
    item: Shape
    if row.name == "loras":
        name, noun, item = "loras", "LoRAs", _LORA
    elif row.type == "images":
        name, noun, item = f"parameter-{row.name}", "images", _IMAGE
    else:
        return Value(row=row, doc=row.description, name=f"parameter-{row.name}")
    most = MAX_ITEMS if row.max_items is None else row.max_items
    what, doc = row.allowed, row.description
    return Listed(item=item, name=name, noun=noun, least=0, most=most, what=what, doc=doc, cell=noun.lower())


def merge(roots: Sequence[Node]) -> tuple[Node, list[tuple[str, Node]]]:
    """One document of several, and what is not seen in it: what each file says of itself, sections that are replaced.

    Sections of names are merged key by key; of everything else the last stands.
    """
    merged: dict[str, Node] = {}
    aside: list[tuple[str, Node]] = []
    for root in roots:
        for name, node in root.entries.items():
            before = merged.get(name) if name in MERGED else None
            if name in OF_ONE_FILE and root is not roots[-1]:
                aside.append((name, node))
                continue
            if before is not None and before.entries and isinstance(node.value, dict):
                node = Node({**before.entries, **node.entries}, node.source, node.line, node.column)
            elif before is not None:
                aside.append((name, before))
            merged[name] = node
    return Node(merged, roots[-1].source, roots[-1].line, roots[-1].column), aside


# ---- the JSON Schema ---------------------------------------------------------------------------
# What it cannot say (names of stacks and variables, files, counts after expansion, whether prompts can be read) the
# checker alone refuses; in all else the two agree.


def schema(models: Models | None = None) -> Schema:
    """JSON Schema (2020-12). A preset's parameters are those of its model; of any, where another file names it."""
    models = models or Models.builtin()
    own = {model.id: models.find(model.id) for model in models}
    default = own[DEFAULT_MODEL]
    definitions: Schema = {}
    bodies: list[Schema] = []
    rules: list[Schema] = []
    names: list[str] = []
    for number, model in enumerate(own.values(), 1):
        fields = {name: shape for name, shape in preset_language(model).fields.items() if name != "model"}
        properties = {name: shape.schema(definitions) for name, shape in fields.items()}
        definitions[f"model-{number}"] = {"properties": properties, **_needs(model)}
        body, called = {"$ref": f"#/$defs/model-{number}"}, list(dict.fromkeys((model.short, model.id)))
        rules.append({"if": {"required": ["model"], "properties": {"model": {"enum": called}}}, "then": body})
        bodies.append(body)
        names += called
    definitions["once"] = _once({name for model in own.values() for name in (*model.parameters, "stack")})
    without = {"if": {"required": ["extends"]}, "then": {"anyOf": bodies}, "else": bodies[[*own].index(default.id)]}
    rules.append({"if": {"not": {"required": ["model"]}}, "then": without})
    top = preset_language(default).fields
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flux-lora preset",
        "description": "Jobs for models that take LoRAs.",
        "type": "object",
        "properties": {
            **{name: {"description": shape.doc} for name, shape in top.items()},
            "model": {"description": top["model"].doc, "enum": names, "default": default.short},
        },
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in SECTIONS],
        "allOf": [_given("prompt", {"required": ["prompts_file"]}), *rules],
        "$defs": definitions,
    }


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
