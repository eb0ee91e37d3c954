"""The API client: one try per call; when to try again is the caller's business."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import BadAnswer, BadImage, NotFoundError, OutputGone, RefusedUrl, Rejected
from flux_lora_cli.service import envelope, hosts, wire
from flux_lora_cli.service.envelope import Answer, Kind
from flux_lora_cli.service.hosts import DEFAULT_BASE_URL, Redactor
from flux_lora_cli.service.models import Version
from flux_lora_cli.service.wire import Task

if TYPE_CHECKING:
    from flux_lora_cli.service.transport import Reply, Transport

#: Bytes of a local image that go inline, as a data URI; larger ones are uploaded. [CONTRACT: money and identity]
MAX_INLINE_IMAGE = 1_000_000
#: Redirects that are followed, and bytes of an image. [CONTRACT]
MAX_REDIRECTS, MAX_IMAGE = 5, 100_000_000
#: Bytes of an ordinary answer, and of a list, which may echo input images. [CONTRACT: limits]
ANSWER_LIMIT, LIST_LIMIT = 1 << 20, 64 << 20
#: Seconds for a call, 30 for others; sync mode answers after 90 s. [FAULTS: retry policy]
_SECONDS: Mapping[Kind, float] = {"submit": 60.0, "upload": 120.0, "list": 120.0, "models": 120.0}
_SYNC_SECONDS = 120.0
T = TypeVar("T")
Json = Mapping[str, Any]
Headers = Mapping[str, str]
Time = datetime | None


@dataclass(frozen=True)
class Download:
    offset: int  # of its first byte: 0, or the one that was asked for
    chunks: Iterator[bytes]  # raises Uncertain where they break off, BadImage where there are too many


class Client:
    """Calls of the API, decoded. Safe to use from several threads. Raises only FluxLoraError.

    Args:
        allow_custom_host: the key may go to a host that is not WaveSpeed's.
        env: names proxies, certificates and ``WAVESPEED_CLIENT_NAME``; this process's environment where it is None.
        log: gets one line per request, free of secrets.

    Attributes:
        clock_ahead: seconds by which the service's clock is ahead of this machine's; None until it answered.
        price_note: what was odd about the latest price; "" for nothing.

    Raises:
        UsageError: the key may not go to the base URL.
    """

    def __init__(
        self,
        *,
        key: str,
        base_url: str = DEFAULT_BASE_URL,
        allow_custom_host: bool = False,
        env: Mapping[str, str] | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._redactor = Redactor(key)
        with self._redactor.guard():
            self.base_url = hosts.checked_base_url(base_url, allow_custom_host=allow_custom_host)
        self.clock_ahead: float | None = None
        self.price_note = ""
        self._env = dict(os.environ) if env is None else env
        self._log = log
        self._uploads, self._upload_locks = dict[str, str](), dict[str, threading.Lock]()
        name = re.sub(r"[^!-~]", "", self._env.get("WAVESPEED_CLIENT_NAME", ""))[:100]
        # Compressed answers would only be a way to send bombs; those that come all the same are unpacked here.
        self._anonymous = {"User-Agent": f"flux-lora/{__version__}", "Accept-Encoding": "identity"}
        self._headers = {
            **self._anonymous,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "X-Client-Name": name or "flux-lora",
            "X-Client-Version": __version__,
            "X-Client-OS": platform.system().lower() or "unknown",
            "Authorization": f"Bearer {key}",
        }

    def submit(self, model: str, body: Json, version: Version = "v2") -> Task:
        """Ask for images: one POST, never repeated."""
        return self._ask("submit", f"/api/{version}/{quote(model)}", wire.decode_submit, body)

    def result(self, task_id: str, version: Version = "v2") -> Task:
        # The path comes from the ID alone: the service's own ``urls.get`` may name another host.
        path = f"/api/{version}/predictions/{quote(task_id, safe='')}/result"
        return self._ask("poll", path, lambda answer: wire.decode_task(answer, task_id))

    def predictions(self, page: int = 1, page_size: int = 100, created_after: Time = None) -> list[Task]:
        """One page of recent tasks, newest first; an empty one is the end. Raises NoSuchList where there is none."""
        body = _page(page, page_size, created_after=created_after) | {"include_inputs": True}
        return self._ask("list", "/api/v3/predictions", wire.decode_predictions, body)

    def price(self, model: str, body: Json) -> Decimal | None:
        """What one request would cost in all, USD; None where the service does not say."""
        request = {"model_id": model, "inputs": dict(body)}
        price, self.price_note = self._ask("price", "/api/v3/model/price", wire.decode_price, request)
        if price is None and not self.price_note:  # older services have the price of one image
            unit, _ = self._ask("price", "/api/v3/model/pricing", wire.decode_price, {"model_id": model})
            images = body.get("num_images", 1)
            return unit * images if unit is not None and isinstance(images, int) else None
        return price

    def balance(self) -> Decimal | None:
        """The account's credit, USD; None where the service does not say."""
        return self._ask("balance", "/api/v3/balance", wire.decode_balance)

    def models(self) -> Any:
        """The catalogue as the service has it, without its envelope."""

        def decode(answer: Answer) -> Any:
            key = self._redactor.key.encode()
            if len(key) >= hosts.SHORTEST_FOUND and key in answer.body:
                raise BadAnswer(f"the catalogue of {answer.host} contains the API key, and is not used")
            return envelope.open_envelope(answer, "models")

        return self._ask("models", "/api/v3/models", decode)

    def bill(self, page: int, page_size: int, task_ids: Sequence[str], start: Time, end: Time) -> wire.BillPage:
        """One page of the bill: of at most 100 tasks, or of a time, ``end`` excluded."""
        body = _page(page, page_size, start_time=start, end_time=end)
        body |= {"prediction_uuids": list(task_ids)} if task_ids else {}
        return self._ask("bill", "/api/v3/billings/search", wire.decode_bill, body)

    def upload(self, path: str, media_type: str) -> str:
        """A local image as the API takes it: a data URI up to 1 MB, else the URL of an upload, made once for all."""
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
                with self._transport.open("GET", sent, headers, total=600.0, silence=30.0) as reply:
                    target = reply.answer.headers.get("location", "")
                    if reply.answer.status not in (301, 302, 303, 307, 308) or not target:
                        began = _first_byte(reply, offset)
                        yield Download(began, _chunks(reply, began))
                        return
                url = hosts.redirect_target(url, target)
            raise RefusedUrl(f"the image's address redirects more than {MAX_REDIRECTS} times: {hosts.show_url(url)}")

    def close(self) -> None:
        if "_transport" in self.__dict__:
            self._transport.close()

    @cached_property
    def _transport(self) -> Transport:
        # requests and urllib3 take a tenth of a second to load: a rerun of what is done needs neither.
        from flux_lora_cli.service.transport import Transport

        return Transport(self._env, self._redactor.clean, self._log)

    def _ask(self, kind: Kind, path: str, decode: Callable[[Answer], T], body: Json | None = None) -> T:
        """Send one request of the API, with the key: a POST where there is a body."""
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        seconds = _SYNC_SECONDS if body and body.get("enable_sync_mode") is True else _SECONDS.get(kind, 30.0)
        limit = LIST_LIMIT if kind in ("list", "models", "bill") else ANSWER_LIMIT
        with self._redactor.guard():
            answer = self._send(
                "GET" if body is None else "POST", self.base_url + path, self._headers, data, seconds, limit
            )
            date = envelope.http_date(answer.headers.get("date", ""))
            if date is not None:  # whole seconds, cut off: half a second is added
                self.clock_ahead = date.timestamp() + 0.5 - datetime.now(UTC).timestamp()
            return decode(answer)

    def _send(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | None,
        seconds: float = _SECONDS["upload"],
        limit: int = ANSWER_LIMIT,
    ) -> Answer:
        with self._transport.open(method, url, headers, body, total=seconds) as reply:
            return reply.read(limit)

    def _upload(self, name: str, data: bytes, media_type: str) -> str:
        wanted = {"filename": name, "size": len(data), "content_type": media_type}
        try:
            put_url, more, download_url = self._ask("upload", "/api/v3/media/uploads", wire.decode_upload, wanted)
        except Rejected:  # an older service, which takes the file at once
            from urllib3 import encode_multipart_formdata

            form, content_type = encode_multipart_formdata({"file": (name, data, media_type)})
            headers = {**self._headers, "Content-Type": content_type}
            answer = self._send("POST", f"{self.base_url}/api/v3/media/upload/binary", headers, form)
            return wire.decode_upload(answer)[2]
        url = self._safe(put_url, download_url, *more.values())
        wire.check_upload_put(self._send("PUT", url, {**self._anonymous, "Content-Type": media_type, **more}, data))
        return download_url

    def _safe(self, url: str, *others: str) -> str:
        """A URL that the service gave, as it can be sent; refused where it would carry the key elsewhere."""
        sent = hosts.fetchable_url(url, allow_loopback=hosts.is_loopback(hosts.origin(self.base_url)[1]))
        if any(map(self._redactor.found_in, (sent, *others))):
            raise RefusedUrl("an address given by the service contains the API key, and is not used")
        return sent


def _page(page: int, page_size: int, **times: Time) -> dict[str, Any]:
    """One page of a search, counted from 1; times in whole seconds of UTC, as the official clients write them."""
    found = {name: at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for name, at in times.items() if at is not None}
    return {"page": page, "page_size": page_size, **found}


def _first_byte(reply: Reply, offset: int) -> int:
    """Which byte of the image comes first; raises where there are no bytes of it."""
    status, host = reply.answer.status, reply.answer.host
    if status == 206:
        found = re.match(r"\s*bytes\s+([0-9]{1,15})-", reply.answer.headers.get("content-range", ""))
        began = int(found[1]) if found else 0
        if began not in (0, offset) or (offset and (found is None or reply.packed)):
            raise BadImage(f"{host} did not resume the download where it was asked to")
        return began
    if status in (200, 203):
        return 0
    if status in (401, 403, 404, 410):
        raise OutputGone(f"{host} does not have the image ({status})")
    if status in (408, 425, 429) or status >= 500:
        envelope.raise_status(reply.answer, status, "poll", "")
    raise BadImage(f"{host} answered {status} instead of the image")


def _chunks(reply: Reply, began: int) -> Iterator[bytes]:
    for piece in reply.pieces():
        if began + reply.size > MAX_IMAGE:
            raise BadImage(f"the file at {reply.answer.host} is larger than {MAX_IMAGE // 1_000_000} MB")
        yield piece


#: A client is made by a verb, as the package's other functions are.
connect = Client
