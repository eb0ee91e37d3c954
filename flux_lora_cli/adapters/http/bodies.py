"""Bodies of answers, in pieces, unpacked in bounded steps."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from flux_lora_cli.adapters.http.connections import PIECE
from flux_lora_cli.errors import BadAnswer, Uncertain

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\\"


def pieces_of(raw: Any, encoding: str, limit: int, host: str) -> Iterator[bytes]:
    """The body of an answer. Stops soon after ``limit`` unpacked bytes; the caller counts.

    Raises:
        BadAnswer: packed in a way that cannot be read.
        Uncertain: the packed body is cut short.
    """
    plain = _raw_pieces(raw)
    encoding = encoding.strip().lower()
    return plain if encoding in ("", "identity") else _unpacked(plain, encoding, limit, host)


def _raw_pieces(raw: Any) -> Iterator[bytes]:
    # read1 returns what has come, so that a trickle cannot hide inside one long read.
    while piece := raw.read1(PIECE):
        yield piece


def _unpacked(pieces: Iterator[bytes], encoding: str, limit: int, host: str) -> Iterator[bytes]:
    """Unpack a compressed body in bounded steps."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BadAnswer(f"{host} packed its answer in a way that was not asked for")
    unpacker = zlib.decompressobj(wbits=47 if encoding != "deflate" else 15)
    size = 0
    try:
        for packed in pieces:
            rest = packed
            while rest:
                piece = unpacker.decompress(rest, PIECE)
                rest = unpacker.unconsumed_tail
                size += len(piece)
                if piece:
                    yield piece
                if size > limit:
                    return  # the caller has seen more than its limit by now
    except zlib.error:
        raise BadAnswer(f"{host} sent a packed answer that is broken") from None
    if not unpacker.eof:
        raise Uncertain(f"{host} sent a packed answer that is cut short")


def looks_inline(piece: bytes) -> bool:
    """Whether a piece of a body is, but for some punctuation, base64."""
    return len(piece.translate(None, _BASE64)) <= len(piece) // 64 + 8
