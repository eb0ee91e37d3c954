"""Text from outside, made safe to show and to name things by."""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 controls, line and paragraph separators, and the marks that reorder text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
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
