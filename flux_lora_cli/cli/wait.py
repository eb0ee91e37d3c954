"""``flux-lora wait``: from task ids to images on disk."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.options import SaveOptions, ServiceOptions
from flux_lora_cli.cli.task_ids import read_ids
from flux_lora_cli.domain.records import State
from flux_lora_cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from flux_lora_cli.assembly.task_runs import TasksResult
    from flux_lora_cli.domain.records import JobRecord
    from flux_lora_cli.workflow.runner import Runner


def wait(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Task ids, or - to read them.", show_default=False)],
    save: SaveOptions,
    service: ServiceOptions,
    console: Console,
) -> int:
    """Wait for tasks, save their images, print the files' paths.

    With - the first task is waited for before the input has ended. Tasks are added to the folder's manifest.
    """
    from flux_lora_cli.adapters.clock import SystemClock
    from flux_lora_cli.assembly import task_runs, waiting
    from flux_lora_cli.cli.last_words import WAIT, told_reasons
    from flux_lora_cli.cli.reporter import Reporter
    from flux_lora_cli.cli.service import check, connected
    from flux_lora_cli.cli.settings import live, run_settings
    from flux_lora_cli.cli.signals import interrupting
    from flux_lora_cli.cli.submit import default_folder
    from flux_lora_cli.cli.submit_run import tell

    check(service)
    streamed = "-" in ids
    if streamed and len(ids) > 1:
        raise UsageError("- reads the ids from standard input; others cannot be added to it")
    settings = run_settings(None, save, console)
    folder = default_folder(service, save.output)
    if save.filename is not None:
        from flux_lora_cli.domain.filenames import Template

        Template.parse(save.filename)
    clock = SystemClock()
    with ExitStack() as stack:
        connection = stack.enter_context(connected(service, console, clock))
        display = None
        if live(console):
            from flux_lora_cli.cli.display import LiveDisplay

            display = stack.enter_context(LiveDisplay(console, "tasks"))

        def on_runner(runner: Runner) -> None:
            resume = "" if streamed else shlex.join(["flux-lora", *sys.argv[1:]])
            stack.enter_context(interrupting(runner.interrupt, console, resume))

        result = waiting.wait_for(
            read_ids() if streamed else ids,
            connection.client,
            connection.service,
            settings,
            task_runs.SaveTo(folder, save.filename, save.fail_on_nsfw, str(folder)),
            streamed=streamed,
            observer=Reporter(console, display),
            on_runner=on_runner,
            clock=clock,
        )
    result.reasons = told_reasons(result.exit_code, result.reasons, result.records, WAIT)
    if streamed:
        _say_how_to_go_on(result)
    return tell(result, console)


def _say_how_to_go_on(result: TasksResult) -> None:
    """Give an interrupt the command that goes on: the ids that came in are named, for the pipe is gone."""
    ended = next((r for code, r in result.reasons.items() if r is not None and code >= ExitCode.INTERRUPTED), None)
    left = [record.task_id for record in result.records if record.task_id and not _is_done(record)]
    if ended is None or not left:
        return
    at = sys.argv.index("-")
    ended.hint = f"To go on: {shlex.join(['flux-lora', *sys.argv[1:at], *left, *sys.argv[at + 1 :]])}"


def _is_done(record: JobRecord) -> bool:
    ended = record.state in (State.COMPLETED, State.FAILED)
    return ended and all(output.file is not None or output.left_out for output in record.outputs)


command = build(
    wait,
    "wait",
    examples="""\
  flux-lora submit "a cat" | flux-lora wait -
  flux-lora wait 1f0c9a3e -o pictures --filename '{task}-{index}.{ext}'""",
)
