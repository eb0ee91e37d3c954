"""What the command line sets, whatever the presets say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..parameters import Model, check_params, is_remote_image
from .files import PresetFiles

if TYPE_CHECKING:
    from .loading import LoadOptions

#: What a parameter's option is called, for messages.
OPTION_NAMES = {
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "num_images": "--num-images",
    "loras": "--lora",
    "enable_safety_checker": "--safety-checker",
    **{name: f"--{name}" for name in ("image", "strength", "size", "seed", "model", "stack")},
}


@dataclass(frozen=True)
class Overrides:
    """What the command line sets, whatever the presets say."""

    named: Mapping[str, Any]
    sets: Mapping[str, Any]
    model: str | None

    @classmethod
    def of(cls, options: LoadOptions, files: PresetFiles) -> Overrides:
        """From the options; local images are looked at. Raises NotFoundError, UsageError."""
        named, sets = dict(options.overrides), dict(options.set_overrides)
        model = options.model or named.pop("model", None) or sets.pop("model", None)
        for values in (named, sets):
            image = values.get("image")
            if isinstance(image, str) and not is_remote_image(image):
                values["image"] = files.given_image(image)
        return cls(named, sets, model)

    @property
    def values(self) -> dict[str, Any]:
        """All of them; a named option wins over ``--set``."""
        return {**self.sets, **self.named}

    def check(self, model: Model | None, api_version: str) -> None:
        """Raises UsageError with every value that the model does not take."""
        values = {k: v for k, v in self.values.items() if k != "stack" and not hasattr(v, "sha256")}
        found = check_params(model, values, api_version)
        if found:
            words = [f"{self._option(p.key)}: {p.message}" for p in found]
            raise UsageError("; ".join(words), hint=f"the model is {model.short if model else 'unknown'}")

    def _option(self, key: str) -> str:
        name = key.partition("[")[0]
        return OPTION_NAMES.get(name, f"--set {name}") if name in self.named else f"--set {name}"
