"""The API key and the hosts: where the key comes from, where it may go, what is fetched, and through which proxy."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from flux_lora_cli.errors import FluxLoraError, MissingKey, NotFoundError, RefusedUrl, UsageError
from flux_lora_cli.folder.files import read_stream
from flux_lora_cli.text import printable

#: The service itself. [official client source]
DEFAULT_BASE_URL = "https://api.wavespeed.ai"
VARIABLE = "WAVESPEED_API_KEY"
_PORTS = {"http": 80, "https": 443}

# ---- the key ------------------------------------------------------------------------------------

_BOTH_WAYS = (
    f"Set {VARIABLE} (keys are made at https://wavespeed.ai/accesskey) or name a file with --api-key-file; "
    "or try everything without a key and at no cost with --sandbox."
)
#: One word of plain characters without quotes, not too long, no NAME= before it.
_KEY = re.compile(r"(?!\w+=[^=])[!#-&(-_a-~]{1,4096}", re.ASCII)


def load_key(env: Mapping[str, str], key_file: Path | None = None) -> str:
    """The key from ``key_file``, else from ``WAVESPEED_API_KEY``.

    Raises NotFoundError: no such file; MissingKey: no key, or what is there, which is never shown, cannot be one.
    """
    place = str(key_file or VARIABLE)
    try:
        text = read_stream(key_file, 5000).decode("utf-8-sig", "replace") if key_file else env.get(VARIABLE, "")
    except FileNotFoundError:
        raise NotFoundError(f"no such key file: {place}", _BOTH_WAYS) from None
    except (OSError, ValueError) as error:
        raise MissingKey(f"the key file {place} cannot be read: {error}", _BOTH_WAYS) from None
    key = text.strip()
    if not key:
        raise MissingKey(f"no API key: {place} is empty or not set", _BOTH_WAYS)
    if not _KEY.fullmatch(key):
        hint = 'Write the key alone, as it was given to you: one word, without quotes, "Bearer" or NAME= around it.'
        raise MissingKey(f"{place} does not hold an API key", hint)
    return key


#: Characters of the shortest key that is looked for (masking every "a" would hide the message, and no secret), of the
#: shortest that is found in any spelling, and of the shortest that addresses do not have for themselves ("test").
_SHORTEST, _SHORTEST_SPELLED, SHORTEST_FOUND = 4, 8, 12


class Redactor:
    """Finds one key in text, also when a server encoded it, broke it up or changed its case."""

    def __init__(self, key: str) -> None:
        self.key = key
        forms = {key, quote(key), quote(key, safe="")}
        for before in range(3):  # bytes; the characters that depend on the key alone, whatever stands around it
            encoded = b64encode(b"\0" * before + key.encode()).decode()
            forms.add(encoded[-(-before * 8 // 6) : (before + len(key)) * 8 // 6])
        for code in ("{:02x}", "x{:02x}", "u{:04x}", "{:d}"):  # %77, \x77 and &#x77;, \u0077, &#119;
            forms.add("".join(code.format(ord(c)) for c in key))
        letters = ("".join(re.findall("[a-z0-9]", form.lower())) for form in forms)
        spelled = [each for each in letters if len(each) >= _SHORTEST_SPELLED]
        self._spelled = re.compile("|".join(spelled) or "(?!)")
        self._shortest = min(map(len, (key, *spelled)))

    def found_in(self, url: str) -> bool:
        """Whether the key is part of an address, and hardly by chance."""
        return len(self.key) >= SHORTEST_FOUND and self.clean(url) != url

    def clean(self, text: str) -> str:
        """The text with the key masked, whatever stands between its letters and digits."""
        if len(text) < self._shortest:
            return text
        if len(self.key) >= _SHORTEST:
            text = text.replace(self.key, "[key]")
        places = [at for at, char in enumerate(text) if char.isascii() and char.isalnum()]
        letters = "".join(text[at] for at in places).lower()
        for found in reversed(list(self._spelled.finditer(letters))):
            text = f"{text[: places[found.start()]]}[key]{text[places[found.end() - 1] + 1 :]}"
        return text

    @contextmanager
    def guard(self) -> Iterator[None]:
        """No error carries the key out, whatever a server echoed."""
        try:
            yield
        except FluxLoraError as error:
            error.message, error.hint = self.clean(error.message), self.clean(error.hint)
            error.args = (error.message,)
            raise


# ---- origins ------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, by its spelling alone; no name is looked up."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


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


def show_host(url: str) -> str:
    """Host, and port where the URL names one, for messages."""
    return show_url(url).partition("://")[2].partition("/")[0] or "an unnamed host"


def checked_base_url(base_url: str, *, allow_custom_host: bool = False) -> str:
    """The base URL without a trailing slash. UsageError, which never shows a user part: the key may not go there."""
    text = base_url.strip().rstrip("/")
    try:
        host = origin(text)[1]
    except ValueError:
        host = ""
    if not host or not re.fullmatch(r"[\x21-\x7e]+", text) or re.search(r"[@?#]", text):
        raise UsageError(
            f"not a valid base URL: '{show_url(text.rpartition('@')[2]).removeprefix('://')[:100]}'",
            f"It looks like {DEFAULT_BASE_URL}, without a user name or password, a query or a fragment.",
        )
    if allow_custom_host or is_loopback(host) or origin(text) == origin(DEFAULT_BASE_URL):
        return text
    raise UsageError(
        f"the API key would go to {text}, which is not WaveSpeed's API over https",
        "Add --allow-custom-host if that is meant.",
    )


# ---- URLs of outputs ----------------------------------------------------------------------------

_FETCHABLE = re.compile(
    r"(https?)://([^\x00-\x20\x7f/?#\\\"<>`^{|}@]+)((?:[/?\\][^#]*)?)(?:#.*)?", re.IGNORECASE | re.DOTALL
)
# What else RFC 3986 lets one send, and so stays as it is: signatures cover it.
_SENT = "!#$%&'()*+,/:;=?@[]"


def fetchable_url(url: str, *, allow_loopback: bool) -> str:
    """The URL as it can be sent: no fragment, odd characters encoded, every other byte as it was.

    Raises RefusedUrl unless it is https, or http to this machine where the API itself is there (``allow_loopback``).
    """
    found = _FETCHABLE.fullmatch(url.strip())
    try:
        base = f"{found[1].lower()}://{found[2].encode('idna').decode()}" if found else ""
        scheme, host, _ = origin(base)
    except ValueError:  # of which UnicodeError is one
        found, scheme, host = None, "", ""
    if not found or (scheme == "http" and not (allow_loopback and is_loopback(host))):
        raise RefusedUrl(
            f"the image is not fetched, because its address is not https, or is broken: {show_url(url)}",
            "The service gave this address.",
        )
    return f"{base}/{quote(found[3].removeprefix('/'), _SENT, errors='surrogatepass')}"


def redirect_target(url: str, location: str) -> str:
    """Where a redirect leads. ``location`` as http.client has it: bytes read as Latin-1. RefusedUrl where broken."""
    text = location.strip()
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode("utf-8")
    try:
        return text if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text) else urljoin(url, text)
    except ValueError:
        raise RefusedUrl(f"{show_host(url)} redirects to a broken address") from None


# ---- proxies ------------------------------------------------------------------------------------


class Proxy(NamedTuple):
    url: str
    variable: str


def proxy_for(url: str, env: Mapping[str, str]) -> Proxy | None:
    """The proxy for a URL, by ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``; loopback never has one."""
    scheme, host, port = origin(url)
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    variable = next((name for name in names if env.get(name, "").strip()), None)
    if variable is None or is_loopback(host) or _bypassed(host, port, env.get("no_proxy") or env.get("NO_PROXY") or ""):
        return None
    return Proxy(env[variable].strip(), variable)


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
