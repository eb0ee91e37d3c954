"""Words for messages about wrong values: how a value is shown, which name was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant; "" where none is near."""
    return _nearest(name[:100], tuple(known))


@lru_cache(maxsize=256)  # a generated file has one wrong name in every line
def _nearest(name: str, names: tuple[str, ...]) -> str:
    folded = name.casefold().replace("-", "_")
    for candidate in names:
        if candidate.casefold().replace("-", "_") == folded:
            return candidate
    alias = _ALIASES.get(folded)
    if alias in names:
        return str(alias)
    found = get_close_matches(name, names, n=1, cutoff=0.6)
    return found[0] if found else ""


#: What other tools call these parameters; no edit distance finds them.
_ALIASES = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "n": "num_images",
    "num_outputs": "num_images",
    "images": "num_images",
    "lora": "loras",
    "safety_checker": "enable_safety_checker",
    "image_url": "image",
    "init_image": "image",
    "width": "size",
    "height": "size",
    "weight": "scale",
    "model": "path",
}


def show(value: Any) -> str:
    """A value in a message: short, with text in quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, str):
        cut = value if len(value) <= 60 else value[:57] + "…"
        return f'"{cut}"'
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "…"


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (int, float)):
        return "a number"
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else "empty"
