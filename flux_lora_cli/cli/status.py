"""``flux-lora status``: the state of tasks, one a line."""

from __future__ import annotations

import random
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.options import ServiceOptions
from flux_lora_cli.cli.task_ids import read_ids
from flux_lora_cli.domain.events import TaskStatus
from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import ExitCode, NotFoundError

if TYPE_CHECKING:
    from flux_lora_cli.workflow.inquiry import Standing

#: Seconds between two looks under --watch: as often as the service wants to be asked. [documentation]
WATCH_EVERY = 2.0


def status(
    service: ServiceOptions,
    console: Console,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="Task ids, or - to read them.", show_default=False),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until all have ended.")] = False,
) -> int:
    """Print the state of tasks: ID, status and error, separated by tabs.

    Without ids: the account's recent tasks, and those that this user submitted and never saw again.
    A failed task is no failure of this command.
    """
    from flux_lora_cli.adapters.clock import SystemClock
    from flux_lora_cli.cli.service import check, connected

    check(service)
    wanted = _ids(ids or [])
    if watch:
        console.resume = _same_again(wanted)
    clock = SystemClock()
    with connected(service, console, clock) as connection:
        from flux_lora_cli.assembly.world import ServicePort
        from flux_lora_cli.workflow.inquiry import look_at, watched

        port = ServicePort(connection.client)
        if ids:
            stream = watched(port, wanted, clock, random.random, WATCH_EVERY) if watch else None
            return _show(stream or look_at(port, wanted, clock, random.random), console)
        from flux_lora_cli.assembly.recent import recent_tasks

        found = recent_tasks(port, connection.service, clock)
        code = _show(iter(found), console)
        if watch:
            open_ids = [s.task_id for s in found if s.task_id and not s.terminal]
            if open_ids:
                code = max(code, _show(watched(port, open_ids, clock, random.random, WATCH_EVERY), console))
        return code


def _same_again(ids: list[str]) -> str:
    """This command; ids that came in by a pipe are named, for the pipe is gone."""
    words = sys.argv[1:]
    if "-" in words:
        at = words.index("-")
        words[at : at + 1] = [task_id for task_id in ids if task_id not in words]
    return shlex.join(["flux-lora", *words])


def _show(standings: Iterator[Standing], console: Console) -> int:
    missing = []
    counts: dict[str, int] = {}
    for standing in standings:
        if standing.missing:
            missing.append(standing.task_id)
            continue
        counts[standing.status] = counts.get(standing.status, 0) + 1
        fields = (standing.task_id or "-", standing.status, standing.error)
        console.result("\t".join(printable(field) for field in fields))
        console.event(
            TaskStatus(None, standing.task_id, standing.status, standing.error, standing.model, standing.created_at)
        )
    console.summary.update(statuses=counts)
    for task_id in missing:
        console.error(NotFoundError(f"the service knows no task {task_id}", "Tasks are deleted after 7 days."))
    return int(ExitCode.NOT_FOUND if missing else ExitCode.OK)


def _ids(given: list[str]) -> list[str]:
    from flux_lora_cli.domain.wire import is_task_id

    if "-" in given:
        given = [task_id for task_id in given if task_id != "-"] + list(read_ids())
        if not given:
            raise NotFoundError("no task id came in", "The command before may have failed; see what it said.")
    for task_id in given:
        if not is_task_id(task_id):
            raise NotFoundError(f"{task_id!r} is no task id", "Task ids are what submit prints, one a line.")
    return list(dict.fromkeys(given))


command = build(
    status,
    "status",
    examples="""\
  flux-lora status
  flux-lora status 1f0c9a3e --watch
  flux-lora status --json | head""",
)
