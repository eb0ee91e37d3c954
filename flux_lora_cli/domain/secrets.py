"""Keeping the API key out of everything that is shown or written."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

#: Shorter keys are not looked for: replacing every "a" would hide the message and no secret.
_SHORTEST = 4
_MASK = "[key]"


class Redactor:
    """Finds one key in text, also when it was encoded on the way."""

    def __init__(self, key: str | None) -> None:
        self._forms: tuple[str, ...] = _forms(key) if key and len(key) >= _SHORTEST else ()
        self._raw = tuple(form.encode() for form in self._forms)

    def found_in(self, text: str) -> bool:
        """Whether the key, in any form, is part of the text."""
        return any(form in text for form in self._forms)

    def clean(self, text: str) -> str:
        """The text with the key masked."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, _MASK)
        return text

    def clean_bytes(self, data: bytes) -> bytes:
        """Bytes with the key masked; the same object where it is not in there."""
        for form in self._raw:
            if form in data:
                data = data.replace(form, _MASK.encode())
        return data


def _forms(key: str) -> tuple[str, ...]:
    """The key raw, JSON-escaped, URL-encoded and in base64, longest first."""
    raw = key.encode("utf-8", "surrogateescape")
    forms = {key, json.dumps(key)[1:-1], json.dumps(key)[1:-1].replace("/", "\\/")}
    for encoded in (quote(key, safe=""), quote(key), quote_plus(key)):
        forms |= {encoded, encoded.lower() if "%" in encoded else encoded}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms |= {_aligned(encode(b"\0" * shift + raw).decode(), shift, len(raw)) for shift in range(3)}
    return tuple(sorted((form for form in forms if len(form) >= _SHORTEST), key=len, reverse=True))


def _aligned(encoded: str, shift: int, size: int) -> str:
    """The characters of a base64 text that depend on the key alone, whatever stands before and after it."""
    first = -(-shift * 8 // 6)
    last = (shift + size) * 8 // 6
    return encoded[first:last]
