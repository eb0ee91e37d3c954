"""``flux-lora status``: the state of tasks, one per line."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from flux_lora_cli.commands.console import Console, plain
from flux_lora_cli.commands.inputs import TaskIds, check_ids
from flux_lora_cli.commands.options import ServiceOptions, argument, command
from flux_lora_cli.commands.running import Running, check, running
from flux_lora_cli.errors import ExitCode, FluxLoraError, NotFoundError, Rejected, TaskNotFound
from flux_lora_cli.text import printable

if TYPE_CHECKING:
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

    @classmethod
    def of_task(cls, task: Task, record: JobRecord | None) -> Standing:
        """What the service says, with the job that a ledger knows."""
        prompt = str((task.inputs or {}).get("prompt") or "") or _prompt_of(record)
        job = record.id if record is not None else None
        return cls(task.id, task.status, task.error, task.model, task.created_at, job, prompt)

    @classmethod
    def of_record(cls, record: JobRecord, status: str, why: str) -> Standing:
        """What only a ledger knows."""
        since = record.task_created_at or record.intent_at
        return cls(record.task_id, status, why, record.model, since, record.id, _prompt_of(record))


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
    wanted = _ids(ids or [])
    with running(service, console, shown=False) as run:
        known = _records(run.service, wanted)
        found, missing = _look(run, service, wanted, known) if wanted else (_recent(run, known), [])
        _show(found, console, in_order=bool(wanted))
    for task_id in missing:
        console.error(NotFoundError(f"the service knows no task {task_id}", "Tasks are deleted after 7 days."))
    return int(ExitCode.NOT_FOUND if missing else ExitCode.OK)


def _ids(given: list[str]) -> list[str]:
    if "-" not in given:
        return check_ids(given)
    stdin = TaskIds()
    read = list(stdin.wait_for_first())
    stdin.complain()
    return check_ids([task_id for task_id in given if task_id != "-"] + read)


# ---- what ledgers know -----------------------------------------------------------------------


def _records(service: str, ids: Sequence[str]) -> dict[str, JobRecord]:
    """What the user's own ledger, and output folders, know of tasks; without IDs, what the user's ledger has last."""
    from flux_lora_cli.folder.state import open_user_ledger

    found: list[JobRecord | None] = []
    with suppress(FluxLoraError), open_user_ledger(service, create=False) as ledger:
        found = [ledger.find(task_id) for task_id in ids] if ids else list(ledger.recent(MAX_RECENT))
    known = {record.task_id or record.key: record for record in found if record is not None}
    return known | _in_folders(service, {*ids} - known.keys())


def _in_folders(service: str, ids: Collection[str]) -> dict[str, JobRecord]:
    """What the output folders that this user's runs have used know of tasks, as far as they can be read."""
    from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger
    from flux_lora_cli.folder.state import remembered_folders

    left = set(ids)
    known: dict[str, JobRecord] = {}
    for folder in remembered_folders()[: -MAX_FOLDERS - 1 : -1]:
        if not left:
            break
        with (
            suppress(FluxLoraError),
            Ledger.open(folder / LEDGER_NAME, service, create=False, read_only=True) as ledger,
        ):
            known |= {task_id: record for task_id in left if (record := ledger.find(task_id)) is not None}
            left -= known.keys()
    return known


def _prompt_of(record: JobRecord | None) -> str:
    return str((record.input or {}).get("prompt") or "") if record is not None else ""


# ---- what the service says -------------------------------------------------------------------


def _look(
    run: Running, service: ServiceOptions, ids: Sequence[str], known: dict[str, JobRecord]
) -> tuple[list[Standing], list[str]]:
    """What the service says of tasks, and the IDs that it does not know. Raises what keeps it from saying."""
    from flux_lora_cli.engine.tasks import look_up

    asked: list[Any] = []
    for task_id in ids:
        record = known.get(task_id)
        version = service.api_version or (record.api_version if record is not None else None) or "v2"
        asked.append((task_id, version, record is not None))
    found, missing = [], []
    for task_id, answer in zip(ids, look_up(asked, run.client, run.service, run.stop), strict=True):
        record = known.get(task_id)
        if not isinstance(answer, FluxLoraError):
            found.append(Standing.of_task(answer, record))
        elif not isinstance(answer, TaskNotFound):
            raise answer
        elif record is not None:
            found.append(Standing.of_record(record, "lost", "the service no longer knows it"))
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
    jobs = known | _in_folders(run.service, {task.id for task in listed} - known.keys())
    found = {task.id: Standing.of_task(task, jobs.get(task.id)) for task in reversed(listed)}
    young = [record for record in known.values() if _age(record.intent_at) < _KEPT_SECONDS]
    unseen = [r.task_id for r in young if r.task_id and r.task_id not in found and r.state is State.SUBMITTED]
    more = _look(run, ServiceOptions(), unseen, known)[0] if unseen else []
    unknown = [
        Standing.of_record(record, "unknown", f"submitted at {record.intent_at}, outcome not known")
        for record in young
        if record.task_id is None and record.state in (State.UNKNOWN, State.SUBMITTING)
    ]
    return [*unknown, *more, *found.values()]


# ---- what is printed -------------------------------------------------------------------------


def _show(found: Sequence[Standing], console: Console, *, in_order: bool) -> None:
    from flux_lora_cli.engine.events import TaskStatus

    console.summary["statuses"] = dict(Counter(s.status for s in found))
    for s in found:
        console.event(TaskStatus(s.job, s.task, s.status, s.error, s.model, s.created_at))
    if console.out_is_terminal and not console.json:
        newest_first = found if in_order else sorted(found, key=lambda s: _age(s.created_at))
        for line in _table(newest_first, console):
            console.result(line)
        return
    for s in found:
        console.result("\t".join(printable(field) for field in (s.task or "-", s.status, s.error)))


def _table(found: Sequence[Standing], console: Console) -> list[str]:
    """Lines for people: status, age, ID, then job and prompt as far as there is room; an error below, whole."""
    columns = shutil.get_terminal_size().columns
    widest = max((len(s.task or "-") for s in found), default=0)
    room = max(0, columns - len(f"{'':<11} {'':>5}  ") - widest - 3)
    jobs = min(24, room // 2, max((len(s.job or "") for s in found), default=0))
    lines = []
    for s in found:
        status = console.styled(f"{printable(s.status):<11}", _COLORS.get(s.status, "36"))
        left = f"{_age_text(s.created_at):>5}  {s.task or '-':<{widest}}  "
        left += f"{_cut(s.job or '', jobs):<{jobs}}  " if jobs else ""
        lines.append(f"{status} {left}{_cut(plain(s.prompt), room - jobs - 2)}".rstrip())
        lines += [f"{'':<11} {plain(s.error)}"] if s.error else []
    return lines


def _cut(text: str, room: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= room else f"{shown[: room - 1]}…" if room > 1 else ""


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
