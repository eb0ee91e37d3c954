"""Copies with the request inside, read back by Pillow, by exiftool and by the program itself."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_run import NASA, RETRO, add_image, draw, job, write
from PIL import Image, PngImagePlugin

from flux_lora_cli.errors import BadImage, ExitCode, FolderError, ImageError, UsageError
from flux_lora_cli.gallery.containers import Texts, insert, read_record
from flux_lora_cli.gallery.embed import embed_run, read_embedded
from flux_lora_cli.gallery.metadata import SOURCE_TYPE, inflate, record_json
from flux_lora_cli.gallery.run import read_run
from tests.conftest import require_tool

KINDS = {
    "png": ("PNG", "RGB", {}),
    "png-alpha": ("PNG", "RGBA", {}),
    "png-palette": ("PNG", "P", {}),
    "jpg": ("JPEG", "RGB", {"quality": 90}),
    "jpg-progressive": ("JPEG", "L", {"progressive": True}),
    "webp": ("WEBP", "RGB", {"quality": 80}),
    "webp-alpha": ("WEBP", "RGBA", {"quality": 80}),
    "webp-lossless": ("WEBP", "RGB", {"lossless": True}),
    "webp-lossless-alpha": ("WEBP", "RGBA", {"lossless": True}),
}
PROMPT = 'a "red" rocket, Ωmega → 東京 & <b>\nsecond line: {x|y}, 100%'


def picture(kind: str, **extra: Any) -> bytes:
    name, mode, options = KINDS[kind]
    with Image.open(io.BytesIO(draw(5, 63, 41))) as image:
        if mode == "RGBA":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        out = io.BytesIO()
        image.convert(mode).save(out, name, **options, **extra)
    return out.getvalue()


def pixels(data: bytes) -> tuple[str, tuple[int, int], bytes]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.mode, image.size, image.tobytes()


def comment(path: Path) -> str:
    with Image.open(path) as image:
        exif = image.getexif()
        raw = exif.get_ifd(0x8769)[0x9286]
        return bytes(raw).removeprefix(b"UNICODE\0").decode("utf-16-be" if exif.endian == ">" else "utf-16-le")


@pytest.fixture
def run_of(tmp_path: Path) -> Any:
    def make(kind: str, data: bytes | None = None, **values: Any) -> Path:
        entry = job(
            "dawn/1",
            **{"prompt": PROMPT, "loras": [{"path": NASA, "scale": 0.9}, {"path": RETRO, "scale": 1}], **values},
        )
        add_image(tmp_path / "run", entry, data or picture(kind), f"deep/er/x.{kind.split('-')[0]}")
        return write(tmp_path / "run", [entry])

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_request_goes_in_and_no_pixel_changes(run_of: Any, tmp_path: Path, kind: str) -> None:
    folder = run_of(kind)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    [copy] = embed_run(read_run(folder), tmp_path / "out")
    assert copy.path == tmp_path / "out/deep/er" / f"x.{kind.split('-')[0]}"
    original = next(folder.rglob("x.*")).read_bytes()
    assert pixels(copy.path.read_bytes()) == pixels(original)
    record = read_embedded(copy.path)
    assert record is not None
    manifest = json.loads((folder / "manifest.json").read_bytes())["jobs"][0]
    assert record["model"] == manifest["request"]["model"]
    assert record["input"] == manifest["request"]["input"]
    assert record["output"] == {"index": 0, "sha256": hashlib.sha256(original).hexdigest()}
    assert "secret" not in json.dumps(record), "the output's address stays out"
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()} == before


PARAMETERS = (
    PROMPT + f" <lora:{NASA}:0.9> <lora:{RETRO}:1>\n"
    "Steps: 28, CFG scale: 5, Seed: 1, Size: 1024x1024, Model: flux-dev-lora, Version: flux-lora "
)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "webp-lossless-alpha"])
def test_other_programs_read_it(run_of: Any, tmp_path: Path, kind: str) -> None:
    [copy] = embed_run(read_run(run_of(kind)), tmp_path / "out")
    if kind == "png":
        with Image.open(copy.path) as image:
            text = image.info["parameters"]
    else:
        text = comment(copy.path)
    assert text.startswith(PARAMETERS)
    exiftool = require_tool("exiftool")
    done = subprocess.run([exiftool, "-validate", "-warning", "-a", str(copy.path)], capture_output=True, text=True)
    worth = [line for line in done.stdout.splitlines() if line.startswith("Warning") and "Missing required" not in line]
    assert worth == []
    done = subprocess.run([exiftool, "-j", "-G1", str(copy.path)], capture_output=True, check=True)
    [tags] = json.loads(done.stdout)
    assert tags["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPE
    said = tags["PNG:Parameters"] if kind == "png" else tags["ExifIFD:UserComment"]
    assert said.startswith(PARAMETERS)


def test_a_latin_prompt_is_a_text_chunk_as_webui_writes_it(run_of: Any, tmp_path: Path) -> None:
    [copy] = embed_run(read_run(run_of("png", prompt="café")), tmp_path / "out")
    assert b"tEXtparameters\0caf\xe9" in copy.path.read_bytes()


def test_what_a_file_holds_already_stays(run_of: Any, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "keep me")
    info.add_text("parameters", "an older text")
    [copy] = embed_run(read_run(run_of("png", picture("png", pnginfo=info, dpi=(72, 72)))), tmp_path / "out")
    with Image.open(copy.path) as image:
        assert image.info["Comment"] == "keep me"
        assert image.info["parameters"].startswith(PROMPT[:5])
        assert round(image.info["dpi"][0]) == 72


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_existing_exif_and_xmp_are_added_to(run_of: Any, tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A Camera"
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="kept"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    data = picture(kind, exif=exif.tobytes(), xmp=xmp)
    if b"dc:format" not in data:
        pytest.skip("Pillow before 11 writes no XMP into JPEG")
    [copy] = embed_run(read_run(run_of(kind, data)), tmp_path / "out")
    with Image.open(copy.path) as image:
        assert image.getexif()[0x010F] == "A Camera"
        assert b'dc:format="kept"' in copy.path.read_bytes()
        assert SOURCE_TYPE.encode() in copy.path.read_bytes()
    assert comment(copy.path).startswith(PARAMETERS)
    record = read_embedded(copy.path)
    assert record is not None
    assert record["input"]["prompt"] == PROMPT


def test_color_profile_stays(run_of: Any, tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("png", "jpg", "webp"):
        data = insert(picture(kind, icc_profile=profile), Texts(record_json({}), "x"))
        with Image.open(io.BytesIO(data)) as image:
            assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("text", ["x" * 60_000, "🚀" * 10_000, "\x01" * 10_000, "]]>&lt;</rdf:RDF>" * 200, ""])
def test_any_prompt_survives(run_of: Any, tmp_path: Path, kind: str, text: str) -> None:
    [copy] = embed_run(read_run(run_of(kind, prompt=text)), tmp_path / "out")
    record = read_embedded(copy.path)
    assert record is not None
    assert record["input"]["prompt"] == text
    assert pixels(copy.path.read_bytes()) == pixels(picture(kind))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["png", "jpg", "webp"]),
    request=st.dictionaries(
        st.text(max_size=8), st.text(max_size=30) | st.integers() | st.floats(allow_nan=False) | st.none(), max_size=5
    ),
)
def test_any_request_comes_back_as_it_was(kind: str, request: dict[str, Any]) -> None:
    record = {"version": 1, "model": "m", "input": request}
    filled = insert(picture(kind), Texts(record_json(record), "text"))
    assert read_record(filled) == record


def test_text_that_no_jpeg_holds_is_named_and_left_out(run_of: Any, tmp_path: Path) -> None:
    import random

    noise = "".join(chr(random.Random(1).randrange(0x4E00, 0x9FFF)) for _ in range(40))
    text = "".join(chr(c) for c in random.Random(2).choices(range(0x4E00, 0x9FFF), k=60_000)) + noise
    [copy] = embed_run(read_run(run_of("jpg", prompt=text)), tmp_path / "out")
    assert copy.path is None
    assert "too long for a JPEG" in copy.problem
    assert not (tmp_path / "out").exists()


def test_again_is_nothing_new_and_nothing_is_overwritten(run_of: Any, tmp_path: Path) -> None:
    run = read_run(run_of("png"))
    [first] = embed_run(run, tmp_path / "out")
    [again] = embed_run(run, tmp_path / "out")
    assert (first.new, again.new) == (True, False)
    first.path.write_bytes(b"mine")
    with pytest.raises(FolderError, match="is another file"):
        list(embed_run(run, tmp_path / "out"))
    assert first.path.read_bytes() == b"mine"
    assert [p.name for p in first.path.parent.iterdir()] == ["x.png"], "no temporary file stays"


@pytest.mark.parametrize("target", ["run", "run/copies", "link"])
def test_the_runs_folder_is_no_target(run_of: Any, tmp_path: Path, target: str) -> None:
    run = read_run(run_of("png"))
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(UsageError, match="never altered"):
        list(embed_run(run, tmp_path / target))


def test_links_in_the_target_are_not_written_through(run_of: Any, tmp_path: Path) -> None:
    run = read_run(run_of("png"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderError, match="leads out"):
        list(embed_run(run, tmp_path / "out"))
    assert list((tmp_path / "elsewhere").rglob("*")) in ([], [tmp_path / "elsewhere/er"])


def test_an_altered_image_is_not_signed(run_of: Any, tmp_path: Path) -> None:
    folder = run_of("png")
    run = read_run(folder)
    (folder / "deep/er/x.png").write_bytes(picture("png-alpha"))
    [copy] = embed_run(run, tmp_path / "out")
    assert copy.path is None
    assert "not the one" in copy.problem


def test_the_input_image_comes_along(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    entry = job("i2i", image="inputs/abc.png")
    add_image(folder, entry, draw(1, 16, 16), "x.png")
    (folder / "inputs").mkdir()
    (folder / "inputs/abc.png").write_bytes(draw(2, 8, 8))
    write(folder, [entry])
    list(embed_run(read_run(folder), tmp_path / "out"))
    assert (tmp_path / "out/inputs/abc.png").read_bytes() == draw(2, 8, 8)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["png", "jpg", "webp"]),
    cut=st.integers(0, 400),
    at=st.integers(0, 400),
    byte=st.integers(0, 255),
)
def test_damaged_files_give_an_answer_or_a_named_error(kind: str, cut: int, at: int, byte: int) -> None:
    data = bytearray(insert(picture(kind), Texts(record_json({"version": 1, "model": "m", "input": {}}), "t")))
    data[min(at, len(data) - 1)] = byte
    damaged = bytes(data[: max(0, len(data) - cut)])
    assert read_record(damaged) in (None, {"version": 1, "model": "m", "input": {}}) or isinstance(
        read_record(damaged), dict
    )
    with contextlib.suppress(BadImage, ImageError):
        insert(damaged, Texts("{}", "t"))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(b"[" * (64 << 20))
    payload = b"flux-lora\0\1\0\0\0" + bomb
    chunk = struct.pack(">I", len(payload)) + b"iTXt" + payload + struct.pack(">I", zlib.crc32(b"iTXt" + payload))
    png = picture("png")
    assert read_record(png[:33] + chunk + png[33:]) is None
    assert inflate(bomb) is None
    assert inflate(zlib.compress(b"fits")) == b"fits"


def test_command(run_of: Any, cli: Any, tmp_path: Path) -> None:
    folder = run_of("jpg")
    done = cli("embed", folder, "-o", "out")
    assert (done.code, done.lines) == (0, ["out/deep/er/x.jpg"])
    assert "1 written" in done.err
    done = cli("embed", folder, "-o", "out", "--json")
    assert done.events[-1] == {"event": "summary", "embedded": 0, "kept": 1, "failed": 0, "exit_code": 0}
    (folder / "deep/er/x.jpg").write_bytes(b"\xff\xd8 altered")
    done = cli("embed", folder, "-o", "out2", "-q", "--json")
    assert done.code == ExitCode.INCOMPLETE
    assert done.err.startswith("error: 1 image left out: deep/er/x.jpg\n")
    assert [event["event"] for event in done.events] == ["warning", "error", "summary"]
    done = cli("embed", folder, "-o", "out2")
    assert "x.jpg: the file is not the one that the manifest describes" in done.err
    assert cli("embed", "nowhere", "-o", "out").code == ExitCode.NOT_FOUND
    assert cli("embed", tmp_path, "-o", "out").code == ExitCode.FOLDER
    assert cli("embed", folder, "-o", folder / "x").code == ExitCode.USAGE
