"""What the parts of a run share: settings, the world, the works, and why the run must stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from flux_lora_cli.domain.backoff import Draw
from flux_lora_cli.domain.events import Event, Explained, Warned
from flux_lora_cli.domain.job import LocalImage
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State
from flux_lora_cli.errors import ExitCode, FluxLoraError
from flux_lora_cli.workflow.book import Book
from flux_lora_cli.workflow.ports import Clock, Observer, Service, Store, Workers
from flux_lora_cli.workflow.reactor import Reactor

#: Records of a run that stay awake: what they take, some 1 KB each, is worth less than the CPU of packing them.
AWAKE = 5_000


def crowded(records: int) -> bool:
    """Whether a run has so many records that those with nothing to do are laid to rest."""
    return records > AWAKE


@dataclass(frozen=True)
class Settings:
    """How a run behaves. Durations in seconds, money in USD.

    Attributes:
        rate: images a second; None without a limit.
        on_unknown: ``reconcile``, ``hold`` or ``resubmit``.
        nsfw: ``keep``, ``quarantine`` or ``skip``.
        name_of: gives an output's file name, relative to the folder: (record, output, extension).
    """

    concurrency: int = 16
    poll_interval: float = 2.0
    timeout: float | None = None
    task_timeout: float = 1800.0
    rate: float | None = None
    max_cost: Decimal | None = None
    on_unknown: str = "reconcile"
    nsfw: str = "keep"
    download: bool = True
    #: Seconds between two Progress events.
    progress_every: float = 30.0
    #: Whether every wait and every further look is told, too (``Explained`` events).
    explain: bool = True


NameOf = Callable[[JobRecord, OutputRecord, str], str]


@dataclass(slots=True, eq=False)
class Work:
    """One job on its way through a run.

    Attributes:
        counts: asked for in this run (an earlier job's task is collected, but does not count).
        unit_price: USD of one submit.
        sent_input: what goes to the service where that differs from the record (a local image).
        submitted_at: monotonic time; before this run's start for an earlier run's task.
        last_look: monotonic time of the last answer about the task, whatever it said.
        fresh_outputs: outputs as a look told them after one was found to be gone.
        open_outputs: images still on their way.
    """

    record: JobRecord
    counts: bool = True
    image: LocalImage | None = None
    unit_price: Decimal | None = None
    sent_input: Mapping[str, Any] | None = None
    submitted_at: float = 0.0
    looks: int = 0
    looked_at: float | None = None
    last_look: float = float("-inf")
    fresh_outputs: tuple[str, ...] | None = None
    last_gap: float = 0.0
    not_found_since: float | None = None
    never_sent: int = 0
    resubmitted: bool = False
    submitted: bool = False
    refreshed: bool = False
    open_outputs: int = 0
    settled: bool = False
    candidates: tuple[str, ...] = ()
    done: Callable[[Work], None] | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.record.id or self.record.task_id or self.record.key


@dataclass
class Tally:
    """Where the run stands; read by the display."""

    jobs: int = 0
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    images: int = 0
    to_submit: int = 0


@dataclass
class Context:
    """The run's shared state. Only the loop's thread touches it."""

    settings: Settings
    clock: Clock
    reactor: Reactor
    book: Book
    service: Service
    store: Store
    callers: Workers
    fetchers: Workers
    observer: Observer
    draw: Draw
    works: list[Work] = field(default_factory=list)
    open: int = 0
    tally: Tally = field(default_factory=Tally)
    #: Why the run stops or ends other than well; the messages are told once.
    reasons: dict[ExitCode, FluxLoraError] = field(default_factory=dict)
    #: Monotonic time of the run's deadline (--timeout).
    ends_at: float | None = None
    #: Ids of tasks that belong to some job of this folder or run.
    task_ids: set[str] = field(default_factory=set)
    submits_stopped: bool = False
    calls_stopped: bool = False
    aborted: bool = False
    on_stop: list[Callable[[], None]] = field(default_factory=list)
    on_calls_stop: list[Callable[[], None]] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Tell the observer."""
        self.observer(event)

    def explain(self, message: str) -> None:
        """Tell a decision."""
        if self.settings.explain:
            self.observer(Explained(message))

    def warn(self, code: str, message: str) -> None:
        """Tell what stops nothing."""
        self.observer(Warned(code, message))

    def timestamp(self) -> str:
        """Now, as files have it."""
        return iso(self.clock.now())

    def open_work(self, work: Work) -> None:
        """Take a work into the run."""
        work.settled = False
        self.open += 1
        self.works.append(work)
        if work.counts:
            self.tally.jobs += 1

    def settle(self, work: Work) -> None:
        """The run has nothing more to do for this work."""
        if work.settled:
            return
        work.settled = True
        work.submitted_at = work.last_look = 0.0  # of no more use, and one object in place of 100,000
        work.looked_at = None
        if crowded(len(self.works)):
            work.record.rest()
        self.open -= 1
        if work.counts:
            if work.record.state is State.COMPLETED:
                self.tally.done += 1
            elif work.record.state is State.FAILED:
                self.tally.failed += 1
        if work.done is not None:
            work.done(work)

    def stop_submits(self, reason: FluxLoraError) -> None:
        """No new submits; what is in flight is collected."""
        self.note(reason)
        if not self.submits_stopped:
            self.submits_stopped = True
            for action in list(self.on_stop):
                action()

    def stop_calls(self, reason: FluxLoraError) -> None:
        """No new request to the API; images whose URLs are known are still fetched."""
        first, self.calls_stopped = not self.calls_stopped, True
        self.stop_submits(reason)
        if first:
            for action in list(self.on_calls_stop):
                action()

    def abort(self, reason: FluxLoraError | None) -> None:
        """End the loop as soon as what is known has been recorded."""
        if reason is not None:
            self.note(reason)
        self.submits_stopped = self.calls_stopped = self.aborted = True

    def note(self, reason: FluxLoraError) -> None:
        """Remember why the run does not end well; the first reason of a kind is the one that is told."""
        self.reasons.setdefault(reason.exit_code, reason)


def iso(moment: datetime) -> str:
    """A UTC time as files have it: milliseconds and Z."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
