"""A job: one request that somebody wants made once; and its fingerprint, which says when two jobs are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785

from flux_lora_cli.service.values import by_value

#: Version of the fingerprint; later versions of the tool read folders of this one. [CONTRACT: money and identity]
FINGERPRINT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a source file; line and column count from 1, 0 where there is none."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An input image on disk. ``path`` is absolute, links resolved; ``sha256`` in lower-case hex."""

    path: str
    sha256: str
    bytes: int
    media_type: str
    extension: str

    def __repr__(self) -> str:
        """What IDs are made of, which are the same wherever the file lies."""
        return self.sha256


@dataclass(frozen=True, slots=True)
class Job:
    """One expanded job.

    ``params`` are the request parameters as the user wrote them after merging, under the API's names; no defaults
    filled in; no ``seed``; a local image (a value of ``image``, or an entry of ``images``) stands there as the SHA-256
    of its file; ``loras`` is a list of ``{"path": str, "scale": int | float}``.
    """

    id: str  # unique in its preset (``dawn/a-lunar-base/nasa/1``)
    preset: str  # the preset's name
    model: str  # full model ID (``wavespeed-ai/flux-dev-lora``)
    params: Mapping[str, Any]
    seed: int | None = None  # a fixed one; None where the tool draws one (none given, or -1)
    repeat: int = 1  # 1-based number among the repeats of one job; 1 where it is not repeated
    axes: Mapping[str, str] = field(default_factory=dict)  # what was chosen, by the axis's name; for the gallery
    images: Mapping[str, LocalImage] = field(default_factory=dict)  # that ``params`` name, by SHA-256
    where: Where = Where("")  # the place that a message about this job names

    @property
    def fingerprint(self) -> str:
        """64 lower-case hex digits: equal for two jobs if, and only if, one purchase serves both.

        SHA-256 of the RFC 8785 JSON of ``{v: 1, model, input, seed}``: ``input`` is ``params`` with numbers by
        value, ``seed`` the fixed seed, or ``"random/K"`` with K the repeat number.
        """
        seed = f"random/{self.repeat}" if self.seed is None else self.seed
        document = {"v": FINGERPRINT_VERSION, "model": self.model, "input": by_value(self.params), "seed": seed}
        return hashlib.sha256(rfc8785.dumps(document)).hexdigest()

    def with_images(self, value: Any, name: Callable[[LocalImage], str]) -> Any:
        """The value of a parameter with ``name`` of each local image in place of its SHA-256."""
        if isinstance(value, (list, tuple)):
            return [self.with_images(item, name) for item in value]
        image = self.images.get(value) if isinstance(value, str) else None
        return value if image is None else name(image)
