"""Names for what is chosen: pieces of IDs, the same in every run, and texts for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from flux_lora_cli.presets.job import LocalImage
from flux_lora_cli.text import mask_secrets, slug

#: Longest slug of a prompt, and longest label of one choice, in characters.
MAX_SLUG, MAX_LABEL = 60, 40
#: Longest text of a choice in ``Job.axes``.
MAX_SHOWN = 80
_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+)\*([0-9]+)")


def digest(text: str) -> str:
    """Six hex digits that stand for a text."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


@lru_cache(maxsize=4096)
def label(text: str, limit: int = MAX_LABEL) -> str:
    """A piece of an ID: the words of a text, or a number as it is.

    What does not fit is replaced by a digest of the whole, so that two long prompts with one beginning stay apart,
    whatever stands around them in the file. Secrets in URLs are left out.
    """
    text = mask_secrets(text)
    if len(text) <= limit and _PLAIN.fullmatch(text):
        return text
    if size := _SIZE.fullmatch(text):
        return f"{size[1]}x{size[2]}"
    words = slug(text[:300], limit)
    if words == "untitled" and "untitled" not in text.lower():
        return digest(text) if text.strip() else "empty"
    if len(text) <= 300 and slug(text, limit + 20) == words:
        return words
    return slug(text[:300], limit - 7) + "-" + digest(text)


def shown(value: Any) -> str:
    """A value of an axis, for people."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, LocalImage):
        return value.path.replace("\\", "/").rpartition("/")[2]
    if isinstance(value, Mapping) and "path" in value:
        return f"{mask_secrets(str(value['path'])).rstrip('/').rpartition('/')[2]} {value.get('scale', 1):g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value)) or "none"
    return mask_secrets(str(value))[:MAX_SHOWN]


def axis_label(name: str, value: Any) -> str:
    """The label of a value of the axis ``name``."""
    if name == "seed" and value == -1:
        return "random"
    if isinstance(value, LocalImage):
        return label(shown(value).rpartition(".")[0] or shown(value))
    return label(value if isinstance(value, str) else shown(value))


class Names:
    """Names that are taken; each new one is made different from all."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def take(self, wanted: str, key: str) -> str:
        """``wanted``; where that is taken the same with a digest of ``key``, then with a number."""
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


def distinct(labels: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The labels, each different."""
    names = Names()
    return [names.take(one, key) for one, key in zip(labels, keys, strict=True)]
