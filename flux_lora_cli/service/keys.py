"""The API key: where it comes from, and keeping it out of everything that is shown."""

from __future__ import annotations

import os
import re
import select
import stat
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flux_lora_cli.errors import FluxLoraError, MissingKey, NotFoundError, UsageError

VARIABLE = "WAVESPEED_API_KEY"
#: Longer is not a key.
MAX_KEY = 4096
#: Seconds for which a key file that is a pipe (``<(pass show key)``) is waited for.
PIPE_SECONDS = 5.0

_BOTH_WAYS = (
    f"Set {VARIABLE} (keys are made at https://wavespeed.ai/accesskey) or name a file with --api-key-file; "
    "or try everything without a key and at no cost with --sandbox."
)
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
#: What people put into key files; the first that fits is the reason for the refusal.
_NOT_KEYS = (
    (re.compile(r"[\s\S]{4097,}"), "it is too long"),
    (re.compile(r"[^\n\r]*[\n\r][\s\S]*"), "it has more than one line"),
    (re.compile(r"(export\s+)?[A-Za-z_]\w*\s*=\s*[^=\s].*"), "it is an assignment, as in a .env file"),
    (re.compile(rf"[{_QUOTES}].*|.*[{_QUOTES}]"), "it has quotes around it"),
    (re.compile(r"(authorization:\s*)?bearer\s.*", re.IGNORECASE), 'it begins with "Bearer"'),
    (re.compile(r".*[^\x21-\x7e].*"), "a key is one word of plain characters"),
)


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
        UsageError: what is there cannot be a key. It is never shown.
    """
    if key_file is None:
        return Key(_checked_key(env.get(VARIABLE, ""), VARIABLE))
    try:
        data, mode = _read_file(key_file)
    except FileNotFoundError:
        raise NotFoundError(f"no such key file: {key_file}", _BOTH_WAYS) from None
    except (OSError, ValueError) as error:
        raise MissingKey(f"the key file {key_file} cannot be read: {error}", _BOTH_WAYS) from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{key_file} does not hold an API key: it is UTF-16", "Save the file as UTF-8.")
    key = _checked_key(data.decode("utf-8-sig", "replace"), str(key_file))
    open_to_all = stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH)
    return Key(key, f"other users of this machine can read {key_file}: chmod 600 it" if open_to_all else "")


def _read_file(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file, and its mode; a pipe without a writer is not waited for for ever."""
    without_waiting = getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | without_waiting)) as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISFIFO(mode):
            select.select([file], [], [], PIPE_SECONDS)
            os.set_blocking(file.fileno(), True)
        return file.read(MAX_KEY + 1), mode


def _checked_key(text: str, place: str) -> str:
    key = text.strip()
    if not key:
        raise MissingKey(f"no API key: {place} is empty or not set", _BOTH_WAYS)
    why = next((why for form, why in _NOT_KEYS if form.fullmatch(key)), "")
    if why:
        raise UsageError(f"{place} does not hold an API key: {why}", "Write the key alone, as it was given to you.")
    return key


# ---- what a server may echo ---------------------------------------------------------------------

_MASK = "[key]"
#: Shorter keys are not looked for: masking every "a" would hide the message and no secret.
_SHORTEST = 4
#: Letters and digits in a row, whatever stands between them and in whatever case, that give a key away.
_TELLING = 8
#: What a key may share with an ordinary message.
_ORDINARY = "httpsapiwavespeedai wavespeedaifluxdevlora wavespeedapikey apiwavespeedaiapiv2wavespeedai"


class Redactor:
    """Finds one key in text, also when a server encoded it, broke it up or changed its case."""

    def __init__(self, key: str) -> None:
        forms = {key, key.replace("/", "\\/"), quote(key), quote(key, safe="")}
        forms |= {quote(key, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d")}
        for encode in (b64encode, urlsafe_b64encode):
            forms |= {_in_base64(encode(b"\0" * shift + key.encode()).decode(), shift, len(key)) for shift in range(3)}
        self._forms = sorted((form for form in forms if len(form) >= _SHORTEST), key=len, reverse=True)
        self._parts = {part for form in self._forms for part in _parts(_letters(form)) if part not in _ORDINARY}

    def found_in(self, text: str) -> bool:
        """Whether the whole key, in any encoding, is part of the text."""
        return any(form in text for form in self._forms)

    def clean(self, text: str) -> str:
        """The text with the key masked, and with each part of it that is long enough to tell."""
        for form in self._forms:
            text = text.replace(form, _MASK)
        places = [at for at, c in enumerate(text) if c.isascii() and c.isalnum()]
        shown = list(text)
        for start, part in enumerate(_parts(_letters(text))):
            if part in self._parts:
                first, last = places[start], places[start + _TELLING - 1] + 1
                shown[first:last] = "\0" * (last - first)
        return re.sub("\0+", _MASK, "".join(shown))

    @contextmanager
    def guard(self) -> Iterator[None]:
        """No error carries the key out, whatever a server echoed."""
        try:
            yield
        except FluxLoraError as error:
            error.message, error.hint = self.clean(error.message), self.clean(error.hint)
            error.args = (error.message,)
            raise


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isalnum()).lower()


def _parts(letters: str) -> list[str]:
    return [letters[at : at + _TELLING] for at in range(len(letters) - _TELLING + 1)]


def _in_base64(encoded: str, shift: int, size: int) -> str:
    """The characters of a base64 text that depend on the key alone, whatever stands before and after it."""
    return encoded[-(-shift * 8 // 6) : (shift + size) * 8 // 6]
