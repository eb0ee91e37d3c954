"""Finds out what became of submits of unknown outcome, in the account's recent predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from flux_lora_cli.domain.backoff import LIST, Policy
from flux_lora_cli.domain.events import Adopted, Held, Waiting
from flux_lora_cli.domain.matching import CLOCK_SLACK, Findings, find, parse_time
from flux_lora_cli.domain.records import State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import BadAnswer, FluxLoraError
from flux_lora_cli.workflow.calls import PASSING, Calls
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


@dataclass
class _Pass:
    """One reading of the list, page by page. Of its tasks only ids are kept: inputs may be images.

    Attributes:
        findings: what the pages so far show for each work.
        since: no task made before this can be one that is looked for; None where that is not known.
        began: monotonic time of the first request.
    """

    findings: dict[Work, Findings]
    since: datetime | None
    began: float
    _seen: set[str] = field(default_factory=set)

    def take(self, tasks: Sequence[Task], until: datetime) -> bool:
        """Look through a page; whether there may be another one.

        A short page is not yet the end: a service may give fewer entries than it was asked for. The end is a
        page with nothing new, or one that reaches past ``since`` (which a service may ignore).
        """
        new = [task for task in tasks if task.id not in self._seen]
        self._seen.update(task.id for task in new)
        for work, findings in self.findings.items():
            self.findings[work] = findings.joined(find(work.record, new, (), until))
        made = parse_time(new[-1].created_at) if new else None
        return bool(new) and not (made is not None and self.since is not None and made < self.since)


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
        self._failures = 0  # readings in a row that failed
        ctx.on_calls_stop.append(self._leave_all)

    @property
    def pending(self) -> int:
        """Works whose outcome is still looked for."""
        return len(self._deadline)

    def add(self, work: Work) -> None:
        """Look for a work's task, as the user's setting allows."""
        if self._ctx.settings.on_unknown == "hold":
            self._hold(work, "not looked for, as asked (--on-unknown hold)")
            return
        if self._ctx.calls_stopped:
            self._ctx.settle(work)
            return
        self._deadline[work] = self._ctx.clock.monotonic() + self._time_left(work)
        self._passes = 0
        if not self._reading:
            self._reading = True
            self._ctx.reactor.after(0.0, self._start_pass)

    def _time_left(self, work: Work) -> float:
        """Seconds for which its task may still turn up in the list."""
        meant = parse_time(work.record.intent_at)
        whole = SUBMIT_TIMEOUT + SEARCH_FOR
        if meant is None:
            return whole
        since = (self._ctx.clock.now() - meant).total_seconds()
        return whole if since < 0 else max(0.0, whole - since)

    # ---- reading the list ----

    def _start_pass(self) -> None:
        if not self._deadline:
            self._reading = False
            return
        times = [parse_time(work.record.intent_at) for work in self._deadline]
        known = [t for t in times if t is not None]
        since = min(known) - CLOCK_SLACK - timedelta(minutes=1) if len(known) == len(times) else None
        self._page(_Pass({work: Findings((), ()) for work in self._deadline}, since, self._ctx.clock.monotonic()), 1)

    def _page(self, reading: _Pass, page: int) -> None:
        service, size = self._ctx.service, self._sizes[0]

        def read(result: Sequence[Task] | FluxLoraError) -> None:
            if isinstance(result, FluxLoraError):
                self._unreadable(result, reading.began)
                return
            self._failures = 0
            more = reading.take(result, self._ctx.clock.now())
            if more and page < _MOST_PAGES:
                self._page(reading, page + 1)
            else:
                self._judge(reading, whole=not more)

        self._calls.read(
            lambda: service.predictions(page=page, page_size=size, created_after=reading.since),
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
            self._start_pass()
            return
        self._failures += 1
        if not isinstance(error, PASSING) or not LIST.more(self._failures):
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
        if self._failures:
            wait = max(wait, LIST.delay(self._failures - 1, self._ctx.draw))
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
        self._ctx.reactor.after(wait, self._start_pass)

    # ---- judging ----

    def _judge(self, reading: _Pass, whole: bool) -> None:
        claimed = self._claimed()
        for work, found in reading.findings.items():
            if work not in self._deadline:
                continue
            findings = found.without(claimed)
            if len(findings.matches) == 1:
                claimed.add(findings.matches[0])
                self._adopt(work, findings.matches[0])
            elif reading.began >= self._deadline[work]:
                self._not_found(work, findings, whole)
        self._next_pass()

    def _adopt(self, work: Work, task_id: str) -> None:
        del self._deadline[work]
        adopt(self._ctx, work, task_id, BY_LIST, lambda: self._found(work))

    def _not_found(self, work: Work, findings: Findings, whole: bool) -> None:
        work.candidates = (*findings.matches, *findings.candidates)
        once_more = self._ctx.settings.on_unknown == "resubmit" and not work.resubmitted
        if work.candidates:
            # One of them may well be it: sending again would pay twice, so that is no way out, asked for or not.
            self._hold(work, "the account has tasks that may be it, and nothing tells which")
        elif not whole:
            self._hold(work, "the account's list of predictions is too long to be read to its end")
        elif once_more:
            del self._deadline[work]
            work.resubmitted = True
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


def adopt(ctx: Context, work: Work, task_id: str, by: str, then: Callable[[], None]) -> None:
    """A task is the job's: nothing is submitted for it any more. ``then``, once that is durable."""
    record = work.record
    record.state, record.task_id, record.matched_by, record.error = State.SUBMITTED, task_id, by, None
    record.attempts = max(1, record.attempts)
    ctx.task_ids.add(task_id)

    def adopted() -> None:
        ctx.emit(Adopted(record.id, task_id, by))
        then()

    ctx.book.change(record, adopted, urgent=True)
