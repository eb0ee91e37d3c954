"""URLs and hosts: what is this machine, what may be fetched, what goes through which proxy. Pure."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from flux_lora_cli.errors import ProxyFailed, RefusedUrl, UsageError
from flux_lora_cli.text import printable

#: The service itself. [official client source]
DEFAULT_BASE_URL = "https://api.wavespeed.ai"
_PORTS = {"http": 80, "https": 443}


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
    """Scheme, host and port, as browsers compare them. ValueError where it is not an http(s) URL."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.port == 0:
        raise ValueError("not an http(s) URL")
    return parts.scheme, parts.hostname.rstrip("."), parts.port or _PORTS[parts.scheme]


def origin_text(url: str) -> str:
    """``https://api.wavespeed.ai``; the port where it is not the scheme's own."""
    scheme, host, port = origin(url)
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" if port == _PORTS[scheme] else f"{scheme}://{host}:{port}"


def show_url(url: str) -> str:
    """A URL for messages and logs: no query, no fragment, no user name, printable, not too long."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:300])


@lru_cache(maxsize=256)
def show_host(url: str) -> str:
    """Host, and port where the URL names one, for messages."""
    return show_url(url).partition("://")[2].partition("/")[0] or "an unnamed host"


def checked_base_url(base_url: str, *, allow_custom_host: bool = False) -> str:
    """The base URL without a trailing slash, where the key may go there.

    Raises:
        UsageError: it may not, or it is not a plain http(s) URL. A user part is never shown: it may hold the key.
    """
    text = base_url.strip().rstrip("/")
    try:
        scheme, host, _ = origin(text)
    except ValueError:
        scheme = host = ""
    if not host or not re.fullmatch(r"[\x21-\x7e]+", text) or re.search(r"[@?#]", text):
        raise UsageError(
            f"not a valid base URL: '{show_url(text.rpartition('@')[2]).removeprefix('://')[:100]}'",
            f"It looks like {DEFAULT_BASE_URL}, without a user name or password, a query or a fragment.",
        )
    if allow_custom_host or is_loopback(host) or origin(text) == origin(DEFAULT_BASE_URL):
        return text
    if scheme != "https":
        why = f"{text} is plain http: everybody on the way could read the API key"
    else:
        why = f"{host} is not WaveSpeed's API, and would get the API key"
    raise UsageError(why, "Add --allow-custom-host if that is meant.")


# ---- URLs of outputs ----------------------------------------------------------------------------

# What RFC 3986 lets nobody send; everything else stays as it is, for signatures cover it.
_CANNOT_BE_SENT = re.compile(rb"[^\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]")


def fetchable_url(url: str, *, allow_loopback: bool) -> str:
    """The URL as it can be sent: no fragment, odd characters encoded, every other byte as it was.

    Args:
        allow_loopback: plain http to this machine is fine, because the API itself is there.

    Raises:
        RefusedUrl: neither https nor such http, or broken.
    """
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\]+)([^#]*)(?:#.*)?", url.strip(), re.DOTALL)
    scheme, netloc, target = (match[1].lower(), match[2], match[3]) if match else ("", "", "")
    try:
        netloc = netloc if netloc.isascii() else netloc.encode("idna").decode()
        host = origin(f"{scheme}://{netloc}")[1]
    except (ValueError, UnicodeError):
        host = ""
    plain = scheme == "http" and not (allow_loopback and is_loopback(host))
    if plain or re.search(r"[^\x21-\x7e]|[\"<>`^{|}@]", netloc) or not host:
        raise RefusedUrl(
            f"the image is not fetched, because its address is not https, or is broken: {show_url(url)}",
            "The service gave this address.",
        )
    sent = _CANNOT_BE_SENT.sub(lambda found: b"%%%02X" % found[0][0], target.encode("utf-8", "surrogatepass")).decode()
    return f"{scheme}://{netloc}{sent if sent.startswith('/') else '/' + sent}"


def redirect_target(url: str, location: str) -> str:
    """Where a redirect leads. ``location`` as http.client has it: bytes read as Latin-1. RefusedUrl where broken."""
    try:
        text = location.strip().encode("latin-1").decode("utf-8")
    except UnicodeError:
        text = location.strip()
    try:
        return text if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text) else urljoin(url, text)
    except ValueError:
        raise RefusedUrl(f"{show_host(url)} redirects to a broken address") from None


# ---- proxies ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proxy:
    """A proxy that the environment names. ``shown``: host and port, without its password."""

    url: str
    variable: str
    shown: str

    def failed(self, why: str) -> ProxyFailed:
        """The error that names the variable, and never the password."""
        why = f"it wants a user name and a password, or other ones ({why})" if why == "407" else why
        return ProxyFailed(
            f"the proxy {self.shown} (from {self.variable}) does not lead to the service: {why}",
            f"Nothing reached the service. Correct or unset {self.variable}, or add the host to NO_PROXY.",
        )


def proxy_for(scheme: str, host: str, port: int, env: Mapping[str, str]) -> Proxy | None:
    """The proxy for an origin, by ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY`` and the like; loopback never has one.

    Raises:
        ProxyFailed: the variable cannot be meant.
    """
    if is_loopback(host) or _bypassed(host, port, env.get("no_proxy") or env.get("NO_PROXY") or ""):
        return None
    names = [f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in env:  # in a CGI script, HTTP_PROXY is what a client says [httpoxy]
        names.remove("HTTP_PROXY")
    variable = next((name for name in names if env.get(name, "").strip()), None)
    return _proxy(variable, env[variable].strip()) if variable else None


def _proxy(variable: str, text: str) -> Proxy:
    url = text if "://" in text else f"http://{text}"
    # Anything else, such as a path, is a password with characters that have to be encoded.
    match = re.fullmatch(r"([a-z0-9]+)://(?:[^@/?#]*@)?([\w.-]+|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?/?", url, re.I | re.A)
    if match is None or int((match[3] or ":0")[1:]) > 65535:
        example = f"It looks like {variable}=http://proxy.example:3128; write special characters of a password as %40."
        raise ProxyFailed(f"{variable} is not a valid proxy address", example)
    scheme, hint = match[1].lower(), "Write http:// or socks5h://."
    if scheme.startswith("socks") and importlib.util.find_spec("socks") is None:
        hint = "SOCKS needs the package PySocks (pip install PySocks); or name an http proxy, or unset the variable."
    elif scheme in ("http", "https", "socks4", "socks4a", "socks5", "socks5h"):
        return Proxy(url, variable, match[2] + (match[3] or ""))
    raise ProxyFailed(f"{variable} names a proxy of a kind that cannot be used, {scheme[:20]}://", hint)


def _bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether a ``no_proxy`` list has this host: names and their subdomains, addresses, networks, ``*``."""
    for entry in re.split(r"[\s,]+", no_proxy.lower().strip()):
        name = entry.removeprefix("*").strip("[].")
        if entry == "*" or (name and any(f".{each}".endswith(f".{name}") for each in (host, f"{host}:{port}"))):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False):
                return True
        except ValueError:
            continue
    return False
