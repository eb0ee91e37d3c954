"""The models that the sandbox knows, and requests checked against their schemas.

The tables are data (``catalogue.json``), in the shape in which the service publishes its own catalogue; the client's
tables are not used, so that a wrong one is noticed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import Any, Final

from .listener import Refusal, wrong

Schema = Mapping[str, Any]
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "boolean": (bool,), "integer": (int, float), "number": (int, float), "array": (list,),
    "object": (dict,),
}  # fmt: skip
_DATA: Final[dict[str, Any]] = json.loads(files(__package__).joinpath("catalogue.json").read_bytes())
PUBLISHED: Final[list[dict[str, Any]]] = _DATA["models"]
"""The list as ``GET /api/v3/models`` answers it."""


@dataclass(frozen=True, slots=True)
class Table:
    """What one model takes on one version of the API, and its price in dollars per image."""

    model: str
    schema: Schema
    price: Decimal = Decimal(0)

    @property
    def properties(self) -> Mapping[str, Schema]:
        properties: Mapping[str, Schema] = self.schema["properties"]
        return properties

    def checked(self, inputs: Mapping[str, Any], undeclared: str = "drop") -> dict[str, Any]:
        """The declared parameters that were given.

        Raises:
            Refusal: 400, naming the parameter and what is allowed; with ``undeclared`` "refuse" also for a parameter
                that the model does not declare.
        """
        strange = [name for name in inputs if name not in self.properties]
        if strange and undeclared == "refuse":
            raise wrong(strange[0], f"{self.model} does not take it")
        given = {name: inputs[name] for name in self.properties if inputs.get(name) is not None}
        for name in self.schema["required"]:
            if given.get(name) in (None, "", []):
                raise wrong(name, "required")
        for name, value in given.items():
            _check(name, self.properties[name], value)
        return given

    def filled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """``given`` with the documented defaults of what was left out."""
        defaults = {name: schema["default"] for name, schema in self.properties.items() if "default" in schema}
        return {**defaults, **given}


def body(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that is no submission, checked, defaults filled in. Raises Refusal."""
    form = Table(name, _DATA["requests"][name])
    return form.filled(form.checked(given))


@functools.cache
def table(model: str, version: str) -> Table:
    """The table for that version of the API, else the one of v3. Raises Refusal (404) for an unknown model."""
    for entry in PUBLISHED:
        if entry["model_id"] == model:
            schema = entry["api_schema"]["api_schemas"][0]["request_schema"]
            if version == "v2":
                schema = _DATA["v2"].get(model, schema)
            return Table(model, schema, Decimal(str(entry["base_price"])))
    raise Refusal(404, f"no such endpoint or model: {model[:100]}")


def _check(name: str, schema: Schema, value: Any) -> None:
    """Raises a refusal where ``value`` is not what ``schema`` allows."""
    kind: str = schema["type"]
    if type(value) not in _TYPES[kind]:
        raise wrong(name, f"must be of type {kind}")
    if kind == "string":
        _check_string(name, schema, value)
    elif kind in ("integer", "number"):
        _check_range(name, schema, value)
        if kind == "integer" and value != int(value):
            raise wrong(name, "must be an integer")
    elif kind == "array":
        if len(value) > schema.get("maxItems", len(value)):
            raise wrong(name, f"takes at most {schema['maxItems']} items")
        for place, item in enumerate(value):
            _check(f"{name}[{place}]", schema["items"], item)
    elif kind == "object":
        for key, inner in schema["properties"].items():
            if key in value:
                _check(f"{name}.{key}", inner, value[key])
            elif key in schema["required"]:
                raise wrong(f"{name}.{key}", "required")


def _check_string(name: str, schema: Schema, value: str) -> None:
    if "enum" in schema and value not in schema["enum"]:
        raise wrong(name, f"must be one of {', '.join(schema['enum'])}")
    if len(value.strip()) < schema.get("minLength", 0):
        raise wrong(name, "required")
    if "minimum" in schema and (value or "default" in schema):  # a size
        match = re.fullmatch(r"([0-9]{1,5})\*([0-9]{1,5})", value)
        if match is None:
            raise wrong(name, "must be WIDTH*HEIGHT")
        for side in match.groups():
            _check_range(name, schema, int(side))


def _check_range(name: str, schema: Schema, value: float) -> None:
    low, high = schema.get("minimum", -1e15), schema.get("maximum", 1e15)
    if not low <= value <= high:
        raise wrong(name, f"must be between {low} and {high}")
