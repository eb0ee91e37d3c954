"""A request as a preset of one job that asks for exactly it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flux_lora_cli.folder.records import is_masked
from flux_lora_cli.service.models import Version
from flux_lora_cli.text import json_line, masked

#: Order of keys in the file; others follow by name, the LoRAs come last.
_ORDER = (
    "prompt", "image", "images", "mask_image", "strength", "size", "num_inference_steps", "guidance_scale",
    "num_images", "seed", "enable_safety_checker", "output_format",
)  # fmt: skip
#: What the language of prompts reads.
_MARKS = re.compile(r"\$(?=\{)|\{|_(?=_)|<(?=lora:)|(?<=\\)[}$_|<:-]")


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
