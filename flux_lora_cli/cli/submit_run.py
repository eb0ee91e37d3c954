"""Submitting jobs one after another: shared by ``submit`` and ``replay``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal
from typing import TYPE_CHECKING

import typer

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.options import SaveOptions, ServiceOptions, SpendOptions
from flux_lora_cli.domain.records import State
from flux_lora_cli.errors import BudgetError, ExitCode

if TYPE_CHECKING:
    from flux_lora_cli.assembly import task_runs
    from flux_lora_cli.cli.last_words import Ways
    from flux_lora_cli.domain.job import Job
    from flux_lora_cli.domain.records import JobRecord
    from flux_lora_cli.workflow.context import Work
    from flux_lora_cli.workflow.pricing import Priced
    from flux_lora_cli.workflow.runner import Runner

#: More images than this are asked about, where somebody can answer; as for ``batch``.
ASK_ABOVE = 100
#: Options that say what becomes of images.
_OF_IMAGES = ("output", "filename", "nsfw", "fail_on_nsfw", "no_download")


def run(
    jobs: list[Job], groups: tuple[SpendOptions, SaveOptions, ServiceOptions], console: Console, *, wait: bool
) -> int:
    """Submit the jobs; with ``wait`` also save their images."""
    from flux_lora_cli.adapters.clock import SystemClock
    from flux_lora_cli.assembly import submitting, task_runs
    from flux_lora_cli.cli.last_words import told_reasons
    from flux_lora_cli.cli.reporter import Reporter
    from flux_lora_cli.cli.service import connected
    from flux_lora_cli.cli.settings import live, run_settings
    from flux_lora_cli.cli.signals import interrupting
    from flux_lora_cli.cli.submit import default_folder

    spend, save, service = groups
    settings = run_settings(spend, save, console)
    if not wait:
        _tell_unused(console)
    save_to = None
    if wait:
        folder = default_folder(service, save.output)
        save_to = task_runs.SaveTo(folder, save.filename, save.fail_on_nsfw, str(folder))
    clock = SystemClock()
    with ExitStack() as stack:
        connection = stack.enter_context(connected(service, console, clock))
        display = None
        if wait and live(console):
            from flux_lora_cli.cli.display import LiveDisplay

            display = stack.enter_context(LiveDisplay(console, "images"))

        def accepted(record: JobRecord) -> None:
            if not wait:
                console.result(record.task_id or "")

        def on_runner(runner: Runner) -> None:
            stack.enter_context(interrupting(runner.interrupt, console, ""))

        result = submitting.submit_jobs(
            jobs,
            connection.client,
            connection.service,
            settings,
            price=spend.price,
            api_version=service.api_version,
            save_to=save_to,
            observer=Reporter(console, display),
            accepted=accepted,
            confirm=lambda works, priced: _confirmed(works, priced, spend, console),
            on_runner=on_runner,
            clock=clock,
        )
    ways = _ways(result, save, service, wait=wait)
    result.reasons = told_reasons(result.exit_code, result.reasons, result.records, ways)
    _say_how_to_go_on(result, save, service, wait=wait)
    return tell(result, console)


def _tell_unused(console: Console) -> None:
    """Warn of options about images where none is saved: they do nothing."""
    from flux_lora_cli.cli.service import typed

    names = [name for name in _OF_IMAGES if typed(name)]
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        console.warn(f"without --wait no image is saved, so there is no use in {options}", "unused_option")


def _ways(result: task_runs.TasksResult, save: SaveOptions, service: ServiceOptions, *, wait: bool) -> Ways:
    """How to go on with what is left of this command: never by repeating it."""
    from flux_lora_cli.cli.last_words import Ways
    from flux_lora_cli.workflow.planning import lacks_images

    lacking = [record.task_id for record in result.records if record.task_id and lacks_images(record.awake())]
    return Ways(
        failed="Submit only what failed again: this whole command would pay for the rest, too.",
        missing=f"To fetch what is missing: {_waiting(lacking, save, service, wait=wait)}",
        pending="Submit only what is left.",
        held=f"See what became of them, before you submit them again: {_waiting((), save, service, wait=wait)}",
    )


def _say_how_to_go_on(result: task_runs.TasksResult, save: SaveOptions, service: ServiceOptions, *, wait: bool) -> None:
    """Name the command that goes on: it waits for what was submitted; the same command again would pay again."""
    tasks = [r.task_id for r in result.records if r.task_id and r.state is State.SUBMITTED]
    paid = any(record.task_id for record in result.records)
    left = sum(1 for record in result.records if record.state is State.PLANNED)
    rest = f" ({left} prompt{'s were' if left > 1 else ' was'} not submitted)" if left else ""
    way = f"To go on: {_waiting(tasks, save, service, wait=wait)}{rest}"
    for code, reason in result.reasons.items():
        if reason is None:
            continue
        if code >= ExitCode.INTERRUPTED:
            reason.hint = way
        elif paid and "same command" in reason.hint:
            goes_on = way if tasks else f"Submit only what is left{rest}."
            reason.hint = f"Do not repeat this command, it would submit, and pay, everything again. {goes_on}"


def _waiting(tasks: Sequence[str], save: SaveOptions, service: ServiceOptions, *, wait: bool) -> str:
    words = ["flux-lora", "wait" if tasks else "status", *tasks]
    if service.sandbox:
        words.append("--sandbox")
    elif service.base_url is not None:
        words += ["--base-url", service.base_url]
    if service.api_version != "v2":
        words += ["--api-version", service.api_version]
    if wait and tasks and save.output is not None:
        words += ["-o", str(save.output)]
    return shlex.join(words)


def _confirmed(works: list[Work], priced: Priced, spend: SpendOptions, console: Console) -> bool:
    from flux_lora_cli.domain.budget import dollars
    from flux_lora_cli.workflow.planning import images_of

    images = sum(images_of(work.record) for work in works)
    if spend.yes or not console.interactive or images <= ASK_ABOVE:
        return True
    cost = "at an unknown price" if priced.total is None else f"{dollars(priced.total)}"
    console.info(f"to submit: {images} images, {cost}")
    return typer.confirm("Submit them?", default=False, err=True)


def tell(result: task_runs.TasksResult, console: Console) -> int:
    """The summary of submitted or awaited tasks, and why the exit code is not 0."""
    from flux_lora_cli.domain.manifest import summary

    console.summary.update(summary(result.records))
    for reason in result.reasons.values():
        if reason is not None and reason.code != "output_closed":
            console.error(reason)
    return int(result.exit_code)


def dry_run(jobs: list[Job], spend: SpendOptions, console: Console) -> int:
    """What would be submitted, and its documented cost; connects to nothing. Raises BudgetError."""
    from flux_lora_cli.cli.reporter import counted
    from flux_lora_cli.domain.budget import dollars, plain
    from flux_lora_cli.domain.parameters import find_model

    images, total = 0, Decimal(0)
    known = True
    for job in jobs:
        count = int(job.params.get("num_images", 1))
        model = find_model(job.model)
        price = spend.price or (model.documented_price if model else None)
        images += count
        known = known and price is not None
        total += (price or Decimal(0)) * count
    source = "at --price" if spend.price else "at the documented price; the service may charge another"
    cost = f"{dollars(total)} ({source})" if known else "price not known (name it with --price)"
    console.result(f"{counted(len(jobs), 'task')} to submit, {counted(images, 'image')}, {cost}")
    console.summary.update(tasks=len(jobs), images=images, cost_usd=plain(total) if known else None, dry_run=True)
    if spend.max_cost is not None and (not known or total > spend.max_cost):
        raise BudgetError(
            f"{cost} is over --max-cost {dollars(spend.max_cost)}" if known else cost,
            "Raise --max-cost, or ask for less.",
        )
    return 0
