"""Requests of the API, built without I/O.

What goes out is here; what comes back is read in ``answers``. Paths and field
names: the API page for v2, the v3 documentation for the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from flux_lora_cli.errors import UsageError

Version = Literal["v2", "v3"]
Kind = Literal["submit", "look", "list", "price", "balance", "upload"]

#: The service itself. [official client source]
DEFAULT_BASE_URL = "https://api.wavespeed.ai"

MIB = 1024 * 1024
#: Bytes of an ordinary answer.
ANSWER_LIMIT = MIB
#: Bytes of an answer that carries its images inline, as base64.
INLINE_LIMIT = 50 * MIB
#: Bytes of a page of the predictions list, which may echo input images.
LIST_LIMIT = 64 * MIB

CONNECT_SECONDS = 10.0

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_EPOCH = datetime.fromtimestamp(0, timezone.utc)
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, complete but for the key.

    Attributes:
        connect_timeout: seconds to connect.
        read_timeout: seconds of silence that end it.
        total_timeout: seconds from the end of sending to the answer's last byte.
        limit_bytes: most bytes of the answer, decompressed.
        kind: what it is for; an error's meaning depends on it.
        authorized: whether the key belongs to it.
    """

    method: str
    url: str
    kind: Kind
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    connect_timeout: float = CONNECT_SECONDS
    read_timeout: float = 30.0
    total_timeout: float = 30.0
    limit_bytes: int = ANSWER_LIMIT
    authorized: bool = True


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One answer.

    Attributes:
        headers: names in lower case.
        received_at: the wall clock when its headers had come, UTC; for ``Retry-After`` dates and clock skew.
        elapsed: seconds from the first byte sent to the last received.
        host: who answered; for messages.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime = _EPOCH
    elapsed: float = 0.0
    host: str = "the service"


def is_task_id(text: object) -> bool:
    """Whether this is a plain token, safe in a URL, a path and a terminal."""
    return isinstance(text, str) and _TASK_ID.fullmatch(text) is not None


class Api:
    """The API under one base URL.

    Args:
        base_url: scheme, host, port and perhaps a path prefix.
        version: of submit and result; everything else exists on v3 only.

    Raises:
        UsageError: the base URL is no http(s) URL, or carries a user name, query or fragment.
    """

    def __init__(self, base_url: str = DEFAULT_BASE_URL, version: Version = "v2") -> None:
        self.base_url = checked_base_url(base_url)
        self.version: Version = version

    def submit(self, model: str, request_input: Mapping[str, Any]) -> HttpRequest:
        """Ask for images. ``model`` is a full id."""
        url = f"{self.base_url}/api/{self.version}/{_model_path(model)}"
        return _post("submit", url, request_input, read_timeout=60.0, total_timeout=60.0)

    def result(self, task_id: str) -> HttpRequest:
        """Look at a task. The URL comes from the id alone: the service's own ``urls.get`` may name another host."""
        if not is_task_id(task_id):
            raise UsageError(f"not a task id: {task_id[:80]!r}", "A task id has letters, digits, - and _ only.")
        url = f"{self.base_url}/api/{self.version}/predictions/{task_id}/result"
        return HttpRequest("GET", url, "look", {"Accept": "application/json"})

    def predictions(
        self,
        page: int = 1,
        page_size: int = 100,
        model: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> HttpRequest:
        """One page of recent tasks, newest first, with their inputs. ``page`` counts from 1."""
        body: dict[str, Any] = {"page": page, "page_size": page_size, "include_inputs": True}
        if model:
            body["model"] = model
        if created_after:
            body["created_after"] = _iso(created_after)
        if created_before:
            # Whole seconds go out; rounding down would leave out the last one.
            body["created_before"] = _iso(created_before + timedelta(seconds=1))
        url = f"{self.base_url}/api/v3/predictions"
        return _post("list", url, body, total_timeout=120.0, limit_bytes=LIST_LIMIT)

    def price(self, model: str, request_input: Mapping[str, Any]) -> HttpRequest:
        """What one request would cost, all its images together."""
        body = {"model_id": model, "inputs": dict(request_input)}
        return _post("price", f"{self.base_url}/api/v3/model/price", body)

    def pricing(self, model: str) -> HttpRequest:
        """The older price query: the price of a unit, which is an image."""
        return _post("price", f"{self.base_url}/api/v3/model/pricing", {"model_id": model})

    def balance(self) -> HttpRequest:
        """The account's credit."""
        return HttpRequest("GET", f"{self.base_url}/api/v3/balance", "balance", {"Accept": "application/json"})

    def upload_ticket(self, filename: str, size: int, content_type: str) -> HttpRequest:
        """Ask where to put a file of ``size`` bytes."""
        body = {"filename": filename, "size": size, "content_type": content_type}
        return _post("upload", f"{self.base_url}/api/v3/media/uploads", body)

    def upload_binary(self, filename: str, data: bytes, content_type: str) -> HttpRequest:
        """The older upload: the whole file as multipart, with the key."""
        boundary = _boundary(data)
        head = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="{_quoted(filename)}"\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        )
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Accept": "application/json",
        }
        url = f"{self.base_url}/api/v3/media/upload/binary"
        return HttpRequest("POST", url, "upload", headers, body, read_timeout=60.0, total_timeout=120.0)


def put_file(url: str, data: bytes, headers: Mapping[str, str]) -> HttpRequest:
    """Put a file where the ticket says. Another host's business: the key stays here."""
    return HttpRequest("PUT", url, "upload", headers, data, read_timeout=60.0, total_timeout=120.0, authorized=False)


def checked_base_url(base_url: str) -> str:
    """The base URL without a trailing slash.

    Raises:
        UsageError: it is no plain http(s) URL.
    """
    text = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    plain = re.fullmatch(r"[\x21-\x7e]+", text) and not (
        parts.query or parts.fragment or parts.username or parts.password or "@" in parts.netloc
    )
    if not (plain and port_is_fine and parts.hostname and parts.scheme in ("http", "https")):
        raise UsageError(
            f"not a base URL: {base_url[:200]!r}",
            f"It looks like {DEFAULT_BASE_URL}: http(s), a host, perhaps a port and a path.",
        )
    return text


def _post(kind: Kind, url: str, body: Mapping[str, Any], **options: Any) -> HttpRequest:
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    return HttpRequest("POST", url, kind, _JSON, data.encode("utf-8", "replace"), **options)


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value)  # type: ignore[call-overload]  # json turns the TypeError into the right message


def _model_path(model: str) -> str:
    if not _MODEL.fullmatch(model):
        raise UsageError(f"not a model id: {model[:80]!r}", "A model id looks like wavespeed-ai/flux-dev-lora.")
    return quote(model)


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _boundary(data: bytes) -> str:
    """A boundary that is not in the data. Counted, not random: the same file makes the same request."""
    number = 0
    while (boundary := f"flux-lora-{number:016x}").encode() in data:
        number += 1
    return boundary


def _quoted(filename: str) -> str:
    """A filename inside a quoted string of a multipart header. [WHATWG multipart/form-data encoding]"""
    return filename.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
