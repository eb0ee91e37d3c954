"""``flux-lora status``: the state of tasks, one per line."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from flux_lora_cli.commands.console import Console, cut, plain
from flux_lora_cli.commands.inputs import check_ids, read_lines
from flux_lora_cli.commands.options import ServiceOptions, argument, command
from flux_lora_cli.commands.running import Running, check, running
from flux_lora_cli.engine.events import TaskStatus
from flux_lora_cli.errors import ExitCode, FluxLoraError, NotFoundError, Rejected, TaskNotFound
from flux_lora_cli.text import printable

if TYPE_CHECKING:
    from flux_lora_cli.folder.ledger import Ledger
    from flux_lora_cli.folder.records import JobRecord
    from flux_lora_cli.service.wire import Task

EXAMPLES = """
flux-lora status
flux-lora status --json | head
"""

#: Tasks shown at most, of the account's list and of the user's ledger each.
MAX_RECENT = 50
#: Output folders that are searched for tasks, the newest first.
MAX_FOLDERS = 200
_KEPT = timedelta(days=7)
_COLORS = {"completed": "32", "failed": "31", "lost": "31", "unknown": "33"}

#: What is known of a task, and its prompt.
Row = tuple[TaskStatus, str]


@command
def status(
    ids: Annotated[list[str] | None, argument("ID", "Task IDs, or - to read them.")] = None,
    *,
    service: ServiceOptions,
    console: Console,
) -> int:
    """Show the status of tasks (recent ones by default).

    At a terminal: status, age, job and prompt, newest first. Elsewhere: ID, status and error, separated by tabs, in the
    order asked for. A failed task is not a failure of this command.
    """
    check(service, console)
    given = ids or []
    read = [line.partition("\t")[0].strip() for line in read_lines("task ID")] if "-" in given else []
    wanted = check_ids([text for text in given if text != "-"] + read)
    missing: list[str] = []
    with running(service, console) as run:
        if wanted:
            rows, missing = _look_up(run, service.api_version, wanted)
        else:
            rows = _recent(run)
    console.summary["statuses"] = dict(Counter(found.status for found, _ in rows))
    if console.out_is_terminal and not wanted:
        rows.sort(key=lambda row: row[0].created_at or "", reverse=True)
    for found, _ in rows:
        console.event(found)
        if not console.out_is_terminal:
            console.result("\t".join(printable(field) for field in (found.task or "-", found.status, found.error)))
    if console.out_is_terminal:
        _show(rows, console)
    for task_id in missing:
        console.error(NotFoundError(f"the service knows no task {task_id}", "Tasks are deleted after 7 days."))
    return int(ExitCode.NOT_FOUND if missing else ExitCode.OK)


# ---- what ledgers know -----------------------------------------------------------------------


def _records(service: str, ids: set[str]) -> dict[str, JobRecord]:
    """What the user's own ledger and the output folders of this user's runs know of tasks."""
    from flux_lora_cli.folder.state import from_folders, open_user_ledger, remembered_folders

    known: dict[str, JobRecord] = {}

    def find(ledger: Ledger) -> None:
        known.update({task: record for task in ids - known.keys() if (record := ledger.find(task)) is not None})

    with suppress(FluxLoraError), open_user_ledger(service, create=False) as own:
        find(own)
    searched = from_folders(remembered_folders()[: -MAX_FOLDERS - 1 : -1], service, find)
    while ids - known.keys() and next(searched, None) is not None:
        pass
    return known


# ---- what the service says -------------------------------------------------------------------


def _look_up(run: Running, api_version: Any, ids: Sequence[str]) -> tuple[list[Row], list[str]]:
    """What the service says of tasks, and the IDs that it does not know. Raises what keeps it from saying."""
    from flux_lora_cli.engine.tasks import look_up

    known = _records(run.service, {*ids})
    versions = {task_id: record.api_version for task_id, record in known.items()}
    asked: list[Any] = [(each, api_version or versions.get(each) or "v2", each in known) for each in ids]
    rows, missing = [], []
    for task_id, answer in zip(ids, look_up(asked, run.client, run.service, run.stop), strict=True):
        if not isinstance(answer, FluxLoraError):
            rows.append(_row(known.get(task_id), answer))
        elif not isinstance(answer, TaskNotFound):
            raise answer
        elif task_id in known:
            rows.append(_row(known[task_id], None, "lost", "the service no longer knows it"))
        else:
            missing.append(task_id)
    return rows, missing


def _recent(run: Running) -> list[Row]:
    """The account's recent tasks, and those that this user submitted and never saw again; the oldest first."""
    from flux_lora_cli.engine.assemble import Session, Settings
    from flux_lora_cli.folder.records import State
    from flux_lora_cli.folder.state import open_user_ledger

    own: list[JobRecord] = []
    kept_since = (datetime.now(UTC) - _KEPT).isoformat()
    with suppress(FluxLoraError), open_user_ledger(run.service, create=False) as ledger:
        own = [record for record in ledger.recent(MAX_RECENT) if (record.intent_at or "") > kept_since]
    session = Session(run.client, run.service, Settings(), run.observer, run.stop)

    async def main() -> list[Task]:
        return await session.read(run.client.predictions, 1, MAX_RECENT)

    listed: list[Task] = []
    with suppress(Rejected):  # not every account has the list; the ledger still knows what was submitted from here
        listed = session.drive(main)
    ids = {task.id for task in listed}
    unseen = [r.task_id for r in own if r.task_id and r.task_id not in ids and r.state is State.SUBMITTED]
    known = _records(run.service, ids)
    return [
        *(
            _row(record, None, "unknown", f"submitted at {record.intent_at}, outcome not known")
            for record in own
            if record.task_id is None and record.state in (State.UNKNOWN, State.SUBMITTING)
        ),
        *(_look_up(run, None, unseen)[0] if unseen else ()),
        *(_row(known.get(task.id), task) for task in reversed(listed)),
    ]


def _row(record: JobRecord | None, task: Task | None, status: str = "", why: str = "") -> Row:
    """A task as the service tells of it, or as the ledger that knows it does."""
    from flux_lora_cli.folder.records import JobRecord

    record = record or JobRecord("")
    inputs = (task and task.inputs) or record.input or {}
    if task is not None:
        found = TaskStatus(record.id, task.id, task.status, task.error, task.model, task.created_at)
    else:
        since = record.task_created_at or record.intent_at
        found = TaskStatus(record.id, record.task_id, status, why, record.model, since)
    return found, str(inputs.get("prompt") or "")


# ---- what a terminal shows -------------------------------------------------------------------


def _show(rows: Sequence[Row], console: Console) -> None:
    """Lines for people: status, age, ID, then job and prompt as far as there is room; an error below, whole."""
    columns = shutil.get_terminal_size().columns
    wide = min(20, max((len(plain(found.job or "")) for found, _ in rows), default=0))
    for found, prompt in rows:
        status = console.styled(f"{printable(found.status):<11}", _COLORS.get(found.status, "36"))
        job = cut(plain(found.job or ""), wide)
        line = f"{_age(found.created_at):>3}  {found.task or '-':<32}  {job}  {plain(prompt)}"
        console.result(f"{status} {cut(line, columns - 12)}".rstrip())
        if found.error:
            console.result(f"{'':<11} {plain(found.error)}")


def _age(created_at: str | None) -> str:
    from flux_lora_cli.service.wire import parse_time

    moment = parse_time(created_at)
    if moment is None:
        return "?"
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    size, unit = next((each for each in ((86400, "d"), (3600, "h"), (60, "m")) if seconds >= each[0]), (1, "s"))
    return f"{seconds / size:.0f}{unit}"
