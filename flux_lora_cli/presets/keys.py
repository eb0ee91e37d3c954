"""The keys of a preset and of a job, as one table of shapes for one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from flux_lora_cli.errors import UsageError
from flux_lora_cli.presets.language import (
    JOB_ID,
    LORA_NAME,
    LORA_URL,
    MAX_ID,
    MAX_REPEATS,
    MAX_SAMPLE_SEED,
    PRESET_FILE,
    PROMPTS_FILE,
    STACK_NAME,
    VAR_NAME,
    Loras,
    Param,
    Scale,
    VarValue,
)
from flux_lora_cli.presets.shapes import Fields, Flag, Listed, Named, OneOf, Shape, Text, Whole
from flux_lora_cli.service.models import Model, Models, Parameter

#: Sections of which a preset has at least one: what makes jobs, or what others extend.
SECTIONS = ("extends", "model", "defaults", "stacks", "vars", "matrix", "zip", "jobs")
#: Sections that ``extends`` merges key by key; of all others the last file's stands.
MERGED = ("defaults", "stacks", "vars", "matrix")
#: Keys of a job that are not parameters.
JOB_KEYS = (
    "id", "stack", "vars", "matrix", "zip", "repeat", "sample", "sample_seed", "skip", "prompts_file",
)  # fmt: skip

_STACK = Listed(
    name="stack", doc="A stack, or several, joined.", item=Text(what="the name of a stack"), least=0, or_one=True
)
_VARS = Named(
    name="vars",
    doc="Variables of prompts, ${name}; a list multiplies the jobs that use it.",
    item=Listed(item=VarValue(), or_one=True),
    pattern=VAR_NAME,
    what="a name of letters, digits, _ and -",
)


def parameter_shape(row: Parameter, model: Model) -> Shape:
    """The shape of one request parameter."""
    if row.type == "loras":
        return Loras(name="loras", doc=row.description, most=model.max_loras if model.checked else None)
    return Param(name=f"parameter-{row.name}", doc=row.description, default=row.default, row=row)


def preset_language(model: Model, models: Models) -> Fields:
    """What a preset for this model may hold."""
    parameters = {name: parameter_shape(row, model) for name, row in model.parameters.items()}
    loras = parameters.get("loras") or Loras(name="loras", most=model.max_loras if model.checked else None)
    others = _of_other_models(model, models)
    scales = Listed(item=Scale(), doc="Scales of the last LoRA, or, by path, of a named one.")
    by_path = Named(item=Listed(item=Scale()), pattern=f"({LORA_NAME}|{LORA_URL})", what="the path of a LoRA")
    axes = {name: Listed(item=shape) for name, shape in parameters.items()}
    axes |= {"stack": Listed(item=_STACK)}
    matrix = Fields(
        name="matrix",
        doc="Every combination of these values, for every job.",
        what="a mapping of parameters to lists of values",
        fields={**axes, "scale": OneOf(doc=scales.doc, listed=scales, mapped=by_path)},
        elsewhere=others,
        open=not model.checked,
        parameters=True,
    )
    zipped = Fields(
        name="zip",
        doc="Lists of one length whose values go together: the first with the first, …",
        what="a mapping of parameters to lists of values",
        fields={**axes, "scale": scales},
        elsewhere=others,
        open=not model.checked,
        parameters=True,
    )
    at_top = dict.fromkeys(
        ("version", "name", "description", "extends", "model", "defaults", "stacks", "jobs"),
        "belongs at the top of the file, not in a job",
    )
    job = Fields(
        name="job",
        what="a mapping of a job's keys; write - prompt: …",
        fields={**parameters, **_job_keys(matrix, zipped)},
        elsewhere={**others, **{name: why for name, why in at_top.items() if name not in parameters}},
        open=not model.checked,
        parameters=True,
    )
    in_job = {name: f"belongs in a job, not in defaults; known: {', '.join(parameters)}, stack" for name in JOB_KEYS}
    defaults = Fields(
        doc="Request parameters for every job.",
        what="a mapping of parameters to values",
        fields={**parameters, "stack": _STACK},
        elsewhere={**others, **{name: why for name, why in in_job.items() if name not in (*parameters, "stack")}},
        open=not model.checked,
        parameters=True,
    )
    return Fields(
        what="a mapping: version, defaults, jobs, …; a list of prompts is a .txt file",
        fields={
            "version": Whole(doc="Version of the language.", low=1, high=1),
            "name": Text(
                doc="The preset's name.", default="the file's name", pattern=r"[\s\S]*\S[\s\S]*", max_length=200,
                what="a name of 1 to 200 characters",
            ),
            "description": Text(doc="For people; shown by `preset list`."),
            "extends": Listed(
                doc="Presets that this one builds on, relative to this file; later ones win.",
                item=Text(what="a path of a .yaml file", pattern=PRESET_FILE), or_one=True,
            ),
            "model": Text(doc="Short or full ID.", default="flux-dev-lora", what="the ID of a model", name="model"),
            "defaults": defaults,
            "stacks": Named(
                doc="LoRA stacks by name.", item=loras, pattern=STACK_NAME, what="a name of letters, digits and . _ -"
            ),
            "vars": _VARS,
            "matrix": matrix,
            "zip": zipped,
            "jobs": Listed(doc="What to make.", item=job, most=1_000_000, keep_bad=True),
        },
    )  # fmt: skip


def _job_keys(matrix: Shape, zipped: Shape) -> dict[str, Shape]:
    return {
        "id": Text(
            doc="Unique in the file.", default="the slug of the prompt", pattern=JOB_ID, max_length=MAX_ID,
            what=f"letters, digits and . _ - /, at most {MAX_ID}",
        ),
        "stack": _STACK,
        "vars": _VARS,
        "matrix": matrix,
        "zip": zipped,
        "repeat": Whole(
            doc="Tasks for each combination, each with a seed of its own.", low=1, high=MAX_REPEATS, default=1
        ),
        "sample": Whole(doc="Draw this many of the combinations.", low=1, high=MAX_REPEATS),
        "sample_seed": Whole(doc="Decides which are drawn.", low=0, high=MAX_SAMPLE_SEED, default=0),
        "skip": Flag(doc="Leave this job out.", default=False),
        "prompts_file": Text(
            doc="A text file of prompts, one per line.", pattern=PROMPTS_FILE,
            what="a text file (.txt) with one prompt per line; a table (.csv, .jsonl) is given to `batch` itself",
        ),
    }  # fmt: skip


def _of_other_models(model: Model, models: Models) -> Mapping[str, str]:
    """Why parameters that others have are refused here (the service would drop them, and bill)."""
    found: dict[str, str] = {}
    if not model.checked:
        return found
    for other in models:
        for name in other.parameters:
            if name not in model.parameters and name not in ("stack", "scale"):
                same = other.id == model.id
                if same:
                    found[name] = f"is a parameter of {model.short} on {other.version} (--api-version {other.version})"
                else:
                    takes = ", ".join(model.parameters)
                    found.setdefault(name, f"is not a parameter of {model.short}; it takes: {takes}")
    return MappingProxyType(found)


def any_model(models: Models) -> Model:
    """A model that takes what any takes, without ranges: for a preset whose model another file names."""
    rows: dict[str, Parameter] = {}
    first: Model | None = None
    for model in models:
        first = first or model
        for name, row in model.parameters.items():
            same = name not in rows or rows[name].type == row.type
            loose = replace(row, minimum=None, maximum=None, choices=(), default=None, max_items=None, required=False)
            rows[name] = loose if same else replace(loose, type="any")
    if first is None:
        raise UsageError("no table of any model")
    return replace(first, id="any/model", parameters=MappingProxyType(rows))
