"""Outputs that come inside the answer instead of behind a URL."""

from __future__ import annotations

import base64
import binascii
import re

from flux_lora_cli.domain.wire import INLINE_LIMIT
from flux_lora_cli.errors import BadImage, RefusedUrl

_DATA_URI = re.compile(r"data:[A-Za-z0-9.+/-]{0,100}(?:;[A-Za-z0-9=.+-]{0,100}){0,4};base64,", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")


def inline_bytes(output: str) -> bytes | None:
    """The image in a data URI or in bare base64; None where ``output`` is a URL.

    Raises:
        BadImage: broken, or over 50 MB.
        RefusedUrl: neither an image nor a URL.
    """
    found = _DATA_URI.match(output[:600])
    if found is None and _SCHEME.match(output[:100]):
        if output[:5].lower() == "data:":
            raise BadImage("the image inside the answer is not in base64")
        return None
    if len(output) > INLINE_LIMIT:
        raise BadImage("the image inside the answer is larger than 50 MB")
    text = output[found.end() :] if found else output
    # Line breaks are how MIME writes base64.
    text = "".join(text.split())
    if not found and not _BASE64.fullmatch(text):
        raise RefusedUrl("the service named no address for the image")
    try:
        packed = text.translate(str.maketrans("-_", "+/")).rstrip("=")
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadImage("the image inside the answer is broken base64") from None
