"""Metadata into and out of PNG, JPEG and WebP files, byte by byte: no pixel is decoded or encoded.

Everything that a file already holds is kept in place, but for a text of the same name.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flux_lora_cli.errors import BadImage, ImageError
from flux_lora_cli.gallery import metadata

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_XMP = b"XML:com.adobe.xmp"
_JPEG_EXIF = b"Exif\0\0"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
#: A segment's length field counts itself and is 16 bits wide.
_SEGMENT_LIMIT = 65_533


@dataclass(frozen=True, slots=True)
class Texts:
    """What goes into a file: the request as JSON, and the ``parameters`` text."""

    record: str
    parameters: str


def insert(data: bytes, texts: Texts) -> bytes:
    """The file with the texts in it.

    Raises:
        BadImage: the file is none of the three kinds, or is damaged.
        ImageError: the texts do not fit into a file of its kind.
    """
    try:
        return _kind(data)[0](data, texts)
    except (struct.error, IndexError, ValueError) as error:
        raise BadImage(f"the image is damaged: {error}") from error


def read_record(data: bytes) -> dict[str, Any] | None:
    """The request that a file carries; None where it carries none that can be read."""
    try:
        return _kind(data)[1](data)
    except (struct.error, IndexError, ValueError, BadImage):
        return None


def _kind(data: bytes) -> tuple[Callable[[bytes, Texts], bytes], Callable[[bytes], dict[str, Any] | None]]:
    if data.startswith(PNG_SIGNATURE):
        return _into_png, _out_of_png
    if data.startswith(b"\xff\xd8"):
        return _into_jpeg, _out_of_jpeg
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _into_webp, _out_of_webp
    raise BadImage("neither PNG nor JPEG nor WebP")


# ---- PNG ----------------------------------------------------------------------------------


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(type, payload, the chunk as it stands)."""
    at = len(PNG_SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunk = data[at : at + 12 + length]
        if len(chunk) != 12 + length:
            raise ValueError("a chunk is cut")
        yield chunk[4:8], chunk[8:-4], chunk
        at += len(chunk)
        if chunk[4:8] == b"IEND":
            return


def _png_chunk(kind: bytes, payload: bytes) -> bytes:
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


def _png_text(keyword: bytes, text: str) -> bytes:
    """tEXt where Latin-1 can say it, iTXt otherwise: as Pillow and A1111 do."""
    try:
        return _png_chunk(b"tEXt", keyword + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _png_itxt(keyword, text.encode())


def _png_itxt(keyword: bytes, text: bytes) -> bytes:
    return _png_chunk(b"iTXt", keyword + b"\0\0\0\0\0" + text)


def _png_keyword(kind: bytes, payload: bytes) -> bytes:
    return payload.split(b"\0", 1)[0] if kind in (b"tEXt", b"zTXt", b"iTXt") else b""


def _png_itxt_text(payload: bytes) -> bytes:
    """The text of an iTXt chunk; b"" where it cannot be read."""
    rest = payload.partition(b"\0")[2]
    text = rest[2:].split(b"\0", 2)[-1]  # after flag and method, language, translated keyword
    return (metadata.inflate(text) or b"") if rest[:1] == b"\1" else text


def _into_png(data: bytes, texts: Texts) -> bytes:
    replaced = (b"parameters", metadata.KEYWORD.encode(), _PNG_XMP)
    kept, existing = [], b""
    for kind, payload, chunk in _png_chunks(data):
        keyword = _png_keyword(kind, payload)
        if keyword == _PNG_XMP and kind == b"iTXt":
            existing = _png_itxt_text(payload)
        if keyword not in replaced:
            kept.append(chunk)
    if not kept or kept[0][4:8] != b"IHDR":
        raise ValueError("the first chunk is no header")
    added = [
        _png_text(b"parameters", texts.parameters),
        _png_text(metadata.KEYWORD.encode(), texts.record),
        _png_itxt(_PNG_XMP, metadata.xmp_packet(texts.record, existing)),
    ]
    return b"".join([PNG_SIGNATURE, kept[0], *added, *kept[1:]])


def _out_of_png(data: bytes) -> dict[str, Any] | None:
    for kind, payload, _ in _png_chunks(data):
        if kind in (b"tEXt", b"iTXt") and _png_keyword(kind, payload) == metadata.KEYWORD.encode():
            text = payload.partition(b"\0")[2] if kind == b"tEXt" else _png_itxt_text(payload)
            return metadata.parse_record(text.decode("latin-1"))
    return None


# ---- JPEG ---------------------------------------------------------------------------------


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(marker, payload, the segment as it stands); all from start-of-scan on comes as one piece."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("a marker is missing")
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if marker in (0xDA, 0xD9):
            yield marker, b"", data[at:]
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        segment = data[at : at + 2 + length]
        if length < 2 or len(segment) != length + 2:
            raise ValueError("a segment is cut")
        yield marker, segment[4:], segment
        at += len(segment)


def _jpeg_segment(payload: bytes) -> bytes:
    if len(payload) > _SEGMENT_LIMIT:
        raise ImageError("the request is too long for a JPEG file", "no model reads a prompt of that length")
    return b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload


def _into_jpeg(data: bytes, texts: Texts) -> bytes:
    head: list[bytes] = []
    rest: list[bytes] = []
    exif = xmp = b""
    for marker, payload, segment in _jpeg_segments(data):
        if marker == 0xE1 and payload.startswith(_JPEG_EXIF):
            exif = payload
        elif marker == 0xE1 and payload.startswith(_JPEG_XMP):
            xmp = payload[len(_JPEG_XMP) :]
        else:
            (head if marker == 0xE0 and not rest else rest).append(segment)
    block = metadata.exif_block(_fitting(texts.parameters), exif)
    packet = metadata.xmp_packet(texts.record, xmp)
    added = [_jpeg_segment(_JPEG_EXIF + block), _jpeg_segment(_JPEG_XMP + packet)]
    return b"".join([b"\xff\xd8", *head, *added, *rest])


def _fitting(text: str) -> str:
    """The start of a text that a segment holds as UTF-16; the whole lies in the JSON."""
    return text if len(text) < 15_000 else text[:15_000] + " …"


def _out_of_jpeg(data: bytes) -> dict[str, Any] | None:
    for marker, payload, _ in _jpeg_segments(data):
        if marker == 0xE1 and payload.startswith(_JPEG_XMP):
            return metadata.record_from_xmp(payload[len(_JPEG_XMP) :])
    return None


# ---- WebP ---------------------------------------------------------------------------------


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    end = min(len(data), 8 + int(struct.unpack_from("<I", data, 4)[0]))
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        payload = data[at + 8 : at + 8 + length]
        if len(payload) != length:
            raise ValueError("a chunk is cut")
        yield kind, payload
        at += 8 + length + length % 2


def _webp_chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def _into_webp(data: bytes, texts: Texts) -> bytes:
    chunks = list(_webp_chunks(data))
    found = dict(reversed(chunks))
    header = bytearray(found.get(b"VP8X") or _webp_header(found))
    header[0] |= 0x08 | 0x04  # there is EXIF, there is XMP
    kept = [_webp_chunk(kind, payload) for kind, payload in chunks if kind not in (b"VP8X", b"EXIF", b"XMP ")]
    added = [
        _webp_chunk(b"EXIF", metadata.exif_block(texts.parameters, found.get(b"EXIF", b""))),
        _webp_chunk(b"XMP ", metadata.xmp_packet(texts.record, found.get(b"XMP ", b""))),
    ]
    body = b"".join([b"WEBP", _webp_chunk(b"VP8X", bytes(header)), *kept, *added])
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_header(found: dict[bytes, bytes]) -> bytes:
    """The extended header of a simple file: its flags and, less one, its width and height in 24 bits."""
    alpha = False
    if b"VP8L" in found:
        signature, bits = struct.unpack_from("<BI", found[b"VP8L"])
        if signature != 0x2F:
            raise ValueError("no lossless header")
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bool(bits >> 28 & 1)
    elif b"VP8 " in found:
        start, w, h = struct.unpack_from("<3sHH", found[b"VP8 "], 3)
        if start != b"\x9d\x01\x2a":
            raise ValueError("no key frame")
        width, height = (w & 0x3FFF) - 1, (h & 0x3FFF) - 1
    else:
        raise ValueError("no image data")
    flags = b"\x10\0\0\0" if alpha else b"\0\0\0\0"
    return flags + int(width).to_bytes(3, "little") + int(height).to_bytes(3, "little")


def _out_of_webp(data: bytes) -> dict[str, Any] | None:
    for kind, payload in _webp_chunks(data):
        if kind == b"XMP ":
            return metadata.record_from_xmp(payload)
    return None
