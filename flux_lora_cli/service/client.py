"""The API client: one try per call; when to try again is the caller's business."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import BadImage, FluxLoraError, NotFoundError, OutputGone, RefusedUrl, Rejected, Uncertain
from flux_lora_cli.service import envelope, hosts, wire
from flux_lora_cli.service.envelope import Answer, Kind
from flux_lora_cli.service.hosts import DEFAULT_BASE_URL
from flux_lora_cli.service.keys import Key, Redactor, load_key
from flux_lora_cli.service.models import Version
from flux_lora_cli.service.wire import Task

if TYPE_CHECKING:
    from flux_lora_cli.service.transport import Reply, Transport

__all__ = ["DEFAULT_BASE_URL", "Client", "Download", "Key", "connect", "load_key"]

#: Bytes of a local image that go inline, as a data URI; larger ones are uploaded. [CONTRACT: money and identity]
MAX_INLINE_IMAGE = 1_000_000
#: Redirects that are followed, and bytes of an image. [CONTRACT]
MAX_REDIRECTS, MAX_IMAGE = 5, 100_000_000
#: After this many seconds a download must have averaged this many bytes per second.
SLOW_AFTER, MIN_SPEED = 30.0, 1024.0
#: Seconds for a call, 30 for others; sync mode answers after 90 s. [FAULTS: retry policy]
_SECONDS: Mapping[Kind, float] = {"submit": 60.0, "upload": 120.0, "list": 120.0, "models": 120.0, "bill": 120.0}
_SYNC_SECONDS = 120.0
T = TypeVar("T")
Log = Callable[[str], None] | None
Json = Mapping[str, Any]


def connect(
    *,
    key: str,
    base_url: str = DEFAULT_BASE_URL,
    allow_custom_host: bool = False,
    env: Mapping[str, str] | None = None,
    log: Log = None,
    pool_size: int = 16,
) -> Client:
    """A client for one base URL. Nothing is sent yet. Raises UsageError where the key may not go there.

    Args:
        allow_custom_host: the key may go to a host that is not WaveSpeed's.
        env: names proxies, certificates and ``WAVESPEED_CLIENT_NAME``; this process's environment where it is None.
        log: gets one line per request, free of secrets.
        pool_size: connections kept per origin; no less than the number of threads.
    """
    redactor = Redactor(key)
    with redactor.guard():
        url = hosts.checked_base_url(base_url, allow_custom_host=allow_custom_host)
    return Client(url, key, redactor, os.environ if env is None else env, log, pool_size)


@dataclass(frozen=True)
class Download:
    """A download that has begun at ``offset``: 0, or the one that was asked for.

    Attributes:
        length: bytes of the whole file; None where the host does not say.
        chunks: the bytes. Raises Uncertain where they break off, BadImage where there are too many.
    """

    offset: int
    length: int | None
    chunks: Iterator[bytes]


@dataclass
class _Entry:
    outcome: str = ""
    size: int = 0


class Client:
    """Calls of the API, decoded. Safe to use from several threads. Made by ``connect``. Raises only FluxLoraError.

    Attributes:
        clock_ahead: seconds by which the service's clock is ahead of this machine's; None until it answered.
        price_note: what was odd about the latest price; "" for nothing.
    """

    def __init__(
        self, base_url: str, key: str, redactor: Redactor, env: Mapping[str, str], log: Log, pool_size: int
    ) -> None:
        self.base_url, self.price_note = base_url, ""
        self.clock_ahead: float | None = None
        self._redactor, self._env, self._log, self._pool_size = redactor, env, log, pool_size
        self._lock = threading.Lock()
        self._made: Transport | None = None
        self._uploads, self._upload_locks = dict[str, str](), dict[str, threading.Lock]()
        name = re.sub(r"[^!-~]", "", env.get("WAVESPEED_CLIENT_NAME", ""))[:100]
        # Compressed answers would only be a way to send bombs; those that come all the same are unpacked here.
        self._anonymous = {"User-Agent": f"flux-lora/{__version__}", "Accept-Encoding": "identity"}
        self._headers = {
            **self._anonymous,
            "Accept": "application/json",
            "X-Client-Name": name or "flux-lora",
            "X-Client-Version": __version__,
            "X-Client-OS": platform.system().lower() or "unknown",
            "Authorization": f"Bearer {key}",
        }

    @property
    def origin(self) -> str:
        """``https://api.wavespeed.ai``: what folders and catalogues belong to."""
        return hosts.origin_text(self.base_url)

    def submit(self, model: str, body: Json, version: Version = "v2") -> Task:
        """Ask for images: one POST, never repeated."""
        seconds = _SYNC_SECONDS if body.get("enable_sync_mode") is True else None
        return self._shown(self._ask("submit", wire.submit_path(model, version), wire.decode_submit, body, seconds))

    def result(self, task_id: str, version: Version = "v2") -> Task:
        """Poll a task once."""
        path = wire.result_path(task_id, version)
        return self._shown(self._ask("poll", path, lambda answer: wire.decode_task(answer, task_id)))

    def predictions(self, page: int = 1, page_size: int = 100, created_after: datetime | None = None) -> list[Task]:
        """One page of recent tasks, newest first; an empty one is the end. Raises NoSuchList where there is none."""
        body = wire.predictions_body(page, page_size, created_after)
        return list(map(self._shown, self._ask("list", "/api/v3/predictions", wire.decode_predictions, body)))

    def price(self, model: str, body: Json) -> Decimal | None:
        """What one request would cost in all, USD; None where the service does not say."""
        request = {"model_id": model, "inputs": dict(body)}
        price, note = self._ask("price", "/api/v3/model/price", wire.decode_price, request)
        self.price_note = self._redactor.clean(note)
        if price is None and not note:  # older services have the price of one image
            unit, _ = self._ask("price", "/api/v3/model/pricing", wire.decode_price, {"model_id": model})
            images = body.get("num_images", 1)
            return unit * images if unit is not None and isinstance(images, int) else None
        return price

    def balance(self) -> Decimal | None:
        """The account's credit, USD; None where the service does not say."""
        return self._ask("balance", "/api/v3/balance", wire.decode_balance)

    def models(self) -> Any:
        """The catalogue as the service has it, without its envelope."""
        return self._ask("models", "/api/v3/models", lambda answer: envelope.open_envelope(answer, "models"))

    def bill(
        self,
        page: int = 1,
        page_size: int = 100,
        task_ids: Sequence[str] = (),
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> wire.BillPage:
        """One page of the bill: of at most 100 tasks, or of a time."""
        body = wire.bill_body(page, page_size, task_ids, start, end)
        return self._ask("bill", "/api/v3/billings/search", wire.decode_bill, body)

    def upload(self, path: str, media_type: str) -> str:
        """A local image as the API takes it: a data URI up to 1 MB, else the URL of an upload, made once for all.

        Raises:
            NotFoundError: the file cannot be read.
            RefusedUrl: the service wants it put somewhere that nothing is ever sent to.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise NotFoundError(f"cannot read {path}: {error.strerror}") from None
        if len(data) <= MAX_INLINE_IMAGE:
            return f"data:{media_type};base64,{b64encode(data).decode()}"
        digest = hashlib.sha256(data).hexdigest()
        with self._upload_locks.setdefault(digest, threading.Lock()):
            if digest not in self._uploads:
                with self._redactor.guard():
                    self._uploads[digest] = self._upload(f"input.{media_type.rpartition('/')[2]}", data, media_type)
            return self._uploads[digest]

    @contextmanager
    def download(self, url: str, offset: int = 0) -> Iterator[Download]:
        """The image behind an output's URL, from byte ``offset`` on where the host can do that; without the key.

        Raises:
            OutputGone: the host does not have it (any more, or yet).
            RefusedUrl: the URL, or one that it redirects to, is never fetched.
            BadImage: too large, or cannot go on at ``offset``.
            Uncertain, NeverSent, RateLimited, InsecureConnection, ProxyFailed: the network; worth another try.
        """
        headers = {**self._anonymous, **({"Range": f"bytes={offset}-"} if offset else {})}
        with self._redactor.guard():
            for _ in range(MAX_REDIRECTS + 1):
                sent = self._safe(url)
                with (
                    self._logged("GET", url) as entry,
                    closing(self._transport.open("GET", sent, headers, silence=30.0, total=600.0)) as reply,
                ):
                    entry.outcome = str(reply.status)
                    target = reply.headers.get("location", "")
                    if reply.status not in (301, 302, 303, 307, 308) or not target:
                        began, length = _place(reply, offset)
                        yield Download(began, length, _chunks(reply, began, entry))
                        return
                url = hosts.redirect_target(url, target)
            raise RefusedUrl(f"the image's address leads in circles: {hosts.show_url(url)}")

    def close(self) -> None:
        """Close all connections; calls that wait for an answer end with an error."""
        if self._made is not None:
            self._made.close()

    @property
    def _transport(self) -> Transport:
        # requests and urllib3 take a tenth of a second to load: a rerun of what is done needs neither.
        from flux_lora_cli.service.transport import Transport

        with self._lock:
            self._made = self._made or Transport(self._pool_size, self._env)
            return self._made

    def _ask(
        self,
        kind: Kind,
        path: str,
        decode: Callable[[Answer], T],
        body: Json | None = None,
        seconds: float | None = None,
    ) -> T:
        """Send one request of the API, with the key: a POST where there is a body."""
        headers, data = self._headers, None
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
                "utf-8", "replace"
            )
        with self._redactor.guard():
            method = "GET" if body is None else "POST"
            answer = self._send(kind, method, self.base_url + path, headers, data, seconds=seconds)
            date = envelope.http_date(answer.headers.get("date", ""))
            if date is not None:  # whole seconds, cut off: half a second is added
                self.clock_ahead = date.timestamp() + 0.5 - datetime.now(UTC).timestamp()
            return decode(answer)

    def _send(
        self,
        kind: Kind,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        file: tuple[str, bytes, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        total = seconds or _SECONDS.get(kind, 30.0)
        with (
            self._logged(method, url) as entry,
            closing(self._transport.open(method, url, headers, body, file=file, total=total)) as reply,
        ):
            limit = envelope.LIST_LIMIT if kind in ("list", "models", "bill") else envelope.ANSWER_LIMIT
            data = reply.read(limit, envelope.INLINE_LIMIT)
            entry.outcome, entry.size = str(reply.status), len(data)
            return reply.answer(data)

    def _upload(self, name: str, data: bytes, media_type: str) -> str:
        wanted = {"filename": name, "size": len(data), "content_type": media_type}
        try:
            ticket = self._ask("upload", "/api/v3/media/uploads", envelope.decode_upload, wanted)
        except Rejected:  # an older service, which takes the file at once
            url, file = f"{self.base_url}/api/v3/media/upload/binary", (name, data, media_type)
            return envelope.decode_upload(self._send("upload", "POST", url, self._headers, file=file)).download_url
        url = self._safe(ticket.url, ticket.download_url, *ticket.headers.values())
        headers = {**self._anonymous, "Content-Type": media_type, **ticket.headers}
        envelope.check_upload_put(self._send("upload", "PUT", url, headers, data))
        return ticket.download_url

    def _safe(self, url: str, *others: str) -> str:
        """A URL that the service gave, as it can be sent; refused where it would carry the key elsewhere."""
        sent = hosts.fetchable_url(url, allow_loopback=hosts.is_loopback(hosts.origin(self.base_url)[1]))
        if any(map(self._redactor.found_in, (sent, *others))):
            raise RefusedUrl("an address given by the service contains the API key, and is not used")
        return sent

    def _shown(self, task: Task) -> Task:
        """A task without the key, which a server may have echoed into it."""
        clean = self._redactor.clean
        outputs = tuple(clean(output) if len(output) < 10_000 else output for output in task.outputs)  # longer: base64
        return replace(task, error=clean(task.error), model=task.model and clean(task.model), outputs=outputs)

    @contextmanager
    def _logged(self, method: str, url: str) -> Iterator[_Entry]:
        entry, started = _Entry(), time.monotonic()
        try:
            yield entry
        except FluxLoraError as error:
            entry.outcome = f"{entry.outcome} {error.code}".strip()
            raise
        finally:
            if self._log is not None:
                took = f"{(time.monotonic() - started) * 1000:.0f} ms"
                self._log(
                    self._redactor.clean(f"{method} {hosts.show_url(url)} {entry.outcome} {took} {entry.size} bytes")
                )


def _place(reply: Reply, offset: int) -> tuple[int, int | None]:
    """Where the bytes begin, and the length of the whole file; raises where there are no bytes of the image."""
    status, host = reply.status, reply.host
    text = reply.headers.get("content-length", "")
    length = int(text) if re.fullmatch("[0-9]{1,15}", text) and not reply.packed else None
    if status == 206:
        form = r"\s*bytes\s+([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)\s*"
        found = re.fullmatch(form, reply.headers.get("content-range", ""))
        began = int(found[1]) if found else 0
        if began not in (0, offset) or (offset and (found is None or reply.packed)):
            raise BadImage(f"{host} does not go on where it was asked to")
        return began, int(found[2]) if found and found[2] != "*" else length
    if status in (200, 203):
        return 0, length
    if status in (401, 403, 404, 410):
        raise OutputGone(f"{host} does not have the image ({status}); images are deleted after 7 days")
    if status in (408, 425, 429) or status >= 500:
        envelope.raise_status(reply.answer(), status, "poll", "")
    if 300 <= status < 400:
        raise RefusedUrl(f"{host} redirects the image to nowhere ({status})")
    raise BadImage(f"{host} answered {status} in place of the image")


def _chunks(reply: Reply, began: int, entry: _Entry) -> Iterator[bytes]:
    started = time.monotonic()
    for piece in reply.pieces():
        entry.size += len(piece)
        if began + entry.size > MAX_IMAGE:
            raise BadImage(f"the file at {reply.host} is larger than {MAX_IMAGE // 1_000_000} MB")
        yield piece
        seconds = time.monotonic() - started
        if seconds > SLOW_AFTER and entry.size < MIN_SPEED * seconds:
            raise Uncertain(f"{reply.host} sends too slowly: {entry.size} bytes in {seconds:.0f} s", "Try again later.")
