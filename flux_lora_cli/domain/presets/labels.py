"""Readable ids: the slug of a prompt, a label for each choice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

#: Longest slug of a prompt, and longest label of one choice, in characters.
MOST_ID = 60
MOST_LABEL = 40

_BREAKS = re.compile(r"[^\w.]+|_", re.UNICODE)
_SIZE = re.compile(r"([0-9]+)\*([0-9]+)")


def digest(text: str) -> str:
    """Six hex digits that stand for a text."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


def slug(text: str, limit: int = MOST_ID) -> str:
    """Words of any script, in lower case, joined by ``-``.

    What does not fit is cut at a word and replaced by a digest of the whole, so that two
    long prompts with one beginning stay apart, whatever stands around them in the file.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    words = _BREAKS.sub("-", folded).strip("-.")
    words = re.sub(r"-*\.(?![0-9])|(?<![0-9])\.-*", "-", words).strip("-.")
    words = re.sub("-{2,}", "-", words)
    if not words:
        return digest(text) if text.strip() else "empty"
    if len(words) <= limit:
        return words
    room = limit - 7
    cut = words.rfind("-", 0, room + 1)
    return words[: cut if cut > room // 2 else room].rstrip("-.") + "-" + digest(text)


def label(value: Any) -> str:
    """A readable piece of an id for a value of a matrix axis."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "random" if value == -1 else f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, (list, tuple)):
        return _lora_label(value)
    text = str(value)
    size = _SIZE.fullmatch(text)
    return f"{size[1]}x{size[2]}" if size else slug(text, MOST_LABEL)


def _lora_label(value: Sequence[Any]) -> str:
    pieces = []
    for lora in value:
        name = str(lora["path"]).rstrip("/").rpartition("/")[2]
        pieces.append(f"{name}-{lora['scale']:g}")
    return slug(" ".join(pieces), MOST_LABEL) if pieces else "none"


class Names:
    """Names that are taken; each new one is made different from all."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def take(self, wanted: str, key: str) -> str:
        """``wanted``, or where that is taken the same with a digest of ``key``, then with a number."""
        name = wanted
        if name in self._taken:
            tagged = name = f"{wanted}-{digest(key)}"
            number = self._next.get(tagged, 2)
            while name in self._taken:
                name = f"{tagged}-{number}"
                number += 1
            self._next[tagged] = number
        self._taken.add(name)
        return name


def distinct(labels: Iterable[str], keys: Iterable[str]) -> list[str]:
    """The labels, each different."""
    names = Names()
    return [names.take(label, key) for label, key in zip(labels, keys, strict=True)]
