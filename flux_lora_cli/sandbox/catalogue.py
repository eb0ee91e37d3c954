"""Models with their schemas, and what a request costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from .checks import checked
from .messages import Refusal
from .models import MAX_SCALE, MODELS, V2, V3, Model, Parameter

_TYPES: Final = {"loras": "array", "size": "string"}


def quote(wanted: dict[str, Any], price_per_image: Decimal, form: str) -> dict[str, Any]:
    """The price of one whole request, all its images. ``pricing`` is the older form of the answer.

    Raises:
        Refusal: 400, where the model is missing or the inputs are wrong.
    """
    model = wanted.get("model_id")
    inputs = wanted.get("inputs", {})
    if not isinstance(model, str) or not model:
        raise Refusal(400, "invalid parameter model_id: required")
    if not isinstance(inputs, dict):
        raise Refusal(400, "invalid parameter inputs: an object is expected")
    price = float(price_per_image * _images(model, inputs))
    if form == "pricing":
        return {"model_id": model, "unit_price": price, "currency": "USD"}
    return {"model_id": model, "price": price, "currency": "USD"}


def _images(model: str, inputs: dict[str, Any]) -> int:
    """A request of either version has a price, so the wider of the two ranges counts."""
    only = {"num_images": inputs.get("num_images")}
    version = V2 if model in MODELS else V3
    return int(checked(model, version, only)["num_images"])


def models(price_per_image: Decimal) -> list[dict[str, Any]]:
    """The models that are known, as the official command line reads them."""
    return [_entry(model, place, price_per_image) for place, model in enumerate(MODELS.values())]


def _entry(model: Model, place: int, price: Decimal) -> dict[str, Any]:
    schema = _schema(model)
    return {
        "model_id": model.name,
        "name": model.name.partition("/")[2],
        "type": "text-to-image",
        "description": model.about,
        "base_price": float(price),
        "sort_order": place + 1,
        "api_schema": {"api_schemas": [{"type": "model_run", "request_schema": schema}]},
    }


def _schema(model: Model) -> dict[str, Any]:
    table = model.tables[V3]
    return {
        "type": "object",
        "properties": {name: _property(item) for name, item in table.items()},
        "required": ["prompt"],
        "x-order-properties": list(table),
    }


def _property(item: Parameter) -> dict[str, Any]:
    about: dict[str, Any] = {
        "type": _TYPES.get(item.kind, item.kind),
        "default": item.default,
        "description": item.about,
    }
    if item.choices:
        about["enum"] = list(item.choices)
    if item.kind == "loras":
        scale = {"type": "number", "minimum": 0, "maximum": MAX_SCALE}
        fields = {"path": {"type": "string"}, "scale": scale}
        about["maxItems"] = item.high
        about["items"] = {"type": "object", "properties": fields, "required": ["path", "scale"]}
    elif item.kind != "size" and item.low is not None:
        about["minimum"], about["maximum"] = item.low, item.high
    return about
