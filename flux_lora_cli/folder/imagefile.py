"""Whether a file is a whole image, told by its structure without decoding it.

HTTP calls a body without Content-Length complete when the connection ends; only the image's own structure shows
that it was cut. Decoding would show more, at 9 to 55 ms per image; walking costs about one.
Sources: PNG (ISO 15948), JPEG (ITU T.81), WebP container (RFC 9649).
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack
from typing import BinaryIO
from zlib import crc32

from flux_lora_cli.errors import BadImage

#: Most bytes and pixels of an image. [CONTRACT: the output folder]
MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000
#: Most parts (chunks, segments, fill bytes) that are walked. A PNG of 100 MB in the usual 8 KB chunks has 12,500;
#: a file of nothing but empty ones would take a minute.
MAX_PARTS = 250_000
#: Bytes by which a format is recognised, and the fewest that an image of an unknown one has.
_HEAD, _MIN_OTHER = 512, 32
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class ImageInfo:
    media_type: str
    extension: str  # without a dot, by content
    width: int | None  # pixels; None where the format is not walked
    height: int | None
    warning: str = ""  # what is odd about it, though it is kept


def inspect_image(file: BinaryIO) -> ImageInfo:
    """What a file is, by its structure. Raises BadImage: it is not an image, or not a whole one; OSError."""
    head = file.read(_HEAD)
    if _is_text(head):
        raise BadImage("text came in place of the image")
    if head[:4] == b"\x89PNG" and not head.startswith(b"\x89PNG\r\n\x1a\n"):
        raise BadImage("the PNG's signature is damaged")
    media_type, extension, walk = next(kind for magic, kind in _FORMATS if magic.match(head))
    name = "an unknown format" if extension == "bin" else extension.upper()
    if walk is None:
        if len(head) < _MIN_OTHER:
            raise BadImage(f"the file is cut short after {len(head)} bytes")
        warning = f"the image is in {name}: saved as it came, only its length was checked"
        return ImageInfo(media_type, extension, None, None, warning)
    file.seek(0)
    try:
        return ImageInfo(media_type, extension, *walk(file))
    except (EOFError, struct.error):  # what unpack makes of too few bytes
        end = file.seek(0, os.SEEK_END)
        raise BadImage(f"the {name} image is cut short after {end:,} bytes") from None


def input_format(head: bytes) -> tuple[str, str] | None:
    """Media type and extension of an image that models take, by its first bytes; None of anything else."""
    media_type, extension, walk = next(kind for magic, kind in _FORMATS if magic.match(head))
    return (media_type, extension) if walk is not None else None


def _is_text(head: bytes) -> bool:
    """Whether a file begins like a page, an answer of an API or other words, in UTF-8 or UTF-16."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    with contextlib.suppress(UnicodeDecodeError):
        text = codecs.getincrementaldecoder(encoding)().decode(head)  # the last character may be cut
        return bool(text) and all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)
    return head.lstrip(b" \t\r\n")[:1] in (b"<", b"{", b"[")


# ---- the walks: to the end of the image; width and height, and what is odd ----------------------


def _checked(width: int, height: int) -> tuple[int, int]:
    if not width or not height:
        raise BadImage("the image's header states no size")
    if width * height > MAX_PIXELS:
        raise BadImage(f"the image is too large: {width}×{height} pixels")
    return width, height


def _walk_png(file: BinaryIO) -> tuple[int, int, str]:
    header, width, height = unpack(">8x8sII", file.read(24))
    if header != b"\0\0\0\x0dIHDR":
        raise BadImage("the PNG does not begin with its header")
    _checked(width, height)
    file.seek(8)  # the header is a part like others, with a checksum
    warning, has_pixels = "", False
    for _ in range(MAX_PARTS):
        length, name = unpack(">I4s", file.read(8))
        if length >= 2**31 or not name.isalpha():
            raise BadImage("the PNG's structure is damaged")
        if _checksum(file, length, crc32(name)) != unpack(">I", file.read(4))[0]:
            if name[:1].isupper():  # critical: no viewer can do without it [PNG 5.4]
                raise BadImage(f"a part of the PNG is damaged (checksum of {name.decode()})")
            warning = f"the checksum of its part {name.decode()}, which no viewer needs, is wrong"
        has_pixels |= name == b"IDAT"
        if name == b"IEND":
            if length or not has_pixels:
                raise BadImage("the PNG ends without an image")
            return width, height, warning
    raise BadImage("the image is made of absurdly many parts")


def _checksum(file: BinaryIO, length: int, crc: int) -> int:
    """The CRC-32, begun with ``crc``, of the next bytes."""
    while length:
        piece = file.read(min(length, _PIECE))
        if not piece:
            raise EOFError
        crc, length = crc32(piece, crc), length - len(piece)
    return crc


# Start of frame: all of C0 to CF but DHT (C4), JPG (C8) and DAC (CC). [T.81 table B.1]
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FILL, _EOI, _SOS = 0xFF, 0xD9, 0xDA
#: Where no segment begins: a stuffed zero, restarts, the start of an image.
_MISPLACED = frozenset({0x00, *range(0xD0, 0xD9)})
# A marker in entropy-coded data: FF, then neither a stuffed zero, nor a restart, nor more fill.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _walk_jpeg(file: BinaryIO) -> tuple[int, int]:
    file.seek(2)
    width, height, has_pixels = 0, 0, False
    for _ in range(MAX_PARTS):
        fill, marker = unpack("BB", file.read(2))
        if fill != _FILL:
            raise BadImage("the JPEG's structure is damaged")
        if marker == _FILL:
            file.seek(-1, os.SEEK_CUR)
            continue
        if marker == _EOI:
            if not has_pixels:
                raise BadImage("the JPEG ends without an image")
            return width, height
        length = unpack(">H", file.read(2))[0] - 2
        is_frame = marker in _FRAMES
        if marker in _MISPLACED or (is_frame and width) or length < (6 if is_frame else 0):
            raise BadImage("the JPEG's structure is damaged")
        if is_frame:
            height, width = unpack(">xHH", file.read(5))
            _checked(width, height)
            length -= 5
        file.seek(length, os.SEEK_CUR)
        if marker == _SOS:
            if not width:
                raise BadImage("the JPEG has no header")
            has_pixels = True
            _seek_marker(file)
    raise BadImage("the image is made of absurdly many parts")


def _seek_marker(file: BinaryIO) -> None:
    """Pass over entropy-coded data."""
    data = b""
    while piece := file.read(_PIECE):
        data = data[-1:] + piece
        if found := _MARKER.search(data):
            file.seek(found.start() - len(data), os.SEEK_CUR)
            return
    raise EOFError


def _walk_webp(file: BinaryIO) -> tuple[int, int]:
    # Width and height from the first bytes of the first chunk. [RFC 9649, 2.5 to 2.7]
    length, name, start = unpack("<4xI4x4s4x10s", file.read(30))
    bits = int.from_bytes(start[1:5], "little")
    if name == b"VP8X":
        size = int.from_bytes(start[4:7], "little") + 1, int.from_bytes(start[7:], "little") + 1
    elif name == b"VP8L" and start[0] == 0x2F and not bits >> 29:
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif name == b"VP8 " and not start[0] & 1 and start[3:6] == b"\x9d\x01\x2a":
        width, height = unpack("<HH", start[6:])
        size = width & 0x3FFF, height & 0x3FFF
    else:
        raise BadImage("the WebP does not begin with its header, or that is damaged")
    file.seek(max(30, 8 + length) - 1)  # where the RIFF says that it ends
    if not file.read(1):
        raise EOFError
    return _checked(*size)


_Walk = Callable[[BinaryIO], tuple[int, int] | tuple[int, int, str]]
#: First bytes; media type, extension, and the walk: without one, a format is known by its first bytes alone.
_FORMATS: tuple[tuple[re.Pattern[bytes], tuple[str, str, _Walk | None]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ("image/png", "png", _walk_png)),
    (re.compile(rb"\xff\xd8\xff"), ("image/jpeg", "jpg", _walk_jpeg)),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), ("image/webp", "webp", _walk_webp)),
    (re.compile(rb"GIF8[79]a"), ("image/gif", "gif", None)),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), ("image/avif", "avif", None)),
    (re.compile(rb"....ftyp(?:hei[cxms]|hev[cm]|mif1|msf1)", re.DOTALL), ("image/heic", "heic", None)),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), ("image/jxl", "jxl", None)),
    (re.compile(rb"BM....\0\0\0\0", re.DOTALL), ("image/bmp", "bmp", None)),
    (re.compile(rb"II\*\0|MM\0\*"), ("image/tiff", "tiff", None)),
    (re.compile(rb""), ("application/octet-stream", "bin", None)),
)
#: Endings of files that hold images; an image is never given another.
IMAGE_ENDINGS = ("jpeg", *(extension for _, (_, extension, _) in _FORMATS))
