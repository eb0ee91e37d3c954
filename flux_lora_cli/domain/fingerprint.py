"""What makes two jobs the same job: fingerprint version 1.

SHA-256 of the RFC 8785 JSON of ``{"v": 1, "model": …, "input": …, "seed": …}``, where ``input`` holds the
parameters as the user wrote them after merging (no defaults filled in, numbers by value, without ``seed``), a
local image stands there as its SHA-256, and ``seed`` is the fixed seed or ``"random/K"``, K being the repeat
number. Later versions of this program read folders of this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flux_lora_cli.domain.job import Job

VERSION = 1

#: Between these, Python and ECMAScript write a number alike: the shortest digits, no exponent.
_PLAIN_FLOATS = (1e-4, 1e15)
_LARGEST_EXACT = 2**53 - 1
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class _NeedsLibraryError(Exception):
    """A value of which the standard encoder is not known to write RFC 8785."""


def fingerprint(job: Job) -> str:
    """The job's fingerprint: 64 lower-case hex digits."""
    parameters = {key: value for key, value in job.params.items() if key != "seed"}
    if job.image is not None:
        parameters["image"] = job.image.sha256
    seed = f"random/{job.repeat}" if job.seed is None or job.seed == -1 else job.seed
    return hashlib.sha256(canonical({"v": VERSION, "model": job.model, "input": parameters, "seed": seed})).hexdigest()


def canonical(value: Any) -> bytes:
    """``value`` as RFC 8785 JSON.

    The library is the reference; requests hold little else than text and small numbers, and for those the
    standard encoder, in C, writes the same bytes in about half the time. A test holds the two against each other.
    """
    try:
        return _encode(_simple(value)).encode("utf-8")
    except (_NeedsLibraryError, UnicodeEncodeError):
        import rfc8785

        return rfc8785.dumps(_lists(value))


def _simple(value: Any) -> Any:
    """``value`` with numbers by value; raises _NeedsLibraryError for what only the library writes right."""
    kind = type(value)
    if kind is str or kind is bool or (kind is int and -_LARGEST_EXACT <= value <= _LARGEST_EXACT):
        return value  # nearly all there is
    if kind is dict and not any(key.__class__ is not str or not key.isascii() for key in value):
        return {key: _simple(item) for key, item in value.items()}
    if value is None or value is True or value is False or isinstance(value, str):
        return value
    if isinstance(value, int):
        if abs(value) > _LARGEST_EXACT:
            raise _NeedsLibraryError
        return value
    if isinstance(value, float):
        if value.is_integer() and abs(value) <= _LARGEST_EXACT:
            return int(value)
        if not _PLAIN_FLOATS[0] <= abs(value) < _PLAIN_FLOATS[1]:
            raise _NeedsLibraryError
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) and key.isascii() for key in value):
            raise _NeedsLibraryError  # keys are sorted by UTF-16 code units
        return {key: _simple(item) for key, item in value.items()}
    return [_simple(item) for item in value]


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    return value
