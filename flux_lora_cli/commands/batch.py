"""``flux-lora batch``: presets in, verified images and a manifest out."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flux_lora_cli.commands import completion
from flux_lora_cli.commands.connection import check, default_folder, service_name
from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.generate import GenerateOptions, check_text, load_options
from flux_lora_cli.commands.options import SaveOptions, ServiceOptions, SpendOptions, advanced, command
from flux_lora_cli.commands.values import count, word
from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import counted, slug

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result
    from flux_lora_cli.engine.events import Plan
    from flux_lora_cli.engine.plan import BatchPlan
    from flux_lora_cli.engine.settings import Settings
    from flux_lora_cli.presets.load import Loaded, LoadOptions

EXAMPLES = """
flux-lora batch posters.yaml --sandbox
flux-lora batch posters.yaml --dry-run --max-cost 5
flux-lora batch a.yaml b.yaml -o out/night --rate 10/min
flux-lora batch posters.yaml --only "dawn/*" --retry-failed
"""

Format = Literal["text", "github"]


@dataclass
class BatchOptions:
    """On batch alone."""

    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="GLOB",
            parser=str,
            autocompletion=completion.job_ids,
            help="Only these job IDs; repeatable.",
        ),
    ] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Submit failed jobs again.")] = False
    only_file: Annotated[
        str | None,
        advanced(
            "--only-file", metavar="FILE", parser=str, help="Only the job IDs in FILE, one per line; - for stdin."
        ),
    ] = None
    shard: Annotated[
        str | None, advanced("--shard", metavar="K/N|auto", parser=str, help="Make the K-th of N parts.")
    ] = None
    verify: Annotated[bool, advanced("--verify", help="Read every byte of the saved images first.")] = False
    adopt: Annotated[
        list[str] | None,
        advanced(
            "--adopt",
            metavar="JOB=ID",
            parser=str,
            autocompletion=completion.adoptions,
            help="Take task ID as this job's; repeatable.",
        ),
    ] = None
    max_jobs: Annotated[
        int,
        advanced(
            "--max-jobs", metavar="N", parser=count(10_000_000), show_default=False,
            help="Refuse presets of more jobs (default: 1,000).",
        ),
    ] = 1000  # fmt: skip
    expand: Annotated[bool, advanced("--expand", help="Expand prompts of .txt, .csv and .jsonl, too.")] = False
    junit: Annotated[Path | None, advanced("--junit", metavar="FILE", parser=Path, help="Write a JUnit report.")] = None
    format: Annotated[
        Format,
        advanced(
            "--format", metavar="text|github", parser=word(Format), show_default=False,
            help="github: print errors as annotations, too.",
        ),
    ] = "text"  # fmt: skip


@command
def batch(
    presets: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            parser=str,
            help="Presets, .txt, .csv, .jsonl, or - (JSON Lines).",
            show_default=False,
            autocompletion=completion.preset_files,
        ),
    ],
    options: BatchOptions,
    spend: SpendOptions,
    save: SaveOptions,
    service: ServiceOptions,
    generate: GenerateOptions,
    console: Console,
) -> int:
    """Run presets to completion: submit, wait, download, write the manifest. Run again to resume.

    What is done is never paid for again, and what was cut off is picked up. The path of every image is printed as soon
    as it is surely on disk.
    """
    from flux_lora_cli.commands.ci import Reports
    from flux_lora_cli.commands.running import run_settings
    from flux_lora_cli.presets.load import load_presets

    check(service, console)
    check_text("--only", *(options.only or ()))
    check_text("--adopt", *(options.adopt or ()))
    shard, engine = _shard(options.shard)
    settings = run_settings(spend, save, console, shard[1] if shard else 1, several_presets=len(presets) > 1)
    folder = _folder(presets, save.output, service)
    with Reports(options.junit, options.format == "github", console) as reports:
        load = _load_options(presets, generate, options, service)
        loaded = load_presets(*presets, options=load, allow=generate.allow_path or ())
        for note in loaded.notes:
            console.note(note)
        how: dict[str, Any] = {
            "models": load.models,
            "api_version": service.api_version,
            "retry_failed": options.retry_failed,
            "only_some": bool(options.only) or options.only_file is not None,
            "shard": shard,
            "adopt": tuple(options.adopt or ()),
            "skipped": loaded.skipped_jobs,
        }
        if spend.dry_run:
            return _dry_run(loaded, folder, service, settings, how, console)
        how |= {"verify": options.verify, "engine": engine, "sources": loaded.sources}
        result = _run(loaded, folder, settings, how, spend, service, console, github=options.format == "github")
        code = _report(result, folder, console, reports, sandbox=service.sandbox)
        reports.write(result, folder, sandbox=service.sandbox)
    return code


def _run(
    loaded: Loaded,
    folder: Path,
    settings: Settings,
    how: dict[str, Any],
    spend: SpendOptions,
    service: ServiceOptions,
    console: Console,
    *,
    github: bool,
) -> Result:
    from flux_lora_cli.commands.plan_words import multiplied, plan_lines
    from flux_lora_cli.commands.running import confirmed, running
    from flux_lora_cli.engine.batch import run_batch

    def confirm(event: Plan, plan: BatchPlan) -> bool:
        for line in plan_lines(event, plan, loaded, sandbox=service.sandbox):
            console.info(line)
        cost = None if event.cost_usd is None else Decimal(event.cost_usd)
        return confirmed(event.images, cost, spend, console, multiplied(event, loaded))

    resume = shlex.join(["flux-lora", *sys.argv[1:]])
    with running(service, console, resume=resume, github=github) as run:
        return run_batch(
            loaded.jobs, run.client, run.service, folder, settings,
            observer=run.observer, confirm=confirm, stop=run.stop, **how,
        )  # fmt: skip


def _dry_run(
    loaded: Loaded, folder: Path, service: ServiceOptions, settings: Settings, how: dict[str, Any], console: Console
) -> int:
    """Print the plan; connect to nothing. Raises BudgetError where it is over a limit."""
    from flux_lora_cli.commands.plan_words import plan_lines
    from flux_lora_cli.engine.batch import plan_batch
    from flux_lora_cli.engine.events import Record

    event, plan, problem = plan_batch(loaded.jobs, folder, service_name(service), settings, **how)
    console.event(event)
    for line in plan_lines(event, plan, loaded, sandbox=service.sandbox):
        console.result(line)
    if console.verbose or console.json:
        for work in plan.works:
            record = work.record
            console.result(f"  {record.state.value:<11} {record.name}")
            console.event(Record("job", {"id": record.id, "state": record.state.value, "task": record.task_id}))
    console.summary.update({name: value for name, value in event.as_dict().items() if name != "event"})
    if problem is not None:
        raise problem
    return 0


def _report(result: Result, folder: Path, console: Console, reports: Any, *, sandbox: bool) -> int:
    """How the batch ended, in words and as a summary; the exit code."""
    from flux_lora_cli.commands.plan_words import duplicate_lines, summary_line
    from flux_lora_cli.commands.running import tell_end
    from flux_lora_cli.engine.budget import plain
    from flux_lora_cli.folder.manifest import summary

    console.info(summary_line(summary(result.records), result, sandbox=sandbox))
    console.info(f"  {folder}/manifest.json")
    for line in duplicate_lines(result.plan):
        console.info(line)
    code = tell_end(result, console, also=reports.annotate)
    console.summary.update(
        duplicates=len(result.plan.duplicates) if result.plan else 0,
        submitted=result.submitted,
        resubmitted=result.resubmitted,
        estimated_usd=None if result.estimated is None else plain(result.estimated),
        charged_usd=None if result.charged is None or sandbox else plain(result.charged),
        folder=str(folder),
    )
    return code


def _load_options(
    presets: list[str], generate: GenerateOptions, options: BatchOptions, service: ServiceOptions
) -> LoadOptions:
    from flux_lora_cli.commands.ids import read_bytes

    if presets.count("-") + (options.only_file == "-") > 1:
        raise UsageError("standard input (-) can be read only once")
    return load_options(
        generate,
        service,
        max_jobs=options.max_jobs,
        expand=options.expand,
        only=tuple(options.only or ()),
        only_ids=None if options.only_file is None else read_only_file(options.only_file),
        stdin=read_bytes() if "-" in presets else None,
    )


def read_only_file(path: str) -> list[str]:
    """The job IDs of ``--only-file``. Raises NotFoundError, UsageError."""
    from flux_lora_cli.commands.ids import read_lines, read_named_lines

    return read_lines("job ID") if path == "-" else read_named_lines(path, "--only-file")


def _folder(presets: list[str], output: Path | None, service: ServiceOptions) -> Path:
    if output is not None:
        return output
    if len(presets) > 1:
        raise UsageError(f"{counted(len(presets), 'preset')} need an output folder", "Name it with -o DIR.")
    return default_folder(service, "stdin" if presets[0] == "-" else slug(Path(presets[0]).stem, 100))


def _shard(text: str | None) -> tuple[tuple[int, int] | None, str | None]:
    if text is None:
        return None, None
    from flux_lora_cli.commands.shards import engine_of, parse_shard

    return parse_shard(text), engine_of(text)
