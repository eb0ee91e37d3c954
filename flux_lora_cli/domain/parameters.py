"""Request parameters: what each model takes, whether a value is allowed, and the request it makes.

One set of checks serves presets, options and ``--set``. The tables are in
``models``; nothing here knows a model by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from .loras import parse_lora
from .models import DEFAULT_MODEL, MODEL_TABLES, SEED_31_BITS
from .parameter_checks import Parameter, ParamProblem, check_value, is_remote_image
from .suggest import nearest

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
    "version_of",
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
        message = f"is a parameter of API {other}, not of {api_version} (--api-version {other})"
        return ParamProblem(key, None, message)
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


def request_input(model: Model | None, params: Mapping[str, Any], seed: int, api_version: str = "v2") -> dict[str, Any]:
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


def version_of(model: Model | None, body: Mapping[str, Any]) -> str:
    """Return the API version that a request was made for, told by its parameters: what ``request_input`` leaves out.

    Only a whole request of a known model can tell, and v2 is what it is otherwise: a v2 request has a value for
    each default of its table, and one of v3 has none for those that v3 does not know.
    """
    if model is None:
        return "v2"
    rows, other = model.parameters["v3"], model.parameters["v2"]
    if not body.keys() <= rows.keys():
        return "v2"
    if not body.keys() <= other.keys():
        return "v3"
    return "v3" if _defaults(rows) <= body.keys() and not _defaults(other) <= body.keys() else "v2"


def _defaults(rows: Mapping[str, Parameter]) -> set[str]:
    """The parameters that every request carries."""
    return {name for name, row in rows.items() if row.default is not None and name != "strength"}


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
_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


def as_parameter_value(
    name: str, text: str, model: Model | None = None, api_version: str = "v2"
) -> tuple[Any, ParamProblem | None]:
    """Return the typed value that an option's, ``--set``'s or CSV cell's text means, and its problem.

    Without a model the types are read from the default model's table; ranges are checked for a model only.
    ``loras`` is ``PATH[:SCALE]``, several separated by spaces or semicolons. A name that no table has
    gives a number or boolean where the text is one, else the text. For both of them, text that begins
    with ``[`` or ``{`` is JSON.
    """
    row = table(model, api_version).get(name) or _row_of_any(name)
    if (row is None or row.type == "loras") and text.lstrip()[:1] in ("[", "{"):
        value, why = _json(text)
        if why:
            return text, ParamProblem(name, text, why)
        return (value, None) if row is None else check_value(row, value)
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


def _json(text: str) -> tuple[Any, str]:
    """The value of JSON text, and why it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite), ""
    except json.JSONDecodeError as error:
        return None, f"begins like JSON but is not: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:
        return None, f"begins like JSON but is not: {str(error)[:100]}"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is a huge number")
    return number


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
