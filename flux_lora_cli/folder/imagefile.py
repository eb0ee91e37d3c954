"""Whether bytes that pass by are a whole image, told without holding or decoding them.

HTTP calls a body without Content-Length complete when the connection ends; only the image's own structure shows
that it was cut. Decoding would show more, at 9 to 55 ms per image; walking costs about one.
Sources: PNG (ISO 15948), JPEG (ITU T.81), WebP container (RFC 9649).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from zlib import crc32

from flux_lora_cli.errors import BadImage

#: Most bytes and pixels of an image. [CONTRACT: the output folder]
MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000
#: Most parts (chunks, segments, fill bytes) that are walked. A PNG of 100 MB in the usual 8 KB chunks has 25,000;
#: a file of nothing but empty ones would take a minute.
MAX_PARTS = 500_000
#: Bytes after the image's end that need no word: padding and camera trailers exist, and viewers ignore them.
QUIET_TRAILER = 65536
#: Bytes by which a file of unknown format is judged, and the fewest it has to have.
_HEAD, _MIN_OTHER = 512, 32

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


def inspect_image(pieces: Iterable[bytes], limit_bytes: int = MAX_BYTES) -> ImageInfo:
    """What a local file is, by its structure, from its pieces (``files.read_pieces``). Raises BadImage."""
    walker = ImageWalker(limit_bytes)
    for piece in pieces:
        walker.feed(piece)
    return walker.finish()


class ImageWalker:
    """Fed a file piece by piece, tells what it is, or why it is not an image that can be kept."""

    def __init__(self, limit_bytes: int = MAX_BYTES, limit_pixels: int = MAX_PIXELS) -> None:
        self._limit_bytes = limit_bytes
        self._stream = _Stream(limit_pixels)
        self._fed = self._trailer = 0
        self._head: bytes | None = b""  # until the format is known
        self._format = ("", "")
        self._size: _Size | None = None
        self._walk: Generator[None, bytes, _Size] | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises BadImage: whatever follows, this is not an image."""
        self._fed += len(piece)
        if self._fed > self._limit_bytes:
            raise BadImage(f"the file is larger than {self._limit_bytes / 1e6:g} MB")
        if self._head is not None:
            piece, self._head = b"", self._head + piece
            self._recognise(self._head, at_end=False)
        elif piece:
            self._walk_on(piece)

    def finish(self) -> ImageInfo:
        """There are no more bytes. Raises BadImage: the image is cut short."""
        if self._head is not None:
            self._recognise(self._head, at_end=True)
        if self._head is not None or self._walk is not None:
            what = f"the {self._format[1].upper()} image" if self._format[1] else "the file"
            raise BadImage(f"{what} is cut short after {self._fed:,} bytes")
        if self._trailer > QUIET_TRAILER:
            self._stream.warnings.append(f"{self._trailer:,} bytes follow the image's end")
        width, height = self._size or (None, None)
        return ImageInfo(*self._format, width, height, "; ".join(self._stream.warnings))

    def _recognise(self, head: bytes, *, at_end: bool) -> None:
        for magic, media_type, extension, walk in _WALKED:
            if magic.match(head):
                self._head, self._format = None, (media_type, extension)
                self._walk = walk(self._stream)
                next(self._walk)
                self._walk_on(head)
                return
        if len(head) >= _HEAD or at_end:
            self._judge_other(head)

    def _judge_other(self, head: bytes) -> None:
        if _is_text(head[:_HEAD]):
            raise BadImage("text came in place of the image")
        if len(head) < _MIN_OTHER:
            return  # too short for any format: finish() calls it cut short
        if head[:4] == b"\x89PNG":
            raise BadImage("the PNG's signature is damaged")
        self._head = None
        known = [names for magic, names in _OTHERS if magic.match(head)]
        self._format = known[0] if known else ("application/octet-stream", "bin")
        name = self._format[1].upper() if self._format[1] != "bin" else "an unknown format"
        self._stream.warnings.append(f"the image is in {name}: saved as it came, only its length was checked")

    def _walk_on(self, piece: bytes) -> None:
        if self._walk is None:
            self._trailer += len(piece)
            return
        try:
            self._walk.send(piece)
        except StopIteration as end:
            self._walk, self._size, self._trailer = None, end.value, self._stream.left()


class _Stream:
    """What walks read from. Each step is a generator that is sent the next piece where this one ends."""

    def __init__(self, limit_pixels: int) -> None:
        self.warnings: list[str] = []
        self._limit_pixels = limit_pixels
        self._piece, self._at, self._parts = b"", 0, 0

    def left(self) -> int:
        """Bytes of the last piece that were not wanted."""
        return len(self._piece) - self._at

    def take(self, count: int) -> Generator[None, bytes, bytes]:
        """Exactly ``count`` bytes; few."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadImage("the image is made of absurdly many parts")
        while self.left() < count:
            self._piece, self._at = self._piece[self._at :] + (yield), 0
        self._at += count
        return self._piece[self._at - count : self._at]

    def skip(self, count: int, crc: int = 0) -> Generator[None, bytes, int]:
        """Pass over ``count`` bytes; their CRC-32, begun with ``crc``."""
        while True:
            step = min(count, self.left())
            crc = crc32(memoryview(self._piece)[self._at : self._at + step], crc)
            self._at += step
            count -= step
            if not count:
                return crc
            self._piece, self._at = (yield), 0

    def find(self, pattern: re.Pattern[bytes]) -> Generator[None, bytes, bytes]:
        """Pass over all before the next match of a pattern of two bytes; the match."""
        while not (found := pattern.search(self._piece, self._at)):
            self._piece, self._at = self._piece[max(self._at, len(self._piece) - 1) :] + (yield), 0
        self._at = found.end()
        return found[0]

    def size(self, width: int, height: int) -> _Size:
        """A size that a header states, checked."""
        if not width or not height:
            raise BadImage("the image's header states no size")
        if width * height > self._limit_pixels:
            raise BadImage(f"the image is too large: {width}×{height} pixels")
        return width, height


_Walk = Generator[None, bytes, _Size]

# ---- the walks: each returns width and height when it has seen the end ----

# Colour type to the bit depths that it allows. [PNG 11.2.2]
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def _walk_png(stream: _Stream) -> _Walk:
    yield from stream.take(8)
    size: _Size | None = None
    has_pixels = False
    while True:
        head = yield from stream.take(8)
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if length >= 2**31 or not name.isalpha():
            raise BadImage("the PNG's structure is damaged")
        if size is None:
            if name != b"IHDR" or length != 13:
                raise BadImage("the PNG does not begin with its header")
            header = yield from stream.take(13)
            size, crc = _png_size(stream, header), crc32(header, crc32(name))
        else:
            crc = yield from stream.skip(length, crc32(name))
        if int.from_bytes((yield from stream.take(4)), "big") != crc:
            _wrong_checksum(stream, name)
        has_pixels = has_pixels or name == b"IDAT"
        if name == b"IEND":
            if length or not has_pixels:
                raise BadImage("the PNG ends without an image")
            return size


def _wrong_checksum(stream: _Stream, name: bytes) -> None:
    if name[:1].isupper():  # critical: no viewer can do without it [PNG 5.4]
        raise BadImage(f"a part of the PNG is damaged (checksum of {name.decode()})")
    if len(stream.warnings) < 3:
        stream.warnings.append(f"the checksum of its part {name.decode()}, which no viewer needs, is wrong")


def _png_size(stream: _Stream, header: bytes) -> _Size:
    depth, colour, compression, filtering, interlace = header[8:13]
    if depth not in _PNG_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise BadImage("the PNG's header is damaged")
    return stream.size(int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big"))


# Start of frame: all of C0 to CF but DHT (C4), JPG (C8) and DAC (CC). [T.81 table B.1]
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_RESTARTS = range(0xD0, 0xD8)
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
# A marker in entropy-coded data: FF, then neither a stuffed zero, nor a restart, nor more fill.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _walk_jpeg(stream: _Stream) -> _Walk:
    marker = (yield from stream.take(4))[3]
    size: _Size | None = None
    has_pixels = False
    while True:
        while marker == 0xFF:  # fill bytes before a marker
            marker = (yield from stream.take(1))[0]
        if marker == _EOI:
            break
        length = 0 if marker == _TEM else int.from_bytes((yield from stream.take(2)), "big") - 2
        misplaced = marker in (0, _SOI) or marker in _RESTARTS or (marker in _FRAMES and size is not None)
        if misplaced or length < (6 if marker in _FRAMES else 0):
            raise BadImage("the JPEG's structure is damaged")
        if marker in _FRAMES:
            frame = yield from stream.take(5)
            size = stream.size(int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"))
            length -= 5
        yield from stream.skip(length)
        if marker == _SOS:
            if size is None:
                raise BadImage("the JPEG has no header")
            has_pixels = True
            following = yield from stream.find(_MARKER)
        else:
            following = yield from stream.take(2)
        if following[0] != 0xFF:
            raise BadImage("the JPEG's structure is damaged")
        marker = following[1]
    if size is None or not has_pixels:
        raise BadImage("the JPEG ends without an image")
    return size


def _walk_webp(stream: _Stream) -> _Walk:
    head = yield from stream.take(12)
    left = int.from_bytes(head[4:8], "little") - 4
    size: _Size | None = None
    has_pixels = False
    while left > 1:  # one byte too many is padding that some writers count
        chunk = yield from stream.take(8)
        name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        padding = 1 if length & 1 and left - 8 > length else 0
        left -= 8 + length + padding
        if left < 0:
            raise BadImage("the WebP's structure is damaged")
        if size is None:
            needed = {b"VP8 ": 10, b"VP8L": 5, b"VP8X": 10}.get(name)
            if needed is None or length < needed:
                raise BadImage("the WebP does not begin with its header")
            size = stream.size(*_webp_size(name, (yield from stream.take(needed))))
            length -= needed
        has_pixels = has_pixels or name in (b"VP8 ", b"VP8L", b"ANMF")
        yield from stream.skip(length + padding)
    yield from stream.skip(max(left, 0))
    if size is None or not has_pixels:
        raise BadImage("the WebP ends without an image")
    return size


def _webp_size(name: bytes, start: bytes) -> _Size:
    """Width and height from the first bytes of the first chunk. [RFC 9649, 2.5 to 2.7]"""
    if name == b"VP8X":
        return int.from_bytes(start[4:7], "little") + 1, int.from_bytes(start[7:10], "little") + 1
    bits = int.from_bytes(start[1:5], "little")
    if name == b"VP8L" and start[0] == 0x2F and not bits >> 29:
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and not start[0] & 1 and start[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(start[6:8], "little") & 0x3FFF, int.from_bytes(start[8:10], "little") & 0x3FFF
    raise BadImage("the WebP's header is damaged")


_WALKED: tuple[tuple[re.Pattern[bytes], str, str, Callable[[_Stream], _Walk]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png", "png", _walk_png),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg", "jpg", _walk_jpeg),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp", "webp", _walk_webp),
)
#: Formats that are known by their first bytes alone.
_OTHERS = (
    (re.compile(rb"GIF8[79]a"), ("image/gif", "gif")),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), ("image/avif", "avif")),
    (re.compile(rb"....ftyp(?:hei[cxms]|hev[cm]|mif1|msf1)", re.DOTALL), ("image/heic", "heic")),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), ("image/jxl", "jxl")),
    (re.compile(rb"BM....\0\0\0\0", re.DOTALL), ("image/bmp", "bmp")),
    (re.compile(rb"II\*\0|MM\0\*"), ("image/tiff", "tiff")),
)


def _is_text(head: bytes) -> bool:
    """Whether a file begins like a page, an answer of an API or other words, in UTF-8 or UTF-16."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"["):
        return True
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    for cut in range(4):  # the last character may be cut
        with contextlib.suppress(UnicodeDecodeError):
            text = head[: len(head) - cut].decode(encoding)
            return bool(text) and all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)
    return False
