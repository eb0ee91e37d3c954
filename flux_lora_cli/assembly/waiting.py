"""Wait for single tasks and save their images: what ``wait`` does, as a function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from flux_lora_cli.adapters.clock import SystemClock
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.run_folder import RunFolder
from flux_lora_cli.adapters.state_dir import user_ledger_dir
from flux_lora_cli.assembly.task_runs import SaveTo, TasksResult, as_task, naming, result_of
from flux_lora_cli.assembly.world import make_world
from flux_lora_cli.domain.budget import Budget
from flux_lora_cli.domain.events import Warned
from flux_lora_cli.domain.matching import parse_time
from flux_lora_cli.domain.outcome import exit_code
from flux_lora_cli.domain.pacing import LookPlanner
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.domain.wire import is_task_id
from flux_lora_cli.errors import FluxLoraError, NotFoundError
from flux_lora_cli.workflow.collector import image_event
from flux_lora_cli.workflow.context import Settings, Work, iso
from flux_lora_cli.workflow.planning import wanted
from flux_lora_cli.workflow.recovery import recover
from flux_lora_cli.workflow.runner import Runner

if TYPE_CHECKING:
    from flux_lora_cli.adapters.client import Client
    from flux_lora_cli.workflow.ports import Clock, Observer


def wait_for(
    task_ids: Iterable[str],
    client: Client,
    service: str,
    settings: Settings,
    save_to: SaveTo,
    *,
    streamed: bool = False,
    observer: Observer = lambda event: None,
    on_runner: Callable[[Runner], None] = lambda runner: None,
    clock: Clock | None = None,
) -> TasksResult:
    """Wait for tasks and save their images.

    Args:
        streamed: ``task_ids`` is read on a thread while the first of them are already waited for.

    Raises:
        NotFoundError: there are no ids, or one that can be no id.
        FolderError: the folder cannot be used.
    """
    clock = clock or SystemClock()
    ids = task_ids if streamed else _checked(list(task_ids))
    with RunFolder(save_to.folder, service, clock, fetch=client.download, exclusive=False) as opened:
        waiter = _Waiter(client, service, settings, save_to, opened, observer, clock)
        on_runner(waiter.runner)
        result = waiter.run(ids, streamed)
        opened.keeper.write()
        return result


def _checked(ids: list[str]) -> list[str]:
    if not ids:
        raise NotFoundError("no task id was given", "Task ids are what submit prints, one a line.")
    for task_id in ids:
        if not is_task_id(task_id):
            raise NotFoundError(f"{task_id!r} is no task id", "Task ids are what submit prints, one a line.")
    return ids


class _Waiter:
    def __init__(
        self,
        client: Client,
        service: str,
        settings: Settings,
        save_to: SaveTo,
        opened: RunFolder,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._service = service
        self._settings = settings
        self._save_to = save_to
        self._opened = opened
        self._observer = observer
        self._clock = clock
        self._works: dict[str, Work] = {}
        self._naming = naming(save_to, opened, clock)
        self._bad: list[str] = []
        world = make_world(client, opened.store, opened.ledger, clock, observer)
        self.runner = Runner(
            settings,
            world,
            self._naming,
            budget=Budget(None, Decimal(0)),
            planner=LookPlanner(settings.poll_interval),
            keep=opened.keeper.keep,
            tick=opened.keeper.tick,
        )

    def run(self, ids: Iterable[str], streamed: bool) -> TasksResult:
        if streamed:
            close = self.runner.hold_open()
            threading.Thread(target=self._read, args=(ids, close), daemon=True, name="ids").start()
        else:
            for task_id in ids:
                self._add(task_id)
        self.runner.run()
        if streamed and not self._works and not self._bad and not self.runner.ctx.reasons:
            raise NotFoundError("no task id came in", "The command before may have failed; see what it said.")
        result = result_of(self.runner, list(self._works.values()), self._save_to)
        if self._bad:
            error = NotFoundError(f"no task id: {', '.join(map(repr, self._bad[:5]))}")
            result.reasons[error.exit_code] = error
            result.exit_code = exit_code(result.reasons)
        return result

    def _read(self, ids: Iterable[str], close: Callable[[], None]) -> None:
        soon = self.runner.reactor.soon
        try:
            for line in ids:
                task_id = line.strip()
                if task_id:
                    soon(lambda task_id=task_id: self._add(task_id))  # type: ignore[misc]
        finally:
            soon(close)

    def _add(self, task_id: str) -> None:
        if task_id in self._works:
            return
        if not is_task_id(task_id):
            self._bad.append(task_id)
            return
        opened, now = self._opened, iso(self._clock.now())
        record = opened.ledger.find_task(task_id) or self._new_record(task_id)
        record = opened.records.setdefault(record.key, record)
        if record.state is State.FAILED:
            # The service is asked anew: what is called lost or failed here may have been a passing fault.
            record.state, record.error = State.SUBMITTED, None
        recover(record, opened.store, now)
        for output in record.outputs:
            output.left_out = output.file is None and not wanted(output, self._settings.nsfw, self._settings.download)
        work = self._works[task_id] = Work(record)
        work.submitted_at = self._clock.monotonic() - self._age(record)
        self.runner.book.change(record)
        for output in record.outputs:
            if output.file is not None:
                self._observer(image_event(record, output, self._naming.path_of, earlier=True))
        self.runner.start(work)

    def _age(self, record: JobRecord) -> float:
        """Seconds since the submit, as far as it is known."""
        meant = parse_time(record.intent_at)
        return max(0.0, (self._clock.now() - meant).total_seconds()) if meant is not None else 0.0

    def _new_record(self, task_id: str) -> JobRecord:
        """What the user's ledger knows of a task; else only its id."""
        order = self._opened.next_order()
        try:
            with Ledger.snapshot(user_ledger_dir(self._service)) as ledger:
                known = ledger.find_task(task_id) if ledger is not None else None
        except FluxLoraError as error:
            self._observer(Warned(error.code, error.message))
            known = None
        if known is None:
            return JobRecord(f"task:{task_id}", order=order, task_id=task_id, state=State.SUBMITTED)
        record = as_task(known)
        record.order, record.outputs = order, []
        record.state = State.SUBMITTED
        self._keep_input(record)
        return record

    def _keep_input(self, record: JobRecord) -> None:
        image = (record.input or {}).get("image")
        if isinstance(image, str) and image.startswith("inputs/"):
            digest, _, extension = image.partition("/")[2].partition(".")
            source = user_ledger_dir(self._service) / image
            if source.is_file():
                self._opened.store.keep_input(source, digest, extension)
