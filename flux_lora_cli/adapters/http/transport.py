"""Sends requests, once each, and streams downloads."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from http.client import HTTPException
from typing import Protocol
from urllib.parse import urljoin

import requests
import urllib3

from flux_lora_cli._version import __version__
from flux_lora_cli.adapters.http.bodies import looks_inline, pieces_of
from flux_lora_cli.adapters.http.connections import exchange
from flux_lora_cli.adapters.http.faults import translate
from flux_lora_cli.adapters.http.sending import Adapters, patience, prepare
from flux_lora_cli.domain.envelope import retry_after
from flux_lora_cli.domain.hosts import check_fetchable, is_loopback, origin, show_host, show_url
from flux_lora_cli.domain.secrets import Redactor
from flux_lora_cli.domain.wire import INLINE_LIMIT, HttpRequest, HttpResponse
from flux_lora_cli.errors import (
    BadAnswer,
    BadImage,
    FluxLoraError,
    OutputGone,
    RateLimited,
    RefusedUrl,
    Uncertain,
)

#: Redirects of a download that are followed.
MAX_REDIRECTS = 5
#: Seconds: to connect, of silence, and in all for one download.
DOWNLOAD_CONNECT, DOWNLOAD_SILENCE, DOWNLOAD_TOTAL = 10.0, 30.0, 600.0
#: After this many seconds a download must have averaged this many bytes a second.
SLOW_AFTER, SLOWEST = 30.0, 1024.0

_FOREIGN = (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError)


class Clock(Protocol):
    """The wall clock."""

    def now(self) -> datetime:
        """Aware, in UTC."""


class Transport:
    """HTTP for one base URL. Safe to use from several threads.

    Args:
        base_url: the only origin that ever gets the key.
        api_key: None where there is none to send.
        pool_size: connections kept for each origin; no less than the number of threads.
        client_name: ``X-Client-Name``.
        log: gets one line a request, free of secrets and query strings.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        clock: Clock,
        pool_size: int = 16,
        client_name: str = "flux-lora",
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._origin = origin(base_url)
        self._local = is_loopback(self._origin[1])
        self._key = api_key
        self.redactor = Redactor(api_key)
        self._clock = clock
        self._adapters = Adapters(pool_size)
        self._log = log
        agent = f"flux-lora/{__version__}"
        # Compressed answers would only be a way to send bombs; those that come anyway are unpacked here.
        self._anonymous = {"User-Agent": agent, "Accept-Encoding": "identity"}
        self._named = {
            **self._anonymous,
            "X-Client-Name": client_name,
            "X-Client-Version": __version__,
            "X-Client-OS": platform.system().lower() or "unknown",
        }

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send once; never redirected, never repeated.

        Raises:
            NeverSent, InsecureConnection: nothing left this machine.
            Uncertain: it may have arrived.
            BadAnswer: the answer is over its limit, or packed in a way that cannot be read.
        """
        started = time.monotonic()
        timeouts = (request.connect_timeout, request.read_timeout, request.total_timeout)
        response = self._open(request.method, request.url, self._headers(request), request.body, timeouts)
        host = show_host(request.url)
        with closing(response.raw):
            received_at = self._clock.now()
            try:
                body = self._read(response, request.limit_bytes, host)
            except FluxLoraError as error:
                self._note(request.method, request.url, f"{response.status_code} {error.code}", started, 0)
                raise
        elapsed = time.monotonic() - started
        self._note(request.method, request.url, response.status_code, started, len(body))
        headers: Mapping[str, str] = response.headers
        if self.redactor.found_in("\n".join(headers.values())):
            headers = {name: self.redactor.clean(value) for name, value in headers.items()}
        clean = self.redactor.clean_bytes(body)
        return HttpResponse(response.status_code, headers, clean, received_at, elapsed, host)

    def stream(self, url: str, limit_bytes: int) -> Iterator[bytes]:
        """The bytes behind the URL of an output, in pieces; fetched without key and cookies.

        Raises:
            RefusedUrl: the URL, or one it redirects to, is never fetched.
            OutputGone: the host does not have it any more.
            RateLimited, NeverSent, InsecureConnection, Uncertain: worth another try.
            BadImage: too long, too slow, or no file at all.
        """
        started = time.monotonic()
        response, url = self._follow(url)
        size, ended = 0, " not wanted"  # by whoever reads: it is no image, or cannot be written
        try:
            with closing(response.raw):
                self._check_download(response, url)
                for piece in self._pieces(response, show_host(url), limit_bytes):
                    size += len(piece)
                    if size > limit_bytes:
                        raise BadImage(f"the file at {show_host(url)} is larger than {limit_bytes // 1_000_000} MB")
                    yield piece
                    seconds = time.monotonic() - started
                    if seconds > SLOW_AFTER and size < SLOWEST * seconds:
                        raise Uncertain(f"{show_host(url)} sends too slowly: {size} bytes in {seconds:.0f} s")
            ended = ""
        except FluxLoraError as error:
            ended = f" {error.code}"
            raise
        finally:
            self._note("GET", url, f"{response.status_code}{ended}", started, size)

    def close(self) -> None:
        """Close all connections."""
        self._adapters.close()

    def _headers(self, request: HttpRequest) -> dict[str, str]:
        if not request.authorized:
            self._keep_key_home(request.url, *request.headers.values())
            return {**self._anonymous, **request.headers}
        headers = {**self._named, **request.headers}
        if self._key is not None and origin(request.url) == self._origin:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _keep_key_home(self, *texts: str) -> None:
        """Refuse what would carry the key elsewhere: a server that echoes it may have put it into a URL."""
        if any(self.redactor.found_in(text) for text in texts):
            raise RefusedUrl("an address given by the service contains the API key, and is not used")

    def _follow(self, url: str) -> tuple[requests.Response, str]:
        timeouts = (DOWNLOAD_CONNECT, DOWNLOAD_SILENCE, DOWNLOAD_TOTAL)
        seen = {url}
        while True:
            check_fetchable(url, allow_loopback=self._local)
            self._keep_key_home(url)
            started = time.monotonic()
            response = self._open("GET", url, dict(self._anonymous), None, timeouts)
            target = response.headers.get("location")
            if response.status_code not in (301, 302, 303, 307, 308) or not target:
                return response, url
            response.raw.close()
            self._note("GET", url, response.status_code, started, 0)
            url = _join(url, target)
            if url in seen or len(seen) > MAX_REDIRECTS:
                raise RefusedUrl(f"the image's address leads in circles: {show_url(url)}")
            seen.add(url)

    def _open(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | None,
        timeouts: tuple[float, float, float],
    ) -> requests.Response:
        connect, silence, total = timeouts
        started = time.monotonic()
        exchange.begin(total, silence)
        try:
            where = origin(url)
            return self._adapters.get(where[0]).send(
                prepare(method, url, headers, body),
                timeout=patience(connect, silence),  # type: ignore[arg-type]  # it takes one ready-made, too
                proxies=self._adapters.proxies(*where),
            )
        except _FOREIGN as error:
            raise self._translated(error, method, url, started) from None

    def _translated(self, error: BaseException, method: str, url: str, started: float) -> FluxLoraError:
        ours = translate(error, show_host(url), connecting=exchange.connecting)
        ours.message = self.redactor.clean(ours.message)
        self._note(method, url, ours.code, started, 0)
        return ours

    def _read(self, response: requests.Response, limit: int, host: str) -> bytes:
        """A whole body; up to INLINE_LIMIT as long as it reads like an image inside JSON."""
        body = bytearray()
        for piece in self._pieces(response, host, max(limit, INLINE_LIMIT)):
            body += piece
            if len(body) > max(limit, INLINE_LIMIT) or (len(body) > limit and not looks_inline(piece)):
                raise BadAnswer(f"{host} sent an answer of absurd length (over {limit // 1024} KiB)")
        return bytes(body)

    def _pieces(self, response: requests.Response, host: str, limit: int) -> Iterator[bytes]:
        encoding = response.headers.get("content-encoding", "")
        try:
            yield from pieces_of(response.raw, encoding, limit, host)
        except _FOREIGN as error:
            raise translate(error, host) from None

    def _check_download(self, response: requests.Response, url: str) -> None:
        status, host = response.status_code, show_host(url)
        if status == 200:
            return
        if status in (401, 403, 404, 410):
            raise OutputGone(f"{host} does not have the image any more ({status}); images are deleted after 7 days")
        wait = retry_after(HttpResponse(status, response.headers, b"", self._clock.now()))
        if status == 429:
            raise RateLimited(f"{host} says that downloads come too fast (429)", retry_after=wait)
        if status == 408 or status >= 500:
            error = Uncertain(f"{host} had an error of its own ({status})")
            error.retry_after = wait
            raise error
        raise BadImage(f"{host} answered {status} in place of the image")

    def _note(self, method: str, url: str, outcome: object, started: float, size: int) -> None:
        if self._log is not None:
            milliseconds = (time.monotonic() - started) * 1000
            line = f"{method} {show_url(url)} {outcome} {milliseconds:.0f} ms {size} bytes"
            self._log(self.redactor.clean(line))


def _join(url: str, target: str) -> str:
    try:
        return urljoin(url, target.strip())
    except ValueError:
        raise RefusedUrl(f"{show_host(url)} redirects to a broken address") from None
