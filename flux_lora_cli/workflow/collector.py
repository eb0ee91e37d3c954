"""Saves the images of completed tasks: fetched, recorded, named, made durable, and only then called saved.

The order is: bytes whole and flushed in a temporary file; its hash and its future name in the ledger; renamed;
the folder flushed; "saved" in the ledger. A kill between any two of these loses nothing: what is recorded as
about to be named is found again by its hash.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from operator import attrgetter
from pathlib import PurePosixPath

from flux_lora_cli.domain.backoff import DOWNLOAD
from flux_lora_cli.domain.events import Completed, Image, Missing
from flux_lora_cli.domain.outcome import code_and_message
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import FluxLoraError, FolderError, OutputGone, RefusedUrl
from flux_lora_cli.workflow.calls import LONGEST_WAIT, Calls
from flux_lora_cli.workflow.context import Context, NameOf, Work
from flux_lora_cli.workflow.ports import Saved

#: How ``OutputRecord.error`` begins for a file of ours that was found changed: it may be replaced.
DAMAGED = "damaged"
#: Seconds for which a new name waits for others in its folder, to be made durable with one flush.
SEAL = 0.05


@dataclass(eq=False)
class _Fetch:
    """One image on its way. ``fresh``: a look for a fresh URL has been made for it."""

    work: Work
    output: OutputRecord
    source: str
    fresh: bool
    failures: int = 0


class Collector:
    """Saves images.

    Args:
        name_of: proposes a name for an output.
        taken: names in the folder that belong to other images, as ``case_key`` gives them.
        case_key: how names are compared on a file system that does not tell upper from lower case.
        path_of: how a saved file's path is printed.
    """

    def __init__(
        self,
        ctx: Context,
        calls: Calls,
        name_of: NameOf,
        taken: Collection[str],
        case_key: Callable[[str], str],
        path_of: Callable[[str], str],
    ) -> None:
        self._ctx = ctx
        self._calls = calls
        self._name_of = name_of
        self._case_key = case_key
        self._taken = set(taken)
        self._path_of = path_of
        self._renamed: list[_Fetch] = []
        self._refreshing: dict[Work, list[tuple[_Fetch, OutputGone]]] = {}
        self.fetching = 0

    # ---- from a completed task to fetches ----

    def completed(self, work: Work, task: Task) -> None:
        """Record a task's outputs and fetch those that are asked for and not there."""
        record = work.record
        record.state = State.COMPLETED
        record.error = None
        known = {output.index: output for output in record.outputs}
        for index, source in enumerate(task.outputs):
            output = known.setdefault(index, OutputRecord(index))
            output.url = place_of(source)
            output.nsfw = task.nsfw[index] if index < len(task.nsfw) else output.nsfw
        record.outputs = sorted(known.values(), key=_index_of)
        self._ctx.emit(Completed(record.id, task.id, len(task.outputs), task.execution_ms))
        self._fetch_missing(work, dict(enumerate(task.outputs)))

    def refetch(self, work: Work) -> None:
        """Fetch what is missing of a job that an earlier run completed; a look gives fresh URLs."""
        task_id, service = work.record.task_id, self._ctx.service
        if task_id is None or self._ctx.calls_stopped:
            self._fetch_known(work)
            return
        work.refreshed = True

        def looked(result: Task | FluxLoraError) -> None:
            work.last_look = self._ctx.clock.monotonic()
            if isinstance(result, Task) and result.completed and result.outputs:
                self.completed(work, result)
            else:
                self._fetch_known(work)

        self._calls.read(lambda: service.result(task_id), looked)

    def _fetch_known(self, work: Work) -> None:
        self._fetch_missing(work, {o.index: o.url for o in work.record.outputs if o.url})

    def _fetch_missing(self, work: Work, sources: dict[int, str]) -> None:
        fetches = []
        for output in work.record.outputs:
            if output.file is not None:
                continue
            output.left_out = self._not_wanted(output)
            if output.left_out:
                output.error = None
            elif output.index in sources:
                fetches.append(_Fetch(work, output, sources[output.index], work.refreshed))
            elif output.error is None or not output.error.startswith("output_expired"):
                self._give_up(work, output, "output_expired", "the service has no such output any more")
            else:  # which a former run has told
                code, message = code_and_message(output.error, "")
                self._ctx.emit(Missing(work.record.id, work.record.task_id, output.index, code, message, earlier=True))
        work.open_outputs = len(fetches)
        for fetch in fetches:
            self._fetch(fetch)
        if fetches:
            self._ctx.book.later(work.record)  # until an image is there, a rerun looks at the task anyway
        else:
            self._ctx.book.change(work.record)
            self._ctx.settle(work)

    def _not_wanted(self, output: OutputRecord) -> bool:
        settings = self._ctx.settings
        return not settings.download or (settings.nsfw == "skip" and output.nsfw is True)

    # ---- fetching ----

    def _fetch(self, fetch: _Fetch) -> None:
        ctx, store, source = self._ctx, self._ctx.store, fetch.source
        if ctx.aborted:
            return
        self.fetching += 1
        ctx.reactor.call(ctx.fetchers, lambda: store.fetch(source), lambda result: self._fetched(fetch, result))

    def _fetched(self, fetch: _Fetch, result: Saved | FluxLoraError) -> None:
        self.fetching -= 1
        if not isinstance(result, FluxLoraError):
            self._keep(fetch, result)
        elif isinstance(result, FolderError):
            self._ctx.abort(result)
        elif isinstance(result, OutputGone):
            self._gone(fetch, result)
        elif isinstance(result, RefusedUrl):
            self._missed(fetch, result)
        else:
            self._again(fetch, result)

    def _again(self, fetch: _Fetch, error: FluxLoraError) -> None:
        fetch.failures += 1
        asked: float | None = getattr(error, "retry_after", None)
        if not DOWNLOAD.more(fetch.failures) or (asked or 0) > LONGEST_WAIT:
            self._missed(fetch, error)
            return
        delay = DOWNLOAD.delay(fetch.failures - 1, self._ctx.draw, asked)
        self._ctx.explain(
            f"{fetch.work.name}: image {fetch.output.index}: {error.message}; fetched again in {delay:.1f} s"
        )
        self._ctx.reactor.after(delay, lambda: self._fetch(fetch))

    def _gone(self, fetch: _Fetch, error: OutputGone) -> None:
        """One more look at the task for fresh URLs, for all its images together; then they are expired."""
        work = fetch.work
        if fetch.fresh or work.record.task_id is None or self._ctx.calls_stopped:
            self._missed(fetch, error)
            return
        which = f"{work.name}: image {fetch.output.index}"
        self._ctx.explain(f"{which}: {error.message}; the task is looked at once more, for a fresh address")
        if work.fresh_outputs is not None:
            self._fetch_fresh(fetch, error)
        elif work in self._refreshing:
            self._refreshing[work].append((fetch, error))
        else:
            self._refreshing[work] = [(fetch, error)]
            self._ctx.reactor.at(work.last_look + self._ctx.settings.poll_interval, lambda: self._refresh(work))

    def _refresh(self, work: Work) -> None:
        task_id, service = work.record.task_id or "", self._ctx.service

        def looked(result: Task | FluxLoraError) -> None:
            work.last_look = self._ctx.clock.monotonic()
            work.fresh_outputs = result.outputs if isinstance(result, Task) else ()
            for fetch, error in self._refreshing.pop(work):
                self._fetch_fresh(fetch, error)

        self._calls.read(lambda: service.result(task_id), looked, floor=self._ctx.settings.poll_interval)

    def _fetch_fresh(self, fetch: _Fetch, error: OutputGone) -> None:
        outputs, index = fetch.work.fresh_outputs or (), fetch.output.index
        fetch.fresh = True
        if index >= len(outputs):
            self._missed(fetch, error)
            return
        fetch.source = outputs[index]
        fetch.output.url = place_of(fetch.source)
        self._fetch(fetch)

    def _missed(self, fetch: _Fetch, error: FluxLoraError) -> None:
        self._give_up(fetch.work, fetch.output, error.code, error.message)
        self._one_less(fetch.work)

    def _give_up(self, work: Work, output: OutputRecord, code: str, message: str) -> None:
        output.error = f"{code}: {message}"
        self._ctx.book.change(work.record)
        self._ctx.emit(Missing(work.record.id, work.record.task_id, output.index, code, message))

    # ---- naming ----

    def _keep(self, fetch: _Fetch, saved: Saved) -> None:
        """The bytes are whole and on disk under a temporary name: record what they will be called."""
        output = fetch.output
        output.temp, output.sha256, output.bytes = saved.temp, saved.sha256, saved.bytes
        output.width, output.height, output.media_type = saved.width, saved.height, saved.media_type
        if not (output.writing and self._may_replace(output)):
            output.writing = self._free_name(fetch.work.record, output, saved.extension)
        self._ctx.book.change(fetch.work.record, lambda: self._publish(fetch))

    @staticmethod
    def _may_replace(output: OutputRecord) -> bool:
        return bool(output.error and output.error.startswith(DAMAGED))

    def _free_name(self, record: JobRecord, output: OutputRecord, extension: str) -> str:
        name = self._name_of(record, output, extension)
        if output.nsfw is True and self._ctx.settings.nsfw == "quarantine":
            name = f"nsfw/{name}"
        return self._distinct(name)

    def _distinct(self, name: str) -> str:
        candidate, number = name, 1
        while (key := self._case_key(candidate)) in self._taken:
            number += 1
            path = PurePosixPath(name)  # only here: pathlib keeps every part of every path
            candidate = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        self._taken.add(key)
        return candidate

    def _publish(self, fetch: _Fetch) -> None:
        """Runs only once the ledger knows hash and name."""
        output, store = fetch.output, self._ctx.store
        assert output.temp is not None
        assert output.writing is not None
        try:
            if self._may_replace(output):
                store.replace(output.temp, output.writing)
            else:
                store.publish(output.temp, output.writing)
        except FileExistsError:
            if store.hash(output.writing) == output.sha256:
                store.discard(output.temp)  # a kill came after the rename: it is the same image
            else:
                output.writing = self._distinct(output.writing)
                self._ctx.book.change(fetch.work.record, lambda: self._publish(fetch))
                return
        except FolderError as error:
            self._ctx.abort(error)
            return
        if not self._renamed:
            self._ctx.reactor.after(SEAL, self._seal)
        self._renamed.append(fetch)

    def finish(self) -> None:
        """Call those images saved that were renamed just before the run ended."""
        self._seal()

    def _seal(self) -> None:
        """Make all new names durable with one flush a folder, then call the images saved."""
        fetches, self._renamed = self._renamed, []
        if not fetches:
            return
        store = self._ctx.store
        try:
            store.sync_dirs([fetch.output.writing or "" for fetch in fetches])
        except FolderError as error:
            self._ctx.abort(error)
            return
        now = self._ctx.timestamp()
        for fetch in fetches:
            output = fetch.output
            mark_saved(output, store.stat(output.writing or ""), now)
            self._ctx.book.change(fetch.work.record, lambda fetch=fetch: self._announce(fetch))  # type: ignore[misc]

    def _announce(self, fetch: _Fetch) -> None:
        self._ctx.emit(image_event(fetch.work.record, fetch.output, self._path_of))
        if fetch.work.counts:
            self._ctx.tally.images += 1
        self._one_less(fetch.work)

    def _one_less(self, work: Work) -> None:
        work.open_outputs -= 1
        if work.open_outputs == 0:
            self._ctx.settle(work)


_index_of = attrgetter("index")


def place_of(source: str) -> str | None:
    """An output as the manifest names it: base64 outputs are data, not places."""
    return source if source.startswith(("http://", "https://")) else None


def mark_saved(output: OutputRecord, stat: tuple[int, int] | None, now: str) -> None:
    """The file under ``output.writing`` is surely the image."""
    output.file, output.writing, output.temp = output.writing, None, None
    output.saved_at, output.error, output.left_out = now, None, False
    output.mtime_ns = stat[1] if stat else None


def image_event(record: JobRecord, output: OutputRecord, path_of: Callable[[str], str], earlier: bool = False) -> Image:
    """The event of a saved image."""
    return Image(
        job=record.id,
        task=record.task_id,
        index=output.index,
        path=path_of(output.file or ""),
        sha256=output.sha256 or "",
        bytes=output.bytes or 0,
        width=output.width or 0,
        height=output.height or 0,
        media_type=output.media_type or "",
        nsfw=output.nsfw,
        earlier=earlier,
    )
