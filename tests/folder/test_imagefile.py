"""The walker sees a whole image, and nothing else, as one."""

from __future__ import annotations

import contextlib
import io
import struct
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flux_lora_cli.errors import BadImage
from flux_lora_cli.folder import imagefile
from flux_lora_cli.folder.imagefile import ImageInfo, inspect_image
from tests.support.fake import chunk

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "png": ("PNG", "RGB", {}),
    "png palette": ("PNG", "P", {"bits": 4}),
    "png grey 16": ("PNG", "I;16", {}),
    "png alpha": ("PNG", "RGBA", {"compress_level": 0}),
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg progressive": ("JPEG", "RGB", {"progressive": True, "quality": 95}),
    "jpeg restarts": ("JPEG", "RGB", {"restart_marker_blocks": 2}),
    "jpeg grey": ("JPEG", "L", {}),
    "jpeg exif": ("JPEG", "RGB", {"exif": b"Exif\x00\x00II*\x00\xff\xd9\xff\xd8 inside", "comment": b"\xff\xd9"}),
    "webp lossy": ("WEBP", "RGB", {}),
    "webp lossless": ("WEBP", "RGB", {"lossless": True}),
    "webp extended": ("WEBP", "RGBA", {"exif": b"Exif\x00\x00odd"}),
    "webp animated": ("WEBP", "RGB", {"save_all": True}),
}
WIDTH, HEIGHT = 29, 23


def _picture(mode: str, turn: int) -> Image.Image:
    if mode == "I;16":
        return Image.new(mode, (WIDTH, HEIGHT), 777)
    return Image.effect_noise((WIDTH, HEIGHT), 80 + turn).convert(mode)


@lru_cache
def made(kind: str) -> bytes:
    file_format, mode, options = KINDS[kind]
    pictures = [_picture(mode, turn) for turn in range(2)]
    if options.get("save_all"):
        options = {**options, "append_images": pictures[1:]}
    file = io.BytesIO()
    pictures[0].save(file, file_format, **options)
    return file.getvalue()


def walk(data: bytes) -> ImageInfo:
    return inspect_image(io.BytesIO(data))


PNG_START = b"\x89PNG\r\n\x1a\n"
HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 5, 8, 2, 0, 0, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_real_images_are_whole(kind: str) -> None:
    name = kind.split()[0]
    assert walk(made(kind)) == ImageInfo(f"image/{name}", {"jpeg": "jpg"}.get(name, name), WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_seen(kind: str) -> None:
    data = made(kind)
    for length in {*range(0, len(data), 7), *range(60), *range(len(data) - 20, len(data))}:
        # The pad byte at the very end of a RIFF file is no part of the picture.
        if kind.startswith("webp") and length == len(data) - 1 and data[-1] == 0:
            continue
        with pytest.raises(BadImage):
            walk(data[:length])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([k for k in sorted(KINDS) if k.startswith("png")]),
    place=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_every_flipped_bit_of_a_png_is_seen(kind: str, place: int, bit: int) -> None:
    data = bytearray(made(kind))
    data[place % len(data)] ^= 1 << bit
    with contextlib.suppress(BadImage):
        assert walk(bytes(data)).warning  # of a part that no viewer needs, or of a signature that is not a PNG's


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=5),
)
def test_damage_is_an_image_or_a_bad_image_and_nothing_else(kind: str, edits: list[tuple[int, int]]) -> None:
    data = bytearray(made(kind))
    for place, value in edits:
        # Mostly the beginning, where the structure is.
        data[place % min(len(data), 200 if place % 2 else len(data))] = value
    try:
        info = walk(bytes(data))
    except BadImage as error:
        assert error.message
    else:
        assert info.width or info.warning


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut short after 0 bytes"),
        (b"<!DOCTYPE html><p>expired", "text came"),
        (b"\xef\xbb\xbf<html>", "text came"),
        (b'{"code":404}', "text came"),
        (b'  [{"code": 404}]' + b" " * 600, "text came"),
        (b"Access denied", "text came"),
        ("Zugriff verweigert: ungültig".encode() * 30, "text came"),
        ("No such image".encode("utf-16"), "text came"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>', "text came"),
        (b"\x00\x01\x02", "cut short"),
        (b"\x89PNG\n\x1a\n" + bytes(100), "signature is damaged"),
        (PNG_START + chunk(b"IDAT", b"xxxx"), "does not begin with its header"),
        (PNG_START + HEADER + chunk(b"IEND"), "without an image"),
        (PNG_START + HEADER + b"\xff\xff\xff\xffIDAT", "structure"),
        (PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)), "no size"),
        (b"\xff\xd8\xff\xd9", "without an image"),
        (b"\xff\xd8\xff\xda\x00\x02", "no header"),
        (b"\xff\xd8\xff\xe0\x00\x01", "structure"),
        (b"\xff\xd8\xff\xd8\x00\x02", "structure"),
    ],
)
def test_what_is_no_image_is_said_at_once(data: bytes, words: str) -> None:
    with pytest.raises(BadImage, match=words):
        walk(data)


def test_more_pixels_than_the_limit_are_refused_by_the_header() -> None:
    def header(width: int) -> bytes:
        return PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 10_000, 8, 2, 0, 0, 0))

    with pytest.raises(BadImage, match="10001×10000"):
        walk(header(10_001))
    assert walk(header(10_000) + chunk(b"IDAT", b"x") + chunk(b"IEND")).width == 10_000


def test_a_wrong_checksum_counts_where_a_viewer_needs_the_part() -> None:
    data = made("png")
    odd = b"\x00\x00\x00\x04gAMA\x00\x00\xb1\x8f\x00\x00\x00\x00"
    info = walk(data[:33] + odd + data[33:])
    assert "gAMA" in info.warning
    assert (info.extension, info.width) == ("png", WIDTH)
    with pytest.raises(BadImage, match="checksum of IDAT"):
        walk(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])


def _other(file_format: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    _picture(mode, 0).save(file, file_format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (_other("GIF", "P"), "gif"),
        (_other("BMP"), "bmp"),
        (_other("TIFF"), "tiff"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + b"\0" * 30, "avif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200, "heic"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 200, "jxl"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100), "bin"),
        (bytes(range(256)) * 10, "bin"),
    ],
)
def test_other_formats_are_kept_by_their_length(data: bytes, extension: str) -> None:
    info = walk(data)
    assert (info.extension, info.width) == (extension, None)
    assert info.warning


@pytest.mark.parametrize(
    ("start", "part"), [(PNG_START + HEADER, chunk(b"teXt")), (b"\xff\xd8\xff\xff", b"\xff")], ids=["png", "jpeg"]
)
def test_a_file_of_nothing_but_parts_is_given_up(start: bytes, part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefile, "MAX_PARTS", 1000)
    with pytest.raises(BadImage, match="absurdly many"):
        walk(start + part * 1001)
