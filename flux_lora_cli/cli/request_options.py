"""The option groups that say what is made: request parameters, prompts, and which jobs of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from flux_lora_cli.cli import completion

_GENERATE, _PROMPT, _BATCH = "Generate", "Prompt", "Batch"


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
        typer.Option(
            "--adopt",
            metavar="JOB=ID",
            help="Take task ID as JOB's; repeatable.",
            autocompletion=completion.adoptions,
            rich_help_panel=_BATCH,
        ),
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
