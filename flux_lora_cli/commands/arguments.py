"""Arguments and options that several commands have, each written once, and how presets are loaded under them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from flux_lora_cli.commands import completion
from flux_lora_cli.commands.generate import ModelsOptions, model_tables
from flux_lora_cli.commands.ids import read_bytes
from flux_lora_cli.commands.options import ApiVersion, ServiceOptions, advanced
from flux_lora_cli.commands.values import count, word

if TYPE_CHECKING:
    from flux_lora_cli.presets.load import LoadOptions

_YES = ("1", "true", "t", "yes", "y", "on")


def choice(name: str, words: Any, text: str, rare: bool = False) -> Any:
    """An option that takes one word of a ``Literal``; its help stands below the others where it is ``rare``."""
    option = advanced if rare else typer.Option
    return option(name, metavar="|".join(get_args(words)), parser=word(words), show_default=False, help=text)


Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The output folder.")]
Folders = Annotated[list[Path], typer.Argument(metavar="DIR", help="Output folders.")]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE", help="Presets, or lists of jobs; - for standard input.", autocompletion=completion.preset_files
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="GLOB", help="Only these job IDs; repeatable.", autocompletion=completion.job_ids),
]
OnlyFile = Annotated[
    str | None, typer.Option("--only-file", metavar="FILE", help="Only the job IDs in FILE, one per line; - for stdin.")
]
ModelTables = Annotated[
    Path | None, typer.Option("--models", metavar="FILE", envvar="FLUX_LORA_MODELS", help="Model tables from FILE.")
]


@dataclass
class ExpandOptions:
    """How presets are expanded, on preset check, show and diff."""

    max_jobs: Annotated[
        int, advanced("--max-jobs", metavar="N", parser=count(10_000_000), help="Maximum jobs of all files together.")
    ] = 1000
    expand: Annotated[
        bool, advanced("--expand", help="Expand {a|b} and __wildcards__ in the prompts of .txt, .csv and .jsonl.")
    ] = False
    api_version: Annotated[
        ApiVersion | None,
        choice("--api-version", ApiVersion, "API version to check against (default: the model's own).", True),
    ] = None

    def load_fields(self, files: list[str]) -> dict[str, Any]:
        """Fields of ``LoadOptions``."""
        stdin = read_bytes() if "-" in files else None
        return {"max_jobs": self.max_jobs, "expand": self.expand, "stdin": stdin}


def offline_service(api_version: ApiVersion | None = None) -> ServiceOptions:
    """The service that the environment names: its cached model tables count. Nothing is sent to it."""
    return ServiceOptions(
        sandbox=os.environ.get("FLUX_LORA_SANDBOX", "").lower() in _YES,
        base_url=os.environ.get("WAVESPEED_BASE_URL") or None,
        api_version=api_version,
        allow_custom_host=True,
    )


def check_options(models: ModelsOptions, options: ExpandOptions, files: list[str], **more: Any) -> LoadOptions:
    """``LoadOptions`` of a command without request parameters."""
    from flux_lora_cli.presets.load import LoadOptions

    return LoadOptions(
        models=model_tables(models, offline_service()),
        allow_unknown_model=models.allow_unknown_model,
        api_version=options.api_version,
        **options.load_fields(files),
        **more,
    )
