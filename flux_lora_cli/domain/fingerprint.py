"""What makes two jobs the same job: fingerprint version 1.

SHA-256 of the RFC 8785 JSON of ``{"v": 1, "model": …, "input": …, "seed": …}``, where ``input`` holds the
parameters as the user wrote them after merging (no defaults filled in, numbers by value, without ``seed``), a
local image stands there as its SHA-256, and ``seed`` is the fixed seed or ``"random/K"``, K being the repeat
number. Later versions of this program read folders of this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from flux_lora_cli.domain.job import Job

VERSION = 1


def fingerprint(job: Job) -> str:
    """The job's fingerprint: 64 lower-case hex digits."""
    parameters = {key: _by_value(value) for key, value in job.params.items() if key != "seed"}
    if job.image is not None:
        parameters["image"] = job.image.sha256
    seed = f"random/{job.repeat}" if job.seed is None or job.seed == -1 else job.seed
    identity: dict[str, Any] = {"v": VERSION, "model": job.model, "input": parameters, "seed": seed}
    return hashlib.sha256(rfc8785.dumps(identity)).hexdigest()


def _by_value(value: Any) -> Any:
    """``value`` as plain JSON; RFC 8785 writes 1.0 and 1 alike."""
    if isinstance(value, Mapping):
        return {str(key): _by_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_by_value(item) for item in value]
    return value
