"""The images of a task: which picture each is, drawn when it is asked for, and kept for a while."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from . import uploads
from .checks import checked
from .store import Store, Task

_CACHE_BYTES: Final = 32 * 1024 * 1024
_NUMBER: Final = re.compile(r"([1-9])\.(?:png|jpeg|webp)")
_V2_FORMAT: Final = "png"


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image."""

    data: bytes
    media_type: str


def number_of(name: str) -> int | None:
    """The number in an output's file name, from 1."""
    match = _NUMBER.fullmatch(name)
    return int(match.group(1)) if match else None


def extension(task: Task) -> str:
    """What the URL ends in."""
    return _format(json.loads(task.inputs)) if task.version == "v3" else _V2_FORMAT


def wants_base64(task: Task) -> bool:
    """Whether outputs were asked for inline."""
    return task.version == "v3" and json.loads(task.inputs).get("enable_base64_output") is True


def _format(inputs: dict[str, Any]) -> str:
    return str(inputs.get("output_format") or "jpeg")


class Pictures:
    """Draws the pictures of tasks; the last ones are kept, so that a second download costs nothing."""

    def __init__(self, store: Store, kind: str, plain_bytes: int) -> None:
        self._store = store
        self._kind = kind
        self._plain_bytes = plain_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._size = 0

    def picture(self, task: Task, number: int) -> Picture:
        """Image ``number`` (from 1) of a task."""
        key = (task.id, number)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = self._draw(task, number)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._size += len(made.data)
            while self._size > _CACHE_BYTES and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1].data)
        return made

    def _draw(self, task: Task, number: int) -> Picture:
        values = checked(task.model, task.version, self._store.inputs(task))
        form = _format(values) if task.version == "v3" else _V2_FORMAT
        if self._kind == "plain":
            from .pictures.plain import plain_png

            return Picture(plain_png(values, task.seed, number, self._plain_bytes), "image/png")
        from .pictures.render import Wish, render

        image = uploads.image_bytes(values["image"], self._store) if values["image"] else None
        wish = Wish.of(task.model, values, task.seed, number, image, form)
        return Picture(render(wish), f"image/{form}")
