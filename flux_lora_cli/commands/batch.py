"""``flux-lora batch``: presets in, verified images and a manifest out."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flux_lora_cli.commands.console import Console, some
from flux_lora_cli.commands.inputs import load_options, request, selection, tell_notes
from flux_lora_cli.commands.options import (
    Files,
    JobsOptions,
    Junit,
    Only,
    OnlyFile,
    RunOptions,
    Strict,
    advanced,
    advanced_flag,
    command,
    flag,
)
from flux_lora_cli.commands.running import check, confirmed, run_settings, running, tell_end
from flux_lora_cli.commands.signals import this_command
from flux_lora_cli.errors import ExitCode, FluxLoraError, MissingKey, UsageError
from flux_lora_cli.text import counted, quoted, slug

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result, Settings
    from flux_lora_cli.engine.events import Plan
    from flux_lora_cli.engine.plan import BatchPlan
    from flux_lora_cli.presets.load import Loaded

EXAMPLES = """
flux-lora batch posters.yaml --sandbox
flux-lora batch posters.yaml --dry-run --max-cost 5
flux-lora batch a.yaml b.yaml -o out/night --rate 10/min
flux-lora batch posters.yaml --only "dawn/*" --retry-failed
"""

Format = Literal["text", "github"]


# ---- shards ----------------------------------------------------------------------------------

#: Variables of index and count, the index of the first part, engine. In this order, for engines nest.
#: [documentation of each: GitLab CI predefined variables; Slurm job arrays; AWS Batch array jobs; Kubernetes Jobs]
_ENGINES = (
    ("CI_NODE_INDEX", "CI_NODE_TOTAL", 1, "GitLab CI"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", None, "Slurm"),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", 0, "AWS Batch"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", 0, "Kubernetes"),
)


def shard(text: str) -> tuple[tuple[int, int], str | None]:
    """(K, N) of ``K/N`` or ``auto``, K counting from 1; and the engine that said so. Raises UsageError."""
    engine = None
    if text.strip().lower() == "auto":
        part, parts, engine = _part_of_engine()
    elif match := re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text):
        part, parts = int(match[1]), int(match[2])
    else:
        raise UsageError(f"--shard {quoted(text)}: write K/N (the first of four is 1/4), or auto")
    if not 1 <= part <= parts:
        raise UsageError(f"--shard {text}: part {part} of {parts} does not exist; parts count from 1")
    return (part, parts), engine


def _part_of_engine() -> tuple[int, int, str]:
    for index_name, count_name, first, engine in _ENGINES:
        if index_name not in os.environ:
            continue
        index, count, step = _number(index_name), _number(count_name), 1
        if first is None:
            first, step = _number("SLURM_ARRAY_TASK_MIN", 0), max(1, _number("SLURM_ARRAY_TASK_STEP", 1))
            last = first + step * (count - 1)
            # An array with gaps (--array=1,3,4,6) tells its elements neither which they are nor of how many they once
            # were a part: all of them are refused, or some would make the jobs of others.
            if _number("SLURM_ARRAY_TASK_MAX", last) != last:
                raise UsageError(
                    f"--shard auto (Slurm): an array with gaps does not tell which part element {index} makes",
                    "Submit the whole range, like --array=1-4 (finished parts cost nothing), or write --shard K/N.",
                )
        return (index - first) // step + 1, count, engine
    names = ", ".join(name for name, *_ in _ENGINES)
    raise UsageError(
        "--shard auto: no engine tells which part this is",
        f"It is read from {names} and the matching counts; or write --shard K/N.",
    )


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if text.isascii() and text.isdigit():
        return int(text)
    raise UsageError(
        f"--shard auto: {name} is {quoted(text) if text else 'not set'}; it has to be a number",
        "Set it (a Kubernetes Job has to set JOB_COMPLETIONS in its template), or write --shard K/N.",
    )


# ---- the command -----------------------------------------------------------------------------


@dataclass
class BatchOptions(JobsOptions):
    """On batch alone."""

    only: Only = None
    retry_failed: Annotated[bool, flag("--retry-failed", "Submit failed jobs again.")] = False
    only_file: OnlyFile = None
    strict: Strict = False
    shard: Annotated[Any, advanced("--shard", "K/N|auto", "Make the K-th of N parts.", shard)] = None
    verify: Annotated[bool, advanced_flag("--verify", "Read every byte of the saved images first.")] = False
    adopt: Annotated[list[str] | None, advanced("--adopt", "JOB=ID", "Take task ID as this job's; repeatable.")] = None
    junit: Junit = None
    format: Annotated[Format, advanced("--format", "text|github", "github: print errors as annotations, too.")] = "text"


@command
def batch(presets: Files, own: BatchOptions, options: RunOptions, console: Console) -> int:
    """Run presets to completion: submit, wait, download, write the manifest. Run again to resume.

    What is done is never paid for again, and what was cut off is picked up. The path of every image is printed as soon
    as it is surely on disk.
    """
    from flux_lora_cli.commands.ci import cases_of, reporting, summarize
    from flux_lora_cli.folder.names import Template
    from flux_lora_cli.presets.load import load_presets

    check(options, console)
    console.github = own.format == "github"
    part, engine = own.shard or (None, None)
    if options.filename is not None:
        Template(options.filename, several_presets=len(presets) > 1)
    folder = options.output or _default_folder(presets, options)
    with reporting(own.junit, "batch", console) as write_junit:
        selected = selection(presets, own, own.only, own.only_file)
        load = load_options(options, options, strict=own.strict, **request(options), **selected)
        loaded = load_presets(*presets, options=load, allow=options.allow_path or ())
        tell_notes(loaded, console)
        settings = run_settings(options, console, part[1] if part else 1)
        how = {
            "models": load.models,
            "api_version": options.api_version,
            "retry_failed": own.retry_failed,
            "only_some": bool(own.only) or own.only_file is not None,
            "shard": part,
            "adopt": own.adopt or (),
            "skipped": loaded.skipped_jobs,
        }
        if options.dry_run:
            return _dry_run(loaded, folder, options, settings, how, console)
        how |= {"verify": own.verify, "engine": engine, "sources": loaded.sources}
        result = _run(loaded, folder, options, settings, how, console)
        money = _tell(result, folder, console)
        cases = cases_of(result)
        write_junit(cases)
        summarize(result, cases, folder, money, console)
        return result.exit_code


def _default_folder(presets: list[str], options: RunOptions) -> Path:
    if len(presets) > 1:
        raise UsageError(f"{counted(len(presets), 'preset')} need an output folder", "Name it with -o DIR.")
    return options.default_folder("stdin" if presets[0] == "-" else slug(Path(presets[0]).stem, 100))


def _dry_run(
    loaded: Loaded, folder: Path, options: RunOptions, settings: Settings, how: dict[str, Any], console: Console
) -> int:
    """Print the plan; connect to nothing. Raises BudgetError where it is over a limit."""
    from flux_lora_cli.commands.progress import plan_lines
    from flux_lora_cli.engine.batch import plan_batch

    event, plan, problem = plan_batch(loaded.jobs, folder, options.name, settings, **how)
    console.event(event)
    for line in plan_lines(event, plan, loaded, console):
        console.result(line)
    for record in [work.record for work in plan.works] if console.verbose or console.json else []:
        console.result(f"  {record.state.value:<11} {record.name}")
        console.record("job", {"id": record.id, "state": record.state.value, "task": record.task_id})
    console.summary.update(vars(event))
    if problem is not None:
        raise problem
    return 0


def _run(
    loaded: Loaded, folder: Path, options: RunOptions, settings: Settings, how: dict[str, Any], console: Console
) -> Result:
    """Make what is not there."""
    from flux_lora_cli.commands.progress import multiplied, plan_lines
    from flux_lora_cli.engine.batch import run_batch
    from flux_lora_cli.engine.ending import with_tasks
    from flux_lora_cli.folder.output import read_records

    def confirm(event: Plan, plan: BatchPlan) -> bool:
        if not event.to_submit:
            return True
        for line in plan_lines(event, plan, loaded, console):
            console.info(line)
        cost = None if event.cost_usd is None else Decimal(event.cost_usd)
        return confirmed(event.images, cost, options, console, multiplied(event, loaded))

    anew = False

    def confirm_anew(names: list[str]) -> bool:
        """Whether to buy what images of unknown origin may be of; only somebody at a terminal can say, once."""
        nonlocal anew
        question = f"{folder} holds images that no ledger there knows: {some(names)}. Submit these jobs again?"
        anew = anew or (console.interactive and console.ask(question))
        return anew

    try:
        with running(options, console, hint=f"To resume: {this_command()}") as run:
            return run_batch(
                loaded.jobs, run.client, run.service, folder, settings, observer=run.observer,
                confirm=confirm, confirm_orphans=confirm_anew, stop=run.stop, **how,
            )  # fmt: skip
    except MissingKey as error:  # before the folder was opened
        with suppress(FluxLoraError):
            with_tasks(error, read_records(folder, options.name).values())
        raise


def _tell(result: Result, folder: Path, console: Console) -> str:
    """Say how the batch ended; what it cost, in words."""
    from flux_lora_cli.commands.progress import duplicates, money_words, summary_line
    from flux_lora_cli.engine.budget import plain

    line, money = summary_line(result, console), money_words(result, console)
    if result.exit_code is ExitCode.OK and not result.submitted:
        console.info(f"all there: {line} ({folder}/manifest.json)")
    else:
        for each in (line, *(f"  {fact}" for fact in (f"{folder}/manifest.json", *duplicates(result.plan)))):
            console.info(each)
    tell_end(result, console)
    console.summary.update(
        duplicates=len(result.plan.duplicates),
        resubmitted=result.resubmitted,
        estimated_usd=None if result.estimated is None else plain(result.estimated),
        folder=str(folder),
    )
    return money
