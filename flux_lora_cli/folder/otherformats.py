"""What can be told of files that are not walked: formats by their first bytes, and text in place of an image."""

from __future__ import annotations

import re
from typing import Literal

_OTHERS = (
    (re.compile(rb"GIF8[79]a"), "image/gif", "gif"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "image/avif", "avif"),
    (re.compile(rb"....ftyp(?:hei[cxms]|hev[cm]|mif1|msf1)", re.DOTALL), "image/heic", "heic"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), "image/jxl", "jxl"),
    (re.compile(rb"BM....\0\0\0\0", re.DOTALL), "image/bmp", "bmp"),
    (re.compile(rb"II\*\0|MM\0\*"), "image/tiff", "tiff"),
)


def other_format(head: bytes) -> tuple[tuple[str, str], tuple[int, int] | None]:
    """Media type and extension of a file that is not walked, and its size where the header plainly tells."""
    for magic, media_type, extension in _OTHERS:
        if magic.match(head):
            return (media_type, extension), _other_size(extension, head)
    return ("application/octet-stream", "bin"), None


def _other_size(extension: str, head: bytes) -> tuple[int, int] | None:
    if extension == "gif":
        return _numbers(head[6:10], "little")
    if extension == "bmp":
        return _numbers(head[18:26], "little")
    place = head.find(b"ispe") if extension in ("avif", "heic") else -1
    return _numbers(head[place + 8 : place + 16], "big") if place >= 0 else None  # [ISO 23008-12: ispe]


def _numbers(data: bytes, order: Literal["little", "big"]) -> tuple[int, int] | None:
    half = len(data) // 2
    width, height = int.from_bytes(data[:half], order), int.from_bytes(data[half:], order)
    return (width, height) if 0 < width < 2**31 and 0 < height < 2**31 else None


def is_text(head: bytes) -> bool:
    """Whether a file begins like a page, an answer of an API or other words, in UTF-8 or UTF-16."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"["):
        return True
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    for cut in range(4):  # the last character may be cut
        try:
            text = head[: len(head) - cut].decode(encoding)
        except UnicodeDecodeError:
            continue
        return bool(text) and all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)
    return False
