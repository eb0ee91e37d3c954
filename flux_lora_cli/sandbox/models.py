"""What the documentation says about each model, as data.

Sources: the ordered page of Flux Lora (API v2), the v3 model pages for what
differs there. The client has tables of its own; these are repeated on
purpose, so that a wrong name or range cannot agree with itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

V2: Final = "v2"
V3: Final = "v3"
FORMATS: Final = ("jpeg", "png", "webp")
MAX_SCALE: Final = 4


@dataclass(frozen=True, slots=True)
class Parameter:
    """One request parameter: its type, default and range (both ends included)."""

    kind: str  # string, integer, number, boolean, size, loras
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    about: str = ""


Table = dict[str, Parameter]


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its parameters in each version of the API."""

    name: str
    about: str
    tables: dict[str, Table]


def _common(steps: int, max_steps: int, loras: int) -> Table:
    return {
        "prompt": Parameter("string", "", about="Text description of the image to generate."),
        "image": Parameter("string", "", about="URL or base64 of the image to start from."),
        "num_inference_steps": Parameter("integer", steps, 1, max_steps, about="Number of denoising steps."),
        "num_images": Parameter("integer", 1, 1, 4, about="Number of images to generate."),
        "loras": Parameter("loras", [], 0, loras, about="LoRA models to apply, with their scales."),
    }


def _v2(steps: int, max_steps: int, loras: int) -> Table:
    return {
        **_common(steps, max_steps, loras),
        "strength": Parameter("number", 0.6, 0, 1, about="Strength of the image-to-image change."),
        "size": Parameter("size", "1024*1024", 512, 1536, about="Width*height in pixels."),
        "guidance_scale": Parameter("number", 5.0, 0, 10, about="How closely the prompt is followed."),
        "seed": Parameter("integer", -1, -1, 9_999_999_999, about="Random seed; -1 draws one."),
        "enable_safety_checker": Parameter("boolean", True, about="Check the content."),
    }


def _v3(steps: int, max_steps: int, loras: int) -> Table:
    return {
        **_common(steps, max_steps, loras),
        "mask_image": Parameter("string", "", about="Mask of the part to repaint."),
        "strength": Parameter("number", 0.8, 0, 1, about="Strength of the image-to-image change."),
        "size": Parameter("size", "1024*1024", 256, 1536, about="Width*height in pixels."),
        "guidance_scale": Parameter("number", 3.5, 0, 20, about="How closely the prompt is followed."),
        "seed": Parameter("integer", -1, -1, 2_147_483_647, about="Random seed; -1 draws one."),
        "output_format": Parameter("string", "jpeg", choices=FORMATS, about="File type of the outputs."),
        "enable_base64_output": Parameter("boolean", False, about="Outputs inline, as base64."),
        "enable_sync_mode": Parameter("boolean", False, about="Answer when the task is done."),
    }


def _model(name: str, about: str, steps: int, max_steps: int, loras: int) -> Model:
    tables = {V2: _v2(steps, max_steps, loras), V3: _v3(steps, max_steps, loras)}
    return Model(f"wavespeed-ai/{name}", about, tables)


MODELS: Final[dict[str, Model]] = {
    model.name: model
    for model in (
        _model("flux-dev-lora", "FLUX.1 [dev] with LoRAs.", 28, 50, 5),
        _model("flux-dev-lora-ultra-fast", "FLUX.1 [dev] with LoRAs, optimised for speed.", 28, 50, 5),
        _model("flux-schnell-lora", "FLUX.1 [schnell] with LoRAs: a few steps.", 4, 8, 5),
        _model("flux-krea-dev-lora", "FLUX.1 Krea [dev] with LoRAs.", 28, 50, 5),
    )
}


def _loose(table: Table) -> Table:
    """For a model that is not in the tables: the right types, no model's own ranges."""
    return {
        name: Parameter(item.kind, item.default, choices=item.choices)
        if item.kind != "size"
        else Parameter("size", item.default, 64, 2048)
        for name, item in table.items()
        if name != "num_images"
    } | {"num_images": Parameter("integer", 1, 1, 4)}


_LOOSE: Final = {V2: _loose(_v2(28, 50, 5)), V3: _loose(_v3(28, 50, 5))}


def table_of(model: str, version: str) -> Table:
    """The model's parameters. The service has a thousand other models: those are checked loosely."""
    known = MODELS.get(model)
    return known.tables[version] if known else _LOOSE[version]
