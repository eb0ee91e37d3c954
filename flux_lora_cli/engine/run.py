"""A run: every job from its plan to its images, each in one coroutine that reads from top to bottom.

What is on disk when: the intent to submit before the POST's first byte; the task ID before the first poll; the hash
and the future name of an image before its rename; "saved" only after the rename is durable. A kill between any two
of these loses nothing and pays for nothing twice: the next run finds the record in the state that it was left in.

A submission whose answer is lost is *unknown*: it is looked for in the account's predictions (``reconcile``), adopted
or held, and never blindly sent again. Ctrl-C, SIGTERM and the run's deadline call ``abort``: no new submission, a
moment for the answers of those in flight, then the end; whatever is not answered by then stays *submitting* in the
ledger, which the next run takes for unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flux_lora_cli.engine.calls import FATAL, Stopped
from flux_lora_cli.engine.durable import NOT_KEPT, Store
from flux_lora_cli.engine.events import Adopted, Failed, Held, Submitted, Unknown, Warned
from flux_lora_cli.engine.fetch import Fetcher
from flux_lora_cli.engine.follow import follow, note_task
from flux_lora_cli.engine.limits import NEVER_SENT, PollPlanner, next_try
from flux_lora_cli.engine.reconcile import Search
from flux_lora_cli.errors import (
    BadAnswer,
    BudgetError,
    DeadlineError,
    FluxLoraError,
    NeverSent,
    ProxyFailed,
    RateLimited,
    Rejected,
    ServiceError,
)
from flux_lora_cli.folder.records import JobRecord, State, iso, present_task

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Session
    from flux_lora_cli.engine.plan import Work
    from flux_lora_cli.folder.images import ImageStore
    from flux_lora_cli.service.wire import Task

#: So many submissions refused alike and none accepted end the run. [CONTRACT: waiting]
MAX_REFUSED_ALIKE = 10
#: Seconds that the end of a run waits for answers, unless it is asked for: their tasks can then at least be named.
ANSWERS_WITHIN = 5.0
#: So many failures in a row, up to the run's deadline, are told as the service's.
MIN_FAILURES = 3
#: Coroutines of jobs that wait for their turn, beyond those in flight.
AHEAD = 32
#: What proves that the service has not taken a submission: such answers, and that it was not sent.
NOT_TAKEN = (*FATAL, NeverSent, ProxyFailed, BudgetError, RateLimited, Rejected, Stopped, *NOT_KEPT)


class Run:
    """One run: ``work_off`` takes jobs in whatever state they are, and returns when nothing more can be done.

    Attributes:
        reasons: why the run does not end well, beyond what the records say; the first error of each kind.
        submitted: submissions that were accepted; ``resubmitted``: those sent once more, as asked.
        absent: keys of held jobs whose task the account's list surely does not have.
        task_ids: that jobs have already, in this run or an earlier one; no answer can name one for another job.
        done: jobs asked for that are brought as far as they should be, those of earlier runs too.
    """

    def __init__(self, session: Session, store: Store, images: ImageStore, shown: str) -> None:
        self.client, self.service, self.settings = session.client, session.service, session.settings
        self.calls, self.emit, self.now = session.calls, session.observer, session.now
        self.store, self.save = store, store.save
        self.reasons = self.calls.reasons
        self.planner = PollPlanner(self.settings.poll_interval)
        self.search, self.fetcher = Search(self), Fetcher(self, images, shown)
        self.submitted = self.resubmitted = 0
        self.absent: set[str] = set()
        self.task_ids = set[str]()
        self.done = self.failed = 0
        self.time = asyncio.get_running_loop().time  # monotonic seconds
        self.began = self.time()
        self._refusals: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._unbroken: set[asyncio.Task[Any] | None] = set()
        self._ending = False
        self._bug: Exception | None = None

    # ---- a job's life ----

    async def job(self, work: Work) -> None:
        """Bring one job as far as this run can."""
        record, task = work.record, None
        if record.state is State.PLANNED:
            task = await self.submit(work)
        if record.state in (State.SUBMITTING, State.UNKNOWN):
            task = await self.find_out(work)
        if record.state is State.SUBMITTED and self.settings.follow:
            task = await follow(self, work, task)
        if record.state is State.COMPLETED:
            await self.fetcher.fetch_missing(record, task)

    async def submit(self, work: Work) -> Task | None:
        """Send a job until it is accepted, refused or of unknown outcome; the record says which.

        One of unknown outcome is sent once more; where that is refused, it stays unknown.
        """
        record, never_sent = work.record, 0
        while True:
            try:
                self.calls.check_open()
                body = await self.fetcher.body(record)
                await self.calls.turn(record, work.unit_price)
                with self.unbroken():
                    return await self._post(work, body)
            except RateLimited as error:
                self.calls.slow_down(error)
            except NeverSent as error:
                never_sent = 0 if self.calls.outage.probing else never_sent + 1
                await self.calls.pause(record.name, error, next_try(error, never_sent, NEVER_SENT))
            except (*FATAL, ProxyFailed, BudgetError, DeadlineError) as error:
                self.calls.close(error)
                return None
            except Rejected as error:
                if record.state is State.PLANNED:
                    await self._refused(record, error)
                else:
                    await self.hold(record, f"its second submission was refused: {error}")
                return None

    async def _post(self, work: Work, body: dict[str, Any]) -> Task | None:
        """Intent saved, POST, ID saved; None where the outcome is unknown.

        Raises:
            NOT_TAKEN: the service has certainly not taken it; the record is as it was before. After the ID has come,
                NOT_KEPT means that it could not be saved.
        """
        record = work.record
        before = (record.state, record.price, record.refunded, record.intent_at, record.error, record.history)
        try:
            if record.state is State.UNKNOWN:  # sent once more: the first submission may have been charged, too
                record.history = (*record.history, present_task(record))
            record.state, record.error, record.attempts = State.SUBMITTING, None, record.attempts + 1
            record.intent_at, record.service_clock = iso(self.now()), self.client.clock_ahead
            record.price, record.refunded = work.unit_price, Decimal(0)
            await self.save(record)
            self.calls.check_open()
            task = await self.calls.send(self.client.submit, record.model, body, record.api_version)
            if task.id in self.task_ids:
                raise BadAnswer(f"the service answered with task {task.id}, which is another job's")
        except NOT_TAKEN as error:
            self.calls.refused(record, work.unit_price)
            record.state, record.price, record.refunded, record.intent_at, record.error, record.history = before
            record.attempts -= 1
            if not isinstance(error, NOT_KEPT):  # else the intent was not kept, and nothing was sent
                await self.save(record)
            raise
        except FluxLoraError as error:
            self.calls.lost(error)
            record.state, record.error = State.UNKNOWN, f"{error.code}: {error.message}"
            await self.save(record)
            message = f"{record.name}: whether the service took it is not known: {error.message}"
            self.emit(Unknown(record.id, message))
            return None
        self.calls.accepted(record)
        self.task_ids.add(task.id)
        record.state, record.task_id = State.SUBMITTED, task.id
        note_task(record, task)
        await self.save(record)
        self.submitted += 1
        self.emit(Submitted(record.id, task.id, record.model, (record.input or {}).get("seed")))
        return task

    async def find_out(self, work: Work, sent_again: bool = False) -> Task | None:
        """Resolve a submission of unknown outcome: adopted (submitted), held (unknown), or sent once more."""
        record = work.record
        record.state = State.UNKNOWN  # also where an earlier run was cut off before the answer came
        self.calls.take_off(record, self.time())
        verdict = await self.search.find(record)
        if verdict.task_id is not None:
            self.task_ids.add(verdict.task_id)
            record.state, record.task_id, record.error = State.SUBMITTED, verdict.task_id, None
            record.matched_by, record.attempts = "predictions", max(1, record.attempts)
            await self.save(record)
            self.emit(Adopted(record.id, verdict.task_id, "predictions"))
            return None
        self.calls.land(record)
        if verdict.absent:
            self.absent.add(record.key)
        if sent_again or not verdict.resubmit or self.settings.on_unknown != "resubmit":
            await self.hold(record, verdict.why, verdict.candidates)
            return None
        self.emit(Warned("resubmitted", f"{record.name}: {verdict.why}; submitting it once more, as asked"))
        attempts = record.attempts
        task = await self.submit(work)
        if record.attempts == attempts:  # certainly not taken
            return None
        self.resubmitted += 1
        return task or await self.find_out(work, sent_again=True)

    async def hold(self, record: JobRecord, why: str, candidates: tuple[str, ...] = ()) -> None:
        """Leave a submission of unknown outcome to the user."""
        record.error = f"held: {why}"
        await self.save(record)
        self.emit(Held(record.id, f"{record.name}: held: {why}", candidates[:20]))

    async def fail(self, record: JobRecord, code: str, message: str) -> None:
        """The job failed; a rerun does not submit it again unless asked (``--retry-failed``)."""
        record.state, record.error = State.FAILED, f"{code}: {message}"
        await self.save(record)
        self.emit(Failed(record.id, record.task_id, code, message))

    async def _refused(self, record: JobRecord, error: Rejected) -> None:
        """The service refused this job alone; ten of the first refused alike end the run."""
        self._refusals.append(error.message)
        await self.fail(record, error.code, error.message)
        if self.submitted == 0 and len(self._refusals) >= MAX_REFUSED_ALIKE and len(set(self._refusals)) == 1:
            message = f"the first {MAX_REFUSED_ALIKE} submissions were all refused alike: {error.message}"
            hint = "Nothing was charged. Correct the preset, then run it again with --retry-failed."
            self.calls.close(Rejected(message, hint))

    # ---- all jobs ----

    async def work_off(self, works: AsyncIterator[Work]) -> None:
        """Bring all works as far as this run can; at most a few times ``concurrency`` of them exist at once."""
        feeding = self._start(self._feed(works))
        while self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(*NOT_KEPT):
            await self.store.drain()
        if self._bug is not None:
            raise self._bug
        if not feeding.cancelled():
            feeding.result()

    async def _feed(self, works: AsyncIterator[Work]) -> None:
        places = asyncio.Semaphore(2 * self.settings.concurrency + AHEAD)
        async for work in works:
            await places.acquire()
            self._start(self._guarded(work)).add_done_callback(lambda _: places.release())

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Work) -> None:
        try:
            await self.job(work)
        except Stopped:
            pass  # the job stays as its record says; the reason is noted
        except NOT_KEPT as error:
            self.abort(error)
        except FluxLoraError as error:
            self.calls.note(error)
        except Exception as error:
            self._bug = error
            self.abort(None)
        finally:
            self.calls.land(work.record)
            if work.counts:
                self.done += work.record.state is (State.COMPLETED if self.settings.follow else State.SUBMITTED)
                self.failed += work.record.state is State.FAILED

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """A step that an abort does not tear apart at once: a moment is left for its end, and the job ends behind it.

        Raises Stopped: the run was aborted meanwhile.
        """
        job = asyncio.current_task()
        self._unbroken.add(job)
        try:
            yield
        finally:
            self._unbroken.discard(job)
        if self._ending:
            raise Stopped

    def abort(self, reason: FluxLoraError | None, grace: float = ANSWERS_WITHIN) -> None:
        """End the run: no new submission, ``grace`` seconds for the answers of those in flight."""
        self.calls.close(reason)
        if isinstance(reason, DeadlineError) and len(failures := self.calls.failures) >= MIN_FAILURES:
            why = f"the service did not answer as it should until the end: {failures[-1].message}"
            self.calls.note(ServiceError(why))
        if not self._ending:
            self._ending = True
            _cancel(self._tasks - self._unbroken)
            asyncio.get_running_loop().call_later(grace, _cancel, self._tasks)


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()
