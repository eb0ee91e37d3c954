"""A job: one request that somebody wants made once; its fingerprint, which says when two are the same; its preset."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785

from flux_lora_cli.folder.records import is_masked
from flux_lora_cli.service.models import Version
from flux_lora_cli.service.values import by_value
from flux_lora_cli.text import json_line, masked

#: Version of the fingerprint; later versions of the tool read folders of this one. [CONTRACT: money and identity]
FINGERPRINT_VERSION = 1
#: Order of keys in the file; others follow by name, the LoRAs come last.
_ORDER = (
    "prompt", "image", "images", "mask_image", "strength", "size", "num_inference_steps", "guidance_scale",
    "num_images", "seed", "enable_safety_checker", "output_format",
)  # fmt: skip
#: What the language of prompts reads.
_MARKS = re.compile(r"\$(?=\{)|\{|_(?=_)|<(?=lora:)|(?<=\\)[}$_|<:-]")


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


# ---- as a preset ---------------------------------------------------------------------------------


def job_as_yaml(model: str, request: Mapping[str, Any], *, job_id: str = "job", version: Version | None = None) -> str:
    """A preset of one job; what it sends is ``request``, and nothing else. Secrets are masked, and a comment says so.

    Its lines from the fourth on can be appended to a preset of the same model that ends with its jobs. A local input
    image keeps its ``inputs/…`` path, so the file belongs into the run's folder.

    Args:
        model: full ID.
        request: ``input`` of a manifest's request, or the parameters of a job with its ``seed``.
        version: said in a comment, for a preset cannot choose it; None for the model's own.
    """
    request = masked(request)
    lines = ["version: 1", f"model: {json_line(model)}", "jobs:"]
    lines += ["  # A secret is masked as ***: put yours in its place."] if is_masked(request) else []
    lines += [f"  # needs --api-version {version}"] if version else []
    plain_id = re.sub(r"[^A-Za-z0-9._-]+", "-", job_id).strip("-._")[:80] or "job"  # dawn/nasa/1: dawn-nasa-1
    lines.append(f"  - id: {json_line(plain_id)}")
    keys = [key for key in _ORDER if key in request]
    keys += sorted(request.keys() - {*_ORDER, "loras"}) + ["loras"] * ("loras" in request)
    values = ((key, _MARKS.sub(r"\\\g<0>", request[key]) if key == "prompt" else request[key]) for key in keys)
    return "\n".join([*lines, *fields_as_yaml(values, "    ")]) + "\n"


def fields_as_yaml(fields: Iterable[tuple[str, Any]], indent: str) -> list[str]:
    """The lines of a mapping; values are JSON on one line, which is YAML."""
    plain = re.compile("[a-z][a-z_]*")
    return [f"{indent}{key if plain.fullmatch(key) else json_line(key)}: {json_line(value)}" for key, value in fields]
