"""Request parameters: what each model takes, whether a value is allowed, and the request it makes.

One set of checks serves presets, options and ``--set``. The tables are in
``models``; nothing here knows a model by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from .loras import parse_lora
from .models import DEFAULT_MODEL, MODEL_TABLES, SEED_31_BITS
from .parameter_checks import Parameter, ParamProblem, check_value, is_remote_image
from .suggest import nearest, show

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "SEED_31_BITS",
    "Model",
    "ParamProblem",
    "Parameter",
    "as_parameter_value",
    "check_params",
    "check_value",
    "find_model",
    "is_remote_image",
    "nearest",
    "parse_lora",
    "request_input",
]


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its tables. ``parameters``: API version ("v2", "v3") to name to row."""

    id: str
    short: str
    parameters: Mapping[str, Mapping[str, Parameter]]
    max_loras: int
    #: USD an image as documented, None where no page names one. Never taken for the price charged.
    documented_price: Decimal | None


def _load() -> Mapping[str, Model]:
    models = {}
    for full, (max_loras, price, versions) in MODEL_TABLES.items():
        tables = {
            version: MappingProxyType(
                {n: Parameter(n, *row, max_loras if row[0] == "loras" else None) for n, row in rows.items()}
            )
            for version, rows in versions.items()
        }
        short = full.rpartition("/")[2]
        models[full] = Model(full, short, MappingProxyType(tables), max_loras, Decimal(price) if price else None)
    return MappingProxyType(models)


#: Every model that is known, by full id.
MODELS: Mapping[str, Model] = _load()
_SHORT = {model.short: model for model in MODELS.values()}


def find_model(name: str) -> Model | None:
    """The model of a short (``flux-dev-lora``) or full id; None where it is not known."""
    return MODELS.get(name) or _SHORT.get(name)


# ---- values ---------------------------------------------------------------------------------


def check_value(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    """Return the value as it enters a job (28.0 as 28 where whole numbers are wanted), and what is wrong with it."""
    return _CHECKS[p.type](p, value)


def _bad(p: Parameter, value: Any, why: str = "", suggestion: str = "") -> tuple[Any, ParamProblem]:
    shown = show(value)
    message = f"{shown} is {why or 'not allowed'}; allowed: {p.allowed}"
    if suggestion:
        message += f'; did you mean "{suggestion}"?'
    return value, ParamProblem(p.name, value, message, suggestion)


def _wrong_type(p: Parameter, value: Any) -> tuple[Any, ParamProblem]:
    kind = _kind(value)
    why = kind if kind != show(value) else "not allowed here"
    return _bad(p, value, why)


def _check_string(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if not isinstance(value, str):
        return _wrong_type(p, value)
    if p.choices and value not in p.choices:
        return _bad(p, value, "not known", nearest(value, p.choices))
    return value, None


def _check_boolean(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    return (value, None) if isinstance(value, bool) else _wrong_type(p, value)


def _check_number(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _wrong_type(p, value)
    if isinstance(value, float) and not math.isfinite(value):
        return _bad(p, value, "not a finite number")
    if p.type == "integer" and isinstance(value, float):
        if not value.is_integer():
            return _bad(p, value, "not a whole number")
        value = int(value)
    if p.minimum is not None and p.maximum is not None and not p.minimum <= value <= p.maximum:
        return _bad(p, value, "out of range")
    return value, None


_SIZE = re.compile(r"([1-9][0-9]{0,4})\*([1-9][0-9]{0,4})")
_LOOSE_SIZE = re.compile(r"\s*([1-9][0-9]{0,4})\s*[x×X*,:]\s*([1-9][0-9]{0,4})\s*")


def _check_size(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if not isinstance(value, str):
        return _wrong_type(p, value)
    match = _SIZE.fullmatch(value)
    if match is None:
        loose = _LOOSE_SIZE.fullmatch(value)
        return _bad(p, value, "not a size", f"{loose[1]}*{loose[2]}" if loose else "")
    if p.minimum is not None and p.maximum is not None:
        for side in match.groups():
            if not p.minimum <= int(side) <= p.maximum:
                return _bad(p, value, "out of range")
    return value, None


_URL = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+(;[a-z0-9=.-]+)*;base64,[A-Za-z0-9+/\s]+=*\s*", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{256,}={0,2}\s*")


def is_remote_image(value: str) -> bool:
    """Whether an ``image`` goes to the service as it stands: nothing, a URL, a data URI, bare base64."""
    return not value or bool(_SCHEME.match(value[:40])) or bool(_BASE64.fullmatch(value))


def _check_image(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if not isinstance(value, str):
        return _wrong_type(p, value)
    if not value or _URL.fullmatch(value):
        return value, None
    if value[:5].lower() == "data:":
        return (value, None) if _DATA_URI.fullmatch(value) else _bad(p, value, "no data URI of an image (base64)")
    if _SCHEME.match(value) and not re.match(r"[A-Za-z]:[\\/]", value):
        return _bad(p, value, "not a URL that the service can fetch")
    if p.type == "url" and not _BASE64.fullmatch(value):
        return _bad(p, value, "not a URL")
    return value, None


#: ``owner/name``, as on Hugging Face, or with a file of the repository after it.
_LORA_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)+")
_LORA_KEYS = ("path", "scale")


def _check_loras(p: Parameter, value: Any) -> tuple[Any, ParamProblem | None]:
    if not isinstance(value, (list, tuple)):
        return _wrong_type(p, value)
    fixed = []
    for number, item in enumerate(value):
        lora, why = check_lora(item)
        if why:
            return value, ParamProblem(f"{p.name}[{number}]{why[0]}", value, why[1])
        fixed.append(lora)
    if p.max_items is not None and len(fixed) > p.max_items:
        why_many = f"{len(fixed)} LoRAs are too many; allowed: at most {p.max_items} on this model"
        return value, ParamProblem(p.name, value, why_many)
    return fixed, None


def check_lora(item: Any) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """Return one LoRA with its scale filled in (1), and (key path, message) of what is wrong with it."""
    if not isinstance(item, Mapping):
        shape = "{path: owner/name, scale: 1}"
        return {}, ("", f"{show(item)} is {_kind(item)}; allowed: {shape}")
    for key in item:
        if key not in _LORA_KEYS:
            near = nearest(str(key), _LORA_KEYS)
            return {}, ("", f'unknown key "{key}"; known: path, scale' + (f'; did you mean "{near}"?' if near else ""))
    if "path" not in item:
        return {}, ("", 'the key "path" is missing: owner/name or a URL')
    path, scale = item["path"], item.get("scale", 1)
    if why := lora_path_problem(path):
        return {}, (".path", why)
    if why := lora_scale_problem(scale):
        return {}, (".scale", why)
    return {"path": path, "scale": scale}, None


def lora_path_problem(path: Any) -> str:
    """Why this is no LoRA path; "" where it is one."""
    if isinstance(path, str) and (_LORA_PATH.fullmatch(path) or _URL.fullmatch(path)):
        return ""
    return f"{show(path)} is no LoRA path; allowed: owner/name (as on Hugging Face) or a URL (http, https)"


def lora_scale_problem(scale: Any) -> str:
    """Why this is no LoRA scale; "" where it is one."""
    low, high = LORA_SCALE
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        return f"{show(scale)} is {_kind(scale)}; allowed: a number from {low} to {high}"
    if not (math.isfinite(scale) and low <= scale <= high):
        return f"{show(scale)} is out of range; allowed: a number from {low} to {high}"
    return ""


_CHECKS = {
    "string": _check_string,
    "boolean": _check_boolean,
    "integer": _check_number,
    "number": _check_number,
    "size": _check_size,
    "image": _check_image,
    "url": _check_image,
    "loras": _check_loras,
}


# ---- whole sets of parameters ----------------------------------------------------------------


def table(model: Model | None, api_version: str = "v2") -> Mapping[str, Parameter]:
    """The rows that hold for a model; those of an unknown model without limits (None: unknown)."""
    if model is not None:
        return model.parameters[api_version]
    return _loose(api_version)


def _loose(api_version: str) -> Mapping[str, Parameter]:
    rows = MODELS[DEFAULT_MODEL].parameters[api_version].values()
    return {r.name: Parameter(r.name, r.type, r.default, None, None, (), r.doc) for r in rows}


def unknown_key(key: str, rows: Mapping[str, Parameter], api_version: str) -> ParamProblem:
    """The problem of a key that the model does not know (the service would ignore it, and bill)."""
    other = "v3" if api_version == "v2" else "v2"
    if key in MODELS[DEFAULT_MODEL].parameters[other]:
        return ParamProblem(key, None, f"is a parameter of API {other}, not of {api_version} (--api-version {other})")
    near = nearest(key, rows)
    message = "is not a parameter of this model" + (f'; did you mean "{near}"?' if near else "")
    if not near:
        message += "; known: " + ", ".join(rows)
    return ParamProblem(key, None, message, near)


def check_params(model: Model | None, params: Mapping[str, Any], api_version: str = "v2") -> list[ParamProblem]:
    """Every problem of these parameters. ``model`` None: an unknown model, checked for types only.

    Unknown keys are refused for known models: the service ignores them and bills all the same.
    """
    rows = table(model, api_version)
    problems = []
    for key, value in params.items():
        row = rows.get(key)
        if row is not None:
            problem = check_value(row, value)[1]
        elif model is None:
            problem = None
        else:
            problem = unknown_key(key, rows, api_version)
        if problem is not None:
            problems.append(problem)
    return problems


def request_input(
    model: Model | None, params: Mapping[str, Any], seed: int, api_version: str = "v2"
) -> dict[str, Any]:
    """Return the request's body: documented defaults explicit, whole numbers as integers, this seed.

    ``strength`` is sent only with an ``image``, a ``None`` default not at all. For an unknown model
    nothing is known to default, so only what the user wrote is sent.
    """
    body: dict[str, Any] = {}
    rows = table(model, api_version)
    for name, row in rows.items():
        if name == "seed":
            body[name] = seed
        elif name in params:
            body[name] = _plain(params[name])
        elif model is not None and row.default is not None:
            body[name] = _plain(row.default)
    for name, value in params.items():
        if name not in body:
            body[name] = _plain(value)
    if not body.get("image"):
        body.pop("strength", None)
    return body


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


# ---- values as text --------------------------------------------------------------------------

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_FLOAT = re.compile(r"[-+]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def as_parameter_value(
    name: str, text: str, model: Model | None = None, api_version: str = "v2"
) -> tuple[Any, ParamProblem | None]:
    """Return the typed value that the text of an option, of ``--set`` or of a CSV cell means, and its problem.

    Without a model the types are read from the default model's table; ranges are checked for a model only.
    ``loras`` is ``PATH[:SCALE]``, several separated by spaces or semicolons. A name that no table has
    gives a number or boolean where the text is one, else the text.
    """
    row = table(model, api_version).get(name) or _row_of_any(name)
    if row is None:
        return _guess(text), None
    if row.type == "loras":
        return _lora_list(row, text)
    return check_value(row, _typed(row.type, text))


def _row_of_any(name: str) -> Parameter | None:
    return _loose("v2").get(name) or _loose("v3").get(name)


def _typed(kind: str, text: str) -> Any:
    stripped = text.strip()
    if kind == "boolean":
        return _BOOLEANS.get(stripped.lower(), text)
    if kind in ("integer", "number"):
        return _number_of(stripped, text)
    return stripped if kind == "size" else text


def _number_of(stripped: str, otherwise: Any) -> Any:
    if _INTEGER.fullmatch(stripped):
        return int(stripped)
    return float(stripped) if _FLOAT.fullmatch(stripped) else otherwise


def _guess(text: str) -> Any:
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    return _number_of(text.strip(), text)


def _lora_list(row: Parameter, text: str) -> tuple[Any, ParamProblem | None]:
    loras = []
    for part in re.split(r"[\s;]+", text.strip()):
        if not part:
            continue
        try:
            loras.append(parse_lora(part))
        except ValueError as why:
            return text, ParamProblem(row.name, text, str(why))
    return check_value(row, loras)
