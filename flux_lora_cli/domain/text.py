"""Text from outside, made safe to show and to name things by."""

from __future__ import annotations

import json
import re
import unicodedata

# C0 and C1 controls, line and paragraph separators, and the marks that reorder text.
# Also what begins a command of a CI service anywhere in a line: ##[…] (GitHub), ##vso[…] (Azure), ##teamcity[…].
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]|#(?=#(?:vso|teamcity)?\\[)"
)
_NOT_WORD = re.compile(r"[^\w]+", re.UNICODE)


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """``text`` with everything that could steer a terminal written as a visible escape."""

    def escape(match: re.Match[str]) -> str:
        char = match[0]
        if keep_newlines and char in "\n\t":
            return char
        code = ord(char)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _UNSAFE.sub(escape, text)


def no_command(line: str) -> str:
    """A line that GitHub does not take for a command: those begin with two colons, white space left out."""
    start = len(line) - len(line.lstrip())
    return f"{line[:start]}\\x3a{line[start + 1 :]}" if line.startswith("::", start) else line


def json_line(value: object) -> str:
    """JSON on one line; what could steer a terminal or a CI service is escaped as JSON does it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def is_plain(text: str) -> bool:
    """Whether ``text`` is one line of which ``printable`` would change nothing."""
    return _UNSAFE.search(text) is None


def slug(text: str, limit: int = 40) -> str:
    """A short lower-case ASCII name made of ``text``'s words, joined by ``-``; "untitled" where none is left.

    Never longer than ``limit`` characters, cut at a word where that is possible.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    words = _NOT_WORD.sub("-", plain).replace("_", "-")
    words = re.sub("-+", "-", words).strip("-")
    if len(words) > limit:
        cut = words.rfind("-", 0, limit + 1)
        words = words[: cut if cut > limit // 2 else limit].strip("-")
    return words or "untitled"
