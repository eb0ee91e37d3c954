"""A request as a preset of one job that asks for exactly it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from flux_lora_cli.folder.records import is_masked
from flux_lora_cli.presets.prompts import literal
from flux_lora_cli.service.models import Version
from flux_lora_cli.text import masked

#: Order of keys in the file; others follow by name, the LoRAs come last.
_ORDER = (
    "prompt", "image", "images", "mask_image", "strength", "size", "num_inference_steps", "guidance_scale",
    "num_images", "seed", "enable_safety_checker", "output_format",
)  # fmt: skip
# What YAML takes for a line break or refuses as unprintable, and what reorders text on screen.
_ESCAPED = re.compile("[\x7f-\xa0\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff]")


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
    lines = ["version: 1", f"model: {_json(model)}", "jobs:"]
    lines += ["  # A secret is masked as ***: put yours in its place."] if is_masked(request) else []
    lines += [f"  # needs --api-version {version}"] if version else []
    lines.append(f"  - id: {_json(_plain_id(job_id))}")
    first = [key for key in _ORDER if key in request]
    for key in [*first, *sorted(key for key in request if key not in (*_ORDER, "loras"))]:
        value = literal(request[key]) if key == "prompt" and isinstance(request[key], str) else request[key]
        name = key if re.fullmatch("[a-z][a-z_]*", key) else _json(key)
        lines.append(f"    {name}: {_json(value)}")
    loras = request.get("loras")
    if loras:
        lines.append("    loras:")
        for lora in loras:
            lines += [f"      - path: {_json(lora['path'])}", f"        scale: {_json(lora.get('scale', 1))}"]
    elif loras is not None:
        lines.append("    loras: []")
    return "\n".join(lines) + "\n"


def _plain_id(job_id: str) -> str:
    """An ID that is plain in any preset: ``dawn/nasa/1`` becomes ``dawn-nasa-1``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", job_id).strip("-._")[:80] or "job"


def _json(value: Any) -> str:
    """JSON on one line, which is YAML; half surrogates, which neither can hold, are replaced."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace").decode()
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
