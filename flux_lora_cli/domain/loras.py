"""LoRA entries: ``{path, scale}`` as the API takes them, ``PATH[:SCALE]`` as the command line does."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from .suggest import kind, nearest, show

#: Limits of ``loras[].scale`` on every model [ordered page].
LORA_SCALE = (0, 4)

_URL = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
#: ``owner/name``, as on Hugging Face, or with a file of the repository after it.
_LORA_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)+")
_LORA_KEYS = ("path", "scale")


def check_lora(item: Any) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """Return one LoRA with its scale filled in (1), and (key path, message) of what is wrong with it."""
    if not isinstance(item, Mapping):
        shape = "{path: owner/name, scale: 1}"
        return {}, ("", f"{show(item)} is {kind(item)}; allowed: {shape}")
    for key in item:
        if key not in _LORA_KEYS:
            near = nearest(str(key), _LORA_KEYS)
            hint = f'; did you mean "{near}"?' if near else ""
            return {}, ("", f'unknown key "{key}"; known: path, scale{hint}')
    if "path" not in item:
        return {}, ("", 'the key "path" is missing: owner/name or a URL')
    path, scale = item["path"], item.get("scale", 1)
    if why := lora_path_problem(path):
        return {}, (".path", why)
    if why := lora_scale_problem(scale):
        return {}, (".scale", why)
    return {"path": path, "scale": scale}, None


def lora_path_problem(path: Any) -> str:
    """Why this is no LoRA path; "" where it is one."""
    if isinstance(path, str) and (_LORA_PATH.fullmatch(path) or _URL.fullmatch(path)):
        return ""
    return f"{show(path)} is no LoRA path; allowed: owner/name (as on Hugging Face) or a URL (http, https)"


def lora_scale_problem(scale: Any) -> str:
    """Why this is no LoRA scale; "" where it is one."""
    low, high = LORA_SCALE
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        return f"{show(scale)} is {kind(scale)}; allowed: a number from {low} to {high}"
    if not (math.isfinite(scale) and low <= scale <= high):
        return f"{show(scale)} is out of range; allowed: a number from {low} to {high}"
    return ""


def parse_lora(text: str) -> dict[str, Any]:
    """Return ``PATH[:SCALE]`` as path and scale (1 without one).

    The scale is split off at the last colon if it is a number, so that URLs work.

    Raises:
        ValueError: this is no path, or the scale is out of range; the message says what is allowed.
    """
    path, colon, tail = text.strip().rpartition(":")
    scale: int | float = 1
    if colon and _SCALE.fullmatch(tail):
        number = float(tail)
        scale = int(number) if number.is_integer() and abs(number) < 1e9 else number
    else:
        path = text.strip()
    if why := lora_path_problem(path) or lora_scale_problem(scale):
        raise ValueError(why)
    return {"path": path, "scale": scale}


_SCALE = re.compile(r"[-+]?([0-9]{1,20}(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
