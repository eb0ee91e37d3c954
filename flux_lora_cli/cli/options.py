"""The option groups that many commands share: general, service, spend, save; each option is written once."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from flux_lora_cli._version import __version__
from flux_lora_cli.cli import completion
from flux_lora_cli.cli.option_values import duration, interval, money, positive_money, rate

_GENERAL, _SERVICE, _SPEND, _SAVE = "General", "Service", "Spend", "Save"


def _version(value: bool) -> None:
    if value:
        typer.echo(f"flux-lora {__version__}")
        raise typer.Exit


@dataclass
class GeneralOptions:
    """On all commands."""

    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the version and exit.",
            rich_help_panel=_GENERAL,
        ),
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.", rich_help_panel=_GENERAL)] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Explain decisions.", rich_help_panel=_GENERAL)] = (
        False
    )
    no_color: Annotated[
        bool,
        typer.Option("--no-color", help="No colors (also: NO_COLOR is set).", rich_help_panel=_GENERAL),
    ] = False
    json: Annotated[
        bool,
        typer.Option("--json", help="Standard output is NDJSON, one event a line.", rich_help_panel=_GENERAL),
    ] = False
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            metavar="FILE",
            dir_okay=False,
            help="Append a line a request; no secrets.",
            rich_help_panel=_GENERAL,
        ),
    ] = None


@dataclass
class ServiceOptions:
    """On all commands that talk to the service."""

    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox",
            envvar="FLUX_LORA_SANDBOX",
            show_envvar=True,
            help="Use the offline sandbox: no key, no cost.",
            rich_help_panel=_SERVICE,
        ),
    ] = False
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            envvar="WAVESPEED_BASE_URL",
            show_envvar=True,
            help="The service's address.",
            rich_help_panel=_SERVICE,
        ),
    ] = None
    api_version: Annotated[
        str,
        typer.Option(
            "--api-version",
            metavar="v2|v3",
            help="API version.",
            autocompletion=completion.words("v2", "v3"),
            rich_help_panel=_SERVICE,
        ),
    ] = "v2"
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            help="Read the key from FILE (else WAVESPEED_API_KEY).",
            rich_help_panel=_SERVICE,
        ),
    ] = None
    allow_custom_host: Annotated[
        bool,
        typer.Option(
            "--allow-custom-host",
            help="Send the key to a base URL that is not WaveSpeed's.",
            rich_help_panel=_SERVICE,
        ),
    ] = False


@dataclass
class SpendOptions:
    """Money, on submit, replay and batch."""

    max_cost: Annotated[
        Decimal | None,
        typer.Option("--max-cost", metavar="USD", parser=money, help="Never charge more.", rich_help_panel=_SPEND),
    ] = None
    price: Annotated[
        Decimal | None,
        typer.Option(
            "--price",
            metavar="USD",
            parser=positive_money,
            help="An image's price, where the service does not say.",
            rich_help_panel=_SPEND,
        ),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="N[/min|/s]",
            parser=rate,
            help="At most so many images.",
            rich_help_panel=_SPEND,
        ),
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan; connect to nothing.", rich_help_panel=_SPEND),
    ] = False
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.", rich_help_panel=_SPEND)] = False
    on_unknown: Annotated[
        str,
        typer.Option(
            "--on-unknown",
            metavar="reconcile|hold|resubmit",
            help="After a submit of unknown outcome.",
            autocompletion=completion.words("reconcile", "hold", "resubmit"),
            rich_help_panel=_SPEND,
        ),
    ] = "reconcile"


@dataclass
class SaveOptions:
    """Waiting and saving, on wait, batch, submit and replay with --wait."""

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="The output folder.", rich_help_panel=_SAVE),
    ] = None
    filename: Annotated[
        str | None,
        typer.Option(
            "--filename",
            metavar="TEMPLATE",
            help="Names of images: {slug}-{fingerprint}-{index}.{ext}",
            rich_help_panel=_SAVE,
        ),
    ] = None
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="Tasks in flight.", rich_help_panel=_SAVE)
    ] = 16
    poll_interval: Annotated[
        float,
        typer.Option(
            "--poll-interval",
            metavar="SECONDS",
            parser=interval,
            help="Floor between two looks at a task.",
            rich_help_panel=_SAVE,
        ),
    ] = 2.0
    timeout: Annotated[
        float | None,
        typer.Option(metavar="DURATION", parser=duration, help="Deadline of the run.", rich_help_panel=_SAVE),
    ] = None
    task_timeout: Annotated[
        float,
        typer.Option(
            "--task-timeout",
            metavar="DURATION",
            parser=duration,
            help="A task's deadline, from submit.  [default: 30m]",
            show_default=False,
            rich_help_panel=_SAVE,
        ),
    ] = 1800.0
    nsfw: Annotated[
        str,
        typer.Option(
            metavar="keep|quarantine|skip",
            help="What to do with flagged images.",
            autocompletion=completion.words("keep", "quarantine", "skip"),
            rich_help_panel=_SAVE,
        ),
    ] = "keep"
    fail_on_nsfw: Annotated[
        bool,
        typer.Option("--fail-on-nsfw", help="Exit 12 if any is flagged.", rich_help_panel=_SAVE),
    ] = False
    no_download: Annotated[bool, typer.Option("--no-download", help="Save no images.", rich_help_panel=_SAVE)] = False
