"""A job of a manifest as a preset file with that one job.

The gallery's page writes the same text in JavaScript (``jobYaml`` in
``resources/gallery/1-data.js``); a test holds the two together. So only forms that both can
write alike are used: two-space indentation, double-quoted strings, plain decimal numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

#: Order of keys in the file; others follow by name, the LoRA stack comes last.
KEY_ORDER = (
    "prompt", "image", "mask_image", "strength", "size", "num_inference_steps", "guidance_scale",
    "num_images", "seed", "enable_safety_checker", "output_format",
)  # fmt: skip
#: Keys that a preset reads, but not as a parameter: a request that holds one is not of this tool's making.
JOB_KEYS = (
    "id", "model", "stack", "vars", "matrix", "repeat", "sample", "sample_seed", "skip", "prompts_file", "preset",
)  # fmt: skip
# What YAML 1.1 takes for a line break or refuses as unprintable, and what reorders text on screen.
_ESCAPED = re.compile("[\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff]")
# What the preset language would expand: each has a backslash escape.
_EXPANDED = re.compile(r"\$(?=\{)|\{|_(?=_)|(?<=\\)[}$_|]")


def job_as_yaml(job_id: str, model: str, request: Mapping[str, Any]) -> str:
    """A preset of one job that asks for ``request`` (a manifest's ``request.input``) again.

    The prompt's braces, ``${`` and ``__`` are escaped, so that it is sent as it stands.
    A local input image keeps its ``inputs/…`` path, so the file belongs into the run's folder.
    """
    lines = ["version: 1"]
    if model:
        lines.append(f"model: {scalar(model)}")
    lines += ["jobs:", f"  - id: {scalar(slug(job_id))}"]
    first = [key for key in KEY_ORDER if key in request]
    others = sorted(key for key in request if key not in (*KEY_ORDER, *JOB_KEYS, "loras"))
    for key in [*first, *others]:
        value = request[key]
        if value is None or isinstance(value, (dict, list)) or not re.fullmatch(r"[a-z_]{1,40}", key):
            continue
        if key == "prompt":
            value = literal(str(value))
        lines.append(f"    {key}: {scalar(value)}")
    lines += _loras(request.get("loras"))
    return "\n".join(lines) + "\n"


def literal(prompt: str) -> str:
    """A prompt with everything escaped that the preset language would expand."""
    return _EXPANDED.sub(lambda match: "\\" + match.group(), prompt)


def slug(job_id: str) -> str:
    """A job id that is plain in any preset: ``dawn/nasa/1`` becomes ``dawn-nasa-1``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", job_id).strip("-.")[:80] or "job"


def scalar(value: object) -> str:
    """One YAML scalar: text in double quotes, numbers without exponents."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format(Decimal(int(value) if value.is_integer() else repr(value)), "f")
    quoted = json.dumps(str(value), ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)


def _loras(loras: object) -> list[str]:
    if not isinstance(loras, list):
        return []
    entries = [x for x in loras if isinstance(x, dict)]
    if not entries:
        return ["    loras: []"]
    lines = ["    loras:"]
    for entry in entries:
        scale = entry.get("scale", 1)
        lines.append(f"      - path: {scalar(str(entry.get('path', '')))}")
        lines.append(f"        scale: {scalar(scale if isinstance(scale, (int, float)) else 1)}")
    return lines
