"""``flux-lora batch``: presets in, verified images and a manifest out."""

from __future__ import annotations

import gc
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.completion import preset_files
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.option_values import choice
from flux_lora_cli.cli.options import SaveOptions, ServiceOptions, SpendOptions
from flux_lora_cli.cli.request_options import BatchOptions, GenerateOptions
from flux_lora_cli.cli.text_options import check_text
from flux_lora_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_lora_cli.assembly import batches
    from flux_lora_cli.domain.events import Plan
    from flux_lora_cli.domain.job import Job
    from flux_lora_cli.domain.presets.loading import Loaded
    from flux_lora_cli.workflow.context import Settings
    from flux_lora_cli.workflow.planning import BatchPlan

#: A batch of more images than this is asked about, where somebody can answer. [CONTRACT: command line]
ASK_ABOVE = 100


def batch(
    presets: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Presets, .txt, .csv, .jsonl, or - (JSONL).",
            show_default=False,
            autocompletion=preset_files,
        ),
    ],
    generate: GenerateOptions,
    batch_options: BatchOptions,
    spend: SpendOptions,
    save: SaveOptions,
    service: ServiceOptions,
    console: Console,
) -> int:
    """Run presets to the end: submit, wait, save, manifest. Run again to resume.

    What is done is never paid for again; what was cut off is picked up.
    Prints the path of every image, as soon as it is surely on disk.
    """
    from flux_lora_cli.cli.ci_reports import reporting_errors
    from flux_lora_cli.cli.service import check, connected, service_name
    from flux_lora_cli.cli.settings import run_settings

    check(service)
    choice("--format", batch_options.format, ("text", "github"))
    check_text("--only", *(batch_options.only or ()))
    check_text("--adopt", *(batch_options.adopt or ()))
    shard = _shard(batch_options.shard)
    settings = run_settings(spend, save, console, shard[1] if shard else 1)
    folder = _folder(presets, save.output, service.sandbox)
    _check_template(save.filename, presets)
    with _no_garbage(), reporting_errors(batch_options, console):
        loaded = _load(presets, generate, batch_options, service)
        options = _api_options(save, spend, batch_options, service, shard, folder, loaded)
        if spend.dry_run:
            from flux_lora_cli.cli.batch_plan import dry_run

            return dry_run(loaded, folder, service_name(service), settings, options, console)
        from flux_lora_cli.adapters.clock import SystemClock

        with connected(service, console, SystemClock()) as connection:
            return _run(loaded, connection, folder, settings, options, (batch_options, spend), console)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Jobs and records are kept to the end, and none is in a cycle: 10,000 of them are not looked through for any."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _run(
    loaded: Loaded,
    connection: Any,
    folder: Path,
    settings: Settings,
    options: batches.BatchOptions,
    groups: tuple[BatchOptions, SpendOptions],
    console: Console,
) -> int:
    from contextlib import ExitStack

    from flux_lora_cli.assembly import batches
    from flux_lora_cli.cli.batch_report import report
    from flux_lora_cli.cli.reporter import Reporter
    from flux_lora_cli.cli.settings import live
    from flux_lora_cli.cli.signals import interrupting
    from flux_lora_cli.workflow.runner import Runner

    batch_options, spend = groups
    with ExitStack() as stack:
        display = None
        if live(console):
            from flux_lora_cli.cli.display import LiveDisplay

            display = stack.enter_context(LiveDisplay(console))

        def confirm(event: Plan, plan: BatchPlan) -> bool:
            from flux_lora_cli.cli.batch_plan import tell_plan

            tell_plan(event, plan, loaded, console)
            if spend.yes or not console.interactive:
                return True
            if event.images <= ASK_ABOVE and event.cost_usd is not None:
                return True
            if display is not None:
                display.pause()
            try:
                return _ask(event, loaded, console)
            finally:
                if display is not None:
                    display.resume()

        def on_runner(runner: Runner) -> None:
            gc.freeze()  # what was loaded is not looked through again; what a long run leaves behind is
            gc.enable()
            stack.enter_context(interrupting(runner.interrupt, console, _resume_command()))

        result = batches.run_batch(
            _handed_over(loaded.jobs),
            connection.client,
            connection.service,
            folder,
            settings,
            options,
            observer=Reporter(console, display, batch_options.format == "github"),
            sources=loaded.sources,
            confirm=confirm,
            on_runner=on_runner,
        )
    return report(result, folder, batch_options, console)


def _handed_over(jobs: list[Job]) -> Iterator[Job]:
    """Each job, no longer kept here: the records say the same, and 100,000 jobs take 40 MB."""
    jobs.reverse()
    while jobs:
        yield jobs.pop()


def _ask(event: Plan, loaded: Loaded, console: Console) -> bool:
    from decimal import Decimal

    from flux_lora_cli.cli.batch_plan import multiplied
    from flux_lora_cli.domain.budget import dollars

    cost = dollars(Decimal(event.cost_usd)) if event.cost_usd is not None else "at an unknown price"
    console.info(f"to submit: {multiplied(event, loaded)}, {cost}")
    return typer.confirm("Submit them?", default=False, err=True)


def _load(presets: list[str], generate: GenerateOptions, options: BatchOptions, service: ServiceOptions) -> Loaded:
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.cli.generate import load_options
    from flux_lora_cli.domain.presets.loading import LoadOptions, load_sources

    if presets.count("-") > 1:
        raise UsageError("standard input (-) can be read once only")
    stdin = sys.stdin.buffer.read() if "-" in presets and sys.stdin is not None else None
    return load_sources(
        presets,
        FolderPresetFiles(generate.allow_path or ()),
        LoadOptions(
            **load_options(
                generate,
                service.api_version,
                max_jobs=options.max_jobs,
                expand=options.expand,
                only=tuple(options.only or ()),
                stdin=stdin,
            )
        ),
    )


def _folder(presets: list[str], output: Path | None, sandbox: bool) -> Path:
    if output is not None:
        return output
    if len(presets) > 1:
        raise UsageError("several presets need an output folder", "Name it with -o DIR.")
    stem = "stdin" if presets[0] == "-" else _folder_name(Path(presets[0]).stem)
    return Path("flux-lora-output") / (f"{stem}-sandbox" if sandbox else stem)


def _folder_name(stem: str) -> str:
    from flux_lora_cli.domain.presets import labels
    from flux_lora_cli.domain.text import slug

    name = slug(stem, 100)
    return name if name != "untitled" else labels.slug(stem, 100)  # a name without any Latin letter is one, too


def _check_template(filename: str | None, presets: list[str]) -> None:
    if filename is not None:
        from flux_lora_cli.domain.filenames import Template

        Template.parse(filename, several_presets=len(presets) > 1)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    from flux_lora_cli.cli.shards import parse_shard

    return parse_shard(text)


def _engine(text: str | None) -> str | None:
    if text is None:
        return None
    from flux_lora_cli.cli.shards import engine_of

    return engine_of(text)


def _api_options(
    save: SaveOptions,
    spend: SpendOptions,
    options: BatchOptions,
    service: ServiceOptions,
    shard: tuple[int, int] | None,
    folder: Path,
    loaded: Loaded,
) -> batches.BatchOptions:
    from flux_lora_cli.assembly import batches

    return batches.BatchOptions(
        filename=save.filename,
        price=spend.price,
        shard=shard,
        engine=_engine(options.shard),
        only_some=bool(options.only),
        retry_failed=options.retry_failed,
        verify=options.verify,
        adopt=tuple(options.adopt or ()),
        fail_on_nsfw=save.fail_on_nsfw,
        api_version=service.api_version,
        shown_folder=str(folder),
        skipped=tuple(loaded.skipped_jobs),
    )


def _resume_command() -> str:
    """The command line as it was typed: run again, it goes on."""
    return shlex.join(["flux-lora", *sys.argv[1:]])


command = build(
    batch,
    "batch",
    examples="""\
  flux-lora batch posters.yaml --sandbox
  flux-lora batch posters.yaml --dry-run --max-cost 5
  flux-lora batch a.yaml b.yaml -o out/night --rate 10/min
  flux-lora batch posters.yaml --only 'dawn/*' --retry-failed""",
)
