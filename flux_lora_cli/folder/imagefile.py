"""Whether bytes that pass by are a whole image, told without holding or decoding them.

HTTP calls a body without Content-Length complete when the connection ends; only the image's own structure shows
that it was cut. Decoding would show more, at 9 to 55 ms per image; walking costs well under one.
Sources: PNG (ISO 15948), JPEG (ITU T.81), WebP container (RFC 9649).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from flux_lora_cli.errors import BadImage
from flux_lora_cli.folder.otherformats import is_text, other_format

#: Most bytes and pixels of an image. [CONTRACT: the output folder]
MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000
#: Most parts (chunks, segments, fill bytes) that are walked. A PNG of 100 MB in the usual 8 KB chunks has 12,000;
#: a file of nothing but empty ones would take a minute.
MAX_PARTS = 500_000
#: Bytes after the image's end that need no word: padding and camera trailers exist, and viewers ignore them.
QUIET_TRAILER = 65536
#: Bytes by which a file of unknown format is judged, and the fewest it has to have.
_HEAD, _MIN_OTHER = 512, 32


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a whole image is.

    Attributes:
        extension: without a dot, by content.
        width, height: pixels; None where the format is not known.
        warning: what is odd about it, though it is kept; "" where nothing is.
    """

    media_type: str
    extension: str
    width: int | None
    height: int | None
    warning: str = ""


@dataclass(slots=True)
class _Take:
    """Exactly ``count`` bytes are wanted; few. Answered with them."""

    count: int


@dataclass(slots=True)
class _Skip:
    """``left`` bytes are to be passed over. Answered with their CRC-32 if ``crc`` gives its beginning."""

    left: int
    crc: int | None = None


@dataclass(slots=True)
class _Scan:
    """Entropy-coded JPEG data is to be passed over. Answered with the code of the marker after it."""

    after_ff: bool = False


_Size = tuple[int, int]
_Walk = Generator[_Take | _Skip | _Scan, Any, _Size]

# A marker in entropy-coded data: FF, then neither a stuffed zero, nor a restart, nor more fill.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class ImageWalker:
    """Fed a file piece by piece, tells what it is, or why it is not an image that can be kept."""

    def __init__(self, limit_bytes: int = MAX_BYTES, limit_pixels: int = MAX_PIXELS) -> None:
        self._limit_bytes = limit_bytes
        self._limit_pixels = limit_pixels
        self._fed = self._trailer = self._parts = 0
        self._head: bytearray | None = bytearray()  # until the format is known
        self._format = ("", "")
        self._size: _Size | None = None
        self._other = False
        self._warnings: list[str] = []
        self._taken = bytearray()
        self._walk: _Walk | None = None
        self._want: _Take | _Skip | _Scan | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises BadImage: whatever follows, this is not an image."""
        self._fed += len(piece)
        if self._fed > self._limit_bytes:
            raise BadImage(f"the file is larger than {self._limit_bytes / 1e6:g} MB")
        if self._head is not None:
            self._head += piece
            self._recognise(at_end=False)
        else:
            self._walk_on(piece)

    def finish(self) -> ImageInfo:
        """There are no more bytes. Raises BadImage: the image is cut short."""
        if self._head is not None:
            self._recognise(at_end=True)
        if self._size is None and not self._other:
            what = f"the {self._format[1].upper()} image" if self._format[1] else "the file"
            raise BadImage(f"{what} is cut short after {self._fed:,} bytes")
        if self._trailer > QUIET_TRAILER:
            self._warnings.append(f"{self._trailer:,} bytes follow the image's end")
        width, height = self._size or (None, None)
        return ImageInfo(*self._format, width, height, "; ".join(self._warnings))

    def _recognise(self, *, at_end: bool) -> None:
        head = bytes(self._head or b"")
        known = next((entry for entry in _WALKED if entry[0](head)), None)
        if known is not None:
            self._format, self._head = known[1:3], None
            self._walk = known[3](self)
            self._want = next(self._walk)
            self._walk_on(head)
        elif len(head) >= _HEAD or at_end:
            self._judge_other(head)

    def _judge_other(self, head: bytes) -> None:
        if len(head) < _MIN_OTHER and not is_text(head):
            return  # too short for any format: finish() calls it cut short
        if is_text(head[:_HEAD]):
            raise BadImage("text came in place of the image")
        if head[:4] == b"\x89PNG":
            raise BadImage("the PNG's signature is damaged")
        self._head, self._other = None, True
        self._format, self._size = other_format(head)
        if self._size is not None:
            self._size = self._check(*self._size)
        name = self._format[1].upper() if self._format[1] != "bin" else "an unknown format"
        self._warnings.append(f"the image is in {name}: saved as it came, only its length was checked")

    def _walk_on(self, piece: bytes) -> None:
        position = 0
        while position < len(piece):
            if isinstance(self._want, _Take):
                position = self._take(self._want, piece, position)
            elif isinstance(self._want, _Skip):
                position = self._skip(self._want, piece, position)
            elif isinstance(self._want, _Scan):
                position = self._scan(self._want, piece, position)
            else:
                self._trailer += len(piece) - position
                return

    def _take(self, want: _Take, piece: bytes, position: int) -> int:
        end = position + want.count - len(self._taken)
        self._taken += piece[position:end]
        if len(self._taken) == want.count:
            answer = bytes(self._taken)
            self._taken.clear()
            self._go_on(answer)
        return min(end, len(piece))

    def _skip(self, want: _Skip, piece: bytes, position: int) -> int:
        end = min(position + want.left, len(piece))
        if want.crc is not None:
            want.crc = crc32(memoryview(piece)[position:end], want.crc)
        want.left -= end - position
        if not want.left:
            self._go_on(want.crc)
        return end

    def _scan(self, want: _Scan, piece: bytes, position: int) -> int:
        if want.after_ff:
            code = piece[position]
            if code not in (0, 0xFF) and not 0xD0 <= code <= 0xD7:
                self._go_on(code)
                return position + 1
            want.after_ff = code == 0xFF
            return position + 1
        found = _MARKER.search(piece, position)
        if found is None:
            want.after_ff = piece[-1] == 0xFF
            return len(piece)
        self._go_on(piece[found.end() - 1])
        return found.end()

    def _go_on(self, answer: bytes | int | None) -> None:
        """Give the walk what it wanted, and learn what it wants next."""
        assert self._walk is not None
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadImage("the image is made of absurdly many parts")
        try:
            self._want = self._walk.send(answer)
            while isinstance(self._want, _Skip) and not self._want.left:
                self._want = self._walk.send(self._want.crc)
        except StopIteration as end:
            self._want, self._size = None, end.value

    def _check(self, width: int, height: int) -> _Size:
        if not width or not height:
            raise BadImage("the image's header states no size")
        if width * height > self._limit_pixels:
            raise BadImage(f"the image is too large: {width}×{height} pixels")
        return width, height

    # ---- the walks: each returns width and height when it has seen the end ----

    def _walk_png(self) -> _Walk:
        yield _Take(8)
        size: _Size | None = None
        has_pixels = False
        while True:
            head: bytes = yield _Take(8)
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            if length >= 2**31 or not name.isalpha():
                raise BadImage("the PNG's structure is damaged")
            if size is None:
                if name != b"IHDR" or length != 13:
                    raise BadImage("the PNG does not begin with its header")
                header: bytes = yield _Take(13)
                size = self._png_size(header)
                crc = crc32(header, crc32(name))
            else:
                crc = yield _Skip(length, crc32(name))
            if int.from_bytes((yield _Take(4)), "big") != crc:
                self._wrong_checksum(name)
            has_pixels = has_pixels or name == b"IDAT"
            if name == b"IEND":
                if length or not has_pixels:
                    raise BadImage("the PNG ends without an image")
                return size

    def _wrong_checksum(self, name: bytes) -> None:
        if name[:1].isupper():  # critical: no viewer can do without it [PNG 5.4]
            raise BadImage(f"a part of the PNG is damaged (checksum of {name.decode()})")
        if len(self._warnings) < 3:
            self._warnings.append(f"the checksum of its part {name.decode()}, which no viewer needs, is wrong")

    def _png_size(self, header: bytes) -> _Size:
        depth, colour, compression, filtering, interlace = header[8:13]
        if depth not in _PNG_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
            raise BadImage("the PNG's header is damaged")
        return self._check(int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big"))

    def _walk_jpeg(self) -> _Walk:
        marker = (yield _Take(4))[3]
        size: _Size | None = None
        has_pixels = False
        while True:
            while marker == 0xFF:  # fill bytes before a marker
                marker = (yield _Take(1))[0]
            if marker == _EOI:
                break
            if marker in (0, _SOI) or marker in _RESTARTS:
                raise BadImage("the JPEG's structure is damaged")
            if marker != _TEM:
                length = int.from_bytes((yield _Take(2)), "big") - 2
                if length < 0 or (marker in _FRAMES and (length < 6 or size is not None)):
                    raise BadImage("the JPEG's structure is damaged")
                if marker in _FRAMES:
                    frame: bytes = yield _Take(5)
                    size = self._check(int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"))
                    length -= 5
                yield _Skip(length)
            if marker == _SOS:
                if size is None:
                    raise BadImage("the JPEG has no header")
                has_pixels = True
                marker = yield _Scan()
            else:
                if (yield _Take(1)) != b"\xff":
                    raise BadImage("the JPEG's structure is damaged")
                marker = (yield _Take(1))[0]
        if size is None or not has_pixels:
            raise BadImage("the JPEG ends without an image")
        return size

    def _walk_webp(self) -> _Walk:
        head: bytes = yield _Take(12)
        left = int.from_bytes(head[4:8], "little") - 4
        size: _Size | None = None
        has_pixels = False
        while left > 1:  # one byte too many is padding that some writers count
            chunk: bytes = yield _Take(8)
            name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
            padding = 1 if length & 1 and left - 8 > length else 0
            left -= 8 + length + padding
            if left < 0:
                raise BadImage("the WebP's structure is damaged")
            if size is None:
                if name not in _WEBP_SIZES or length < 10 - 5 * (name == b"VP8L"):
                    raise BadImage("the WebP does not begin with its header")
                start: bytes = yield _Take(5 if name == b"VP8L" else 10)
                size = self._check(*_WEBP_SIZES[name](start))
                length -= len(start)
            has_pixels = has_pixels or name in (b"VP8 ", b"VP8L", b"ANMF")
            yield _Skip(length + padding)
        yield _Skip(max(left, 0))
        if size is None or not has_pixels:
            raise BadImage("the WebP ends without an image")
        return size


# Colour type to the bit depths that it allows. [PNG 11.2.2]
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Start of frame: all of C0 to CF but DHT (C4), JPG (C8) and DAC (CC). [T.81 table B.1]
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_RESTARTS = range(0xD0, 0xD8)
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01


def _vp8_size(start: bytes) -> _Size:
    if start[0] & 1 or start[3:6] != b"\x9d\x01\x2a":
        raise BadImage("the WebP's header is damaged")
    return int.from_bytes(start[6:8], "little") & 0x3FFF, int.from_bytes(start[8:10], "little") & 0x3FFF


def _vp8l_size(start: bytes) -> _Size:
    bits = int.from_bytes(start[1:5], "little")
    if start[0] != 0x2F or bits >> 29:
        raise BadImage("the WebP's header is damaged")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _vp8x_size(start: bytes) -> _Size:
    return int.from_bytes(start[4:7], "little") + 1, int.from_bytes(start[7:10], "little") + 1


_WEBP_SIZES = {b"VP8 ": _vp8_size, b"VP8L": _vp8l_size, b"VP8X": _vp8x_size}

_WALKED: tuple[tuple[Callable[[bytes], bool], str, str, Callable[[ImageWalker], _Walk]], ...] = (
    (lambda head: head[:8] == b"\x89PNG\r\n\x1a\n", "image/png", "png", ImageWalker._walk_png),
    (lambda head: head[:3] == b"\xff\xd8\xff", "image/jpeg", "jpg", ImageWalker._walk_jpeg),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", "image/webp", "webp", ImageWalker._walk_webp),
)  # fmt: skip


def inspect_image(pieces: Iterable[bytes], limit_bytes: int = MAX_BYTES) -> ImageInfo:
    """What a local file is, by its structure, from its pieces (``files.read_pieces``). Raises BadImage."""
    walker = ImageWalker(limit_bytes)
    for piece in pieces:
        walker.feed(piece)
    return walker.finish()
