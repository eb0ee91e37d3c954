"""The images of completed tasks: fetched, recorded, named, made durable, and only then called saved.

The order is: bytes whole and flushed in a temporary file; its hash and its future name in the ledger; renamed; the
folder flushed; "saved" in the ledger. After a kill between any two of these the next run finds the image by its hash.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from flux_lora_cli.engine.calls import Stopped
from flux_lora_cli.engine.durable import Flusher, in_thread
from flux_lora_cli.engine.events import Completed, Explained, Image, Missing, Warned
from flux_lora_cli.engine.follow import age, poll
from flux_lora_cli.engine.limits import DOWNLOAD
from flux_lora_cli.engine.plan import GONE
from flux_lora_cli.engine.settings import Settings
from flux_lora_cli.errors import (
    BadImage,
    DeadlineError,
    FluxLoraError,
    FolderError,
    FolderMoved,
    OutputGone,
    RefusedUrl,
)
from flux_lora_cli.folder.files import other_names
from flux_lora_cli.folder.names import DEFAULT, TASK_DEFAULT, Template, case_key
from flux_lora_cli.folder.records import JobRecord, OutputRecord, error_parts, iso
from flux_lora_cli.text import slug

if TYPE_CHECKING:
    from flux_lora_cli.engine.plan import Work
    from flux_lora_cli.engine.run import Run
    from flux_lora_cli.folder.images import ImageStore, PartialImage, Received
    from flux_lora_cli.service.client import Client
    from flux_lora_cli.service.wire import Task

#: Downloads at once, at most.
MAX_DOWNLOADS = 32
#: Seconds for which an output that is not there is asked for, after its task ended: the store may be behind.
#: [CONTRACT: waiting and downloading]
LATE = 120.0
#: Seconds after its submission for which a task of an earlier run counts as one that ended a moment ago.
RECENT = 900.0
#: A try that brought so many bytes is progress, not a failure; tries in all, at most.
PROGRESS, MAX_TRIES = 65_536, 100

NameOf = Callable[[JobRecord, OutputRecord, str], str]


class Fetcher:
    """Saves images into one folder.

    Args:
        images: the folder's images, or a place for input images where nothing else is saved.
        name_of: the name that an output should get: (record, output, extension).
        shown: how the folder's path is printed, before a file's.
        taken: names in the folder that belong to other images.

    Attributes:
        fetching: images on their way; ``saved``: images saved in this run.
    """

    def __init__(
        self, images: ImageStore, settings: Settings, name_of: NameOf, shown: str, taken: Iterable[str]
    ) -> None:
        self.images = images
        self.fetching = self.saved = 0
        self._settings, self._name_of, self._shown = settings, name_of, shown
        self._taken = {case_key(name) for name in taken}
        self._downloads = asyncio.Semaphore(MAX_DOWNLOADS)
        self._sync: Flusher[str] = Flusher(images.sync)

    # ---- input images ----

    async def body(self, run: Run, work: Work) -> dict[str, Any]:
        """The request as it is sent: local images inline, or as the URL of an upload."""
        body = dict(work.record.input or {})
        for key in ("image", "images"):
            value = body.get(key)
            if isinstance(value, str):
                body[key] = await self._reference(run, work, value)
            elif isinstance(value, (list, tuple)):
                body[key] = [await self._reference(run, work, str(each)) for each in value]
        return body

    async def _reference(self, run: Run, work: Work, value: str) -> str:
        if not value.startswith("inputs/"):
            return value
        name = PurePosixPath(value)
        local = work.images.get(name.stem)
        path = local.path if local is not None else str(self.images.path(value))
        media_type = local.media_type if local is not None else f"image/{name.suffix[1:]}"
        try:
            return await run.calls.get(run.client.upload, path, media_type, why=work.record.name)
        except FluxLoraError as error:
            error.message = f"{work.record.name}: the input image could not be uploaded: {error.message}"
            raise

    # ---- outputs ----

    async def fetch_missing(self, run: Run, work: Work, task: Task | None) -> None:
        """Save the images of a completed job that are asked for and not there.

        Args:
            task: the completed task; None for a job of an earlier run, whose task is polled for fresh URLs.
        """
        record = work.record
        late = task is not None or age(record, run.now()) < RECENT
        task = task or await _fresh(run, record)
        if task is not None:
            _take(record, task)
            run.emit(Completed(record.id, task.id, len(task.outputs), task.execution_ms))
        sources = dict(enumerate(task.outputs)) if task else {o.index: o.url for o in record.outputs if o.url}
        fetches = []
        for output in record.outputs:
            if output.file is not None:
                continue
            output.left_out = self._settings.leaves_out(output)
            if output.left_out:
                output.error = None
            elif source := sources.get(output.index):
                fetches.append((output, source))
            else:
                _not_there(run, record, output, polled=task is not None)
        if not fetches:
            await run.save(record)  # else the first image's name is saved with it
        for output, source in fetches:
            await self._fetch(run, work, output, source, late)

    async def _fetch(self, run: Run, work: Work, output: OutputRecord, source: str, late: bool) -> None:
        record = work.record
        self.fetching += 1
        try:
            received = await self._receive(run, record, output, source, late)
        except FolderError:
            raise
        except FluxLoraError as error:
            output.error = f"{error.code}: {error.message}"
            if isinstance(error, DeadlineError):  # the host asks to come back later
                run.calls.note(error)
            await run.save(record)
            run.emit(Missing(record.id, record.task_id, output.index, error.code, error.message))
        else:
            with run.unbroken():
                await self._keep(run, work, output, received)
        finally:
            self.fetching -= 1

    async def _receive(self, run: Run, record: JobRecord, output: OutputRecord, source: str, late: bool) -> Received:
        """The whole image in a temporary file. A broken download goes on where it broke."""
        partial = self.images.begin()
        late_until = run.time() + (LATE if late else 0.0)
        failures, refreshed = 0, False
        try:
            for _ in range(MAX_TRIES):
                size = partial.size
                try:
                    async with self._downloads:
                        return await in_thread(_download, run.client, source, partial)
                except (RefusedUrl, FolderError):
                    raise
                except FluxLoraError as error:
                    failure = error
                if isinstance(failure, (BadImage, OutputGone)) and partial.size == size:
                    partial.restart()  # the host may not go on where a download broke
                if isinstance(failure, OutputGone):
                    if not refreshed:
                        refreshed = True
                        await asyncio.sleep(run.settings.poll_interval)  # it was polled a moment ago
                        task = await _fresh(run, record)
                        fresh = task.outputs[output.index] if task and output.index < len(task.outputs) else source
                        if fresh != source:
                            source = fresh
                            continue
                    if run.time() >= late_until:
                        raise failure
                    delay = 1.0 + DOWNLOAD.delay(failures, random.random)
                    failures += 1
                else:
                    failures = 0 if partial.size - size >= PROGRESS else failures + 1
                    delay = DOWNLOAD.pause(failure, failures)
                which = f"{record.name}: image {output.index}"
                run.emit(Explained(f"{which}: {failure.message}; fetching again in {delay:.1f} s"))
                await asyncio.sleep(delay)
            raise BadImage(f"not whole after {MAX_TRIES} downloads")
        except FluxLoraError:
            partial.discard()
            raise
        except asyncio.CancelledError:
            partial.abandon()  # a thread may still be writing to it
            raise

    async def _keep(self, run: Run, work: Work, output: OutputRecord, received: Received) -> None:
        """The bytes are whole and on disk: record what they will be called, rename, make that durable, record it."""
        record, images = work.record, self.images
        output.temp, output.sha256, output.bytes = received.temp, received.sha256, received.bytes
        output.width, output.height, output.media_type = received.width, received.height, received.media_type
        replacing = output.writing is not None  # an image of ours that was found altered
        if output.writing is None:
            name = self._name_of(record, output, received.extension)
            quarantined = output.nsfw is True and self._settings.nsfw == "quarantine"
            output.writing = self._distinct(f"nsfw/{name}" if quarantined else name)
        while True:
            try:
                await run.save(record)
            except FolderMoved:
                images.discard(received.temp)  # it lies in what took the folder's place
                raise
            try:
                output.mtime_ns = await in_thread(_publish, images, received.temp, output.writing, replacing)
                break
            except FileExistsError:
                if await in_thread(images.sha256, output.writing) == output.sha256:
                    images.discard(received.temp)  # a kill came after the rename: it is the same image
                    output.mtime_ns = images.stat(output.writing)[1]
                    break
                output.writing = self._distinct(output.writing)
        await self._sync.add(output.writing)
        output.file, output.writing, output.temp, output.error = output.writing, None, None, None
        output.saved_at = iso(run.now())
        await run.save(record)
        if received.warning:
            run.emit(Warned("image", f"{output.file}: {received.warning}"))
        self.saved += work.counts
        run.emit(image_event(record, output, self._shown))

    def _distinct(self, name: str) -> str:
        """``name``, numbered where it belongs to another image."""
        free = next(each for each in other_names(name) if case_key(each) not in self._taken)
        self._taken.add(case_key(free))
        return free


def namer(filename: str | None) -> NameOf:
    """Names of images after a template (``--filename``); by default by task, where the request is not known."""
    template = Template.parse(filename or DEFAULT)
    fallback = template if filename else Template.parse(TASK_DEFAULT)
    day = datetime.now().astimezone().date().isoformat()

    def name_of(record: JobRecord, output: OutputRecord, extension: str) -> str:
        request = record.input or {}
        return (template if record.input is not None else fallback).render(
            {
                "preset": record.preset,
                "job": record.id,
                "slug": slug(str(request.get("prompt") or "")),
                "seed": request.get("seed"),
                "index": output.index,
                "fingerprint": record.fingerprint,
                "task": record.task_id,
                "ext": extension,
                "date": day,
            }
        )

    return name_of


def image_event(record: JobRecord, output: OutputRecord, shown: str, earlier: bool = False) -> Image:
    """The event of a saved image; ``shown``: the folder's path as it is printed."""
    return Image(
        job=record.id,
        task=record.task_id,
        index=output.index,
        path=f"{shown}/{output.file}",
        sha256=output.sha256 or "",
        bytes=output.bytes or 0,
        width=output.width or 0,
        height=output.height or 0,
        media_type=output.media_type or "",
        nsfw=output.nsfw,
        earlier=earlier,
    )


async def _fresh(run: Run, record: JobRecord) -> Task | None:
    """The completed task with fresh URLs; None where it cannot be had."""
    if record.task_id is None or run.calls.stopped:
        return None
    try:
        task = await poll(run, record)
    except (Stopped, FluxLoraError):
        return None
    return task if task.completed and task.outputs else None


def _take(record: JobRecord, task: Task) -> None:
    """Record the outputs that came, and those that were asked for and did not."""
    known = {output.index: output for output in record.outputs}
    for index, source in enumerate(task.outputs):
        output = known.setdefault(index, OutputRecord(index))
        output.url = source if source.startswith(("http://", "https://")) else None
        output.nsfw = task.nsfw[index] if index < len(task.nsfw) else output.nsfw
    for index in range(len(task.outputs), record.images_asked if record.input else 0):
        known.setdefault(index, OutputRecord(index))
    record.outputs = [known[index] for index in sorted(known)]


def _not_there(run: Run, record: JobRecord, output: OutputRecord, *, polled: bool) -> None:
    """Say that the task has no such output; or, where it could not be polled, that only it would tell."""
    earlier = (output.error or "").startswith(GONE)
    if not polled:
        output.error = output.error or "not_polled: the task could not be polled for its address"
    elif not earlier:
        came, asked = sum(o.url is not None or o.file is not None for o in record.outputs), record.images_asked
        sent = f"sent {came} of {asked} images" if came < asked else "named no image here"
        output.error = f"not_delivered: the service {sent}"
    code, message = error_parts(output.error)
    run.emit(Missing(record.id, record.task_id, output.index, code, message, earlier))


def _download(client: Client, source: str, partial: PartialImage) -> Received:
    """All bytes of one output, from where ``partial`` has come to; blocking."""
    if source.startswith(("http://", "https://")):
        with client.download(source, partial.size) as download:
            if download.offset != partial.size:
                partial.restart()
            for chunk in download.chunks:
                partial.write(chunk)
    else:
        data = source.partition(",")[2] if source.startswith("data:") else source
        try:
            partial.write(base64.b64decode(data, validate=True))
        except binascii.Error:
            raise BadImage("the output is neither a URL nor base64") from None
    try:
        return partial.finish()
    except BadImage:
        partial.restart()  # what came is not a whole image, and more of it would not make it one
        raise


def _publish(images: ImageStore, temp: str, name: str, replacing: bool) -> int | None:
    """Give an image its name; its modification time in ns."""
    images.publish(temp, name, replace=replacing)
    return images.stat(name)[1]
