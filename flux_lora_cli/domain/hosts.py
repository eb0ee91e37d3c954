"""Which hosts are this machine, and which URLs an image may be fetched from."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import RefusedUrl

_PORTS = {"http": 80, "https": 443}
#: What a URL is free of.
_NO_URL = re.compile(r"""[^\x21-\x7f]|[\\"<>`]""")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, by its spelling alone; no name is looked up."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port, as browsers compare them.

    Raises:
        ValueError: the URL is broken, or its scheme is neither http nor https.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("no http(s) URL")
    port = parts.port if parts.port is not None else _PORTS[parts.scheme]
    return parts.scheme, parts.hostname.rstrip("."), port


def show_url(url: str) -> str:
    """A URL fit for messages and logs: no query, no fragment, no user name, printable, not too long."""
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an invalid URL"
    if parts.scheme == "data":
        return "data:…"
    return printable(f"{parts.scheme}://{netloc}{parts.path}"[:300])


@lru_cache(maxsize=256)
def show_host(url: str) -> str:
    """Host, and port where the URL names one, for messages."""
    shown = show_url(url).partition("://")[2].partition("/")[0]
    return shown or "an unnamed host"


def check_fetchable(url: str, *, allow_loopback: bool) -> SplitResult:
    """The parts of a URL that images may be fetched from.

    Args:
        allow_loopback: whether plain http to this machine is fine: it is where the API itself is here.

    Raises:
        RefusedUrl: anything but https, or such http.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise RefusedUrl(f"the image's address is broken: {show_url(url)}") from None
    known = parts.scheme in _PORTS or not parts.scheme
    if known and (_NO_URL.search(url) or not host or "@" in parts.netloc):
        raise RefusedUrl(f"the image's address is broken: {show_url(url)}")
    if parts.scheme == "https" or (parts.scheme == "http" and allow_loopback and is_loopback(host)):
        return parts
    raise RefusedUrl(
        f"the image's address is not fetched, because it is not https: {show_url(url)}",
        "Nothing can be done here: the service gave this address.",
    )
