"""A submitted task to its end: polls, placed by what recent tasks took."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

from flux_lora_cli.engine.events import Explained, Overdue, PollFailed
from flux_lora_cli.errors import DeadlineError, FluxLoraError, ServiceError, TaskNotFound
from flux_lora_cli.folder.records import JobRecord, State
from flux_lora_cli.text import duration

if TYPE_CHECKING:
    from flux_lora_cli.engine.plan import Work
    from flux_lora_cli.engine.run import Run
    from flux_lora_cli.service.wire import Task

#: Seconds for which a task that is known to have been made may be unknown to the service before it is called lost,
#: and between two polls meanwhile; and the same for an ID that nobody here has heard of. [CONTRACT: waiting]
LOST_AFTER, NO_SUCH_TASK_AFTER = (60.0, 5.0), (4.0, 1.0)


async def follow(run: Run, work: Work, task: Task | None) -> Task | None:
    """Poll a task until it ends, is lost, or its time (``--task-timeout``) is over.

    Args:
        task: the answer to its submission; None for a task of an earlier run, which is polled at once.

    Returns:
        The completed task; None where there is none, and the record says why.
    """
    record, planner = work.record, run.planner
    ours = task is not None  # only such a task's waiting tells how long tasks take
    submitted_at = run.calls.take_off(record, run.time() - age(record, run.now()))
    deadline = submitted_at + run.settings.task_timeout
    when = planner.first_poll(submitted_at, run.time()) if ours else run.time()
    polls, now, before = 0, 0.0, None
    while task is None or not task.terminal:
        await asyncio.sleep(min(when, max(deadline, run.time())) - run.time())
        try:
            task = await insist(lambda: poll(run, record), work.known, planner.floor)
        except FluxLoraError as error:
            await _not_seen(run, work, error)
            return None
        before, now, polls = now if polls else None, run.time(), polls + 1
        if task.terminal:
            break
        if now >= deadline:
            note_task(record, task)
            message = f"not finished {duration(run.settings.task_timeout)} after its submission: still {task.status}"
            record.error = f"overdue: {message}"
            await run.save(record)
            run.emit(Overdue(record.id, record.task_id, message))
            return None
        when = planner.next_poll(now, polls)
        run.emit(Explained(f"{record.name}: {task.status}; next poll in {when - now:.1f} s"))
    if ours and polls:
        planner.observe(submitted_at, now, before, task.execution_ms)
    run.calls.land(record)
    note_task(record, task)
    if not task.completed:
        await run.fail(record, "task_failed", task.error or f"the task ended as {task.status}")
    elif not task.outputs:
        await run.fail(record, "no_output", "the task completed without any output")
    else:
        record.state, record.error = State.COMPLETED, None
        return task
    return None


def note_task(record: JobRecord, task: Task) -> None:
    """Record what the service says of a task."""
    record.task_status, record.execution_ms, record.task_error = task.status, task.execution_ms, task.error
    record.task_model, record.model = task.model or record.task_model, record.model or task.model
    record.task_created_at = task.created_at or record.task_created_at


async def poll(run: Run, record: JobRecord) -> Task:
    """The task as the service has it now."""
    version, floor = record.api_version or "v2", run.settings.poll_interval
    return await run.calls.get(run.client.result, record.task_id, version, floor=floor, why=record.name)


async def insist(ask: Callable[[], Awaitable[Task]], known: bool, floor: float = 0.0) -> Task:
    """What ``ask`` says of a task; where it raises TaskNotFound, it is asked again for a while.

    Args:
        known: somebody here has heard of the task; floor: least seconds between two polls.
    """
    time, until = asyncio.get_running_loop().time, math.inf
    patience, gap = LOST_AFTER if known else NO_SUCH_TASK_AFTER
    while True:
        try:
            return await ask()
        except TaskNotFound:
            until = min(until, time() + patience)
            if time() >= until:
                raise
        await asyncio.sleep(max(floor, gap))


async def _not_seen(run: Run, work: Work, error: FluxLoraError) -> None:
    """A task that is not there, or cannot be polled; that is paid for, and left as it is: the next run polls it again.

    It keeps its place among the tasks in flight, or more would be bought blindly.
    """
    record, why = work.record, f"the service does not know task {work.record.task_id}"
    if isinstance(error, DeadlineError):  # the service asks to come back later
        run.calls.close(error)
    elif not isinstance(error, TaskNotFound):
        message = f"could not be polled: {error.message}"
        record.error = f"{error.code}: {message}"
        await run.save(record)
        run.emit(PollFailed(record.id, record.task_id, error.code, message))
        if work.counts:
            run.calls.note(ServiceError(f"task {record.task_id} {message}"))
        run.calls.stuck(record, error.message)
    elif record.matched_by == "user":  # --adopt named it: as unknown as before
        record.state, record.task_id, record.matched_by = State.UNKNOWN, None, None
        await run.hold(record, f"{why}, which --adopt named")
    elif work.known:
        run.calls.stuck(record, why)
        await run.fail(record, "lost", f"{why} (polled for a minute)")
    else:
        work.no_such_task = True
        hint = "Check the ID and the key: a task belongs to one account."
        run.calls.note(TaskNotFound(f"there is no task {record.task_id}", hint))


def age(record: JobRecord, now: datetime) -> float:
    """Seconds since the record's last intent to submit; 0 where that is not known, or a clock jumped."""
    if record.intent_at is None:
        return 0.0
    return max(0.0, (now - datetime.fromisoformat(record.intent_at)).total_seconds())
