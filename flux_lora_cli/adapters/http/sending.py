"""requests, without what it does for every request anew: environment look-ups, CA files, cookies, redirects."""

from __future__ import annotations

import os
import re
import ssl
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

from flux_lora_cli.adapters.http.connections import POOLS, Answer, TrackedPool
from flux_lora_cli.domain.hosts import is_loopback, origin
from flux_lora_cli.errors import InsecureConnection

#: Connection pools kept, one an origin. Outputs come from few hosts.
_ORIGINS = 64
_AFTER_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
#: A path and query that go out as they are. [RFC 3986, pchar]
_PLAIN_TARGET = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")


class Adapter(HTTPAdapter):
    """An adapter whose pools share one TLS context, and which asks the environment for nothing."""

    def __init__(self, pool_size: int, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._direct: dict[tuple[str, str, int], TrackedPool] = {}
        super().__init__(pool_connections=_ORIGINS, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy not in self.proxy_manager:
            if self._context is not None:
                kwargs["ssl_context"] = self._context
            super().proxy_manager_for(proxy, **kwargs).pool_classes_by_scheme = POOLS
        return self.proxy_manager[proxy]

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        if proxies:
            return self.proxy_manager_for(proxies["all"]).connection_from_url(request.url)
        key = origin(request.url)
        pool = self._direct.get(key)
        if pool is None:
            if len(self._direct) >= _ORIGINS // 2:  # never one that the manager has closed to make room
                self._direct.clear()
            pool = self._direct[key] = self.poolmanager.connection_from_url(request.url)
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the shared context verifies."""

    def request_url(self, request: Any, proxies: Any) -> str:
        # Plain http goes to loopback only, and that never through a proxy: no absolute form is needed.
        return target(request.url)

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        # Not by its constructor, which makes a cookie jar: cookies are not wanted.
        response = requests.Response.__new__(requests.Response)
        response.status_code = resp.status
        ours = isinstance(resp, Answer)  # else somebody put other answers in place of the network's
        response.headers = resp.headers if ours else {name.lower(): value for name, value in resp.headers.items()}  # type: ignore[assignment]  # in lower case
        response.raw = resp
        response.url = req.url
        response.request = req
        return response


class Adapters:
    """One adapter for http, one for https; the latter, with its CA file, only when it is first needed."""

    def __init__(self, pool_size: int) -> None:
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._made: dict[str, Adapter] = {}
        self._proxies: dict[tuple[str, str, int], dict[str, str]] = {}

    def get(self, scheme: str) -> Adapter:
        """The adapter for a scheme."""
        with self._lock:
            if scheme not in self._made:
                context = tls_context() if scheme == "https" else None
                self._made[scheme] = Adapter(self._pool_size, context)
            return self._made[scheme]

    def proxies(self, scheme: str, host: str, port: int) -> dict[str, str]:
        """The proxy for an origin, by the environment (``HTTPS_PROXY``, ``NO_PROXY`` …), looked up once.

        Empty for a direct connection; loopback always is one.
        """
        key = (scheme, host, port)
        if key not in self._proxies:
            self._proxies[key] = _proxies(*key)
        return self._proxies[key]

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for adapter in self._made.values():
                adapter.close()


def prepare(method: str, url: str, headers: dict[str, str], body: bytes | None) -> requests.PreparedRequest:
    """A request exactly as given: nothing added from ``.netrc``, cookies or the environment."""
    prepared = requests.PreparedRequest()
    prepared.method = method
    prepared.url = url
    if body is not None:
        headers["Content-Length"] = str(len(body))
    prepared.headers = headers  # type: ignore[assignment]  # spelled by us, so its names need not be compared
    prepared.body = body
    prepared.hooks = {}
    return prepared


@lru_cache(maxsize=16)
def patience(connect: float, silence: float) -> urllib3.Timeout:
    """Seconds to connect, and of silence."""
    return urllib3.Timeout(connect=connect, read=silence)


def target(url: str) -> str:
    """Path and query of a URL, as a request's line can hold them."""
    written = _AFTER_HOST.sub("", url, count=1).partition("#")[0]
    if _PLAIN_TARGET.fullmatch(written) and "/." not in written:
        return written
    return urllib3.util.parse_url(url).request_uri


def _proxies(scheme: str, host: str, port: int | None) -> dict[str, str]:
    if is_loopback(host):
        return {}
    netloc = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{netloc}:{port}/" if port else f"{scheme}://{netloc}/"
    proxy = select_proxy(url, get_environ_proxies(url, no_proxy=None))
    if not proxy:
        return {}
    return {"all": proxy if "://" in proxy else f"http://{proxy}"}


def tls_context() -> ssl.SSLContext:
    """A verifying context, with the CA certificates that the environment names, else those of certifi.

    Raises:
        InsecureConnection: the file or folder that the environment names cannot be used.
    """
    named = next(
        ((name, os.environ[name]) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)),
        None,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if named is None and (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        context.set_default_verify_paths()
        return context
    name, path = named or ("certifi", DEFAULT_CA_BUNDLE_PATH)
    try:
        if Path(path).is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise InsecureConnection(
            f"the CA certificates named by {name} cannot be read: {path}",
            "Correct the variable, or unset it.",
        ) from error
    return context
