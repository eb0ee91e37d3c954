"""``flux-lora status``: the state of tasks, one per line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.commands.connection import check
from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.ids import TaskIds
from flux_lora_cli.commands.options import ServiceOptions, command
from flux_lora_cli.commands.running import Running, running
from flux_lora_cli.errors import ExitCode, FluxLoraError, NotFoundError, Rejected, TaskNotFound
from flux_lora_cli.text import printable

if TYPE_CHECKING:
    from flux_lora_cli.folder.records import JobRecord
    from flux_lora_cli.service.wire import Task

EXAMPLES = """
flux-lora status
flux-lora status 1f0c9a3e --watch
flux-lora status --json | head
"""

#: Seconds between two polls under --watch: as often as the service wants to be asked. [documentation]
WATCH_EVERY = 2.0
#: Tasks shown at most, of the account's list and of the user's ledger each.
MAX_RECENT = 50
_KEPT_SECONDS = 7 * 86400.0
_COLORS = {"completed": "32", "failed": "31", "lost": "31", "unknown": "33"}


@dataclass
class Standing:
    """What is known of one task; ``task`` is None for a submission of unknown outcome."""

    task: str | None
    status: str
    error: str = ""
    model: str | None = None
    created_at: str | None = None
    job: str | None = None
    prompt: str = ""
    ended: bool = False


@command
def status(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", parser=str, help="Task IDs, or - to read them.", show_default=False),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Poll until all tasks have ended.")] = False,
    *,
    service: ServiceOptions,
    console: Console,
) -> int:
    """Show the status of tasks (recent ones by default).

    At a terminal: status, age, job and prompt, newest first. Elsewhere: ID, status and error, separated by tabs, in the
    order asked for. A failed task is not a failure of this command.
    """
    check(service, console)
    wanted = _ids(ids or [])
    with running(service, console, resume="", shown=False) as run:
        known = _ledger_records(run.service, wanted)
        found, missing = _look(run, service, wanted, known) if wanted else (_recent(run, known), [])
        _show(found, console, in_order=bool(wanted))
        while watch and (left := [s.task for s in found if s.task and not s.ended]):
            time.sleep(WATCH_EVERY)
            found, more = _look(run, service, left, known)
            missing += more
            _show([standing for standing in found if standing.ended], console, in_order=True)
    for task_id in missing:
        console.error(NotFoundError(f"the service knows no task {task_id}", "Tasks are deleted after 7 days."))
    return int(ExitCode.NOT_FOUND if missing else ExitCode.OK)


def _ids(given: list[str]) -> list[str]:
    from flux_lora_cli.service.wire import is_task_id

    if "-" in given:
        stdin = TaskIds()
        given = [task_id for task_id in given if task_id != "-"] + list(stdin.wait_for_first())
        stdin.complain()
    for task_id in given:
        if not is_task_id(task_id):
            raise NotFoundError(
                f"'{printable(task_id)}' is not a task ID", "Task IDs are what submit prints, one per line."
            )
    return list(dict.fromkeys(given))


def _ledger_records(service: str, ids: Sequence[str]) -> dict[str, JobRecord]:
    """What the user's own ledger knows of tasks, or its recent ones, by task ID; none where it cannot be read."""
    from flux_lora_cli.folder.state import open_user_ledger

    with suppress(FluxLoraError):
        ledger = open_user_ledger(service, create=False)
        if ledger is not None:
            with ledger:
                records = [ledger.find(task_id) for task_id in ids] if ids else ledger.recent(MAX_RECENT)
                return {record.task_id or record.key: record for record in records if record is not None}
    return {}


def _look(
    run: Running, service: ServiceOptions, ids: Sequence[str], known: dict[str, JobRecord]
) -> tuple[list[Standing], list[str]]:
    """What the service says of tasks, and the IDs that it does not know. Raises what keeps it from saying."""
    from flux_lora_cli.engine.tasks import look_up

    asked = []
    for task_id in ids:
        record = known.get(task_id)
        version = service.api_version or (record.api_version if record is not None else None) or "v2"
        asked.append((task_id, version, record is not None))
    found, missing = [], []
    for task_id, answer in zip(ids, look_up(asked, run.client, run.service, stop=run.stop), strict=True):  # type: ignore[arg-type]
        record = known.get(task_id)
        if not isinstance(answer, FluxLoraError):
            found.append(_standing(answer, record))
        elif not isinstance(answer, TaskNotFound):
            raise answer
        elif record is not None:
            why = "the service does not know it any more"
            found.append(Standing(task_id, "lost", why, record.model, record.task_created_at, record.id, ended=True))
        else:
            missing.append(task_id)
    return found, missing


def _recent(run: Running, known: dict[str, JobRecord]) -> list[Standing]:
    """The account's recent tasks, and those that this user submitted and never saw again; the oldest first."""
    from flux_lora_cli.engine.assemble import Session, drive
    from flux_lora_cli.engine.settings import Settings
    from flux_lora_cli.folder.records import State

    session = Session(run.client, run.service, Settings(), run.observer)

    async def main() -> list[Task]:
        return await session.read(run.client.predictions, 1, MAX_RECENT)

    try:
        listed = drive(session, main, run.stop)
    except Rejected:  # not every account has the list; the ledger still knows what was submitted from here
        listed = []
    found = {task.id: _standing(task, known.get(task.id)) for task in reversed(listed)}
    young = [record for record in known.values() if _age(record.intent_at) < _KEPT_SECONDS]
    unseen = [r.task_id for r in young if r.task_id and r.task_id not in found and r.state is State.SUBMITTED]
    more = _look(run, ServiceOptions(), unseen, known)[0] if unseen else []
    outcome = "submitted at {}, outcome not known"
    unknown = [
        Standing(None, "unknown", outcome.format(r.intent_at), r.model, r.intent_at, r.id, _prompt_of(r))
        for r in young
        if r.task_id is None and r.state in (State.UNKNOWN, State.SUBMITTING)
    ]
    return [*unknown, *more, *found.values()]


def _standing(task: Task, record: JobRecord | None) -> Standing:
    prompt = str((task.inputs or {}).get("prompt") or "") or _prompt_of(record)
    job = record.id if record is not None else None
    return Standing(task.id, task.status, task.error, task.model, task.created_at, job, prompt, task.terminal)


def _prompt_of(record: JobRecord | None) -> str:
    return str((record.input or {}).get("prompt") or "") if record is not None else ""


def _show(found: Sequence[Standing], console: Console, *, in_order: bool) -> None:
    from flux_lora_cli.engine.events import TaskStatus

    counts = console.summary.setdefault("statuses", {})
    for standing in found:
        counts[standing.status] = counts.get(standing.status, 0) + 1
        console.event(
            TaskStatus(
                standing.job, standing.task, standing.status, standing.error, standing.model, standing.created_at
            )
        )
    if console.out_is_terminal and not console.json:
        newest_first = found if in_order else sorted(found, key=lambda s: _age(s.created_at))
        for line in _table(newest_first, console):
            console.result(line)
        return
    for standing in found:
        fields = (standing.task or "-", standing.status, standing.error)
        console.result("\t".join(printable(field) for field in fields))


def _table(found: Sequence[Standing], console: Console) -> list[str]:
    """Lines for people: status, age, ID, then job, prompt or error as far as there is room."""
    import shutil

    columns = shutil.get_terminal_size().columns
    widest = max((len(s.task or "-") for s in found), default=0)
    jobs = max((len(s.job or "") for s in found), default=0)
    lines = []
    for s in found:
        status = console.styled(f"{printable(s.status):<11}", _COLORS.get(s.status, "36"))
        left = f"{_age_text(s.created_at):>5}  {s.task or '-':<{widest}}  "
        left += f"{printable(s.job or ''):<{min(jobs, 24)}.24}  " if jobs else ""
        room = max(10, columns - 12 - len(left))
        text = printable(s.error or s.prompt)
        lines.append(f"{status} {left}{text if len(text) <= room else text[: room - 1] + '…'}".rstrip())
    return lines


def _age(created_at: str | None) -> float:
    """Seconds since a time of the service; endless where it did not say one."""
    from flux_lora_cli.service.wire import parse_time

    moment = parse_time(created_at)
    return (datetime.now(UTC) - moment).total_seconds() if moment is not None else float("inf")


def _age_text(created_at: str | None) -> str:
    seconds = max(0.0, _age(created_at))
    if seconds == float("inf"):
        return "?"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
