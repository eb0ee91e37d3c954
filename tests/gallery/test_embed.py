"""Copies with the request inside, read back by Pillow, by exiftool and by the program itself."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from flux_lora_cli.errors import BadImage, FolderError, ImageError, UsageError
from flux_lora_cli.gallery.embed import SOURCE_TYPE, embed_images, insert, read_request
from tests.conftest import require_tool
from tests.gallery.make_run import NASA, RETRO, add_image, draw, job, write

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "png": ("PNG", "RGB", {}),
    "png-alpha": ("PNG", "RGBA", {}),
    "png-palette": ("PNG", "P", {}),
    "jpg": ("JPEG", "RGB", {"quality": 90}),
    "webp": ("WEBP", "RGB", {"quality": 80}),
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


def copy_of(folder: Path, target: Path) -> Path:
    """Embed the one image of a folder."""
    [copy] = embed_images(folder, target)
    assert copy.new and not copy.problem
    return copy.path


def embedded(copy: Path) -> dict[str, Any]:
    record = read_request(copy.read_bytes())
    assert record is not None
    return record


@pytest.mark.parametrize("kind", KINDS)
def test_request_goes_in_and_no_pixel_changes(run_of: Any, tmp_path: Path, kind: str) -> None:
    folder = run_of(kind)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    copy = copy_of(folder, tmp_path / "out")
    assert copy == tmp_path / "out/deep/er" / f"x.{kind.split('-')[0]}"
    original = next(folder.rglob("x.*")).read_bytes()
    assert pixels(copy.read_bytes()) == pixels(original)
    record = embedded(copy)
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


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_other_programs_read_it(run_of: Any, tmp_path: Path, kind: str) -> None:
    copy = copy_of(run_of(kind), tmp_path / "out")
    exiftool = require_tool("exiftool")
    done = subprocess.run([exiftool, "-validate", "-warning", "-a", str(copy)], capture_output=True, text=True)
    worth = [line for line in done.stdout.splitlines() if line.startswith("Warning") and "Missing required" not in line]
    assert worth == []
    read = subprocess.run([exiftool, "-j", "-G1", str(copy)], capture_output=True, check=True)
    [tags] = json.loads(read.stdout)
    assert tags["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPE
    said = tags["PNG:Parameters"] if kind == "png" else tags["ExifIFD:UserComment"]
    assert said.startswith(PARAMETERS)


def test_what_a_file_holds_already_stays(run_of: Any, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "keep me")
    info.add_text("parameters", "an older text")
    copy = copy_of(run_of("png", picture("png", pnginfo=info, dpi=(72, 72))), tmp_path / "out")
    with Image.open(copy) as image:
        assert (image.info["Comment"], round(image.info["dpi"][0])) == ("keep me", 72)
        assert image.info["parameters"].startswith(PARAMETERS)


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_existing_exif_and_xmp_are_added_to(run_of: Any, tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A Camera"
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="kept"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    copy = copy_of(run_of(kind, picture(kind, exif=exif.tobytes(), xmp=xmp)), tmp_path / "out")
    with Image.open(copy) as image:
        found = image.getexif()
    assert found[0x010F] == "A Camera"
    said = bytes(found.get_ifd(0x8769)[0x9286]).removeprefix(b"UNICODE\0")
    assert said.decode("utf-16-be" if found.endian == ">" else "utf-16-le").startswith(PARAMETERS)
    assert b'dc:format="kept"' in copy.read_bytes() and SOURCE_TYPE.encode() in copy.read_bytes()
    assert embedded(copy)["input"]["prompt"] == PROMPT


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("text", ["🚀" * 10_000, "\x01" * 10_000, "]]>&lt;</rdf:RDF>" * 200, ""])
def test_any_prompt_survives(run_of: Any, tmp_path: Path, kind: str, text: str) -> None:
    copy = copy_of(run_of(kind, prompt=text), tmp_path / "out")
    assert embedded(copy)["input"]["prompt"] == text
    assert pixels(copy.read_bytes()) == pixels(picture(kind))


def test_text_that_no_jpeg_holds_is_named_and_left_out(run_of: Any, tmp_path: Path) -> None:
    text = "".join(map(chr, random.Random(2).choices(range(0x4E00, 0x9FFF), k=60_000)))
    [copy] = embed_images(run_of("jpg", prompt=text), tmp_path / "out")
    assert "too long for a JPEG" in copy.problem
    assert not (tmp_path / "out").exists()


def test_again_is_nothing_new_and_nothing_is_overwritten(run_of: Any, tmp_path: Path) -> None:
    run = run_of("png")
    assert [[copy.new for copy in embed_images(run, tmp_path / "out")] for _ in range(2)] == [[True], [False]]
    path = tmp_path / "out/deep/er/x.png"
    path.write_bytes(b"mine")
    with pytest.raises(FolderError, match="already exists"):
        list(embed_images(run, tmp_path / "out"))
    assert path.read_bytes() == b"mine"
    assert [p.name for p in path.parent.iterdir()] == ["x.png"], "no temporary file stays"


@pytest.mark.parametrize("target", ["run", "run/copies", "link"])
def test_the_runs_folder_is_no_target(run_of: Any, tmp_path: Path, target: str) -> None:
    run = run_of("png")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(UsageError, match="never altered"):
        list(embed_images(run, tmp_path / target))


@pytest.mark.parametrize(("harm", "words"), [("alter", "not the one"), ("remove", "gone"), ("link", "gone")])
def test_an_image_that_is_not_as_it_was_is_left_out(run_of: Any, tmp_path: Path, harm: str, words: str) -> None:
    folder = run_of("png")
    image = folder / "deep/er/x.png"
    data = image.read_bytes()
    image.unlink()
    if harm == "alter":
        image.write_bytes(picture("png-alpha"))
    if harm == "link":
        (tmp_path / "away.png").write_bytes(data)
        image.symlink_to(tmp_path / "away.png")
    [copy] = embed_images(folder, tmp_path / "out")
    assert copy.file == "deep/er/x.png" and words in copy.problem
    assert not copy.path.exists()


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_no_copy_holds_a_secret(run_of: Any, tmp_path: Path, kind: str) -> None:
    url = "https://user:hunter2secret@civitai.com/x?token=hunter2secret"
    copy = copy_of(run_of(kind, prompt=f"see {url}", loras=[{"path": url, "scale": 1}], image=url), tmp_path / "out")
    assert b"hunter2secret" not in copy.read_bytes()
    assert "hunter2secret".encode("utf-16-be") not in copy.read_bytes()
    assert embedded(copy)["input"]["loras"][0]["path"] == "https://***@civitai.com/x?token=***"


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["png", "jpg", "webp"]),
    cut=st.integers(0, 400),
    at=st.integers(0, 400),
    byte=st.integers(0, 255),
)
def test_damaged_files_give_an_answer_or_a_named_error(kind: str, cut: int, at: int, byte: int) -> None:
    data = bytearray(insert(picture(kind), json.dumps({"version": 1, "model": "m", "input": {}}), "t"))
    data[min(at, len(data) - 1)] = byte
    damaged = bytes(data[: max(0, len(data) - cut)])
    assert read_request(damaged) is None or read_request(damaged)
    with contextlib.suppress(BadImage, ImageError):
        insert(damaged, "{}", "t")
