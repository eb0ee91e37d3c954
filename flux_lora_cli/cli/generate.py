"""The generate options as typed overrides of presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flux_lora_cli.cli.request_options import GenerateOptions
from flux_lora_cli.cli.text_options import check_text, check_value
from flux_lora_cli.domain.loras import parse_lora
from flux_lora_cli.domain.parameters import as_parameter_value, is_remote_image
from flux_lora_cli.errors import UsageError

#: Field of GenerateOptions to parameter.
_FIELDS = {
    "image": "image",
    "strength": "strength",
    "size": "size",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "num_images": "num_images",
    "seed": "seed",
}


def named_overrides(options: GenerateOptions, api_version: str = "v2") -> dict[str, Any]:
    """Typed values of the named options, by parameter. Ranges are checked once the model is known.

    Raises:
        UsageError: a value that is not of the parameter's type, no LoRA, or no text.
    """
    check_text("--model", options.model or "")
    check_text("--lora", *(options.lora or ()))
    found: dict[str, Any] = {}
    for field, parameter in _FIELDS.items():
        text = getattr(options, field)
        if text is not None:
            option = f"--{field.replace('_', '-')}"
            if field != "image" or is_remote_image(text):  # a file may be called anything
                check_text(option, str(text))
            found[parameter] = _typed(option, parameter, str(text), api_version)
    if options.lora:
        found["loras"] = [_lora(text) for text in options.lora]
    if options.safety_checker is not None:
        found["enable_safety_checker"] = options.safety_checker
    return found


def set_overrides(settings: Sequence[str] | None, api_version: str = "v2") -> dict[str, Any]:
    """Typed values of ``--set KEY=VALUE``. Raises UsageError."""
    found: dict[str, Any] = {}
    for setting in settings or ():
        _check_setting(setting)
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"--set {setting}: write KEY=VALUE", "for example --set num_inference_steps=12")
        if key in ("stack", "model"):
            found[key] = text.strip()
        else:
            found[key] = _typed(f"--set {key}", key, text, api_version)
            if not isinstance(found[key], str):  # a text stands there as it was typed
                check_value(f"--set {key}", found[key])
    return found


def _check_setting(setting: str) -> None:
    key, _, text = setting.partition("=")
    if key.strip() != "image" or is_remote_image(text):  # a file may be called anything
        check_text("--set", setting)


def load_options(options: GenerateOptions, api_version: str = "v2", **more: Any) -> Mapping[str, Any]:
    """Keyword arguments of ``presets.LoadOptions``. Raises UsageError."""
    return {
        "overrides": named_overrides(options, api_version),
        "set_overrides": set_overrides(options.set_, api_version),
        "model": options.model,
        "allow_unknown_model": options.allow_unknown_model,
        "api_version": api_version,
        **more,
    }


def _typed(option: str, parameter: str, text: str, api_version: str) -> Any:
    value, problem = as_parameter_value(parameter, text, None, api_version)
    if problem is not None:
        raise UsageError(f"{option}: {problem.message}")
    return value


def _lora(text: str) -> dict[str, Any]:
    try:
        return parse_lora(text)
    except ValueError as why:
        raise UsageError(f"--lora {text}: {why}") from None
