"""What each model takes, as tables per model and API version; whether a request fits; the request that is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Literal

from flux_lora_cli.errors import UsageError
from flux_lora_cli.service.values import Checked, Parameter, ValueProblem, by_value, check_value, typed
from flux_lora_cli.text import nearest, quoted

Version = Literal["v2", "v3"]

#: The model that is meant where none is named.
DEFAULT_MODEL = "wavespeed-ai/flux-dev-lora"
#: Seeds that the tool draws stay within 31 bits, the limit of v3.
MAX_DRAWN_SEED = 2_147_483_647
#: Items of a list, where a table does not say how many.
MAX_ITEMS = 1000
#: What may stand in a URL as a model's ID.
MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class UnknownModel(UsageError):
    """No table says what a model takes on that API version."""


@dataclass(frozen=True)
class Model:
    id: str  # full, as the service has it: wavespeed-ai/flux-dev-lora
    version: Version
    parameters: Mapping[str, Parameter]
    price: Decimal | None = None  # documented USD per image; never taken for what the service charges
    price_is_floor: bool = False  # it may cost more: the catalogue's base_price
    source: str = ""  # where the table is from, and how old it is
    checked: bool = True  # False for a model without a table, whose parameters are sent as written

    @property
    def short(self) -> str:
        """The ID without its first part, by which it may be named, too."""
        return self.id.partition("/")[2] or self.id

    @property
    def max_loras(self) -> int:
        """How many LoRAs it takes; 0 where it takes none, MAX_ITEMS where no limit is declared."""
        loras = self.parameters.get("loras")
        return 0 if loras is None else loras.max_items or MAX_ITEMS

    @property
    def max_seed(self) -> int:
        """The highest seed that may be drawn."""
        row = self.parameters.get("seed")
        return MAX_DRAWN_SEED if row is None or row.maximum is None else max(0, min(MAX_DRAWN_SEED, int(row.maximum)))

    def request(self, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """The body that is recorded and sent: documented defaults are explicit, numbers stand by value.

        ``strength`` goes with an image only. A checked model gets nothing that it does not declare; any other what the
        user wrote, and the seed.
        """
        body = {name: params.get(name, row.default) for name, row in self.parameters.items()}
        if not self.checked:
            body |= params
        if "seed" in self.parameters:
            body["seed"] = seed
        if not body.get("image") and not body.get("images"):
            body.pop("strength", None)
        return {name: by_value(value) for name, value in body.items() if name in params or value is not None}

    def named_image(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``params`` with one ``image`` under the name that the model has for it, which may be ``images``."""
        if "image" not in params or "image" in self.parameters or "images" not in self.parameters:
            return dict(params)
        rest = {name: value for name, value in params.items() if name != "image"}
        return {**rest, "images": [params["image"]]}

    def price_of(self, request: Mapping[str, Any]) -> Decimal | None:
        """What the whole request costs by the documentation, USD."""
        images = request.get("num_images", 1)
        valid = isinstance(images, int) and not isinstance(images, bool)
        return None if self.price is None or not valid else self.price * images


class Models:
    """The tables at hand. Later tables replace earlier ones of the same model and version."""

    def __init__(self, tables: Iterable[Model]) -> None:
        self._tables = {(model.id, model.version): model for model in tables}

    @classmethod
    def builtin(cls) -> Models:
        return cls(_BUILTIN)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._tables.values())

    def find(self, name: str, version: Version | None = None, *, allow_unknown: bool = False) -> Model:
        """The model of a short or full ID, on ``version`` or, where that is None, on its own version.

        Args:
            allow_unknown: give an unchecked model where no table has it.

        Raises:
            UnknownModel: no table has it. The hint corrects slips of the same name, and never proposes another model.
        """
        known = self._named(name)
        own: Version = "v2" if (known, "v2") in self._tables else "v3"
        found = self._tables.get((known or "", version or own))
        if found is not None:
            return found
        if allow_unknown and MODEL_ID.fullmatch(known or name):
            # The types of the usual parameters alone are taken to be known.
            loose = {name: Parameter(name, row.type, description=row.description) for name, row in _USUAL.items()}
            return Model(known or name, version or "v3", loose, source="not checked", checked=False)
        if known is not None:
            raise UnknownModel(
                f"what {known} takes on API {version} is not known",
                f"Leave out --api-version (it runs on {own}), or send it unchecked with --allow-unknown-model.",
            )
        digits = re.sub(r"\D", "", name)
        names = (each for model in self for each in (model.short, model.id))
        alike = [each for each in names if re.sub(r"\D", "", each) == digits]
        near = get_close_matches(name[:200].casefold().replace("_", "-"), alike, n=1, cutoff=0.9)
        raise UnknownModel(
            f"unknown model {quoted(name)}" + (f"; did you mean '{near[0]}'?" if near else ""),
            "To list those known: flux-lora models; to read the service's catalogue: flux-lora models --update; "
            "--allow-unknown-model sends a request unchecked.",
        )

    def _named(self, name: str) -> str | None:
        """The full ID of a short or full one; None where no table, or more than one provider's, has it."""
        ids = {model.id for model in self if name in (model.id, model.short)}
        for preferred in (name, f"wavespeed-ai/{name}"):
            if preferred in ids:
                return preferred
        return ids.pop() if len(ids) == 1 else None


# ---- whole requests -----------------------------------------------------------------------------

#: What other tools call these parameters; no edit distance finds them.
_ALIASES = {
    "steps": "num_inference_steps",
    **dict.fromkeys(("guidance", "cfg", "cfg_scale"), "guidance_scale"),
    **dict.fromkeys(("n", "num_outputs"), "num_images"),
    **dict.fromkeys(("width", "height", "aspect_ratio"), "size"),
    **dict.fromkeys(("image_url", "init_image", "images"), "image"),
    "image": "images",
    "lora": "loras",
    "safety_checker": "enable_safety_checker",
    "mask": "mask_image",
    "format": "output_format",
}


def unknown_key(model: Model, key: str, others: Iterable[str] = ()) -> ValueProblem:
    """The problem of a key that the model does not declare: the service would drop it, and charge.

    Args:
        others: further keys that may stand in the same place.
    """
    known = [*model.parameters, *others]
    alias = _ALIASES.get(key.casefold().replace("-", "_"))
    near = alias if alias in known else "" if key in _USUAL else nearest(key, known)
    hint = f"did you mean '{near}'?" if near else "known: " + ", ".join(model.parameters)
    return ValueProblem(key, f"not a parameter of {model.short} on API {model.version}; {hint}", near or "")


def check_request(model: Model, params: Mapping[str, Any]) -> list[ValueProblem]:
    """Every problem of a whole set of parameters (``seed`` may be missing)."""
    rows = model.parameters
    found = [check_value(rows[key], value)[1] for key, value in params.items() if key in rows]
    found += [unknown_key(model, key) for key in params if model.checked and key not in rows]
    found += [
        ValueProblem(name, f"{model.short} on API {model.version} needs it; allowed: {row.allowed}")
        for name, row in rows.items()
        if row.required and name != "seed" and params.get(name) in (None, "", [], ())
    ]
    return [problem for problem in found if problem is not None]


def value_of_text(name: str, text: str) -> Checked:
    """The value that the text of an option or of ``--set`` means, and its problem; ranges depend on the model.

    ``loras`` is ``PATH[:SCALE]`` and ``images`` a path, several separated by spaces or semicolons; text that begins
    with ``[`` or ``{`` is JSON for both.
    """
    kind = _USUAL[name].type if name in _USUAL else "any"
    try:
        return check_value(Parameter(name, kind), typed(kind, text))
    except (ValueError, RecursionError) as error:
        return text, ValueProblem(name, f"begins like JSON and is not: {str(error)[:100]}")


# ---- the built-in tables ------------------------------------------------------------------------
# Sources: the API page of flux-dev-lora for v2; the official page of each model, October 2025, for v3. A default of
# None means that no source names one, so nothing is sent unless the user writes it.

_DESCRIPTIONS = {
    "prompt": "What the image shows.",
    "image": "Input image: a URL, a data URI, or a local file.",
    "mask_image": "White where the input image may change.",
    "strength": "How far the result may leave the input image.",
    "size": "WIDTH*HEIGHT in pixels.",
    "num_inference_steps": "Denoising steps.",
    "guidance_scale": "How closely the prompt is followed.",
    "num_images": "Images per task.",
    "seed": "The same seed gives the same image; -1 draws one.",
    "loras": "LoRA models to apply: path and scale (0 to 4) of each.",
    "enable_safety_checker": "Let the service check for unsafe content.",
    "output_format": "File format of the images.",
    "enable_base64_output": "Images inside the answer, not as URLs.",
    "enable_sync_mode": "Answer the submission only when the images are made.",
}

_V2_ROWS = (
    Parameter("prompt", "string", ""),
    Parameter("image", "image", ""),
    Parameter("strength", "number", 0.6, 0, 1),
    Parameter("size", "size", "1024*1024", 512, 1536),
    Parameter("num_inference_steps", "integer", 28, 1, 50),
    Parameter("guidance_scale", "number", 5.0, 0, 10),
    Parameter("num_images", "integer", 1, 1, 4),
    Parameter("seed", "integer", -1, -1, 9_999_999_999),
    Parameter("loras", "loras", (), max_items=5),
    Parameter("enable_safety_checker", "boolean", True),
)
_V3_ROWS = (
    Parameter("prompt", "string", required=True),
    Parameter("image", "image"),
    Parameter("mask_image", "url"),
    Parameter("strength", "number", 0.8, 0, 1),
    Parameter("loras", "loras", (), max_items=3),
    Parameter("size", "size", "1024*1024", 256, 1536),
    Parameter("num_inference_steps", "integer", 28, 1, 50),
    Parameter("guidance_scale", "number", 3.5, 0, 20),
    Parameter("num_images", "integer", 1, 1, 4),
    Parameter("seed", "integer", -1, -1, MAX_DRAWN_SEED),
    Parameter("output_format", "string", choices=("jpeg", "png", "webp")),
    Parameter("enable_base64_output", "boolean"),
    Parameter("enable_sync_mode", "boolean"),
)
_Changes = Mapping[str, Mapping[str, Any]]
_KONTEXT: _Changes = {"image": {"required": True}, "size": {"default": None}, "guidance_scale": {"default": 2.5}}
#: Short ID, rows, the rows that the model does not declare, what differs in the others, USD per image.
_TABLES: tuple[tuple[str, tuple[Parameter, ...], str, _Changes, str], ...] = (
    ("flux-dev-lora", _V2_ROWS, "", {}, "0.015"),
    ("flux-dev-lora", _V3_ROWS, "", {"loras": {"max_items": 4}}, "0.015"),
    ("flux-dev-lora-ultra-fast", _V3_ROWS, "", {"strength": {"minimum": 0.01}}, "0.006"),
    ("flux-schnell-lora", _V3_ROWS, "num_inference_steps guidance_scale", {}, "0.005"),
    ("flux-krea-dev-lora", _V3_ROWS, "num_inference_steps num_images mask_image", {}, "0.02"),
    ("flux-kontext-dev-lora", _V3_ROWS, "mask_image strength", _KONTEXT, ""),
    ("flux-kontext-dev-lora-ultra-fast", _V3_ROWS, "mask_image strength", _KONTEXT, ""),
)


def _table(short: str, rows: tuple[Parameter, ...], undeclared: str, changes: _Changes, price: str) -> Model:
    declared = {
        row.name: replace(row, description=_DESCRIPTIONS[row.name], **changes.get(row.name, {}))
        for row in rows
        if row.name not in undeclared.split()
    }
    source = "built in, from the documentation of October 2025"
    source += "; price from third-party captures" if price and short != "flux-dev-lora" else ""
    usd = Decimal(price) if price else None
    return Model(f"wavespeed-ai/{short}", "v2" if rows is _V2_ROWS else "v3", declared, usd, source=source)


#: One table per model and API version that its documentation describes.
_BUILTIN = [_table(*each) for each in _TABLES]
#: The parameters that models of this kind have, for their types.
_USUAL = {
    **_BUILTIN[1].parameters,
    **_BUILTIN[0].parameters,
    "images": Parameter("images", "images", description="Input images."),
}
