"""Files get their names whole, on disk, and over nobody else's."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from flux_lora_cli import errors
from flux_lora_cli.adapters import disk
from flux_lora_cli.adapters.image_store import ImageStore
from flux_lora_cli.adapters.sink import inspect_image
from flux_lora_cli.domain.inline import inline_bytes


def picture(colour: str = "red", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, kind)
    return file.getvalue()


def store_of(folder: Path, *served: bytes, pieces: int = 100) -> ImageStore:
    waiting = list(served)

    def fetch(_url: str, _limit: int) -> Iterator[bytes]:
        data = waiting.pop(0)
        yield from (data[i : i + pieces] for i in range(0, len(data), pieces))

    return ImageStore(folder, fetch)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir() or p.is_symlink())


@pytest.mark.parametrize(("kind", "extension"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_an_image_is_saved_as_it_came(tmp_path: Path, kind: str, extension: str) -> None:
    data = picture("blue", kind)
    store = store_of(tmp_path, data)
    saved = store.fetch("https://cdn/misleading.gif")
    assert (saved.width, saved.height, saved.extension) == (40, 30, extension)
    assert saved.bytes == len(data)
    assert saved.sha256 == hashlib.sha256(data).hexdigest()
    assert files(tmp_path) == [saved.temp]
    assert saved.temp.startswith(".")
    store.publish(saved.temp, f"a/b/x.{extension}")
    store.sync_dirs([f"a/b/x.{extension}"])
    assert files(tmp_path) == [f"a/b/x.{extension}"]
    assert (tmp_path / "a/b" / f"x.{extension}").read_bytes() == data
    assert store.hash(f"a/b/x.{extension}") == saved.sha256
    found = store.stat(f"a/b/x.{extension}")
    assert found is not None
    assert found[0] == len(data)


@pytest.mark.parametrize("data", [b"", b"<html>gone</html>", picture()[:-1], picture()[:20], b"GIF89a" + bytes(99)])
def test_what_is_not_whole_leaves_nothing_behind(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(errors.BadImage):
        store_of(tmp_path, data).fetch("https://cdn/x.png")
    assert files(tmp_path) == []


def test_a_connection_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    def fetch(_url: str, _limit: int) -> Iterator[bytes]:
        yield picture()[:50]
        raise errors.Uncertain("cut")

    with pytest.raises(errors.Uncertain):
        ImageStore(tmp_path, fetch).fetch("https://cdn/x.png")
    assert files(tmp_path) == []


@pytest.mark.parametrize("way", ["renameat2", "link", "neither"])
def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "invalid argument")

    if way != "renameat2":
        monkeypatch.setattr(disk, "_rename_noreplace", unsupported)
    if way == "neither":
        monkeypatch.setattr(os, "link", unsupported)
    store = store_of(tmp_path, picture("red"), picture("blue"))
    (tmp_path / "theirs.png").write_bytes(b"precious")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    saved = store.fetch("https://cdn/1")
    for taken in ("theirs.png", "dangling.png"):
        with pytest.raises(FileExistsError):
            store.publish(saved.temp, taken)
    store.publish(saved.temp, "free.png")
    assert (tmp_path / "theirs.png").read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()
    assert files(tmp_path) == ["dangling.png", "free.png", "theirs.png"]
    again = store.fetch("https://cdn/2")
    store.replace(again.temp, "free.png")
    assert store.hash("free.png") == again.sha256


def test_bytes_are_flushed_before_the_name_and_names_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_fsync, real_rename = os.fsync, disk._rename_noreplace

    def fsync(descriptor: int) -> None:
        steps.append("flush folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "flush file")
        real_fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        steps.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(disk, "_rename_noreplace", rename)
    store = store_of(tmp_path, picture())
    saved = store.fetch("https://cdn/1")
    store.publish(saved.temp, "new/x.png")
    store.sync_dirs(["new/x.png"])
    # The new folder, and the one that its own name stands in.
    assert steps == ["flush file", "rename", "flush folder", "flush folder"]


@pytest.mark.parametrize("path", ["../x.png", "/tmp/x.png", "a/../../x.png", "C:x.png", "a\\b.png", ""])
def test_no_path_leaves_the_folder(tmp_path: Path, path: str) -> None:
    store = store_of(tmp_path / "out", picture())
    store.check_writable()
    saved = store.fetch("https://cdn/1")
    with pytest.raises(errors.FolderError):
        store.publish(saved.temp, path)
    with pytest.raises(errors.FolderError):
        store.begin(path)
    assert store.stat(path) is None
    assert store.hash(path) is None


def test_links_that_lead_out_are_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.png").write_bytes(b"theirs")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "nsfw").symlink_to(outside)
    (folder / "file.png").symlink_to(outside / "x.png")
    store = store_of(folder, picture())
    saved = store.fetch("https://cdn/1")
    for attempt in (store.publish, store.replace):
        with pytest.raises(errors.FolderError, match="leads out"):
            attempt(saved.temp, "nsfw/deep/x.png")
    with pytest.raises(errors.FolderError, match="leads out"):
        store.begin("nsfw/x.png")
    store.replace(saved.temp, "file.png")
    assert (outside / "x.png").read_bytes() == b"theirs"
    assert not (folder / "file.png").is_symlink()
    assert os.listdir(outside) == ["x.png"]


def test_a_link_is_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to("real.png")
    store = ImageStore(tmp_path)
    assert store.stat("link.png") is None
    assert store.hash("link.png") is None
    os.mkfifo(tmp_path / "pipe.png")
    assert store.stat("pipe.png") is None
    assert store.hash("pipe.png") is None


@pytest.mark.parametrize(
    ("number", "expected", "words"),
    [
        (errno.ENOSPC, errors.DiskFull, "disk is full"),
        (errno.EDQUOT, errors.DiskFull, "disk is full"),
        (errno.EROFS, errors.FolderError, "read-only"),
        (errno.EACCES, errors.FolderError, "permission denied"),
        (errno.EIO, errors.FolderError, "input/output error"),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync", "close"])
def test_what_the_disk_says_is_told_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    expected: type[errors.FluxLoraError],
    words: str,
) -> None:
    real = getattr(os, call)
    fail = [True]

    def failing(*arguments: object) -> object:
        if call == "close":
            real(*arguments)
        if fail and fail.pop():
            raise OSError(number, os.strerror(number))
        return None if call == "close" else real(*arguments)

    store = store_of(tmp_path, picture())
    monkeypatch.setattr(os, call, failing)
    with pytest.raises(errors.FolderError) as caught:
        store.fetch("https://cdn/1")
    assert type(caught.value) is expected
    assert words in caught.value.message
    assert caught.value.hint
    assert files(tmp_path) == []


def test_a_full_disk_is_really_noticed(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from flux_lora_cli.adapters.image_store import ImageStore
from flux_lora_cli.errors import DiskFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    ImageStore(Path(sys.argv[1])).check_writable()
except DiskFull:
    sys.exit(7)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == 7
    assert files(tmp_path) == []


def test_the_folder_is_tried_before_anything_is_paid_for(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "new" / "deeper")
    store.check_writable()
    assert files(tmp_path) == []
    (tmp_path / "file").write_text("x")
    for wrong in ("file", "file/below"):
        with pytest.raises(errors.FolderError):
            ImageStore(tmp_path / wrong).check_writable()


def test_left_behind_temporary_files_are_swept_and_others_are_not(tmp_path: Path) -> None:
    store = store_of(tmp_path, picture(), picture(), picture())
    old, kept, fresh = (store.fetch("https://cdn/1").temp for _ in range(3))
    for name in (old, kept):
        os.utime(tmp_path / name, (1000, 1000))
    (tmp_path / ".hidden.part").write_text("theirs")
    os.utime(tmp_path / ".hidden.part", (1000, 1000))
    assert store.sweep(2000, keep=[kept]) == 1
    assert files(tmp_path) == sorted([kept, fresh, ".hidden.part"])
    store.discard(kept)
    store.discard(".hidden.part")
    assert files(tmp_path) == sorted([fresh, ".hidden.part"])


def test_an_input_image_is_kept_once_under_its_hash(tmp_path: Path) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(picture("green", "JPEG"))
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    store = ImageStore(tmp_path / "out")
    store.check_writable()
    for _ in range(2):
        assert store.keep_input(source, sha256, "jpg") == f"inputs/{sha256}.jpg"
    kept = tmp_path / "out" / "inputs" / f"{sha256}.jpg"
    kept.write_bytes(b"damaged")
    store.keep_input(source, sha256, "jpg")
    assert kept.read_bytes() == source.read_bytes()
    assert len(files(tmp_path / "out")) == 1
    with pytest.raises(errors.FolderError, match="changed"):
        store.keep_input(source, "0" * 64, "jpg")
    with pytest.raises(errors.NotFoundError):
        store.keep_input(tmp_path / "none.jpg", "0" * 64, "jpg")
    assert len(files(tmp_path / "out")) == 1


def test_a_local_image_is_judged_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(picture("red", "WEBP"))
    assert inspect_image(tmp_path / "x.png").media_type == "image/webp"
    (tmp_path / "y.png").write_text("root:x:0:0")
    with pytest.raises(errors.BadImage):
        inspect_image(tmp_path / "y.png")
    with pytest.raises(errors.NotFoundError):
        inspect_image(tmp_path)


# ---- images inside the answer ------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:;base64,", "DATA:image/png;charset=x;BASE64,"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_images_inside_the_answer(tmp_path: Path, prefix: str, encode: object) -> None:
    data = picture()
    text = prefix + encode(data).decode()  # type: ignore[operator]
    saved = ImageStore(tmp_path).fetch(text)
    assert (tmp_path / saved.temp).read_bytes() == data
    assert inline_bytes(text.rstrip("=\n")) == data


def test_what_is_neither_url_nor_image(tmp_path: Path) -> None:
    assert inline_bytes("https://cdn/x.png") is None
    for text in ("", "x", "../etc/passwd", "/api/v3/x", "not base64 at all, is it?"):
        with pytest.raises(errors.RefusedUrl):
            inline_bytes(text)
    for text in ("data:image/png,raw", "data:image/png;base64,====A", "data:image/png;base64,!!!!", "A" * 52_428_801):
        with pytest.raises(errors.BadImage):
            inline_bytes(text)
