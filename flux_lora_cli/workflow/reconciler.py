"""Finds out what became of submits of unknown outcome, in the account's recent predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from flux_lora_cli.domain.backoff import Policy
from flux_lora_cli.domain.events import Adopted, Held, Waiting
from flux_lora_cli.domain.matching import CLOCK_SLACK, Findings, find, parse_time
from flux_lora_cli.domain.records import State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import BadAnswer, FluxLoraError
from flux_lora_cli.workflow.calls import Calls
from flux_lora_cli.workflow.context import Context, Work

#: Seconds that a submit may take, and for which the list is read after that. [FAULTS; CONTRACT: money]
SUBMIT_TIMEOUT = 60.0
SEARCH_FOR = 120.0
#: Seconds between two readings of the list.
_INTERVALS = (1.0, 2.0, 4.0, 8.0, 15.0, 20.0)
#: Entries a page. A list that echoes inline images can outgrow the limit of an answer: then fewer.
_PAGE_SIZES = (100, 25, 5, 1)
#: Pages read at most: far more tasks than a week of the highest tier has within one search.
_MOST_PAGES = 1000
_ONCE = Policy(tries=1, base=1.0, cap=1.0)

#: What ``matched_by`` says of a task that was found, or named by the user.
BY_LIST, BY_USER = "predictions", "user"


class Reconciler:
    """Resolves works in state UNKNOWN.

    Args:
        claimed: ids of tasks that some ledger at hand already has.
        on_found: what follows a task that was recognised.
        on_resubmit: sends a work once more.
    """

    def __init__(
        self,
        ctx: Context,
        calls: Calls,
        claimed: Callable[[], set[str]],
        on_found: Callable[[Work], None],
        on_resubmit: Callable[[Work], None],
    ) -> None:
        self._ctx = ctx
        self._calls = calls
        self._claimed = claimed
        self._found = on_found
        self._resubmit = on_resubmit
        self._deadline: dict[Work, float] = {}
        self._reading = False
        self._passes = 0
        self._sizes = list(_PAGE_SIZES)
        ctx.on_calls_stop.append(self._leave_all)

    @property
    def pending(self) -> int:
        """Works whose outcome is still looked for."""
        return len(self._deadline)

    def add(self, work: Work) -> None:
        """Look for a work's task, as the user's setting allows."""
        if self._ctx.settings.on_unknown == "hold":
            self._hold(work, "held as asked (--on-unknown hold)")
            return
        if self._ctx.calls_stopped:
            self._ctx.settle(work)
            return
        self._deadline[work] = self._ctx.clock.monotonic() + self._time_left(work)
        self._passes = 0
        if not self._reading:
            self._reading = True
            self._ctx.reactor.after(0.0, self._pass)

    def _time_left(self, work: Work) -> float:
        """Seconds for which its task may still turn up in the list."""
        meant = parse_time(work.record.intent_at)
        whole = SUBMIT_TIMEOUT + SEARCH_FOR
        if meant is None:
            return whole
        since = (self._ctx.clock.now() - meant).total_seconds()
        return whole if since < 0 else max(0.0, whole - since)

    # ---- reading the list ----

    def _pass(self) -> None:
        if not self._deadline:
            self._reading = False
            return
        began = self._ctx.clock.monotonic()
        times = [parse_time(work.record.intent_at) for work in self._deadline]
        since = min((t for t in times if t is not None), default=None)
        self._page([], 1, None if since is None else since - CLOCK_SLACK - timedelta(minutes=1), began)

    def _page(self, seen: list[Task], page: int, since: datetime | None, began: float) -> None:
        service, size = self._ctx.service, self._sizes[0]

        def read(result: Sequence[Task] | FluxLoraError) -> None:
            if isinstance(result, FluxLoraError):
                self._unreadable(result, began)
                return
            seen.extend(result)
            if len(result) < size or page >= _MOST_PAGES or _older(result, since):
                self._judge(seen, began)
            else:
                self._page(seen, page + 1, since, began)

        self._calls.read(
            lambda: service.predictions(page=page, page_size=size, created_after=since),
            read,
            _ONCE,
        )

    def _unreadable(self, error: FluxLoraError, began: float) -> None:
        if self._ctx.calls_stopped:
            self._leave_all()
            return
        if isinstance(error, BadAnswer) and len(self._sizes) > 1:
            self._sizes.pop(0)
            self._ctx.explain(f"the list of predictions: {error.message}; asked again in smaller pages")
            self._pass()
            return
        for work, deadline in list(self._deadline.items()):
            if began >= deadline:
                self._hold(work, f"the list of predictions cannot be read: {error.message}")
        self._next_pass()

    def _next_pass(self) -> None:
        if not self._deadline:
            self._reading = False
            return
        now = self._ctx.clock.monotonic()
        interval = _INTERVALS[min(self._passes, len(_INTERVALS) - 1)]
        self._passes += 1
        last = max(0.0, min(self._deadline.values()) - now)
        wait = min(interval, last) if last > 0 else interval
        if self._passes == 3:
            names = ", ".join(work.name for work in list(self._deadline)[:3])
            left = max(self._deadline.values()) - now
            self._ctx.emit(
                Waiting(
                    "reconcile",
                    max(0.0, left),
                    f"looking for {len(self._deadline)} submits of unknown outcome ({names}) among the account's recent"
                    f" predictions, for {max(0.0, left):.0f} s more",
                )
            )
        self._ctx.reactor.after(wait, self._pass)

    # ---- judging ----

    def _judge(self, tasks: list[Task], began: float) -> None:
        claimed = self._claimed()
        until = self._ctx.clock.now()
        for work, deadline in list(self._deadline.items()):
            findings = find(work.record, tasks, claimed, until)
            if len(findings.matches) == 1:
                claimed.add(findings.matches[0])
                self._adopt(work, findings.matches[0])
            elif began >= deadline:
                self._not_found(work, findings)
        self._next_pass()

    def _adopt(self, work: Work, task_id: str) -> None:
        del self._deadline[work]
        adopt(self._ctx, work, task_id, BY_LIST)
        self._found(work)

    def _not_found(self, work: Work, findings: Findings) -> None:
        work.candidates = (*findings.matches, *findings.candidates)
        if work.candidates:
            self._hold(work, "the account has tasks that may be it, and nothing tells which")
        elif self._ctx.settings.on_unknown == "resubmit" and not work.resubmitted:
            del self._deadline[work]
            work.resubmitted = True
            work.record.state = State.PLANNED
            self._ctx.warn(
                "resubmitted", f"{work.name}: not among the account's predictions; submitted once more, as asked"
            )
            self._resubmit(work)
        else:
            self._hold(work, "not found among the account's recent predictions")

    def _hold(self, work: Work, why: str) -> None:
        self._deadline.pop(work, None)
        record = work.record
        record.error = f"held: {why}"
        self._ctx.book.change(record)
        self._ctx.emit(Held(record.id, f"{work.name}: held: {why}", work.candidates[:20]))
        self._ctx.settle(work)

    def _leave_all(self) -> None:
        waiting, self._deadline = self._deadline, {}
        for work in waiting:
            self._ctx.settle(work)


def adopt(ctx: Context, work: Work, task_id: str, by: str) -> None:
    """A task is the job's: nothing is submitted for it any more."""
    record = work.record
    record.state, record.task_id, record.matched_by, record.error = State.SUBMITTED, task_id, by, None
    record.attempts = max(1, record.attempts)
    ctx.book.change(record, lambda: ctx.emit(Adopted(record.id, task_id, by)), urgent=True)


def _older(tasks: Sequence[Task], since: datetime | None) -> bool:
    """Whether a page reaches back past what is looked for (a service may ignore ``created_after``)."""
    made = parse_time(tasks[-1].created_at) if tasks else None
    return made is not None and since is not None and made < since
