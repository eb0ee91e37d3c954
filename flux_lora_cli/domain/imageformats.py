"""The structure of PNG, JPEG and WebP, as walkers that never hold the file.

Each walker is a generator. It yields what it wants next (Take, Skip, Scan), is sent what came of it, and
returns the image's width and height when it has seen the end. Sources: PNG (ISO 15948), JPEG (ITU T.81),
WebP container (RFC 9649).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from flux_lora_cli.errors import BadImage

Size = tuple[int, int]
#: Raises BadImage where a width and height in pixels are not believed.
SizeCheck = Callable[[int, int], Size]


@dataclass(slots=True)
class Take:
    """Exactly ``count`` bytes are wanted; few. Answered with them."""

    count: int


@dataclass(slots=True)
class Skip:
    """``left`` bytes are to be passed over. Answered with their CRC-32 if ``crc`` gives its beginning."""

    left: int
    crc: int | None = None


@dataclass(slots=True)
class Scan:
    """Entropy-coded JPEG data is to be passed over. Answered with the code of the marker after it."""

    after_ff: bool = False


Walk = Generator[Take | Skip | Scan, Any, Size]

PNG_HEAD = b"\x89PNG"
JPEG_HEAD = b"\xff\xd8\xff"
WEBP_HEAD = b"RIFF"

# Colour type to the bit depths that it allows. [PNG 11.2.2]
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_LONGEST = 2**31 - 1

# Start of frame: all of C0 to CF but DHT (C4), JPG (C8) and DAC (CC). [T.81 table B.1]
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_RESTARTS = range(0xD0, 0xD8)
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01


def walk_png(check: SizeCheck) -> Walk:
    """After the first four bytes: every chunk with its CRC, to IEND."""
    if (yield Take(4)) != b"\r\n\x1a\n":
        raise BadImage("the PNG's signature is damaged")
    size: Size | None = None
    has_pixels = False
    while True:
        head: bytes = yield Take(8)
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if length > _PNG_LONGEST or not name.isalpha():
            raise BadImage("the PNG's structure is damaged")
        if size is None:
            if name != b"IHDR" or length != 13:
                raise BadImage("the PNG does not begin with its header")
            header: bytes = yield Take(13)
            size = _png_size(header, check)
            crc = crc32(header, crc32(name))
        else:
            crc = yield Skip(length, crc32(name))
        if int.from_bytes((yield Take(4)), "big") != crc:
            raise BadImage(f"a part of the PNG is damaged (checksum of {name.decode()})")
        has_pixels = has_pixels or name == b"IDAT"
        if name == b"IEND":
            if length or not has_pixels:
                raise BadImage("the PNG ends without an image")
            return size


def _png_size(header: bytes, check: SizeCheck) -> Size:
    depth, colour, compression, filtering, interlace = header[8:13]
    if depth not in _PNG_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise BadImage("the PNG's header is damaged")
    return check(int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big"))


def walk_jpeg(check: SizeCheck, marker: int) -> Walk:
    """After ``FF D8 FF`` and the first marker's code: every segment and scan, to EOI."""
    size: Size | None = None
    has_pixels = False
    while True:
        while marker == 0xFF:  # fill bytes before a marker
            marker = (yield Take(1))[0]
        if marker == _EOI:
            break
        if marker in (0, _SOI) or marker in _JPEG_RESTARTS:
            raise BadImage("the JPEG's structure is damaged")
        if marker != _TEM:
            length = int.from_bytes((yield Take(2)), "big") - 2
            if length < 0:
                raise BadImage("the JPEG's structure is damaged")
            if marker in _JPEG_FRAMES:
                if length < 6 or size is not None:
                    raise BadImage("the JPEG's header is damaged")
                frame: bytes = yield Take(5)
                size = check(int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"))
                length -= 5
            yield Skip(length)
        if marker == _SOS:
            has_pixels = True
            if size is None:
                raise BadImage("the JPEG has no header")
            marker = yield Scan()
        else:
            if (yield Take(1)) != b"\xff":
                raise BadImage("the JPEG's structure is damaged")
            marker = (yield Take(1))[0]
    if size is None or not has_pixels:
        raise BadImage("the JPEG ends without an image")
    return size


def walk_webp(check: SizeCheck) -> Walk:
    """After ``RIFF``: every chunk, to the length that the file itself states."""
    head: bytes = yield Take(8)
    left = int.from_bytes(head[:4], "little") - 4
    if head[4:] != b"WEBP" or left < 8:
        raise BadImage("the file is no WebP image, though it begins like one")
    size: Size | None = None
    has_pixels = False
    while left > 1:  # one byte too many is padding that some writers count
        if left < 8:
            raise BadImage("the WebP's structure is damaged")
        chunk: bytes = yield Take(8)
        name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        padding = 1 if length & 1 and left - 8 > length else 0
        left -= 8 + length + padding
        if left < 0:
            raise BadImage("the WebP's structure is damaged")
        if size is None:
            if name not in _WEBP_SIZES or length < 10 - 5 * (name == b"VP8L"):
                raise BadImage("the WebP does not begin with its header")
            start: bytes = yield Take(5 if name == b"VP8L" else 10)
            size = check(*_WEBP_SIZES[name](start))
            length -= len(start)
        has_pixels = has_pixels or name in (b"VP8 ", b"VP8L", b"ANMF")
        yield Skip(length + padding)
    yield Skip(left)
    if size is None or not has_pixels:
        raise BadImage("the WebP ends without an image")
    return size


def _vp8_size(start: bytes) -> Size:
    if start[0] & 1 or start[3:6] != b"\x9d\x01\x2a":
        raise BadImage("the WebP's header is damaged")
    return int.from_bytes(start[6:8], "little") & 0x3FFF, int.from_bytes(start[8:10], "little") & 0x3FFF


def _vp8l_size(start: bytes) -> Size:
    bits = int.from_bytes(start[1:5], "little")
    if start[0] != 0x2F or bits >> 29:
        raise BadImage("the WebP's header is damaged")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _vp8x_size(start: bytes) -> Size:
    return int.from_bytes(start[4:7], "little") + 1, int.from_bytes(start[7:10], "little") + 1


_WEBP_SIZES = {b"VP8 ": _vp8_size, b"VP8L": _vp8l_size, b"VP8X": _vp8x_size}
