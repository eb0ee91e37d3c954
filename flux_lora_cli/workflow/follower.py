"""Follows submitted tasks to their end: looks, placed by what recent tasks took."""

from __future__ import annotations

from collections.abc import Callable

from flux_lora_cli.domain.events import Failed, Held, Overdue, Unseen
from flux_lora_cli.domain.pacing import LookPlanner
from flux_lora_cli.domain.records import State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import (
    FluxLoraError,
    KeyRefused,
    RateLimited,
    Rejected,
    TaskNotFound,
    TasksOverdue,
)
from flux_lora_cli.workflow.calls import PASSING, Calls, in_words
from flux_lora_cli.workflow.context import Context, Work
from flux_lora_cli.workflow.reactor import Timer
from flux_lora_cli.workflow.reconciler import BY_USER

#: Seconds for which a task may be unknown to the service before it is called lost. [CONTRACT: waiting]
LOST_AFTER = 60.0
#: Seconds between two looks at a task that the service does not know.
LOST_AGAIN = 5.0


class Follower:
    """Looks at tasks until they end.

    Args:
        on_completed: what follows a task that ended well.
        on_free: told whenever a task is no longer in flight.
        waiting: how many jobs are not submitted yet.
        paced: whether those wait for the rate, not for a task to end.
        lost_after: seconds of 404 until a task is called lost.
    """

    def __init__(
        self,
        ctx: Context,
        calls: Calls,
        planner: LookPlanner,
        on_completed: Callable[[Work, Task], None],
        on_free: Callable[[], None] = lambda: None,
        waiting: Callable[[], int] = lambda: 0,
        paced: Callable[[], bool] = lambda: False,
        lost_after: float = LOST_AFTER,
    ) -> None:
        self._ctx = ctx
        self._calls = calls
        self._planner = planner
        self._completed = on_completed
        self._free = on_free
        self._waiting = waiting
        self._paced = paced
        self._lost_after = lost_after
        self._following: dict[Work, Timer | None] = {}
        ctx.on_calls_stop.append(self._leave_all)

    @property
    def in_flight(self) -> int:
        """Tasks that have not been seen to end."""
        return len(self._following)

    def follow(self, work: Work, task: Task | None = None) -> None:
        """Follow a task that was just submitted (``task`` is the answer), or one of an earlier run (None)."""
        self._following[work] = None
        self._ctx.tally.in_flight = len(self._following)
        now = self._ctx.clock.monotonic()
        if task is not None and task.terminal:
            self._ended(work, task, now)
        elif task is None:
            self._look(work)
        else:
            when = self._planner.first_look(work.submitted_at, self.in_flight, self._waiting(), self._paced())
            self._look_at(work, now, min(max(now, when), self._deadline(work)))

    def _deadline(self, work: Work) -> float:
        return work.submitted_at + self._ctx.settings.task_timeout

    def _look_at(self, work: Work, now: float, when: float) -> None:
        if self._ctx.settings.explain:  # a line for every look costs more than it is worth to those who do not read it
            status = work.record.task_status or "not known"
            self._ctx.explain(f"{work.name}: {status}; looked at in {when - now:.1f} s")
        if work in self._following:
            self._following[work] = self._ctx.reactor.at(when, lambda: self._look(work))

    def _look(self, work: Work) -> None:
        task_id, service = work.record.task_id or "", self._ctx.service
        self._following[work] = None
        self._calls.read(
            lambda: service.result(task_id), lambda result: self._looked(work, result), floor=self._planner.floor
        )

    def _looked(self, work: Work, result: Task | FluxLoraError) -> None:
        if work not in self._following:
            return
        now = work.last_look = self._ctx.clock.monotonic()
        if isinstance(result, Task):
            work.not_found_since = None
            work.looks += 1
            if result.terminal:
                self._ended(work, result, now)
            else:
                self._not_yet(work, result, now)
        elif isinstance(result, TaskNotFound):
            self._not_found(work, result, now)
        elif isinstance(result, (*PASSING, KeyRefused, RateLimited)) or self._ctx.calls_stopped:
            # The look failed, which says nothing about the task: it stays submitted, a rerun picks it up.
            if not isinstance(result, (KeyRefused, RateLimited)) and not self._ctx.calls_stopped:
                self._unseen(work, result)
            self._leave(work)
        else:
            self._refused(work, result)

    def _unseen(self, work: Work, error: FluxLoraError) -> None:
        ctx, record, message = self._ctx, work.record, f"could not be looked at: {error.message}"
        record.error = f"{error.code}: {message}"
        ctx.book.change(record)
        ctx.emit(Unseen(record.id, record.task_id, error.code, message))
        error.message = f"there are tasks that {message}"
        error.hint = "They are paid for, and go on: run the same command later, and it waits for them again."
        if work.counts:
            ctx.note(error)

    def _not_yet(self, work: Work, task: Task, now: float) -> None:
        work.record.task_status = task.status
        if now >= self._deadline(work):
            self._overdue(work)
            return
        if work.looked_at is not None:
            work.last_gap = now - work.looked_at
        work.looked_at = now
        when = self._planner.next_look(
            work.submitted_at, now, work.looks, self.in_flight, self._waiting(), work.last_gap, self._paced()
        )
        self._look_at(work, now, max(now + self._planner.floor, min(when, self._deadline(work))))

    def _overdue(self, work: Work) -> None:
        ctx, record, after = self._ctx, work.record, in_words(self._ctx.settings.task_timeout)
        message = f"not finished {after} after its submit: still {record.task_status}"
        record.error = f"overdue: {message}"
        ctx.book.change(record)
        ctx.emit(Overdue(record.id, record.task_id, message))
        if work.counts:
            ctx.note(TasksOverdue(after))
            if isinstance(reason := ctx.reasons[TasksOverdue.exit_code], TasksOverdue):
                reason.one_more()
        self._leave(work)

    def _not_found(self, work: Work, error: TaskNotFound, now: float) -> None:
        if work.not_found_since is None:
            work.not_found_since = now
        if now - work.not_found_since < self._lost_after:
            self._look_at(work, now, now + max(LOST_AGAIN, self._planner.floor))
            return
        if work.record.matched_by == BY_USER and not work.looks:
            self._mistaken(work)
            return
        self._fail(work, "lost", f"the service does not know task {work.record.task_id} (asked for a minute)")

    def _mistaken(self, work: Work) -> None:
        """There is no task of the id that the user named: what became of the submit is as unknown as before."""
        record = work.record
        message = f"held: the service does not know task {record.task_id}, which --adopt named"
        record.state, record.error, record.task_id, record.matched_by = State.UNKNOWN, message, None, None
        self._ctx.book.change(record)
        self._ctx.emit(Held(record.id, f"{work.name}: {message}", ()))
        self._leave(work)

    def _refused(self, work: Work, error: FluxLoraError) -> None:
        """A look that is refused for good (400) is no verdict on the task."""
        if isinstance(error, Rejected):
            self._unseen(work, error)
        else:
            self._ctx.note(error)
        self._leave(work)

    def _ended(self, work: Work, task: Task, now: float) -> None:
        record = work.record
        record.task_status = task.status
        record.task_model = task.model or record.task_model
        record.model = record.model or task.model
        record.task_created_at = task.created_at or record.task_created_at
        record.execution_ms = task.execution_ms
        record.task_error = task.error
        if work.looks:
            self._planner.observe(work.submitted_at, now, work.looked_at, task.execution_ms)
        if not task.completed:
            self._fail(work, "task_failed", task.error or f"the task ended as {task.status}")
            return
        if not task.outputs:
            self._fail(work, "no_output", "the task completed without any output")
            return
        self._drop(work)
        self._completed(work, task)

    def _fail(self, work: Work, code: str, message: str) -> None:
        record = work.record
        record.state = State.FAILED
        record.error = f"{code}: {message}"
        self._ctx.book.change(record)
        self._ctx.emit(Failed(record.id, record.task_id, code, message))
        self._drop(work)
        self._ctx.settle(work)

    def _leave(self, work: Work) -> None:
        """It stays submitted; this run looks no more."""
        self._drop(work)
        self._ctx.settle(work)

    def _leave_all(self) -> None:
        for work, timer in list(self._following.items()):
            if timer is not None:
                timer.cancel()
                self._leave(work)

    def _drop(self, work: Work) -> None:
        self._following.pop(work, None)
        self._ctx.tally.in_flight = len(self._following)
        self._free()
