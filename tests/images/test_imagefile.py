"""The walker sees a whole image, and nothing else, as one."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flux_lora_cli.domain import imagefile
from flux_lora_cli.domain.imagefile import MAX_TRAILER, ImageInfo, ImageWalker
from flux_lora_cli.errors import BadImage

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


def walk(data: bytes, size: int = 65536, **limits: int) -> ImageInfo:
    walker = ImageWalker(**limits)
    for start in range(0, len(data), size):
        walker.feed(data[start : start + size])
    return walker.finish()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


PNG_START = b"\x89PNG\r\n\x1a\n"
HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 5, 8, 2, 0, 0, 0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 65536])
def test_real_images_are_whole_however_they_come(kind: str, size: int) -> None:
    media_type = "image/" + kind.split()[0]
    info = walk(made(kind), size)
    assert info == ImageInfo(media_type, {"jpeg": "jpg"}.get(kind.split()[0], kind.split()[0]), WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_seen(kind: str) -> None:
    data = made(kind)
    for length in range(len(data)):
        # The pad byte at the very end of a RIFF file is no part of the picture.
        if kind.startswith("webp") and length == len(data) - 1 and data[-1] == 0:
            continue
        with pytest.raises(BadImage):
            walk(data[:length])


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), cuts=st.lists(st.integers(0, 6000), max_size=30))
def test_where_the_pieces_begin_makes_no_difference(kind: str, cuts: list[int]) -> None:
    data = made(kind)
    walker = ImageWalker()
    marks = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(marks):
        walker.feed(data[start:end])
    assert walker.finish() == walk(data)


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from([k for k in sorted(KINDS) if k.startswith("png")]),
    place=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_every_flipped_bit_of_a_png_is_seen(kind: str, place: int, bit: int) -> None:
    data = bytearray(made(kind))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(BadImage):
        walk(bytes(data))


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=5),
    size=st.integers(1, 999),
)
def test_damage_is_an_image_or_a_bad_image_and_nothing_else(kind: str, edits: list[tuple[int, int]], size: int) -> None:
    data = bytearray(made(kind))
    for place, value in edits:
        # Mostly the beginning, where the structure is.
        data[place % min(len(data), 200 if place % 2 else len(data))] = value
    try:
        info = walk(bytes(data), size)
    except BadImage as error:
        assert error.message
    else:
        assert info.width > 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"]))
def test_any_bytes_are_judged(data: bytes, head: bytes) -> None:
    with pytest.raises(BadImage):
        walk(head + data + b"\x00", 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut short after 0 bytes"),
        (b"<!DOCTYPE html><p>expired", "a page of text"),
        (b"\xef\xbb\xbf<html>", "a page of text"),
        (b'{"code":404}', "a page of text"),
        (b"GIF89a....", "no PNG, JPEG or WebP"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "no WebP"),
        (PNG_START + chunk(b"IDAT", b"x"), "does not begin with its header"),
        (PNG_START + HEADER + chunk(b"IEND"), "without an image"),
        (PNG_START + HEADER + b"\xff\xff\xff\xffIDAT", "structure"),
        (PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)), "no size"),
        (PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 5, 3, 2, 0, 0, 0)), "header is damaged"),
        (b"\xff\xd8\xff\xd9", "without an image"),
        (b"\xff\xd8\xff\xda\x00\x02", "no header"),
        (b"\xff\xd8\xff\xe0\x00\x01", "structure"),
        (b"\xff\xd8\xff\xd8", "structure"),
    ],
)
def test_what_is_no_image_is_said_at_once(data: bytes, words: str) -> None:
    with pytest.raises(BadImage, match=words):
        walk(data)


def test_limits_hold_before_the_end_is_seen() -> None:
    huge = PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    with pytest.raises(BadImage, match="100000×100000"):
        ImageWalker().feed(huge)
    with pytest.raises(BadImage, match=r"larger than 0\.001 MB"):
        walk(made("png"), limit_bytes=1000)
    assert walk(made("png"), limit_pixels=WIDTH * HEIGHT).width == WIDTH


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp lossy"])
def test_padding_after_the_end_is_tolerated_and_another_file_is_not(kind: str) -> None:
    assert walk(made(kind) + bytes(MAX_TRAILER)).height == HEIGHT
    with pytest.raises(BadImage, match="goes on"):
        walk(made(kind) + bytes(MAX_TRAILER + 1))


@pytest.mark.parametrize(
    ("start", "part"), [(PNG_START + HEADER, chunk(b"teXt")), (b"\xff\xd8\xff\xff", b"\xff")], ids=["png", "jpeg"]
)
def test_a_file_of_nothing_but_parts_is_given_up(start: bytes, part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefile, "MAX_PARTS", 1000)
    walker = ImageWalker()
    walker.feed(start)
    with pytest.raises(BadImage, match="absurdly many"):
        walker.feed(part * 1001)
