"""The option groups that many commands share, each option written once; and what spreads them over a command."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flux_lora_cli._version import __version__
from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.values import count, duration, money, price, rate, word

OnUnknown = Literal["reconcile", "hold", "resubmit"]
Nsfw = Literal["keep", "quarantine", "skip"]
ApiVersion = Literal["v2", "v3"]

#: Options without a panel are the ones that most users need; ``advanced`` and ``general`` stand below them.
advanced = partial(typer.Option, rich_help_panel="Advanced")
general = partial(typer.Option, rich_help_panel="General")


# ---- the decorator ---------------------------------------------------------------------------


def command(function: Callable[..., int]) -> Callable[..., int]:
    """Make a function a command: parameters annotated with a group of options become the options of that group.

    A group is a dataclass whose fields are annotated as Typer's parameters. The general options are added to every
    command; a parameter annotated ``Console`` gets the console, configured by them.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, type[Any]] = {}
    console_name = ""
    spread = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if hint is Console:
            console_name = parameter.name
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            groups[parameter.name] = hint
            spread += _parameters(hint)
        else:
            spread.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
    spread += _parameters(GeneralOptions)
    for parameter in spread:
        _leave_out_type(parameter.annotation)

    def run(context: typer.Context, **values: Any) -> int:
        console: Console = context.obj
        console.given = frozenset(name for name in values if _is_given(context, name))
        console.configure(_gather(GeneralOptions, values))
        arguments = {name: _gather(group, values) for name, group in groups.items()}
        if console_name:
            arguments[console_name] = console
        gc.enable()  # see __main__
        return function(**values, **arguments)

    run.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]  # what Typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in spread}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def _parameters(group: type[Any]) -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        hint = hints[field.name]
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hint)


def _leave_out_type(annotation: Any) -> None:
    """A flag needs no ``<bool>`` behind its name in the help."""
    kind, *infos = typing.get_args(annotation) or (None,)
    for info in infos if kind is bool or kind == bool | None else ():
        info.metavar = ""


def _gather(group: type[Any], values: dict[str, Any]) -> Any:
    return group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


# ---- the groups ------------------------------------------------------------------------------


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"flux-lora {__version__}")
        raise typer.Exit


def _print_help(context: typer.Context, value: bool) -> None:
    if value:
        typer.echo(context.get_help())
        raise typer.Exit


@dataclass
class GeneralOptions:
    """On all commands."""

    quiet: Annotated[bool, general("--quiet", "-q", help="Print only errors.")] = False
    verbose: Annotated[bool, general("--verbose", "-v", help="Explain each decision.")] = False
    no_color: Annotated[bool, general("--no-color", help="Print without colors (as NO_COLOR does).")] = False
    json: Annotated[bool, general("--json", help="Print NDJSON: one event per line, the summary last.")] = False
    log_file: Annotated[
        str | None,
        general("--log-file", metavar="FILE", parser=str, help="Append each HTTP request to FILE; holds no secrets."),
    ] = None
    version: Annotated[
        bool,
        general("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False
    help: Annotated[
        bool, general("--help", "-h", callback=_print_help, is_eager=True, help="Print this help and exit.")
    ] = False


@dataclass
class ServiceOptions:
    """On all commands that talk to the service."""

    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox", envvar="FLUX_LORA_SANDBOX", help="Use the offline sandbox: no key, no cost, sample images."
        ),
    ] = False
    base_url: Annotated[
        str | None,
        advanced("--base-url", metavar="URL", parser=str, envvar="WAVESPEED_BASE_URL", help="Address of the service."),
    ] = None
    api_version: Annotated[
        ApiVersion | None,
        advanced(
            "--api-version",
            metavar="v2|v3",
            parser=word(ApiVersion),
            help="API version to use (default: the model's own).",
        ),
    ] = None
    api_key_file: Annotated[
        Path | None,
        advanced(
            "--api-key-file", metavar="FILE", parser=Path, help="Read the key from FILE instead of WAVESPEED_API_KEY."
        ),
    ] = None
    allow_custom_host: Annotated[
        bool, advanced("--allow-custom-host", help="Send the key to a base URL that is not WaveSpeed's.")
    ] = False


@dataclass
class SpendOptions:
    """Money, on submit, replay and batch."""

    max_cost: Annotated[
        Decimal | None,
        typer.Option("--max-cost", metavar="USD", parser=money, help="Never spend more than USD in all."),
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; connect to nothing.")] = False
    max_month: Annotated[
        Decimal | None,
        advanced(
            "--max-month", metavar="USD", parser=money, help="Refuse to spend more than USD in this calendar month."
        ),
    ] = None
    price: Annotated[
        Decimal | None,
        advanced("--price", metavar="USD", parser=price, help="Price per image, if the service does not report one."),
    ] = None
    rate: Annotated[
        float | None, advanced("--rate", metavar="N/min|N/s", parser=rate, help="Maximum rate of images.")
    ] = None
    yes: Annotated[bool, advanced("--yes", help="Do not ask before a large or unpriced run.")] = False
    on_unknown: Annotated[
        OnUnknown,
        advanced(
            "--on-unknown",
            metavar="MODE",
            parser=word(OnUnknown),
            show_default=False,
            help="reconcile (default), hold or resubmit a submission that may not have arrived.",
        ),
    ] = "reconcile"


@dataclass
class SaveOptions:
    """Waiting and saving, on wait and batch, and with --wait on submit and replay."""

    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", parser=Path, help="Folder for the images.")
    ] = None
    concurrency: Annotated[
        int,
        advanced(
            "--concurrency",
            metavar="N",
            parser=count(10_000),
            show_default=False,
            help="Maximum tasks in flight, queued ones included (default: 16).",
        ),
    ] = 16
    timeout: Annotated[
        float | None, advanced("--timeout", metavar="DURATION", parser=duration, help="End the run after DURATION.")
    ] = None
    task_timeout: Annotated[
        float,
        advanced(
            "--task-timeout",
            metavar="DURATION",
            parser=duration,
            show_default=False,
            help="Stop waiting for a task DURATION after its submission (default: 30m).",
        ),
    ] = 1800.0
    poll_interval: Annotated[
        float,
        advanced(
            "--poll-interval",
            metavar="SECONDS",
            parser=duration,
            show_default=False,
            help="Minimum time between two polls of a task (default: 2).",
        ),
    ] = 2.0
    filename: Annotated[
        str | None,
        advanced(
            "--filename",
            metavar="TEMPLATE",
            parser=str,
            help="Names of images; / makes folders. Default: {slug}-{fingerprint}-{index} and .{ext}. "
            "More fields: preset, job, seed, task, date.",
        ),
    ] = None
    nsfw: Annotated[
        Nsfw,
        advanced(
            "--nsfw",
            metavar="MODE",
            parser=word(Nsfw),
            show_default=False,
            help="keep (default), quarantine or skip images that the service flags.",
        ),
    ] = "keep"
    fail_on_nsfw: Annotated[bool, advanced("--fail-on-nsfw", help="Exit with 12 if an image is flagged.")] = False
    no_download: Annotated[bool, advanced("--no-download", help="Wait for the tasks, but save no images.")] = False
