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


def distinct(labels: Iterable[str], keys: Iterable[str]) -> list[str]:
    """The labels, each different: a later equal one gets a digest of its key, then a number."""
    seen: set[str] = set()
    out = []
    for one, key in zip(labels, keys, strict=True):
        out.append(unused(one, key, seen))
        seen.add(out[-1])
    return out


def unused(wanted: str, key: str, taken: Iterable[str]) -> str:
    """``wanted``, or the first of its variants that is not taken."""
    taken = taken if isinstance(taken, (set, dict)) else set(taken)
    if wanted not in taken:
        return wanted
    tagged = f"{wanted}-{digest(key)}"
    number, candidate = 2, tagged
    while candidate in taken:
        candidate = f"{tagged}-{number}"
        number += 1
    return candidate
