"""The options that several commands share, each written once, and the decorator that makes functions commands."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import io
import os
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flux_lora_cli._version import __version__
from flux_lora_cli.commands.completion import offer_jobs, offer_models
from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.values import YES, count, duration, image, lora, money, parameter, price, rate, setting

OnUnknown = Literal["reconcile", "hold", "resubmit"]
Nsfw = Literal["keep", "quarantine", "skip"]
ApiVersion = Literal["v2", "v3"]
#: Reads the text of an option; without one, the type of its parameter says how (``values.parser_of``).
Parser = Callable[[Any], Any]


def option(
    names: str,
    metavar: str,
    text: str,
    parser: Parser | None = None,
    *,
    panel: str | None = None,
    env: str | None = None,
    complete: Callable[..., list[str]] | None = None,
) -> Any:
    """An option with a value. Text that is not UTF-8 reaches ``parser`` too, as ``os.fsdecode`` makes it.

    Args:
        names: separated by spaces (``"--output -o"``).
        panel: heading in the help; without one, it is among the options that most users need.
        env: the variable that stands in for it.
        complete: what the shell offers.
    """
    return typer.Option(
        *names.split(), metavar=metavar, help=text, parser=parser, show_default=False, rich_help_panel=panel,
        envvar=env, autocompletion=complete,
    )  # fmt: skip


def flag(names: str, text: str, *, panel: str | None = None, **more: Any) -> Any:
    """An option without a value."""
    return typer.Option(*names.split(), help=text, rich_help_panel=panel, **more)


def argument(
    metavar: str, text: str, parser: Parser | None = None, complete: Callable[..., list[str]] | None = None
) -> Any:
    """An argument."""
    return typer.Argument(metavar=metavar, help=text, parser=parser, show_default=False, autocompletion=complete)


def sent(name: str, names: str, metavar: str, text: str, panel: str | None = None) -> Any:
    """An option for the request parameter ``name``."""
    return option(names, metavar, text, partial(parameter, name), panel=panel)


#: For options that few users need.
advanced = partial(option, panel="Advanced")
advanced_flag = partial(flag, panel="Advanced")
general_flag = partial(flag, panel="General")


# ---- the decorator ---------------------------------------------------------------------------


def command(function: Callable[..., int]) -> Callable[..., int]:
    """Make a function a command: parameters annotated with a group of options become the options of that group.

    A group is a dataclass whose fields are annotated as Typer's parameters. The general options are added to every
    command; the parameter ``console`` gets the console, configured by them.
    """
    groups: dict[str, Any] = {}
    spread = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for given in inspect.signature(function, eval_str=True).parameters.values():
        if dataclasses.is_dataclass(given.annotation):
            groups[given.name] = given.annotation
            spread += _parameters(given.annotation)
        elif given.annotation is not Console:
            spread.append(given.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    spread += _parameters(GeneralOptions)

    def run(context: typer.Context, **values: Any) -> int:
        console: Console = context.obj
        sources = {name: context.get_parameter_source(name) for name in values}
        console.given = frozenset(name for name, source in sources.items() if source and source.name == "COMMANDLINE")
        console.configure(_gather(GeneralOptions, values))
        arguments = {name: _gather(group, values) for name, group in groups.items()}
        gc.enable()  # see __main__
        return function(**values, **arguments, console=console)

    run.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]  # what Typer reads
    run.__doc__ = function.__doc__
    return run


def _parameters(group: Any) -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        hint = hints[field.name]
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hint)


def _gather(group: Any, values: dict[str, Any]) -> Any:
    return group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})


# ---- the groups ------------------------------------------------------------------------------

Version = Annotated[ApiVersion | None, advanced("--api-version", "v2|v3", "API version (default: the model's own).")]
ModelTables = Annotated[
    Path | None, advanced("--models", "FILE", "Read model tables from FILE.", env="FLUX_LORA_MODELS")
]
_TASKS, _JOBS = count(10_000), count(10_000_000)


def _template(text: str) -> str:
    """A template of the names of one preset's images. Raises UsageError."""
    from flux_lora_cli.folder.names import Template

    Template(text)
    return text


def help_text(context: typer.Context) -> str:
    """The help of a command, without colors."""
    os.environ["TERM"] = "dumb"  # or Typer colors it all the same where GITHUB_ACTIONS or FORCE_COLOR is set
    with redirect_stdout(io.StringIO()) as text:
        context.get_help()
    return text.getvalue().rstrip("\n")


def _print_help(context: typer.Context, value: bool) -> None:
    if value and not context.resilient_parsing:
        console: Console = context.obj
        if console.colored(sys.stdout) and not console.json:
            context.get_help()
        else:
            console.tell(help_text(context))
        raise typer.Exit


def _print_version(context: typer.Context, value: bool) -> None:
    if value and not context.resilient_parsing:
        context.obj.tell(f"flux-lora {__version__}")
        raise typer.Exit


@dataclass
class GeneralOptions:
    """On all commands."""

    quiet: Annotated[bool, general_flag("--quiet -q", "Print only errors.")] = False
    verbose: Annotated[bool, general_flag("--verbose -v", "Explain each decision.")] = False
    no_color: Annotated[bool, general_flag("--no-color", "Print without colors (like NO_COLOR).")] = False
    json: Annotated[bool, general_flag("--json", "Print NDJSON: one event per line, the summary last.")] = False
    log_file: Annotated[
        str | None, option("--log-file", "FILE", "Append each HTTP request to FILE, without secrets.", panel="General")
    ] = None
    version: Annotated[
        bool, general_flag("--version", "Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False
    help: Annotated[
        bool, general_flag("--help -h", "Print this help and exit.", callback=_print_help, is_eager=True)
    ] = False


@dataclass
class ServiceOptions:
    """On all commands that talk to the service."""

    sandbox: Annotated[
        bool, flag("--sandbox", "Use the offline sandbox: no key, no cost, sample images.", envvar="FLUX_LORA_SANDBOX")
    ] = False
    base_url: Annotated[str | None, advanced("--base-url", "URL", "The service's URL.", env="WAVESPEED_BASE_URL")] = (
        None
    )
    api_version: Version = None
    api_key_file: Annotated[
        Path | None, advanced("--api-key-file", "FILE", "Read the key from FILE instead of WAVESPEED_API_KEY.")
    ] = None
    allow_custom_host: Annotated[
        bool, advanced_flag("--allow-custom-host", "Send the key to a base URL that is not WaveSpeed's.")
    ] = False

    @classmethod
    def offline(cls, api_version: ApiVersion | None = None) -> ServiceOptions:
        """The service that the environment names: its cached model tables count. Nothing is sent to it."""
        sandbox = os.environ.get("FLUX_LORA_SANDBOX", "").lower() in YES
        return cls(sandbox, os.environ.get("WAVESPEED_BASE_URL") or None, api_version, allow_custom_host=True)

    @property
    def name(self) -> str:
        """Whom a folder that is made under these options belongs to: an origin, or the sandbox. Raises UsageError."""
        if self.sandbox:
            return "sandbox"
        from flux_lora_cli.service.hosts import DEFAULT_BASE_URL, checked_base_url, origin_text

        base_url = self.base_url or DEFAULT_BASE_URL
        return origin_text(checked_base_url(base_url, allow_custom_host=self.allow_custom_host))

    @property
    def words(self) -> list[str]:
        """The options with which another command reaches the same service; the environment needs no repeating."""
        words = ["--sandbox"] if self.sandbox else []
        if self.base_url and not self.sandbox and self.base_url != os.environ.get("WAVESPEED_BASE_URL"):
            words += ["--base-url", self.base_url]
        words += ["--allow-custom-host"] if self.allow_custom_host else []
        words += ["--api-version", self.api_version] if self.api_version else []
        return words + (["--api-key-file", str(self.api_key_file)] if self.api_key_file else [])

    def default_folder(self, name: str = "") -> Path:
        """Where images go without ``-o``; apart for the sandbox."""
        return Path(f"{Path('flux-lora-output', name)}{'-sandbox' if self.sandbox else ''}")


@dataclass
class SpendOptions:
    """Money, on submit, replay and batch."""

    max_cost: Annotated[Decimal | None, option("--max-cost", "USD", "Spend at most USD in total.", money)] = None
    dry_run: Annotated[bool, flag("--dry-run", "Print the plan and its cost; connect to nothing.")] = False
    max_month: Annotated[
        Decimal | None, advanced("--max-month", "USD", "Spend at most USD per calendar month.", money)
    ] = None
    price: Annotated[Decimal | None, advanced("--price", "USD", "Price per image, if none is reported.", price)] = None
    rate: Annotated[float | None, advanced("--rate", "N/min|N/s", "Maximum rate of images.", rate)] = None
    yes: Annotated[bool, advanced_flag("--yes", "Do not ask before a large or unpriced run.")] = False
    on_unknown: Annotated[
        OnUnknown,
        advanced("--on-unknown", "MODE", "reconcile (default), hold or resubmit what may not have arrived."),
    ] = "reconcile"


@dataclass
class SaveOptions:
    """Waiting and saving, on wait and batch, and with --wait on submit and replay."""

    output: Annotated[Path | None, option("--output -o", "DIR", "Folder for the images.")] = None
    concurrency: Annotated[
        int, advanced("--concurrency", "N", "Maximum tasks in flight, queued ones included (default: 16).", _TASKS)
    ] = 16
    timeout: Annotated[float | None, advanced("--timeout", "DURATION", "Stop waiting after DURATION.", duration)] = None
    task_timeout: Annotated[
        float,
        advanced("--task-timeout", "DURATION", "The same for a task, from its submission (default: 30m).", duration),
    ] = 1800.0
    poll_interval: Annotated[
        float, advanced("--poll-interval", "SECONDS", "Minimum time between polls of a task (default: 2).", duration)
    ] = 2.0
    filename: Annotated[
        str | None,
        advanced(
            "--filename", "TEMPLATE", "Names of images; / makes folders. Default: {slug}-{fingerprint}-{index} and "
            ".{ext}. More fields: preset, job, seed, task, date.", _template,
        ),
    ] = None  # fmt: skip
    nsfw: Annotated[
        Nsfw, advanced("--nsfw", "MODE", "keep (default), quarantine or skip images that the service flags.")
    ] = "keep"
    fail_on_nsfw: Annotated[bool, advanced_flag("--fail-on-nsfw", "Exit with 12 if an image is flagged.")] = False
    no_download: Annotated[bool, advanced_flag("--no-download", "Wait for the tasks, but save no images.")] = False


@dataclass
class ModelsOptions:
    """Where model tables come from, on everything that checks parameters."""

    allow_unknown_model: Annotated[
        bool, advanced_flag("--allow-unknown-model", "Take a model without a parameter table; nothing is checked.")
    ] = False
    models: ModelTables = None
    allow_path: Annotated[
        list[Path] | None, advanced("--allow-path", "DIR", "Let presets read files under DIR; repeatable.")
    ] = None


@dataclass
class GenerateOptions(ModelsOptions):
    """Request parameters, on submit, batch, preset show and replay. None: not given."""

    loras: Annotated[list[Any] | None, option("--lora", "PATH[:SCALE]", "owner/name or a URL; repeatable.", lora)] = (
        None
    )
    num_images: Annotated[Any, sent("num_images", "--num-images -n", "N", "Images per task, 1 to 4.")] = None
    size: Annotated[Any, sent("size", "--size", "W*H", "Size in pixels.")] = None
    num_inference_steps: Annotated[Any, sent("num_inference_steps", "--steps", "N", "Denoising steps.")] = None
    seed: Annotated[Any, sent("seed", "--seed", "N", "Seed (default: drawn and recorded).")] = None
    image: Annotated[
        list[str] | None, option("--image -i", "FILE|URL", "Input image; some models take many.", image)
    ] = None
    model: Annotated[
        str | None,
        option(
            "--model", "MODEL", "flux-dev-lora (default), flux-dev-lora-ultra-fast, flux-schnell-lora, "
            "flux-krea-dev-lora, flux-kontext-dev-lora, flux-kontext-dev-lora-ultra-fast; all: flux-lora models.",
            complete=offer_models,
        ),
    ] = None  # fmt: skip
    strength: Annotated[
        Any, sent("strength", "--strength", "X", "How far to depart from the image, 0 to 1.", "Advanced")
    ] = None
    guidance_scale: Annotated[
        Any, sent("guidance_scale", "--guidance", "X", "How closely to follow the prompt.", "Advanced")
    ] = None
    safety_checker: Annotated[bool, advanced_flag("--safety-checker", "Let the service check content.")] = False
    no_safety_checker: Annotated[bool, advanced_flag("--no-safety-checker", "Keep it from checking content.")] = False
    set_: Annotated[
        list[Any] | None, advanced("--set", "KEY=VALUE", "Set a parameter by its API name; repeatable.", setting)
    ] = None


@dataclass
class WaitOptions(ServiceOptions, SaveOptions):
    """On wait, and all of them on submit, batch and replay."""


@dataclass
class RunOptions(GenerateOptions, ServiceOptions, SpendOptions, SaveOptions):
    """On submit, batch and replay. The help has them in the reverse order."""


@dataclass
class JobsOptions:
    """How presets become jobs, on batch."""

    max_jobs: Annotated[int, advanced("--max-jobs", "N", "Maximum jobs in all files (default: 1,000).", _JOBS)] = 1000
    expand: Annotated[
        bool, advanced_flag("--expand", "Expand {a|b} and __wildcards__ in the prompts of .txt, .csv and .jsonl.")
    ] = False


@dataclass
class ExpandOptions(JobsOptions):
    """The same without a service, on preset check, show and diff."""

    api_version: Version = None


# ---- arguments and single options of several commands ----------------------------------------

Folder = Annotated[Path, argument("DIR", "The output folder.")]
Folders = Annotated[list[Path], argument("DIR", "Output folders.")]
Files = Annotated[list[str], argument("FILE", "Presets, .txt, .csv, .jsonl, or - (JSON Lines).")]
Only = Annotated[list[str] | None, option("--only", "GLOB", "Only these job IDs; repeatable.", complete=offer_jobs)]
OnlyFile = Annotated[str | None, option("--only-file", "FILE", "Only the job IDs in FILE, one per line; - for stdin.")]
Strict = Annotated[bool, flag("--strict", "Treat notes as problems.")]
Junit = Annotated[Path | None, advanced("--junit", "FILE", "Write a JUnit report.")]
