"""A picture of one colour, made without Pillow: for tests of load, where drawing would be the bottleneck."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any


def plain_png(values: dict[str, Any], seed: int, number: int, size_in_bytes: int) -> bytes:
    """A PNG whose colour and text depend on the request, padded to ``size_in_bytes``."""
    width, height = (int(side) for side in values["size"].split("*"))
    request = json.dumps([values, seed, number], sort_keys=True, default=str).encode()
    mark = hashlib.sha256(request).digest()
    # Eight pixels a byte: one bit each, two colours in the palette.
    head = struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\0" * ((width + 7) // 8)) * height, 1)
    parts = [
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", head),
        _chunk(b"PLTE", mark[:3] + b"\xff\xff\xff"),
        _chunk(b"tEXt", b"Sandbox\0" + mark.hex().encode()),
        _chunk(b"IDAT", rows),
        _chunk(b"IEND", b""),
    ]
    missing = size_in_bytes - sum(map(len, parts)) - 12
    if missing > 0:
        parts.insert(4, _chunk(b"flPd", (mark * (missing // len(mark) + 1))[:missing]))
    return b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
