"""The preset language, described once: the checker, the JSON Schema and the defaults come from this table (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from flux_lora_cli.service.models import Model
from flux_lora_cli.service.values import LORA_NAME, LORA_URL, MAX_ITEMS, SCALE, Parameter, lora_path_problem

#: Sections of which a preset has at least one: what makes jobs, or what others extend.
SECTIONS = ("extends", "model", "defaults", "stacks", "vars", "matrix", "zip", "jobs")
#: Sections that ``extends`` merges key by key; of all others the last file's stands.
MERGED = ("defaults", "stacks", "vars", "matrix")
#: What a preset may not decide, for it may come from a stranger; and what on the command line does.
NOT_IN_PRESETS = {"api_key": "WAVESPEED_API_KEY", "host": "--base-url"} | {
    option.replace("-", "_"): f"--{option}"
    for option in (
        "base-url", "api-key-file", "api-version", "allow-custom-host", "allow-path", "output", "filename", "max-cost",
        "max-jobs", "price", "rate", "concurrency", "timeout", "task-timeout", "poll-interval",
    )
}  # fmt: skip

#: Values of one list in matrix, zip or vars.
MAX_AXIS = 25_000
#: Of one job; more is a slip of the keyboard, not a plan.
MAX_REPEATS = 100_000
#: What every JSON reader keeps exact.
MAX_SAMPLE_SEED = 2**53 - 1
MAX_ID = 120


def portable(form: re.Pattern[str]) -> str:
    """The pattern of a form; letters in any case are spelled out, for JSON Schema has no flags."""
    if not form.flags & re.IGNORECASE:
        return form.pattern
    either = re.sub("[a-z]{2,}", lambda word: "".join(f"[{c.upper()}{c}]" for c in word[0]), form.pattern)
    return either.replace("a-z", "A-Za-z")


def _named(ends: Iterable[str]) -> str:
    return portable(re.compile(rf"[\s\S]*\.({'|'.join(ends)})", re.IGNORECASE))


#: How the names of files end that are opened as presets, and as text files that hold prompts; nothing else is.
FILE_ENDS = {"preset": ("yaml", "yml", "json"), "text": ("txt", "text", "md", "prompt", "prompts")}
PRESET_FILE = _named(FILE_ENDS["preset"])
# IDs of jobs: nothing that a shell, a glob or a path takes for its own.
_JOB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
_LORA_PATH = f"{portable(LORA_NAME)}|{portable(LORA_URL)}"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What may stand in a place.

    Attributes:
        what: the same in words.
        name: its ``$defs`` entry in the schema, where several places share it.
    """

    what: str = ""
    doc: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Value(Shape):
    """A request parameter, or what is described like one: a number, a boolean, …; ``filled``: no empty text."""

    row: Parameter
    filled: bool = False


@dataclass(frozen=True, kw_only=True)
class Text(Shape):
    """Text, perhaps of a certain form.

    Attributes:
        pattern: matches the whole of it.
        why: words the reason why a text is not of that form.
        numbers: a number counts as text, as it was written.
    """

    pattern: str = ""
    max_length: int = 0
    why: Callable[[str], str | None] = lambda value: None
    numbers: bool = False


@dataclass(frozen=True, kw_only=True)
class Named(Shape):
    """A mapping of names of one's own to values of one shape; ``name_form`` is what a name is made of."""

    what: str = "a mapping of names to values"
    item: Shape
    pattern: str
    name_form: str


@dataclass(frozen=True, kw_only=True)
class Listed(Shape):
    """A list.

    Attributes:
        or_one: also a single item, which counts as a list of one.
        or_named: also such a mapping.
        keep_bad: a list with refused items is not refused whole; they are BAD in it.
        cell: what type a table's cell has that stands for such a list; "" for names.
    """

    what: str = "a list of one or more values"
    item: Shape
    least: int = 1
    most: int = MAX_AXIS
    or_one: bool = False
    or_named: Named | None = None
    keep_bad: bool = False
    noun: str = "values"
    cell: str = ""


@dataclass(frozen=True, kw_only=True)
class Fields(Shape):
    """A mapping with known keys; ``x-…`` keys hold anchors and are passed over.

    Attributes:
        request: a wrong key is told as the model's, and where the model has no table all are taken as they are.
    """

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    request: bool = False


def _whole(name: str, doc: str, low: int, high: int, default: int | None = None) -> Value:
    return Value(row=Parameter(name, "integer", default, low, high), doc=doc)


_SCALE = Value(row=SCALE, doc="Weight of the LoRA.")
_SCALES = Listed(item=_SCALE, doc="Scales of the last LoRA, or, by path, of a named one.")
_LORA_FORM = "owner/name (as on Hugging Face) or a URL"
LORA = Fields(
    name="lora",
    what="{path: owner/name, scale: 1}",
    required=("path",),
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
        doc="A text file of prompts, one per line.", pattern=_named(FILE_ENDS["text"]),
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
        item=Text(what="a path of a .yaml file", pattern=PRESET_FILE), or_one=True,
    ),
    "model": Text(doc="Short or full ID; by default flux-dev-lora.", what="the ID of a model", name="model"),
}  # fmt: skip


#: Keys of a job that are not parameters; and where keys belong that stand in a wrong place.
JOB_KEYS = (*_JOB, "matrix", "zip")
PLACES = {**dict.fromkeys(JOB_KEYS, "in a job"), **dict.fromkeys((*_TOP, *MERGED, "jobs"), "at the top of the file")}


def preset_language(model: Model) -> Fields:
    """What a preset for this model may hold."""
    parameters = {name: _parameter(row) for name, row in model.parameters.items()}
    most = model.max_loras if model.checked else None
    loras = parameters.get("loras") or _parameter(Parameter("loras", "loras", max_items=most))
    axes = {name: Listed(item=shape) for name, shape in parameters.items()} | {"stack": Listed(item=_STACK)}
    of_values = "a mapping of parameters to lists of values"
    matrix = Fields(
        name="matrix", what=of_values, doc="Every combination of these values, for every job.", request=True,
        fields={**axes, "scale": replace(_SCALES, or_named=_BY_PATH)},
    )  # fmt: skip
    tied = Fields(
        name="zip", what=of_values, request=True, fields={**axes, "scale": _SCALES},
        doc="Lists of one length whose values go together: the first with the first, …",
    )  # fmt: skip
    job = Fields(
        name="job", what="a mapping of a job's keys; write - prompt: …", request=True,
        fields={**parameters, **_JOB, "matrix": matrix, "zip": tied},
    )  # fmt: skip
    defaults = Fields(
        doc="Request parameters for every job.", what="a mapping of parameters to values", request=True,
        fields={**parameters, "stack": _STACK},
    )  # fmt: skip
    stacks = Named(
        doc="LoRA stacks by name.", item=loras, pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*",
        name_form="a name of letters, digits and . _ -",
    )  # fmt: skip
    jobs = Listed(doc="What to make.", item=job, most=1_000_000, keep_bad=True)
    return Fields(
        what="a mapping: version, defaults, jobs, …; a list of prompts is a .txt file",
        fields={
            **_TOP, "defaults": defaults, "stacks": stacks, "vars": _VARS, "matrix": matrix, "zip": tied, "jobs": jobs,
        },
    )  # fmt: skip


def _parameter(row: Parameter) -> Shape:
    """What a parameter may be."""
    item: Shape
    if row.name == "loras":
        name, noun, item = "loras", "LoRAs", LORA
    elif row.type == "images":
        name, noun, item = f"parameter-{row.name}", "images", _IMAGE
    else:
        return Value(row=row, doc=row.description, name=f"parameter-{row.name}")
    most = MAX_ITEMS if row.max_items is None else row.max_items
    what, doc = row.allowed, row.description
    return Listed(item=item, name=name, noun=noun, least=0, most=most, what=what, doc=doc, cell=noun.lower())
