"""The option groups that commands share; each option is written here once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from flux_lora_cli.cli import completion

_GENERAL, _SERVICE, _GENERATE, _PROMPT = "General", "Service", "Generate", "Prompt"
_SPEND, _SAVE, _BATCH = "Spend", "Save", "Batch"

_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(s|m|h|d)?\Z")
_UNIT = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:/\s*(min|m|s|sec|h))?\Z")
_PER = {None: 60.0, "min": 60.0, "m": 60.0, "s": 1.0, "sec": 1.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``30m`` or ``2h``. Raises typer.BadParameter."""
    match = _DURATION.match(str(text).strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no duration; write 90, 90s, 30m or 2h")
    seconds = float(match[1]) * _UNIT[match[2]]
    if not 0 < seconds <= 366 * 86400:
        raise typer.BadParameter(f"{text!r} is out of range; it must be above 0 and at most 366d")
    return seconds


def interval(text: str) -> float:
    """Seconds of a poll interval: a duration, any value above 0. Raises typer.BadParameter."""
    return duration(text)


def rate(text: str) -> float:
    """Images per second of ``10``, ``10/min`` (the default unit) or ``2/s``. Raises typer.BadParameter."""
    match = _RATE.match(str(text).strip())
    if not match or not float(match[1]) > 0:
        raise typer.BadParameter(f"{text!r} is no rate; write 10/min or 2/s, above 0")
    return float(match[1]) / _PER[match[2]]


def money(text: str) -> Decimal:
    """US dollars of ``1.50`` or ``$1.50``. Raises typer.BadParameter."""
    try:
        value = Decimal(str(text).strip().removeprefix("$"))
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and Decimal(0) <= value < Decimal(10) ** 9):
        raise typer.BadParameter(f"{text!r} is no amount of US dollars; write 1.50, 0 or more")
    return value


def positive_money(text: str) -> Decimal:
    """As ``money``, for a price: more than nothing. Raises typer.BadParameter."""
    value = money(text)
    if value <= 0:
        raise typer.BadParameter(f"{text!r} is no price; an image costs more than 0")
    return value


@dataclass
class GeneralOptions:
    """On all commands."""

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
class GenerateOptions:
    """Request parameters, on submit, batch, preset show and replay. None: not given."""

    image: Annotated[
        str | None,
        typer.Option("--image", "-i", metavar="FILE|URL", help="Input image.", rich_help_panel=_GENERATE),
    ] = None
    strength: Annotated[
        str | None,
        typer.Option(metavar="FLOAT", help="Strength of image-to-image, 0 to 1.", rich_help_panel=_GENERATE),
    ] = None
    size: Annotated[
        str | None,
        typer.Option(metavar="W*H", help="Image size.", autocompletion=completion.sizes, rich_help_panel=_GENERATE),
    ] = None
    steps: Annotated[
        str | None,
        typer.Option("--steps", metavar="INT", help="Denoising steps.", rich_help_panel=_GENERATE),
    ] = None
    guidance: Annotated[
        str | None,
        typer.Option("--guidance", metavar="FLOAT", help="Guidance scale.", rich_help_panel=_GENERATE),
    ] = None
    num_images: Annotated[
        str | None,
        typer.Option("--num-images", "-n", metavar="INT", help="Images a task, 1 to 4.", rich_help_panel=_GENERATE),
    ] = None
    seed: Annotated[
        str | None,
        typer.Option(metavar="INT", help="Seed; -1 draws one.", rich_help_panel=_GENERATE),
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="PATH[:SCALE]", help="A LoRA; repeatable.", rich_help_panel=_GENERATE),
    ] = None
    safety_checker: Annotated[
        bool | None,
        typer.Option(
            "--safety-checker/--no-safety-checker",
            help="Check the content.",
            show_default=False,
            rich_help_panel=_GENERATE,
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Short or full model id.",
            autocompletion=completion.models,
            rich_help_panel=_GENERATE,
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any parameter, by the API's name; repeatable.",
            autocompletion=completion.settings,
            rich_help_panel=_GENERATE,
        ),
    ] = None
    allow_unknown_model: Annotated[
        bool,
        typer.Option(
            "--allow-unknown-model",
            help="Take a model without a parameter table.",
            rich_help_panel=_GENERATE,
        ),
    ] = False
    allow_path: Annotated[
        list[Path] | None,
        typer.Option(
            "--allow-path",
            metavar="DIR",
            help="Presets may read files below DIR; repeatable.",
            rich_help_panel=_GENERATE,
        ),
    ] = None


@dataclass
class PromptOptions:
    """Where prompts come from, on submit."""

    prompt_option: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", metavar="TEXT", help="A prompt; repeatable.", rich_help_panel=_PROMPT),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="FILE",
            help="Take defaults of FILE.",
            autocompletion=completion.preset_files,
            rich_help_panel=_PROMPT,
        ),
    ] = None
    job: Annotated[
        str | None,
        typer.Option(
            "--job",
            metavar="ID",
            help="The preset's job (a glob).",
            autocompletion=completion.job_ids,
            rich_help_panel=_PROMPT,
        ),
    ] = None
    stack: Annotated[
        str | None,
        typer.Option(
            "--stack",
            metavar="NAME",
            help="The preset's LoRA stack.",
            autocompletion=completion.stacks,
            rich_help_panel=_PROMPT,
        ),
    ] = None
    expand: Annotated[
        bool,
        typer.Option("--expand", help="Expand {a|b} and __wildcards__ in prompts.", rich_help_panel=_PROMPT),
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
            help="Deadline of a task, from submit  [default: 30m]",
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


@dataclass
class BatchOptions:
    """On batch alone."""

    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="GLOB",
            help="Only these job ids; repeatable.",
            autocompletion=completion.job_ids,
            rich_help_panel=_BATCH,
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="K/N|auto", help="The K-th of N parts.", rich_help_panel=_BATCH),
    ] = None
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Submit failed jobs again.", rich_help_panel=_BATCH),
    ] = False
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read every byte of saved images first.", rich_help_panel=_BATCH),
    ] = False
    adopt: Annotated[
        list[str] | None,
        typer.Option("--adopt", metavar="JOB=ID", help="Take task ID as JOB's; repeatable.", rich_help_panel=_BATCH),
    ] = None
    max_jobs: Annotated[
        int, typer.Option("--max-jobs", min=1, metavar="N", help="More is an error.", rich_help_panel=_BATCH)
    ] = 1000
    expand: Annotated[
        bool,
        typer.Option("--expand", help="Expand prompts of .txt, .csv, .jsonl.", rich_help_panel=_BATCH),
    ] = False
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Write a JUnit report.", rich_help_panel=_BATCH),
    ] = None
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="text|github",
            help="Messages as GitHub annotations, too.",
            autocompletion=completion.words("text", "github"),
            rich_help_panel=_BATCH,
        ),
    ] = "text"


def choice(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """``value`` if it is one of ``allowed``; raises errors.UsageError with the nearest right word."""
    if value in allowed:
        return value
    from difflib import get_close_matches

    from flux_lora_cli.errors import UsageError

    near = get_close_matches(value, allowed, 1)
    raise UsageError(
        f"{option}: {value!r} is none of {', '.join(allowed)}",
        f"Did you mean {near[0]}?" if near else "",
    )


__all__ = [
    "BatchOptions",
    "GeneralOptions",
    "GenerateOptions",
    "PromptOptions",
    "SaveOptions",
    "ServiceOptions",
    "SpendOptions",
    "choice",
]
