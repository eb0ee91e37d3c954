"""Submits: intent durable before the POST, no more on their way than the rate needs, never blindly repeated."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal

from flux_lora_cli.domain.backoff import NEVER_SENT, full_jitter
from flux_lora_cli.domain.budget import Budget
from flux_lora_cli.domain.events import Failed, Held, Submitted, Unknown, Waiting
from flux_lora_cli.domain.rate import RateGate, SubmitWindow
from flux_lora_cli.domain.records import State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import (
    BadAnswer,
    FluxLoraError,
    InsecureConnection,
    KeyRefused,
    NeverSent,
    OutOfCredit,
    RateLimited,
    Redirected,
    Rejected,
)
from flux_lora_cli.workflow.calls import Calls
from flux_lora_cli.workflow.context import Context, Work
from flux_lora_cli.workflow.planning import images_of
from flux_lora_cli.workflow.uploads import Uploads, not_uploaded

#: So many submits refused alike, none accepted: the run stops. [CONTRACT: waiting]
ALL_REFUSED = 10
#: Seconds between two looks at whether the rate lets more submits go: above 20 a second they leave, and are recorded,
#: a few at a time.
BEAT = 0.05


class Submitter:
    """Takes planned works and submits them.

    Args:
        on_accepted: what follows a task that was accepted.
        on_unknown: what is done about a submit of unknown outcome.
        in_flight: how many tasks the service has, or may have, of ours.
    """

    def __init__(
        self,
        ctx: Context,
        calls: Calls,
        budget: Budget,
        gate: RateGate,
        on_accepted: Callable[[Work, Task], None],
        on_unknown: Callable[[Work, FluxLoraError], None],
        in_flight: Callable[[], int],
    ) -> None:
        self._ctx = ctx
        self._calls = calls
        self._budget = budget
        self._gate = gate
        self._window = SubmitWindow()
        self._accepted = on_accepted
        self._unknown = on_unknown
        self._in_flight = in_flight
        self._queue: deque[Work] = deque()
        self._uploads = Uploads(ctx, calls)
        self.sending = 0
        self._accepted_now = 0  # answered, and not followed before the id is durable
        self._timer_due = float("inf")
        self._uncertain_in_row = 0
        self._not_before = 0.0
        self._refusals: list[str] = []
        self._any_accepted = False
        self._probing = False
        self._explained: set[str] = set()
        self.paced = False  # the last submit waited for the rate, not for a task to end
        ctx.on_stop.append(self._give_back)

    @property
    def waiting(self) -> int:
        """Works that are not submitted yet."""
        return len(self._queue)

    def add(self, work: Work, *, first: bool = False) -> None:
        """Queue a planned work."""
        if self._ctx.submits_stopped:
            self._ctx.settle(work)
        elif first:
            self._queue.appendleft(work)
        else:
            self._queue.append(work)

    def pump(self) -> None:
        """Start as many submits as concurrency, rate, window and budget allow now."""
        ctx = self._ctx
        while self._queue and not ctx.submits_stopped:
            now = ctx.clock.monotonic()
            vacancies = ctx.settings.concurrency - self._in_flight() - self.sending - self._accepted_now
            self.paced &= vacancies > 0
            if vacancies <= 0:
                self._explain_wait(f"{ctx.settings.concurrency} tasks are in flight (--concurrency)")
                return
            if self.sending >= self._allowed(vacancies) or self._on_probation():
                return
            record = self._queue[0].record
            record.wake()
            images = images_of(record)
            by_rate = self._gate.ready_at(now, images)
            ready = max(by_rate, self._not_before, self._calls.outage.ready_at(now))
            if self._calls.outage.probing:
                # A probe is a request that costs nothing, so never a submit.
                self._probe()
                return
            if ready > now:
                self.paced = True
                why = "the rate allows no more (--rate, or what the service bears)"
                self._explain_wait(why if ready == by_rate else "one before it failed", ready - now)
                self._wake_at(max(ready, now + BEAT))
                return
            work = self._queue[0]
            if not self._budget.reserve(work.unit_price):
                if not self.sending:  # else a submit that is refused may yet give its price back
                    self._out_of_budget(work)
                return
            self._queue.popleft()
            self._gate.take(now, images)
            self._prepare(work)

    def _explain_wait(self, why: str, seconds: float = 0.0) -> None:
        """Told once, and again where it takes a second or more."""
        if why not in self._explained or seconds >= 1.0:
            self._explained.add(why)
            until = f"{seconds:.1f} s" if seconds else "until one has ended"
            self._ctx.explain(f"the next submit waits {until}: {why}")

    def _allowed(self, vacancies: int) -> int:
        if self._uncertain_in_row:
            return 1
        return self._window.allowed(self._gate.rate, vacancies + self.sending)

    def _on_probation(self) -> bool:
        """None was accepted yet, and those on their way make up the number that stops the run if refused alike."""
        refused = len(self._refusals)
        alike = not self._any_accepted and len(set(self._refusals)) <= 1
        return alike and refused < ALL_REFUSED <= refused + self.sending

    def _probe(self) -> None:
        if not self._probing:
            self._probing = True
            self._calls.read(self._ctx.service.balance, self._probed)

    def _probed(self, _: object) -> None:
        self._probing = False
        self.pump()

    def _wake_at(self, when: float) -> None:
        if when < self._timer_due:
            self._timer_due = when
            self._ctx.reactor.at(when, self._woken)

    def _woken(self) -> None:
        self._timer_due = float("inf")
        self.pump()

    # ---- one submit ----

    def _prepare(self, work: Work) -> None:
        """Upload a large input image first: before the intent, so that a kill there costs nothing."""
        self.sending += 1
        self._uploads.bring(work, lambda error: self._prepared(work, error))

    def _prepared(self, work: Work, error: FluxLoraError | None) -> None:
        if error is None:
            self._intend(work)
            return
        self._proven_unsent(work)
        if isinstance(error, Rejected):
            self._fail(work, error)
        else:
            not_uploaded(self._ctx, work, error)
            self._ctx.settle(work)
        self.pump()

    def _intend(self, work: Work) -> None:
        record = work.record
        if self._ctx.submits_stopped:
            self._proven_unsent(work)
            self._ctx.settle(work)
            return
        record.state = State.SUBMITTING
        record.attempts += 1
        record.intent_at = self._ctx.timestamp()
        record.error = None
        if work.unit_price is None:
            record.price = None
        else:
            # Most jobs are submitted once, and share one price.
            record.price = record.price + work.unit_price if record.price else work.unit_price
        self._ctx.book.change(record, lambda: self._send(work), urgent=True)

    def _send(self, work: Work) -> None:
        """Runs only once the intent is durable."""
        if self._ctx.submits_stopped:
            self._proven_unsent(work)
            self._ctx.settle(work)
            return
        record, service, started = work.record, self._ctx.service, self._ctx.clock.monotonic()
        model = record.model or ""
        request_input = work.sent_input if work.sent_input is not None else record.input or {}
        work.submitted_at, work.submitted = started, True
        self._ctx.reactor.call(
            self._ctx.callers,
            lambda: service.submit(model, request_input),
            lambda result: self._answered(work, result, started),
        )

    def _answered(self, work: Work, result: Task | FluxLoraError, started: float) -> None:
        now = self._ctx.clock.monotonic()
        if isinstance(result, Task) and result.id in self._ctx.task_ids:
            result = BadAnswer(f"the service answered with task {result.id}, which is another job's")
        if isinstance(result, Task):
            self._ctx.task_ids.add(result.id)
            self.sending -= 1
            self._window.observe(now - started)
            self._gate.accepted(now, images_of(work.record))
            self._uncertain_in_row = 0
            self._any_accepted = True
            self._calls.succeeded()
            self._record_task(work, result)
        elif isinstance(result, NeverSent):
            self._never_sent(work, result)
        elif isinstance(result, RateLimited):
            self._throttled(work, result, now)
        elif isinstance(result, (KeyRefused, OutOfCredit, InsecureConnection, Redirected)):
            self._refused_for_all(work, result)
        elif isinstance(result, Rejected):
            self._rejected(work, result)
        else:
            self._uncertain(work, result, now)
        self.pump()

    def _record_task(self, work: Work, task: Task) -> None:
        record = work.record
        record.state = State.SUBMITTED
        record.task_id, record.task_model, record.task_status = task.id, task.model, task.status
        record.task_created_at = task.created_at
        self._accepted_now += 1
        self._ctx.book.change(record, lambda: self._recorded(work, task), urgent=True)

    def _recorded(self, work: Work, task: Task) -> None:
        """Runs only once the id is durable: no look before that."""
        record = work.record
        self._accepted_now -= 1
        self._ctx.emit(Submitted(record.id, task.id, record.model, (record.input or {}).get("seed")))
        self._accepted(work, task)

    # ---- what can go wrong ----

    def _proven_unsent(self, work: Work) -> None:
        """Nothing was charged: the reservation goes back, the job is as before."""
        self.sending -= 1
        self._budget.release(work.unit_price)
        record = work.record
        if record.state is State.SUBMITTING:
            # Sent once more, and refused: what became of the first submit is as unknown as before.
            record.state = State.UNKNOWN if work.resubmitted else State.PLANNED
            if work.unit_price is not None:
                record.price = max(Decimal(0), (record.price or Decimal(0)) - work.unit_price)
            elif record.attempts == 1:
                record.price = Decimal(0)
            self._ctx.book.change(record)

    def _never_sent(self, work: Work, error: NeverSent) -> None:
        ctx = self._ctx
        self._proven_unsent(work)
        self._calls.failed(error)
        work.never_sent += 1
        if ctx.submits_stopped:
            ctx.settle(work)
        elif NEVER_SENT.more(work.never_sent) or self._calls.outage.probing:
            delay = NEVER_SENT.delay(work.never_sent - 1, ctx.draw)
            ctx.explain(f"{work.name}: {error.message}; submitted again in {delay:.1f} s")
            ctx.reactor.after(delay, lambda: self._again(work))
        else:
            ctx.note(error)
            ctx.settle(work)

    def _again(self, work: Work) -> None:
        self.add(work, first=True)
        self.pump()

    def _throttled(self, work: Work, error: RateLimited, now: float) -> None:
        ctx = self._ctx
        self._proven_unsent(work)
        self._calls.succeeded()
        if self._calls.come_back_later(error, error.retry_after):
            ctx.settle(work)
            return
        resume = self._gate.refused(now, error.retry_after, ctx.draw)
        ctx.emit(
            Waiting(
                "rate",
                max(0.0, resume - now),
                f"the service asks to slow down; submits go on in {max(0.0, resume - now):.0f} s",
            )
        )
        self.add(work, first=True)

    def _refused_for_all(self, work: Work, error: FluxLoraError) -> None:
        self._proven_unsent(work)
        if isinstance(error, OutOfCredit):
            self._ctx.stop_submits(error)
        else:
            self._ctx.stop_calls(error)
        self._ctx.settle(work)

    def _rejected(self, work: Work, error: Rejected) -> None:
        self._proven_unsent(work)
        self._calls.succeeded()
        self._refusals.append(error.message)
        self._fail(work, error)
        if self._any_accepted or len(self._refusals) < ALL_REFUSED or len(set(self._refusals)) > 1:
            return
        self._ctx.stop_submits(
            Rejected(
                f"the first {ALL_REFUSED} submits were all refused alike: {error.message}",
                "Nothing was charged. Mend the preset, then run it again with --retry-failed.",
            )
        )

    def _fail(self, work: Work, error: FluxLoraError) -> None:
        record = work.record
        record.error = f"{error.code}: {error.message}"
        if work.resubmitted:
            self._ctx.book.change(record)
            self._ctx.emit(Held(record.id, f"{work.name}: held: its second submit was refused: {error.message}", ()))
            self._ctx.settle(work)
            return
        record.state = State.FAILED
        self._ctx.book.change(record)
        self._ctx.emit(Failed(record.id, None, error.code, error.message))
        self._ctx.settle(work)

    def _uncertain(self, work: Work, error: FluxLoraError, now: float) -> None:
        ctx, record = self._ctx, work.record
        self.sending -= 1
        self._calls.failed(error)
        self._uncertain_in_row += 1
        self._not_before = now + full_jitter(self._uncertain_in_row - 1, 1.0, 20.0, ctx.draw)
        record.state = State.UNKNOWN
        record.error = f"{error.code}: {error.message}"
        ctx.book.change(record, urgent=True)
        ctx.emit(Unknown(record.id, f"{work.name}: whether the service took it is not known: {error.message}"))
        self._unknown(work, error)

    def _out_of_budget(self, work: Work) -> None:
        """What waits stays planned; a submit that was refused and is to be sent again may still find room."""
        self._ctx.note(self._budget.refusal(work.unit_price, len(self._queue)))
        self._give_back()

    def _give_back(self) -> None:
        """Submits stop: what was not sent stays planned."""
        while self._queue:
            self._ctx.settle(self._queue.popleft())
