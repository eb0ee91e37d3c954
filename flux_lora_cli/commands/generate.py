"""What is to be made: the options for request parameters and prompts, as typed overrides of presets."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flux_lora_cli.commands import completion
from flux_lora_cli.commands.options import ServiceOptions, advanced
from flux_lora_cli.commands.values import decimal_point
from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import printable

if TYPE_CHECKING:
    from flux_lora_cli.presets.load import LoadOptions
    from flux_lora_cli.service.models import Models


@dataclass
class ModelsOptions:
    """Where model tables come from, on everything that checks parameters."""

    allow_unknown_model: Annotated[
        bool, advanced("--allow-unknown-model", help="Take a model without a parameter table; nothing is checked.")
    ] = False
    models: Annotated[
        Path | None,
        advanced(
            "--models", metavar="FILE", parser=Path, envvar="FLUX_LORA_MODELS", help="Read model tables from FILE."
        ),
    ] = None
    allow_path: Annotated[
        list[Path] | None,
        advanced("--allow-path", metavar="DIR", parser=Path, help="Let presets read files below DIR; repeatable."),
    ] = None


@dataclass
class GenerateOptions(ModelsOptions):
    """Request parameters, on submit, batch, preset show and replay. None: not given."""

    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="PATH[:SCALE]", parser=str, help="A LoRA: owner/name or a URL; repeatable."),
    ] = None
    num_images: Annotated[
        str | None, typer.Option("--num-images", "-n", metavar="N", parser=str, help="Images per task, 1 to 4.")
    ] = None
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="W*H", parser=str, autocompletion=completion.sizes, help="Size in pixels."),
    ] = None
    steps: Annotated[str | None, typer.Option("--steps", metavar="N", parser=str, help="Denoising steps.")] = None
    seed: Annotated[
        str | None, typer.Option("--seed", metavar="N", parser=str, help="Seed (default: drawn and recorded).")
    ] = None
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image", "-i", metavar="FILE|URL", parser=str, help="Input image; repeatable on models with several."
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            parser=str,
            autocompletion=completion.models,
            help="Model (default: flux-dev-lora; flux-lora models lists them).",
        ),
    ] = None
    strength: Annotated[
        str | None, advanced("--strength", metavar="X", parser=str, help="How far to leave the input image, 0 to 1.")
    ] = None
    guidance: Annotated[
        str | None, advanced("--guidance", metavar="X", parser=str, help="How closely to follow the prompt.")
    ] = None
    safety_checker: Annotated[
        bool, advanced("--safety-checker", help="Let the service check the content (its default).")
    ] = False
    no_safety_checker: Annotated[
        bool, advanced("--no-safety-checker", help="Do not let the service check the content.")
    ] = False
    set_: Annotated[
        list[str] | None,
        advanced(
            "--set",
            metavar="KEY=VALUE",
            parser=str,
            autocompletion=completion.settings,
            help="Any parameter by the API's name; repeatable.",
        ),
    ] = None


@dataclass
class PromptOptions:
    """Where prompts come from, on submit."""

    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", metavar="TEXT", parser=str, help="A prompt; repeatable.")
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="FILE",
            parser=str,
            autocompletion=completion.preset_files,
            help="Take the defaults of a preset.",
        ),
    ] = None
    stack: Annotated[
        str | None,
        advanced(
            "--stack", metavar="NAME", parser=str, autocompletion=completion.stacks, help="Take this LoRA stack of it."
        ),
    ] = None
    job: Annotated[
        str | None,
        advanced(
            "--job", metavar="ID", parser=str, autocompletion=completion.job_ids, help="Take these jobs (a glob)."
        ),
    ] = None
    expand: Annotated[
        bool, advanced("--expand", help="Expand {a|b} and __wildcards__ in prompts (default: literal).")
    ] = False


#: Field of GenerateOptions → parameter.
_PARAMETERS = {
    "strength": "strength",
    "size": "size",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "num_images": "num_images",
    "seed": "seed",
}


def model_tables(options: ModelsOptions, service: ServiceOptions | None = None) -> Models:
    """The model tables at hand. Raises NotFoundError, PresetError."""
    from flux_lora_cli.commands.connection import service_name
    from flux_lora_cli.service.catalogue import load_models

    return load_models(os.environ, options.models, service_name(service or ServiceOptions()))


def load_options(options: GenerateOptions, service: ServiceOptions, **more: Any) -> LoadOptions:
    """How presets are loaded under these options.

    Raises:
        UsageError: a value that is not of its parameter's type; ranges are checked once the model is known.
        NotFoundError, PresetError: of the model tables.
    """
    from flux_lora_cli.presets.load import LoadOptions

    models = model_tables(options, service)
    return LoadOptions(
        overrides=named_overrides(options, models),
        set_overrides=set_overrides(options.set_ or ()),
        model=options.model,
        models=models,
        allow_unknown_model=options.allow_unknown_model,
        api_version=service.api_version,
        **more,
    )


def named_overrides(options: GenerateOptions, models: Models) -> dict[str, Any]:
    """Typed values of the named options, by parameter."""
    from flux_lora_cli.service.models import is_remote_image, lora_path_problem, parse_lora

    check_text("--model", options.model or "")
    check_text("--lora", *(options.lora or ()))
    found: dict[str, Any] = {}
    for field, parameter in _PARAMETERS.items():
        text = getattr(options, field)
        if text is not None:
            found[parameter] = _typed(f"--{field.replace('_', '-')}", parameter, text)
    images = options.image or []
    check_text("--image", *filter(is_remote_image, images))
    if images:
        several = len(images) > 1 or _takes_several(options, models)
        found["images" if several else "image"] = images if several else images[0]
    loras = [parse_lora(text) for text in options.lora or ()]
    for text, lora in zip(options.lora or (), loras, strict=True):
        if meant := decimal_point(text.rpartition(":")[2]):
            raise UsageError(f"--lora: '{printable(text)}': did you mean ':{meant}'?")
        if (problem := lora_path_problem(lora["path"])) and "://" not in lora["path"]:
            raise UsageError(f"--lora: {problem}")
    if loras:
        found["loras"] = loras
    if options.safety_checker or options.no_safety_checker:
        if options.safety_checker and options.no_safety_checker:
            raise UsageError("--safety-checker and --no-safety-checker exclude each other")
        found["enable_safety_checker"] = options.safety_checker
    return found


def set_overrides(settings: list[str] | tuple[()]) -> dict[str, Any]:
    """Typed values of ``--set KEY=VALUE``."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(
                f"--set {printable(setting)}: write KEY=VALUE", "For example: --set num_inference_steps=12"
            )
        check_text("--set", key, *([] if key == "image" else [text]))
        found[key] = text.strip() if key in ("stack", "model") else _typed(f"--set {key}", key, text)
        if not isinstance(found[key], str):
            check_text(f"--set {key}", str(found[key]))
    return found


def check_text(option: str, *texts: str) -> None:
    """Refuse bytes that are not text, which Python hands over as halves of surrogate pairs: no request carries them.

    Paths may have them: a file is called what it is called.
    """
    for text in texts:
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise UsageError(
                f"{option}: '{printable(text)}' is not text in this locale's encoding ({sys.getfilesystemencoding()})",
                "Write it in UTF-8, under a UTF-8 locale: LC_ALL=C.UTF-8 flux-lora …",
            )


def _takes_several(options: GenerateOptions, models: Models) -> bool:
    """Whether the model that is named takes ``images`` rather than ``image``."""
    if options.model is None:
        return False
    parameters = models.find(options.model, allow_unknown=True).parameters
    return "image" not in parameters and "images" in parameters


def _typed(option: str, parameter: str, text: str) -> Any:
    from flux_lora_cli.service.models import unchecked_model, value_of_text

    check_text(option, text)
    meant = decimal_point(text) if parameter in _PARAMETERS.values() and parameter != "size" else ""
    if meant:
        raise UsageError(f"{option}: '{printable(text)}' is not a number; did you mean '{meant}'?")
    value, problem = value_of_text(unchecked_model("any", "v2"), parameter, text)
    if problem is not None:
        raise UsageError(f"{option}: {problem.message}")
    return value
