"""Run presets to the end: plan, price, ask, submit, wait, save."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from flux_lora_cli.domain.budget import Budget, dollars, plain
from flux_lora_cli.domain.events import Failed, Plan
from flux_lora_cli.domain.outcome import FAILED, code_and_message, exit_code
from flux_lora_cli.domain.pacing import LookPlanner
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.errors import BudgetError, ExitCode, FluxLoraError, NotFoundError, UsageError
from flux_lora_cli.workflow.collector import image_event
from flux_lora_cli.workflow.context import Settings, Work
from flux_lora_cli.workflow.planning import BatchPlan, wanted
from flux_lora_cli.workflow.pricing import Priced, documented_price, price_works
from flux_lora_cli.workflow.recovery import recover
from flux_lora_cli.workflow.runner import Naming, Runner, World, add_reasons

#: Seconds that a task takes where nothing is known yet. [measured at the real service: 2 to 6 s]
TYPICAL_SECONDS = 4.0
#: Bytes that an image takes, for the check of free space: a 1024×1024 PNG has 1 to 2 MB.
TYPICAL_BYTES = 2_000_000


@dataclass
class Outcome:
    """How a batch ended.

    Attributes:
        reasons: why the exit code is not 0; a reason's error is told where there is one.
        estimated, charged: USD that the submits of this run were expected to cost, and did.
    """

    exit_code: ExitCode
    reasons: Mapping[ExitCode, FluxLoraError | None] = field(default_factory=dict)
    estimated: Decimal | None = None
    charged: Decimal | None = None
    submitted: int = 0
    resubmitted: int = 0


def spent(records: Iterable[JobRecord]) -> Decimal:
    """USD that a folder has been charged, or may have been; unknown prices do not count."""
    return sum((record.cost or Decimal(0) for record in records), Decimal(0))


def plan_event(plan: BatchPlan, priced: Priced, charged: Decimal, seconds: float, folder: str, dry_run: bool) -> Plan:
    """The plan as an event; ``seconds`` is the expected time."""
    to_submit = plan.to_submit
    first = to_submit[0].unit_price if to_submit else None
    return Plan(
        jobs=len(plan.works),
        done=plan.count(State.COMPLETED),
        failed=plan.count(State.FAILED),
        unknown=plan.count(State.UNKNOWN, State.SUBMITTING),
        in_flight=plan.count(State.SUBMITTED),
        to_submit=len(to_submit),
        images=plan.images_to_submit,
        duplicates=len(plan.duplicates),
        price_usd=None if first is None else plain(first),
        price_source=priced.source,
        cost_usd=None if priced.total is None else plain(priced.total),
        charged_usd=plain(charged),
        expected_seconds=round(seconds, 1),
        folder=folder,
        dry_run=dry_run,
    )


def expected_seconds(plan: BatchPlan, settings: Settings, typical: float | None) -> float:
    """How long the plan takes, roughly: by concurrency, or by the rate where that is slower."""
    tasks = len(plan.to_submit) + plan.count(State.SUBMITTED)
    if not tasks:
        return 0.0
    seconds = (typical or TYPICAL_SECONDS) * -(-tasks // settings.concurrency)
    if settings.rate is not None:
        seconds = max(seconds, plan.images_to_submit / settings.rate)
    return seconds


def price_documented(plan: BatchPlan, per_image: Decimal | None) -> Priced:
    """The plan's cost without asking anybody: ``--price``, else the documented price, marked as such."""
    if per_image is not None:
        return price_works(plan.to_submit, None, per_image)
    priced = price_works(plan.to_submit, documented_price, None)
    return Priced(priced.total, "documented" if priced.source else None)


def over_budget(settings: Settings, priced: Priced, charged: Decimal) -> BudgetError | None:
    """Why ``--max-cost`` does not allow the whole plan; None where it does."""
    if settings.max_cost is None:
        return None
    if priced.total is None:
        return BudgetError(
            "the price of an image is not known, so --max-cost cannot be kept", "Name it with --price USD."
        )
    whole = charged + priced.total
    if whole <= settings.max_cost:
        return None
    return BudgetError(
        f"the plan costs {dollars(priced.total)}, and {dollars(charged)} are charged already:"
        f" {dollars(whole)} is over --max-cost {dollars(settings.max_cost)}",
        "Raise --max-cost, or ask for fewer jobs with --only.",
    )


def check_images(plan: BatchPlan, world: World, settings: Settings, now: str, every_byte: bool) -> list[JobRecord]:
    """Compare saved images with the disk; returns the records that changed."""
    changed = []
    for work in (*plan.works, *plan.collected):
        record = work.record
        if record.state is State.PLANNED:
            continue  # it has none
        touched = recover(record, world.store, now, every_byte=every_byte) if record.outputs else False
        for output in record.outputs:
            left_out = output.file is None and not wanted(output, settings.nsfw, settings.download)
            if left_out != output.left_out:
                output.left_out, touched = left_out, True
        if touched:
            changed.append(record)
    return changed


def parse_adoptions(texts: Collection[str], plan: BatchPlan, claimed: Collection[str] = ()) -> dict[str, str]:
    """``JOB=ID`` texts as a mapping from record key to task id.

    Args:
        claimed: ids of tasks that belong to other jobs.

    Raises:
        UsageError: not of that form, the job's outcome is not unknown, or the task is another job's.
        NotFoundError: no such job.
    """
    by_name: dict[str, Work] = {}
    for work in plan.works if texts else ():
        for name in (work.record.id, *work.record.aliases):
            by_name[name or ""] = work
    adoptions: dict[str, str] = {}
    for text in texts:
        name, equals, task_id = text.rpartition("=")
        plain_id = task_id.replace("-", "").replace("_", "")
        if not equals or not name or not (plain_id.isascii() and plain_id.isalnum()):
            raise UsageError(f"--adopt {text!r}: write JOB=ID, a job's id and a task's id")
        found = by_name.get(name)
        if found is None:
            raise NotFoundError(f"--adopt {text!r}: there is no job {name!r} in this batch")
        if found.record.task_id == task_id:
            continue  # the command that adopted it, run again
        if found.record.state not in (State.UNKNOWN, State.SUBMITTING):
            raise UsageError(
                f"--adopt {text!r}: {name} is {found.record.state.value}; only a job of unknown outcome takes a task"
            )
        if task_id in claimed or task_id in adoptions.values():
            raise UsageError(f"--adopt {text!r}: task {task_id} belongs to another job already")
        adoptions[found.record.key] = task_id
    return adoptions


class Batch:
    """One batch over an opened folder.

    Args:
        records: all that the folder knows, by key; new jobs are added.
        begin: called once, before the first submit, when the records are durable (writes the manifest).
    """

    def __init__(
        self,
        plan: BatchPlan,
        records: dict[str, JobRecord],
        settings: Settings,
        world: World,
        naming: Naming,
        planner: LookPlanner,
        *,
        claimed: Callable[[], set[str]],
        keep: Callable[[list[JobRecord]], float | None],
        tick: Callable[[], None],
        adoptions: Mapping[str, str] | None = None,
    ) -> None:
        self._plan = plan
        self._records = records
        self._settings = settings
        self._world = world
        self._naming = naming
        self._adoptions = adoptions or {}
        self.budget = Budget(settings.max_cost, spent(records.values()))
        self._spent_before = self.budget.spent
        self.runner = Runner(
            settings,
            world,
            naming,
            budget=self.budget,
            planner=planner,
            claimed=claimed,
            keep=keep,
            tick=tick,
        )

    def run(self, priced: Priced, fail_on_nsfw: bool = False) -> Outcome:
        """Do the plan. All records of the plan must be in the ledger."""
        runner = self.runner
        complete: list[Work] = []
        for work in self._plan.works:
            if work.record.state is not State.PLANNED:
                self._tell_earlier(work)
            if work.record.state is not State.COMPLETED or self._incomplete(work):
                self._start(work)
            else:
                complete.append(work)
                runner.ctx.tally.jobs += 1
                runner.ctx.tally.done += 1
        for work in self._plan.collected:
            runner.start(work)
        runner.run()
        reasons = runner.outcome(fail_on_nsfw)
        for work in complete:
            add_reasons(work.record, reasons, fail_on_nsfw)
        return Outcome(
            exit_code(reasons),
            reasons,
            priced.total,
            self._charged(),
            sum(1 for work in self._plan.works if work.submitted),
            sum(1 for work in self._plan.works if work.resubmitted and work.record.attempts > 1),
        )

    def _charged(self) -> Decimal | None:
        """USD that this run cost; None where a price is not known."""
        if any(work.submitted and work.record.cost is None for work in self._plan.works):
            return None
        return spent(self._records.values()) - self._spent_before

    def _start(self, work: Work) -> None:
        task_id = self._adoptions.get(work.record.key)
        if task_id is not None:
            self.runner.adopt(work, task_id)
        else:
            self.runner.start(work)

    @staticmethod
    def _incomplete(work: Work) -> bool:
        return any(o.file is None and not o.left_out for o in work.record.outputs)

    def _tell_earlier(self, work: Work) -> None:
        """What a former run has settled counts today: its images, and why there are none."""
        record = work.record
        if record.state is State.FAILED:
            code, message = code_and_message(record.error, FAILED)
            self._world.observer(Failed(record.id, record.task_id, code, message, earlier=True))
        for output in record.outputs:
            if output.file is not None:
                self.runner.ctx.tally.images += 1
                self._world.observer(image_event(record, output, self._naming.path_of, earlier=True))
