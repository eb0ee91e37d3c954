"""Text made safe to show, and to name things by."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

# C0 and C1 controls, line and paragraph separators, marks that reorder text, half surrogates; also what starts a
# command of a CI service anywhere in a line: ##[…] (GitHub), ##vso[…] (Azure), ##teamcity[…].
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]|#(?=#(?:vso|teamcity)?\\[)"
)


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """``text`` with everything that could steer a terminal or a CI service written as a visible escape."""

    def escape(match: re.Match[str]) -> str:
        if keep_newlines and match[0] in "\n\t":
            return match[0]
        code = ord(match[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _UNSAFE.sub(escape, text)


def json_line(value: object) -> str:
    """``value`` as JSON on one line; what could steer a terminal or a CI service is escaped as JSON does it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def slug(text: str, limit: int = 40) -> str:
    """A short lower-case name made of the words of ``text``, joined by ``-``; "untitled" where none is left.

    Letters of every script are kept (a Japanese prompt keeps its own characters); accents of Latin letters go.
    At most ``limit`` characters and 120 bytes of UTF-8, cut at a word where that is possible.
    """
    plain = unicodedata.normalize("NFKD", mask_secrets(text))
    plain = "".join(c for c in plain if not ("\u0300" <= c <= "\u036f"))  # accents, not the marks of other scripts
    plain = unicodedata.normalize("NFC", plain).lower()
    words = re.sub(r"[\W_]+", "-", plain).strip("-")
    if len(words) > limit:
        cut = words.rfind("-", 0, limit + 1)
        words = words[: cut if cut > limit // 2 else limit].strip("-")
    return words.encode("utf-8", "ignore")[:120].decode("utf-8", "ignore") or "untitled"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant; "" where none is close."""
    by_fold = {each.casefold().replace("-", "_"): each for each in known}
    found = get_close_matches(name[:100].casefold().replace("-", "_"), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else ""


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Seconds in words: ``45 s``, ``30 min``, ``2 h``; what is between in the smaller unit."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def quoted(value: Any, limit: int = 60) -> str:
    """A value in a message: short, strings in quotes, secrets masked, nothing that steers a terminal."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        text = mask_secrets(value)
        return f'"{printable(text if len(text) <= limit else text[: limit - 1] + "…")}"'
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return str(value)[:limit]


# Passwords, and query parameters whose values are secrets, in URLs that people paste, JSON-escaped or inside another
# URL. [Civitai: token; AWS and Google: signatures] What is masked stays so. Both take linear time: texts may have 1 MB.
_USERINFO = re.compile(r"(:(?:\\?/){2})[^\s/\"'<>\\]+@")
_SECRET_QUERY = re.compile(
    r"((?:[?&;#]|%3f|%26|%23)(?=[\w.-]*(?:token|key|secret|pass|pwd|auth|signature|credential|session|jwt)|sig[=%])"
    r"[\w.-]++(?:=|%3d))(?!\*\*\*)[^&#\s\"'<>]+",
    re.IGNORECASE,
)


def may_hold_secrets(text: str) -> bool:
    """False where ``mask_secrets`` surely changes nothing in a text, nor in what it is the JSON of."""
    return "@" in text or "=" in text or "%3" in text


def mask_secrets(text: str) -> str:
    """``text`` with passwords and tokens inside URLs replaced by ``***``."""
    if not may_hold_secrets(text):
        return text
    return _SECRET_QUERY.sub(r"\1***", _USERINFO.sub(r"\1***@", text))


def masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    return [masked(item) for item in value] if isinstance(value, (list, tuple)) else value
