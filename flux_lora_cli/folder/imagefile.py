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
from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack
from typing import BinaryIO
from zlib import crc32

from flux_lora_cli.errors import BadImage

#: Most bytes and pixels of an image. [CONTRACT: the output folder]
MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000
#: Most parts (chunks, segments, fill bytes) that are walked. A PNG of 100 MB in the usual 8 KB chunks has 25,000;
#: a file of nothing but empty ones would take a minute.
MAX_PARTS = 500_000
#: Bytes by which a format is recognised, and the fewest that an image of an unknown one has.
_HEAD, _MIN_OTHER = 512, 32
_PIECE = 1 << 18

_Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a whole image is.

    Attributes:
        extension: without a dot, by content.
        width, height: pixels; None where the format is not walked.
        warning: what is odd about it, though it is kept; "" where nothing is.
    """

    media_type: str
    extension: str
    width: int | None
    height: int | None
    warning: str = ""


def inspect_image(file: BinaryIO) -> ImageInfo:
    """What a file is, by its structure. Raises BadImage: it is not an image, or not a whole one; OSError."""
    head = file.read(_HEAD)
    if _is_text(head):
        raise BadImage("text came in place of the image")
    if head[:4] == b"\x89PNG" and not head.startswith(b"\x89PNG\r\n\x1a\n"):
        raise BadImage("the PNG's signature is damaged")
    media_type, extension, walk = next(kind for magic, kind in _FORMATS if magic.match(head))
    if walk is not None:
        reader = _Reader(file, extension.upper())
        return ImageInfo(media_type, extension, *walk(reader), reader.warning)
    if len(head) < _MIN_OTHER:
        raise BadImage(f"the file is cut short after {len(head)} bytes")
    name = "an unknown format" if extension == "bin" else extension.upper()
    warning = f"the image is in {name}: saved as it came, only its length was checked"
    return ImageInfo(media_type, extension, None, None, warning)


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


class _Reader:
    """What walks read from: a file from its start, whose end comes too early."""

    def __init__(self, file: BinaryIO, format_: str) -> None:
        self.warning = ""
        self._file = file
        self._format = format_
        self._parts = 0
        self._end = file.seek(0, os.SEEK_END)
        file.seek(0)

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes; few."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadImage("the image is made of absurdly many parts")
        data = self._file.read(count)
        if len(data) < count:
            raise self._cut_short()
        return data

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes."""
        if self._file.seek(count, os.SEEK_CUR) > self._end:
            raise self._cut_short()

    def checksum(self, count: int, crc: int) -> int:
        """Pass over ``count`` bytes; their CRC-32, begun with ``crc``."""
        while count:
            piece = self._file.read(min(count, _PIECE))
            if not piece:
                raise self._cut_short()
            crc, count = crc32(piece, crc), count - len(piece)
        return crc

    def find(self, pattern: re.Pattern[bytes]) -> bytes:
        """Pass over all before the next match of a pattern of two bytes; the match."""
        data = b""
        while piece := self._file.read(_PIECE):
            data = data[-1:] + piece
            if found := pattern.search(data):
                self._file.seek(found.end() - len(data), os.SEEK_CUR)
                return found[0]
        raise self._cut_short()

    def size(self, width: int, height: int) -> _Size:
        """A size that a header states, checked."""
        if not width or not height:
            raise BadImage("the image's header states no size")
        if width * height > MAX_PIXELS:
            raise BadImage(f"the image is too large: {width}×{height} pixels")
        return width, height

    def _cut_short(self) -> BadImage:
        return BadImage(f"the {self._format} image is cut short after {self._end:,} bytes")


# ---- the walks: each returns width and height when it has seen the end ----


def _walk_png(reader: _Reader) -> _Size:
    start = reader.take(24)
    if start[8:16] != b"\0\0\0\x0dIHDR":
        raise BadImage("the PNG does not begin with its header")
    size = reader.size(*unpack(">II", start[16:]))
    reader.skip(-16)  # the header is a part like others, with a checksum
    length, name, has_pixels = 0, b"", False
    while name != b"IEND":
        length, name = unpack(">I4s", reader.take(8))
        if length >= 2**31 or not name.isalpha():
            raise BadImage("the PNG's structure is damaged")
        if reader.checksum(length, crc32(name)) != unpack(">I", reader.take(4))[0]:
            if name[:1].isupper():  # critical: no viewer can do without it [PNG 5.4]
                raise BadImage(f"a part of the PNG is damaged (checksum of {name.decode()})")
            reader.warning = f"the checksum of its part {name.decode()}, which no viewer needs, is wrong"
        has_pixels |= name == b"IDAT"
    if length or not has_pixels:
        raise BadImage("the PNG ends without an image")
    return size


# Start of frame: all of C0 to CF but DHT (C4), JPG (C8) and DAC (CC). [T.81 table B.1]
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_RESTARTS = range(0xD0, 0xD8)
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# A marker in entropy-coded data: FF, then neither a stuffed zero, nor a restart, nor more fill.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _walk_jpeg(reader: _Reader) -> _Size:
    marker = reader.take(4)[3]
    size, has_pixels = (0, 0), False
    while True:
        while marker == 0xFF:  # fill bytes before a marker
            marker = reader.take(1)[0]
        if marker == _EOI:
            break
        length = unpack(">H", reader.take(2))[0] - 2
        misplaced = marker in (0, _SOI) or marker in _RESTARTS or (marker in _FRAMES and any(size))
        if misplaced or length < (6 if marker in _FRAMES else 0):
            raise BadImage("the JPEG's structure is damaged")
        if marker in _FRAMES:
            height, width = unpack(">xHH", reader.take(5))
            size, length = reader.size(width, height), length - 5
        reader.skip(length)
        if marker == _SOS:
            if not any(size):
                raise BadImage("the JPEG has no header")
            has_pixels = True
        fill, marker = reader.find(_MARKER) if marker == _SOS else reader.take(2)
        if fill != 0xFF:
            raise BadImage("the JPEG's structure is damaged")
    if not has_pixels:
        raise BadImage("the JPEG ends without an image")
    return size


def _walk_webp(reader: _Reader) -> _Size:
    head = reader.take(30)
    # Width and height from the first bytes of the first chunk. [RFC 9649, 2.5 to 2.7]
    name, start = head[12:16], head[20:]
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
    reader.skip(max(0, 8 + int.from_bytes(head[4:8], "little") - len(head)))  # to where the RIFF says it ends
    return reader.size(*size)


#: First bytes; media type, extension, and the walk: without one, a format is known by its first bytes alone.
_FORMATS: tuple[tuple[re.Pattern[bytes], tuple[str, str, Callable[[_Reader], _Size] | None]], ...] = (
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
