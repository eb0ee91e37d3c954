"""A submitted task to its end: polls, placed by what recent tasks took."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

from flux_lora_cli.engine.events import Failed, Held, Overdue, PollFailed
from flux_lora_cli.errors import DeadlineError, FluxLoraError, ServiceError, TaskNotFound
from flux_lora_cli.folder.records import JobRecord, State
from flux_lora_cli.text import duration

if TYPE_CHECKING:
    from flux_lora_cli.engine.plan import Work
    from flux_lora_cli.engine.run import Run
    from flux_lora_cli.service.wire import Task

#: Seconds for which a task that is known to have been made may be unknown to the service before it is called lost;
#: and for which an ID may be that nobody here has heard of. [CONTRACT: waiting]
LOST_AFTER = 60.0
NO_SUCH_TASK_AFTER = 4.0


async def follow(run: Run, work: Work, task: Task | None) -> Task | None:
    """Poll a task until it ends, is lost, or its time (``--task-timeout``) is over.

    Args:
        task: the answer to its submission; None for a task of an earlier run, which is polled at once.

    Returns:
        The completed task; None where there is none, and the record says why.
    """
    record, turns, planner = work.record, run.turns, run.planner
    ours = task is not None  # only such a task's waiting tells how long tasks take
    turns.take_off(record, run.time() - age(record, run.now()))
    submitted_at = turns.in_flight[record.key][1]
    deadline = submitted_at + run.settings.task_timeout
    when = planner.first_poll(submitted_at, run.time()) if ours else run.time()
    polls = 0
    polled_at: float | None = None
    unknown_since: float | None = None
    while task is None or not task.terminal:
        await asyncio.sleep(min(when, max(deadline, run.time())) - run.time())
        try:
            task = await poll(run, record)
        except TaskNotFound:
            now, task = run.time(), None
            unknown_since = now if unknown_since is None else unknown_since
            if now - unknown_since >= (LOST_AFTER if work.known else NO_SUCH_TASK_AFTER):
                await _lost(run, work)
                return None
            when = now + max(planner.floor, 5.0 if work.known else 1.0)
            continue
        except DeadlineError as error:  # the service asks to come back later: the next run polls it again
            run.stop_submissions(error)
            return None
        except FluxLoraError as error:
            await _not_polled(run, work, error)
            return None
        now, before = run.time(), polled_at
        polled_at, unknown_since, polls = now, None, polls + 1
        if task.terminal:
            if ours:
                planner.observe(submitted_at, now, before, task.execution_ms)
        elif now >= deadline:
            await _overdue(run, work, task)
            return None
        else:
            record.task_status = task.status
            when = planner.next_poll(now, polls)
            run.explain(f"{record.name}: {task.status}; next poll in {when - now:.1f} s")
    return await _ended(run, work, task)


async def poll(run: Run, record: JobRecord) -> Task:
    """The task as the service has it now."""
    version, floor = record.api_version or "v2", run.settings.poll_interval
    return await run.calls.get(run.client.result, record.task_id, version, floor=floor, why=record.name)


async def fail(run: Run, work: Work, code: str, message: str) -> None:
    """The job failed; a rerun does not submit it again unless asked (``--retry-failed``)."""
    record = work.record
    record.state, record.error = State.FAILED, f"{code}: {message}"
    await run.save(record)
    run.emit(Failed(record.id, record.task_id, code, message))


async def _ended(run: Run, work: Work, task: Task) -> Task | None:
    record = work.record
    run.turns.land(record)
    record.task_status, record.execution_ms, record.task_error = task.status, task.execution_ms, task.error
    record.task_model, record.model = task.model or record.task_model, record.model or task.model
    record.task_created_at = task.created_at or record.task_created_at
    if not task.completed:
        await fail(run, work, "task_failed", task.error or f"the task ended as {task.status}")
    elif not task.outputs:
        await fail(run, work, "no_output", "the task completed without any output")
    else:
        record.state, record.error = State.COMPLETED, None
        return task
    return None


async def _lost(run: Run, work: Work) -> None:
    record = work.record
    if record.matched_by != "user" and work.known:
        _keep_place(run, record, f"the service does not know task {record.task_id}")
    run.turns.land(record)
    if record.matched_by == "user":  # --adopt named it, and there is no such task: as unknown as before
        message = f"held: the service does not know task {record.task_id}, which --adopt named"
        record.state, record.error, record.task_id, record.matched_by = State.UNKNOWN, message, None, None
        await run.save(record)
        run.emit(Held(record.id, f"{record.name}: {message}"))
    elif work.known:
        await fail(run, work, "lost", f"the service does not know task {record.task_id} (polled for a minute)")
    else:
        work.no_such_task = True
        hint = "Check the ID and the key: a task belongs to one account."
        run.note(TaskNotFound(f"there is no task {record.task_id}", hint))


async def _not_polled(run: Run, work: Work, error: FluxLoraError) -> None:
    """A task that cannot be polled is paid for, and left as it is: the next run polls it again."""
    record, message = work.record, f"could not be polled: {error.message}"
    record.error = f"{error.code}: {message}"
    await run.save(record)
    run.emit(PollFailed(record.id, record.task_id, error.code, message))
    if work.counts:
        run.note(ServiceError(f"task {record.task_id} {message}"))
    _keep_place(run, record, error.message)


def _keep_place(run: Run, record: JobRecord, why: str) -> None:
    """What cannot be polled keeps its place among the tasks in flight; when all do, nothing more is bought."""
    if run.turns.stuck(record):
        run.stop_submissions(ServiceError(f"tasks cannot be polled, so no more are bought: {why}"))


async def _overdue(run: Run, work: Work, task: Task) -> None:
    record = work.record
    run.turns.land(record)
    message = f"not finished {duration(run.settings.task_timeout)} after its submission: still {task.status}"
    record.task_status, record.error = task.status, f"overdue: {message}"
    await run.save(record)
    run.emit(Overdue(record.id, record.task_id, message))


def age(record: JobRecord, now: datetime) -> float:
    """Seconds since the record's last intent to submit; 0 where that is not known, or a clock jumped."""
    if record.intent_at is None:
        return 0.0
    return max(0.0, (now - datetime.fromisoformat(record.intent_at)).total_seconds())
