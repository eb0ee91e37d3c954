"""The images of completed tasks: fetched, recorded, named, made durable, and only then called saved.

The order is: bytes whole and flushed in a temporary file; its hash and its future name in the ledger; renamed; the
folder flushed; "saved" in the ledger. After a kill between any two of these the next run finds the image by its hash.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flux_lora_cli.engine.calls import Stopped
from flux_lora_cli.engine.durable import NOT_KEPT, Flusher, in_thread
from flux_lora_cli.engine.events import Completed, Image, Missing, Warned
from flux_lora_cli.engine.follow import age, poll
from flux_lora_cli.engine.limits import DOWNLOAD, backoff, next_try
from flux_lora_cli.engine.plan import GONE
from flux_lora_cli.errors import BadImage, DeadlineError, FluxLoraError, FolderMoved, OutputGone, RefusedUrl
from flux_lora_cli.folder.files import other_names
from flux_lora_cli.folder.names import DEFAULT, TASK_DEFAULT, Template, case_key
from flux_lora_cli.folder.records import JobRecord, OutputRecord, error_parts, iso
from flux_lora_cli.text import slug

if TYPE_CHECKING:
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
#: A try that brought so many bytes is progress, not a failure.
PROGRESS = 65_536


class Fetcher:
    """Saves images into one folder.

    Args:
        images: the folder's images, or a place for input images where nothing else is saved.
        shown: how the folder's path is printed, before a file's.

    Attributes:
        fetching: images on their way; ``saved``: images saved in this run.
    """

    def __init__(self, run: Run, images: ImageStore, shown: str) -> None:
        self._run, self._images, self._shown = run, images, shown
        self.fetching = self.saved = 0
        filename, folder = run.settings.filename, run.store.folder
        self._template = Template(filename or DEFAULT)
        self._template_by_task = self._template if filename else Template(TASK_DEFAULT)
        self._today = datetime.now().astimezone().date().isoformat()
        outputs = (o for record in (folder.records.values() if folder else ()) for o in record.outputs)
        self._taken = {case_key(name) for o in outputs for name in (o.file, o.writing) if name}
        self._downloads = asyncio.Semaphore(MAX_DOWNLOADS)
        self._named: Flusher[tuple[str, str, bool], int | None] = Flusher(self._name_all)

    async def body(self, record: JobRecord) -> dict[str, Any]:
        """The request as it is sent: local images inline, or as the URL of an upload."""
        body = dict(record.input or {})
        for key in body.keys() & {"image", "images"}:
            if isinstance(value := body[key], (list, tuple)):
                body[key] = [await self._sent(record, each) for each in value]
            else:
                body[key] = await self._sent(record, value)
        return body

    async def _sent(self, record: JobRecord, image: Any) -> Any:
        if not str(image).startswith("inputs/"):
            return image
        path, media_type = self._images.path(image), f"image/{image.rpartition('.')[2]}".replace("jpg", "jpeg")
        try:
            return await self._run.calls.get(self._run.client.upload, str(path), media_type, why=record.name)
        except FluxLoraError as error:
            error.message = f"{record.name}: the input image could not be uploaded: {error.message}"
            raise

    async def fetch_missing(self, record: JobRecord, task: Task | None) -> None:
        """Save the images of a completed job that are asked for and not there.

        Args:
            task: the completed task; None for a job of an earlier run, whose task is polled for fresh URLs.
        """
        run = self._run
        late = task is not None or age(record, run.now()) < RECENT
        late_until = run.time() + (LATE if late else 0.0)
        task = task or await self._fresh(record)
        if task is not None:
            _take(record, task)
            run.emit(Completed(record.id, task.id, len(task.outputs), task.execution_ms))
        sources = dict(enumerate(task.outputs)) if task else {o.index: o.url for o in record.outputs if o.url}
        fetches = []
        for output in record.outputs:
            if output.file is not None:
                continue
            output.left_out = run.settings.leaves_out(output)
            if output.left_out:
                output.error = None
            elif source := sources.get(output.index):
                fetches.append((output, source))
            else:
                run.emit(_not_there(record, output, polled=task is not None))
        if not fetches:
            await run.save(record)  # else the first image's name is saved with it
        for output, source in fetches:
            self.fetching += 1
            try:
                received = await self._receive(record, output, source, late_until)
                with run.unbroken():
                    await self._keep(record, output, received)
            except NOT_KEPT:
                raise
            except FluxLoraError as error:
                output.error = f"{error.code}: {error.message}"
                if isinstance(error, DeadlineError):  # the host asks to come back later
                    run.calls.note(error)
                await run.save(record)
                run.emit(Missing(record.id, record.task_id, output.index, error.code, error.message))
            finally:
                self.fetching -= 1

    async def _receive(self, record: JobRecord, output: OutputRecord, source: str, late_until: float) -> Received:
        """The whole image in a temporary file. A broken download goes on where it broke."""
        run, partial = self._run, self._images.begin()
        which, failures, refreshed = f"{record.name}: image {output.index}", 0, False
        try:
            while True:
                size = partial.size
                try:
                    async with self._downloads:
                        return await in_thread(_download, run.client, source, partial)
                except (RefusedUrl, *NOT_KEPT):
                    raise
                except OutputGone as error:
                    if not refreshed:
                        refreshed = True
                        await asyncio.sleep(run.settings.poll_interval)  # it was polled a moment ago
                        task = await self._fresh(record)
                        source = task.outputs[output.index] if task and output.index < len(task.outputs) else source
                        continue
                    if run.time() >= late_until:
                        raise
                    await run.calls.pause(which, error, backoff(failures))
                    failures += 1
                except FluxLoraError as error:
                    failures += partial.size - size < PROGRESS
                    await run.calls.pause(which, error, next_try(error, failures, DOWNLOAD))
        except FluxLoraError:
            partial.discard()
            raise
        except asyncio.CancelledError:
            partial.abandon()  # a thread may still be writing to it
            raise

    async def _keep(self, record: JobRecord, output: OutputRecord, received: Received) -> None:
        """The bytes are whole and on disk: record what they will be called, rename, make that durable, record it."""
        run, info = self._run, received.info
        output.temp, output.sha256, output.bytes = received.temp, received.sha256, received.bytes
        output.width, output.height, output.media_type = info.width, info.height, info.media_type
        replacing = output.writing is not None  # an image of ours that was found altered
        output.writing = output.writing or self._name_for(record, output, info.extension)
        try:
            await run.save(record)
        except FolderMoved:
            self._images.discard(received.temp)  # it lies in what took the folder's place
            raise
        while (mtime_ns := await self._named.add((received.temp, output.writing, replacing))) is None:
            output.writing = self._distinct(output.writing)  # a file that is not ours has that name
            await run.save(record)
        output.file, output.mtime_ns = output.writing, mtime_ns
        output.writing = output.temp = output.error = None
        output.saved_at = iso(run.now())
        await run.save(record)
        if info.warning:
            run.emit(Warned("image", f"{output.file}: {info.warning}"))
        self.saved += 1
        run.emit(image_event(record, output, self._shown))

    def _name_all(self, images: list[tuple[str, str, bool]]) -> list[int | None]:
        """Rename temporary files, durably; their modification times in ns, None where a name is taken. Blocking."""
        times: list[int | None] = []
        for temp, name, replacing in images:
            try:
                self._images.publish(temp, name, replace=replacing)
            except FileExistsError:
                if self._images.sha256(name) != self._images.sha256(temp):
                    times.append(None)
                    continue
                self._images.discard(temp)  # a record that is older than the image does not know it
            times.append(self._images.stat(name)[1])
        self._images.sync(name for _, name, _ in images)
        return times

    def _name_for(self, record: JobRecord, output: OutputRecord, extension: str) -> str:
        """The name of an image after the template (``--filename``); by default by task, if the request is not known."""
        template = self._template if record.input is not None else self._template_by_task
        request = record.input or {}
        name = template.render(
            {
                "preset": record.preset,
                "job": record.id,
                "slug": slug(str(request.get("prompt") or "")),
                "seed": request.get("seed"),
                "index": output.index,
                "fingerprint": record.fingerprint,
                "task": record.task_id,
                "ext": extension,
                "date": self._today,
            }
        )
        quarantined = output.nsfw is True and self._run.settings.nsfw == "quarantine"
        return self._distinct(f"nsfw/{name}" if quarantined else name)

    def _distinct(self, name: str) -> str:
        """``name``, numbered where it belongs to another image."""
        free = next(each for each in other_names(name) if case_key(each) not in self._taken)
        self._taken.add(case_key(free))
        return free

    async def _fresh(self, record: JobRecord) -> Task | None:
        """The completed task with fresh URLs; None where it cannot be had."""
        with suppress(Stopped, FluxLoraError):
            task = await poll(self._run, record) if record.task_id else None
            if task and task.completed and task.outputs:
                return task
        return None


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


def _take(record: JobRecord, task: Task) -> None:
    """Record the outputs that came, and those that were asked for and did not."""
    known = {output.index: output for output in record.outputs}
    for index in range(max(len(task.outputs), record.images_asked if record.input else 0)):
        output = known.setdefault(index, OutputRecord(index))
        if index < len(task.outputs):
            source = task.outputs[index]
            output.url = source if source.startswith(("http://", "https://")) else None
            output.nsfw = task.nsfw[index] if index < len(task.nsfw) else output.nsfw
    record.outputs = [known[index] for index in sorted(known)]


def _not_there(record: JobRecord, output: OutputRecord, *, polled: bool) -> Missing:
    """Say that the task has no such output; or, where it could not be polled, that only it would tell."""
    earlier = (output.error or "").startswith(GONE)
    if not polled:
        output.error = output.error or "not_polled: the task could not be polled for its address"
    elif not earlier:
        came = sum(each.url is not None or each.file is not None for each in record.outputs)
        output.error = f"not_delivered: the service sent {came} of {record.images_asked} images"
    code, message = error_parts(output.error)
    return Missing(record.id, record.task_id, output.index, code, message, earlier)


def _download(client: Client, source: str, partial: PartialImage) -> Received:
    """All bytes of one output, from where ``partial`` has come to; blocking."""
    try:
        if source.startswith(("http://", "https://")):
            with client.download(source, partial.size) as download:
                if download.offset != partial.size:
                    partial.restart()
                for chunk in download.chunks:
                    partial.write(chunk)
        else:
            partial.write(base64.b64decode(source.rpartition(",")[2], validate=True))
        return partial.finish()
    except binascii.Error:
        raise BadImage("the output is neither a URL nor base64") from None
    except (BadImage, OutputGone):
        partial.restart()  # more of it would make no whole image, or the host may not go on where a download broke
        raise
