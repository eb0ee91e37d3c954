"""One parameter of a model: its row in a table, which values are allowed, and what the text of an option means."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flux_lora_cli.text import mask_secrets, nearest, printable, quoted

#: Items of a list, where a table does not say how many.
MAX_ITEMS = 1000
#: Parameters of a model that are read, and characters of a description. [most models have about 12]
MAX_PARAMETERS, MAX_TEXT = 200, 2000

_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "size": "WIDTH*HEIGHT",
    "image": "a URL (http, https), a data URI, or a file",
    "images": "a list of images",
    "url": "a URL (http, https) or a data URI",
    "loras": "a list of {path: owner/name, scale: 1}",
    "any": "anything",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of a model's table.

    ``type`` is ``string``, ``integer``, ``number``, ``boolean``, ``size`` (``W*H``), ``image`` (a URL, a data URI or a
    local file), ``images`` (a list of them), ``url`` (an image that cannot be a local file), ``loras``, or ``any``:
    what the service's catalogue describes in a way that is not understood; never checked.
    """

    name: str
    type: str
    default: Any = None  # what the service takes where nothing is sent; None where no source says
    minimum: int | float | None = None  # of a number; of each side of a size, in pixels
    maximum: int | float | None = None
    choices: tuple[Any, ...] = ()  # the only values allowed; empty for no such limit
    required: bool = False
    max_items: int | None = None  # of images and loras
    description: str = ""

    @property
    def allowed(self) -> str:
        words, low, high = _WORDS[self.type], self.minimum, self.maximum
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if self.max_items is not None:
            return f"{words}, at most {self.max_items}"
        if low is None and high is None:
            return words
        bounds = f"at most {high}" if low is None else f"at least {low}" if high is None else f"from {low} to {high}"
        return f"{words}, each {bounds}" if self.type == "size" else f"{words} {bounds}"


@dataclass(frozen=True, slots=True)
class ValueProblem:
    key: str  # its path: loras[0].path
    message: str  # what is wrong, what is allowed, and the suggestion; without the key
    suggestion: str = ""  # the value or name that was probably meant; "" where none is near

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


Checked = tuple[Any, ValueProblem | None]


def by_value(value: Any) -> Any:
    """``value`` as plain JSON data in which equal numbers are equal: 1.0 is 1, tuples are lists."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): by_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [by_value(item) for item in value]
    return value


def is_number(value: Any) -> bool:
    """Whether this is a finite number; booleans are not."""
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    )


def check_value(parameter: Parameter, value: Any) -> Checked:
    """The value as it enters a job (28.0 becomes 28), and what is wrong with it."""
    if parameter.type in ("images", "loras"):
        return _check_list(parameter, value)
    value = by_value(value) if is_number(value) else value
    why = _wrong(parameter, value)
    if not why:
        return value, None
    meant = _meant(parameter, value)
    allowed = f"did you mean '{meant}'?" if meant else f"allowed: {parameter.allowed}"
    return value, ValueProblem(parameter.name, f"{quoted(value)} is {why}; {allowed}", meant)


def _wrong(p: Parameter, value: Any) -> str:
    """Why a value is not allowed; "" where it is."""
    if p.type == "any":
        return ""
    if p.type == "boolean":
        return "" if isinstance(value, bool) else "not a boolean"
    if p.type == "size":
        exact = _SIZE.fullmatch(value) if isinstance(value, str) else None
        return _out_of_range(p, *map(int, exact.groups())) if exact else "not a size"
    if p.type in ("integer", "number"):
        if not is_number(value):
            return "not a number"
        if p.type == "integer" and isinstance(value, float):
            return "not a whole number"
        return "not known" if p.choices and value not in p.choices else _out_of_range(p, value)
    if not isinstance(value, str):
        return "not text (put text in quotes)"
    if p.choices and value not in p.choices:
        return "not known"
    fetchable = p.type == "string" or not value or any(form.fullmatch(value) for form in (URL, DATA_URI, BASE64))
    local = p.type == "image" and not _SCHEME.match(value)
    return "" if fetchable or local else "not an image that the service can fetch"


def _meant(p: Parameter, value: Any) -> str:
    """The value that was probably meant; "" where none is near."""
    if p.type != "size":
        return nearest(value, map(str, p.choices)) if isinstance(value, str) else ""
    text = "*".join(map(str, value[:3])) if isinstance(value, (list, tuple)) else quoted(value).strip('"')
    loose = _LOOSE_SIZE.fullmatch(text)
    sides = [loose[1], loose[2] or loose[1]] if loose else []
    return "" if _out_of_range(p, *map(int, sides)) else "*".join(sides)


def _out_of_range(p: Parameter, *numbers: int | float) -> str:
    low, high = (-math.inf if p.minimum is None else p.minimum), (math.inf if p.maximum is None else p.maximum)
    return "" if all(low <= number <= high for number in numbers) else "out of range"


_SIZE = re.compile(r"([1-9][0-9]{0,5})\*([1-9][0-9]{0,5})")
_LOOSE_SIZE = re.compile(r"\s*([1-9][0-9]{0,5})(?:\s*[x×X*,:/ ]\s*([1-9][0-9]{0,5}))?\s*(?:px)?\s*", re.IGNORECASE)


URL = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two characters at least: C:\ is a drive
DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+(;[a-z0-9=.-]+)*;base64,[A-Za-z0-9+/\s]+=*\s*", re.IGNORECASE)
BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{256,}={0,2}\s*")


def is_remote_image(value: str) -> bool:
    """Whether an image goes to the service as it stands: nothing, a URL, a data URI, bare base64."""
    return not value or bool(_SCHEME.match(value[:40])) or bool(BASE64.fullmatch(value))


def _check_list(p: Parameter, value: Any) -> Checked:
    if not isinstance(value, (list, tuple)):
        return value, ValueProblem(p.name, f"{quoted(value)} is not a list; allowed: {p.allowed}")
    if p.max_items is not None and len(value) > p.max_items:
        return value, ValueProblem(p.name, f"{len(value)} are too many; allowed: {p.allowed}")
    items = []
    for number, item in enumerate(value):
        place = f"{p.name}[{number}]"
        if p.type == "loras":
            checked, where, why = check_lora(item)
            problem = ValueProblem(place + where, why) if why else None
        else:
            checked, problem = check_value(Parameter(place, "image"), item or None)
        if problem:
            return value, problem
        items.append(checked)
    return items, None


# ---- as the service's catalogue describes them --------------------------------------------------

_NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,99}"


def parameters_of(schema: dict[str, Any]) -> dict[str, Parameter]:
    """The rows of a request's JSON Schema. Raises ValueError, and what Python raises where it has another shape."""
    properties, required = schema["properties"], schema.get("required")
    if len(properties) > MAX_PARAMETERS or not all(re.fullmatch(_NAME, name) for name in properties):
        raise ValueError("too many parameters, or one with an odd name")
    needed = required if isinstance(required, list) else []
    rows = {name: _row(name, row, name in needed) for name, row in properties.items()}
    if "loras" in rows and rows["loras"].type != "loras":
        raise ValueError("its loras are not a list of {path, scale}")
    return rows


def _row(name: str, schema: Any, required: bool) -> Parameter:
    """One property; of type ``any`` where the schema says something that our checks do not know."""
    kind = _type(name, schema) if isinstance(schema, dict) else "any"
    if kind == "any":
        return Parameter(name, "any", required=required)
    facts: dict[str, Any] = {"required": required, "choices": tuple(schema.get("enum", ()))}
    if kind in ("integer", "number", "size"):
        limits = {word: schema.get(word) for word in ("minimum", "maximum")}
        facts |= {word: limit for word, limit in limits.items() if is_number(limit)}
    if kind in ("images", "loras") and isinstance(most := schema.get("maxItems"), int) and 0 < most <= MAX_ITEMS:
        facts["max_items"] = most
    row = Parameter(name, kind, description=described(schema.get("description")), **facts)
    default = schema.get("default")
    return row if default is None or check_value(row, default)[1] else replace(row, default=default)


def _type(name: str, schema: Mapping[str, Any]) -> str:
    kind, items, choices = schema.get("type"), schema.get("items", {}), schema.get("enum", [])
    plain = isinstance(choices, list) and all(isinstance(each, (str, int, float)) for each in choices[:1001])
    if not plain or len(choices) > 1000 or schema.keys() & {"anyOf", "oneOf", "allOf", "$ref", "not", "const"}:
        return "any"
    if kind == "array" and isinstance(items, dict):
        of, fields = items.get("type"), items.get("properties") or ("path",)
        fits = {"images": of in (None, "string"), "loras": of in (None, "object") and "path" in fields}
        return name if fits.get(name) else "any"
    if kind == "string":
        special = {"size": "size", "image": "image", "mask_image": "url"}
        return "string" if choices else special.get(name, "string")
    return kind if kind in ("integer", "number", "boolean") else "any"


def described(text: Any) -> str:
    return printable(text[:MAX_TEXT]) if isinstance(text, str) else ""


# ---- values as text -----------------------------------------------------------------------------

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_FLOAT = re.compile(r"[-+]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")
_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


def typed(kind: str, text: str) -> Any:
    """What the text of an option, of ``--set`` or of a CSV cell means for a parameter of this type; not checked.

    ``loras`` (``PATH[:SCALE]``) and ``images`` are separated by spaces or semicolons, or a JSON list.
    Raises ValueError: it begins like JSON and is not.
    """
    stripped = text.strip()
    if kind in ("any", "loras", "images") and stripped[:1] in ("[", "{"):
        return json.loads(stripped, parse_constant=str)
    if kind in ("loras", "images"):
        parts = [part for part in re.split(r"[\s;]+", stripped) if part]
        return list(map(parse_lora, parts)) if kind == "loras" else parts
    if kind == "boolean" or (kind == "any" and stripped.lower() in ("true", "false")):
        return _BOOLEANS.get(stripped.lower(), text)
    if kind in ("integer", "number", "any"):
        if _INTEGER.fullmatch(stripped):
            return int(stripped)
        return float(stripped) if _FLOAT.fullmatch(stripped) else text
    return stripped if kind in ("size", "image", "url") else text


# ---- LoRAs --------------------------------------------------------------------------------------

#: ``loras[].scale`` of every model. [API page]
SCALE = Parameter("scale", "number", 1, 0, 4)

LORA_URL = re.compile(r"https?://[^\s/?#@]+(?:@[^\s/?#@]+)?(?:[/?#]\S*)?", re.IGNORECASE)
_ADDRESS = r"(?:[a-z0-9-]+\.)+(?:ai|app|cloud|co|com|dev|io|net|org)(?::[0-9]+)?/"
#: ``owner/name`` as on Hugging Face, or with a file of that repository after it; no address, no file in a folder.
LORA_NAME = re.compile(
    rf"(?!{_ADDRESS})(?![^/]+/[^/]+\.(?:safetensors|pt|pth|ckpt|bin|gguf)$)[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)+",
    re.IGNORECASE,
)
_FORMS = "allowed: owner/name or owner/name/FILE (as on Hugging Face), or the https URL of a .safetensors file"
_CIVITAI, _FILE = r"(?:https?://)?(?:www\.)?civitai\.(?:com|red)", "https://civitai.com/api/download/models/"
_NO_MODEL = "(?!(?:datasets|spaces|api|collections|docs|blog|papers)/)"
_HUGGING_FACE = rf"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/{_NO_MODEL}([^/?#\s]+/[^/?#\s]+)"
#: Forms that never load, seen in third-party captures, and what to write instead.
_NEVER_LOAD = [
    (re.compile(pattern, re.IGNORECASE), better)
    for pattern, better in (
        (r"(?:urn:air:[^@]*:)?civitai:[0-9]+@([0-9]+)", _FILE + r"\1"),
        (_CIVITAI + r"/models/[^?#]*\?(?:\S*&)?modelVersionId=([0-9]+)\S*", _FILE + r"\1"),
        (_CIVITAI + r"(?:/(?!api/download/)\S*)?|(?:urn:air:[^@]*:)?civitai:[0-9]+", _FILE + "VERSION_ID"),
        (_HUGGING_FACE + r"/(?:blob|raw)/(\S+)", r"https://huggingface.co/\1/resolve/\2"),
        (_HUGGING_FACE + r"(?:[/?#](?!resolve/)\S*)?", r"\1"),
        (_ADDRESS + r"\S*", r"https://\g<0>"),
    )
]


def parse_lora(text: str) -> dict[str, Any]:
    """Split ``PATH[:SCALE]``: the scale is what follows the last colon, if that is a number (URLs work); else 1."""
    path, colon, tail = text.strip().rpartition(":")
    if not colon or not _FLOAT.fullmatch(tail):
        return {"path": text.strip(), "scale": 1}
    return {"path": path, "scale": by_value(float(tail))}


def check_lora(item: Any) -> tuple[dict[str, Any], str, str]:
    """One entry with its scale filled in (1); and where in it (``.path``) something is wrong, and what, or ""."""
    if isinstance(item, str):
        lora = parse_lora(item)
        return {}, "", f"{quoted(item)} is text; write {{path: {quoted(lora['path'])}, scale: {lora['scale']}}}"
    if not isinstance(item, Mapping) or "path" not in item or not item.keys() <= {"path", "scale"}:
        return {}, "", f"{quoted(item)} is not a LoRA; allowed: {{path: owner/name, scale: 1}}"
    path, why = item["path"], lora_path_problem(item["path"])
    if why and not (isinstance(path, str) and LORA_URL.fullmatch(path)):  # a URL is sent as it is, with a note
        return {}, ".path", why
    scale, problem = check_value(SCALE, item.get("scale", 1))
    return {"path": path, "scale": scale}, ".scale", problem.message if problem else ""


def lora_path_problem(path: Any) -> str | None:
    """Why the service can never load a LoRA from this path, with the form that it can; None where it may.

    Web pages are URLs, and so they are sent all the same (``check_lora`` lets them pass): they deserve a note.
    """
    if not isinstance(path, str):
        return f"{quoted(path)} is not a LoRA path; {_FORMS}"
    text, shown = path.strip(), quoted(path)
    for form, better in _NEVER_LOAD:
        if found := form.fullmatch(text):
            return f"{shown} is not the address of a file; write {mask_secrets(found.expand(better))}"
    if LORA_URL.fullmatch(text) or LORA_NAME.fullmatch(path):
        return None
    return f"{shown} is not a LoRA path, and the service cannot read a local file (upload it to Hugging Face); {_FORMS}"
