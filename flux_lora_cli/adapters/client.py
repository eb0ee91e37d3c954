"""The API client: one try each; when to try again is the caller's business."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from flux_lora_cli.adapters.clock import SystemClock
from flux_lora_cli.domain import answers
from flux_lora_cli.domain.hosts import check_fetchable, is_loopback, origin
from flux_lora_cli.domain.secrets import Redactor
from flux_lora_cli.domain.task import Task
from flux_lora_cli.domain.text import printable
from flux_lora_cli.domain.wire import (
    DEFAULT_BASE_URL,
    Api,
    HttpRequest,
    HttpResponse,
    Version,
    put_file,
)
from flux_lora_cli.errors import FluxLoraError, MissingKey, NotFoundError, Rejected, UsageError

if TYPE_CHECKING:
    from flux_lora_cli.adapters.http.transport import Clock, Transport

_BOTH_WAYS = (
    "Set WAVESPEED_API_KEY (a key is made at https://wavespeed.ai/accesskey) or name a file with --api-key-file; "
    "or try everything without a key and at no cost with --sandbox."
)
#: Longer is no key.
_KEY_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Key:
    """The API key, and what its owner should be told about where it lay ("" for nothing)."""

    value: str
    warning: str = ""

    def __repr__(self) -> str:
        return "Key(…)"


def load_key(env: Mapping[str, str], key_file: Path | None = None) -> Key:
    """The key from ``key_file``, else from ``WAVESPEED_API_KEY``.

    Raises:
        MissingKey: there is none.
        NotFoundError: the key file does not exist.
        UsageError: what is there can be no key.
    """
    if key_file is None:
        return Key(_checked_key(env.get("WAVESPEED_API_KEY", ""), "WAVESPEED_API_KEY"))
    try:
        with key_file.open("rb") as file:
            mode = key_file.stat().st_mode
            data = file.read(_KEY_LIMIT + 1)
    except FileNotFoundError:
        raise NotFoundError(f"no key file: {key_file}", _BOTH_WAYS) from None
    except OSError as error:
        raise MissingKey(f"the key file {key_file} cannot be read: {error.strerror}", _BOTH_WAYS) from None
    key = _checked_key(data.decode("utf-8-sig", "replace"), str(key_file))
    open_to_all = stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH)
    warning = f"other users of this machine can read {key_file}: chmod 600 it" if open_to_all else ""
    return Key(key, warning)


def _checked_key(text: str, place: str) -> str:
    key = text.strip()
    if not key:
        raise MissingKey(f"no API key: {place} is empty or not set", _BOTH_WAYS)
    if len(key) > _KEY_LIMIT or not key.isascii() or any(c <= " " or c == "\x7f" for c in key):
        raise UsageError(
            f"{place} holds no API key: a key is one word of plain characters",
            "Copy the key again; line breaks, spaces and quotes around it are no part of it.",
        )
    return key


def check_host(base_url: str, allow_custom_host: bool) -> None:
    """Whether the key may go to this base URL; asked before anything is sent.

    Raises:
        UsageError: it may not.
    """
    scheme, host, _port = origin(base_url)
    if allow_custom_host or is_loopback(host) or origin(base_url) == origin(DEFAULT_BASE_URL):
        return
    if scheme != "https":
        raise UsageError(
            f"{printable(base_url)} is plain http: everybody on the way could read the API key",
            "Use https; or add --allow-custom-host if that is meant.",
        )
    raise UsageError(
        f"{printable(host)} is not WaveSpeed's API; it would get the API key",
        "Add --allow-custom-host if that is meant.",
    )


def connect(
    *,
    key: str,
    clock: Clock | None = None,
    base_url: str = DEFAULT_BASE_URL,
    version: Version = "v2",
    allow_custom_host: bool = False,
    pool_size: int = 16,
    env: Mapping[str, str] | None = None,
    log: Callable[[str], None] | None = None,
) -> Client:
    """A client for one base URL. Nothing is sent yet.

    Args:
        pool_size: connections kept for each origin; no less than the number of threads.
        env: for ``WAVESPEED_CLIENT_NAME``.
        log: gets one line a request, free of secrets.

    Raises:
        UsageError: the key may not go there.
    """
    api = Api(base_url, version)
    check_host(api.base_url, allow_custom_host)
    name = "".join(c for c in (env or {}).get("WAVESPEED_CLIENT_NAME", "") if " " < c <= "~")[:100]

    def transport() -> Transport:
        # requests and urllib3 take a tenth of a second to load: a rerun of what is done needs neither.
        from flux_lora_cli.adapters.http import Transport

        return Transport(api.base_url, key, clock or SystemClock(), pool_size, name or "flux-lora", log)

    return Client(transport, api)


class Client:
    """Calls of the API, decoded. Safe to use from several threads.

    Every method raises the leaves of ServiceError and AuthError that ``domain.envelope.raise_status`` and
    ``adapters.http.faults.translate`` name, and OutOfCredit where it costs something.

    Args:
        transport: what sends, or what makes it when it is first needed.
    """

    def __init__(self, transport: Transport | Callable[[], Transport], api: Api) -> None:
        self._transport = transport
        self._making = Lock()
        self.api = api

    @property
    def transport(self) -> Transport:
        """What sends."""
        if callable(self._transport):
            with self._making:
                if callable(self._transport):
                    self._transport = self._transport()
        return self._transport

    @property
    def redactor(self) -> Redactor:
        """Cleans text of the key."""
        return self.transport.redactor

    def submit(self, model: str, request_input: Mapping[str, Any]) -> Task:
        """Ask for images: one POST, never repeated."""
        return self._task(self.api.submit(model, request_input), answers.decode_submit)

    def result(self, task_id: str) -> Task:
        """Look at a task once."""
        return self._task(self.api.result(task_id), lambda answer: answers.decode_task(answer, task_id))

    def predictions(
        self,
        page: int = 1,
        page_size: int = 100,
        model: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> list[Task]:
        """One page of recent tasks, newest first; an empty one is the end."""
        request = self.api.predictions(page, page_size, model, created_after, created_before)
        with self._clean():
            response = self.transport.send(request)
            tasks = answers.decode_predictions(response)
        return [_cleaned(task, self.redactor) for task in tasks] if b"\\" in response.body else tasks

    def price(self, model: str, request_input: Mapping[str, Any]) -> Decimal | None:
        """What one request would cost in all, USD; None where the service does not say."""
        with self._clean():
            whole = answers.decode_price(self.transport.send(self.api.price(model, request_input)))
            if whole is not None:
                return whole
            unit = answers.decode_unit_price(self.transport.send(self.api.pricing(model)))
        images = request_input.get("num_images", 1)
        return None if unit is None or not isinstance(images, int) else unit * images

    def balance(self) -> Decimal | None:
        """The account's credit, USD; None where the service does not say."""
        with self._clean():
            try:
                return answers.decode_balance(self.transport.send(self.api.balance()))
            except Rejected:
                return None

    def probe(self) -> HttpResponse:
        """The bare answer to a harmless call: its headers, time and round trip, for ``doctor``."""
        return self.transport.send(self.api.balance())

    def upload(self, path: str | Path, media_type: str) -> str:
        """Give the service a local file; its URL there.

        Raises:
            NotFoundError: the file cannot be read.
            RefusedUrl: the service wants it put somewhere that nothing is ever sent to.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise NotFoundError(f"cannot read {path}: {error.strerror}") from None
        name = f"input{path.suffix.lower() if path.suffix.isascii() else ''}"
        with self._clean():
            ticket_request = self.api.upload_ticket(name, len(data), media_type)
            ticket = answers.decode_upload_ticket(self.transport.send(ticket_request))
            if ticket is None:
                request = self.api.upload_binary(name, data, media_type)
                return answers.decode_upload_binary(self.transport.send(request))
            check_fetchable(ticket.url, allow_loopback=is_loopback(origin(self.api.base_url)[1]))
            headers = {"Content-Type": media_type, **{n.title(): v for n, v in ticket.headers.items()}}
            answers.decode_upload_put(self.transport.send(put_file(ticket.url, data, headers)))
            return ticket.download_url

    def download(self, url: str, limit_bytes: int) -> Iterator[bytes]:
        """The bytes behind an output's URL, in pieces; see ``Transport.stream``."""
        return self.transport.stream(url, limit_bytes)

    def close(self) -> None:
        """Close all connections."""
        if not callable(self._transport):
            self._transport.close()

    def _task(self, request: HttpRequest, decode: Callable[[HttpResponse], Task]) -> Task:
        with self._clean():
            response = self.transport.send(request)
            task = decode(response)
        # The body was cleaned as bytes; only an escape can have hidden the key from that.
        return _cleaned(task, self.redactor) if b"\\" in response.body else task

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """No error's text carries the key out, whatever the service echoed."""
        try:
            yield
        except FluxLoraError as error:
            error.message = self.redactor.clean(error.message)
            error.hint = self.redactor.clean(error.hint)
            error.args = (error.message,)
            raise


def _cleaned(task: Task, redactor: Redactor) -> Task:
    return replace(
        task,
        model=redactor.clean(task.model) if task.model else task.model,
        created_at=redactor.clean(task.created_at) if task.created_at else task.created_at,
        error=redactor.clean(task.error),
        outputs=tuple(redactor.clean(output) for output in task.outputs),
    )
