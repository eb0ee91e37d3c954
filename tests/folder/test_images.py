"""Images get their names whole, on disk, and over nobody else's; after a kill between any two steps none is lost."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.folder import files
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.records import JobRecord, OutputRecord, State
from flux_lora_cli.presets.job import LocalImage
from tests.folder.samples import png, receive


def all_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir() or p.is_symlink())


@pytest.mark.parametrize("links", [None, errno.EPERM, errno.EOPNOTSUPP], ids=["links", "fat", "share"])
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("missing")])
def test_nothing_is_overwritten(
    tmp_path: Path, make: Callable[[Path], None], links: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(links, "not supported")

    if links:
        monkeypatch.setattr(os, "link", unsupported)
    store = ImageStore(tmp_path)
    make(tmp_path / "x.png")
    received = receive(store, png(1))
    with pytest.raises(FileExistsError):
        store.publish(received.temp, "x.png")
    assert received.temp in all_files(tmp_path)
    store.publish(received.temp, "y.png")
    assert (tmp_path / "y.png").read_bytes() == png(1)


@pytest.mark.parametrize("name", ["../x.png", "/tmp/x.png", "link/x.png", "link/a/x.png", "a/../../x.png"])
def test_nothing_is_written_or_read_outside(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "o"
    folder.mkdir()
    (tmp_path / "x.png").write_bytes(png(2))
    (folder / "link").symlink_to(tmp_path)
    store = ImageStore(folder)
    received = receive(store, png(1))
    with pytest.raises(errors.FolderError):
        store.publish(received.temp, name, replace=True)
    assert store.stat(name) == (None, None)
    assert store.sha256(name) is None
    store.discard(name)
    assert (tmp_path / "x.png").read_bytes() == png(2)


def test_what_killed_runs_left_is_swept(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    kept, old, new = (receive(store, png(n)).temp for n in range(3))
    (tmp_path / ".other").touch()
    for name in (kept, old, ".other"):
        os.utime(tmp_path / name, (0, 0))
    store.sweep([kept])
    assert all_files(tmp_path) == sorted([".other", kept, new])


# ---- input images ----


def remade_as_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def local(path: Path, data: bytes) -> LocalImage:
    path.write_bytes(data)
    return LocalImage(str(path), hashlib.sha256(data).hexdigest(), len(data), "image/png", "png")


def test_an_input_image_is_kept_once(tmp_path: Path) -> None:
    store, image = ImageStore(tmp_path / "o"), local(tmp_path / "in.png", png(1))
    store.check_writable()
    name = store.keep_input(image)
    assert name == f"inputs/{image.sha256}.png"
    written = store.stat(name)
    assert store.keep_input(image) == name
    assert store.stat(name) == written
    store.path(name).write_bytes(b"damaged")
    store.keep_input(image)
    assert store.path(name).read_bytes() == png(1)
    with pytest.raises(errors.FolderError):
        store.path("inputs/../../x")


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(png(2)), Path.unlink, remade_as_fifo])
def test_an_input_image_that_changed_or_went_is_said(tmp_path: Path, change: Callable[[Path], object]) -> None:
    store, image = ImageStore(tmp_path / "o"), local(tmp_path / "in.png", png(1))
    store.check_writable()
    change(tmp_path / "in.png")
    with pytest.raises(errors.NotFoundError, match=r"in\.png"):
        store.keep_input(image)
    assert all_files(tmp_path / "o") == []


# ---- after a kill, between any two steps of "complete · intent saved · renamed · saved" ----


def record_of(*outputs: OutputRecord) -> JobRecord:
    return JobRecord("k", state=State.COMPLETED, outputs=list(outputs))


def arriving(store: ImageStore, name: str = "a/x.png", number: int = 1) -> OutputRecord:
    received = receive(store, png(number))
    output = OutputRecord(0, url="u", sha256=received.sha256, bytes=received.bytes, temp=received.temp, writing=name)
    info = received.info
    output.width, output.height, output.media_type = info.width, info.height, info.media_type
    return output


@pytest.mark.parametrize("steps", range(4))
def test_a_kill_between_two_steps_loses_no_image(tmp_path: Path, steps: int) -> None:
    store = ImageStore(tmp_path)
    output = arriving(store)
    assert output.temp is not None
    if steps == 1:  # as where a rename is a link and an unlink
        (tmp_path / "a").mkdir()
        os.link(tmp_path / output.temp, tmp_path / "a/x.png")
    if steps >= 2:
        store.publish(output.temp, "a/x.png")
    if steps == 3:
        store.sync(["a/x.png"])
    assert store.recover(record_of(output))
    assert (output.file, output.temp, output.writing) == ("a/x.png", None, None)
    assert store.stat("a/x.png") == (output.bytes, output.mtime_ns)
    assert all_files(tmp_path) == ["a/x.png"]
    assert [store.recover(record_of(output), every_byte=each) for each in (False, True)] == [False, False]


def test_a_name_that_was_taken_meanwhile_gets_another(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    output = arriving(store, "x.png")
    (tmp_path / "x.png").write_bytes(b"theirs")
    assert store.recover(record_of(output))
    assert output.file == "x-2.png"
    assert (tmp_path / "x.png").read_bytes() == b"theirs"


@pytest.mark.parametrize("what", ["lost", "altered", "no hash"])
def test_an_image_that_did_not_survive_is_fetched_again(tmp_path: Path, what: str) -> None:
    store = ImageStore(tmp_path)
    output = arriving(store, "x.png")
    assert output.temp is not None
    if what == "lost":
        (tmp_path / output.temp).unlink()
    elif what == "altered":
        (tmp_path / output.temp).write_bytes(png(9))
    else:
        output.sha256 = None
    assert store.recover(record_of(output))
    assert (output.file, output.sha256, output.url, output.writing) == (None, None, "u", None)
    assert all_files(tmp_path) == []


def saved(store: ImageStore) -> OutputRecord:
    output = arriving(store, "x.png")
    store.recover(record_of(output))
    return output


@pytest.mark.parametrize(
    ("change", "every_byte", "file", "replaced"),
    [
        (lambda path: None, False, "x.png", False),
        (lambda path: None, True, "x.png", False),
        (lambda path: os.utime(path, (1, 1)), False, "x.png", False),
        (lambda path: path.unlink(), False, None, False),
        (lambda path: path.write_bytes(b"short"), False, None, True),
        (lambda path: (time.sleep(0.01), path.write_bytes(png(2))), False, None, True),
        (lambda path: (path.unlink(), path.mkdir()), False, None, False),
        (lambda path: remade_as_fifo(path), True, None, False),
    ],
    ids=["same", "same, read", "other time", "gone", "cut", "altered", "folder", "fifo"],
)
def test_altered_and_missing_images_are_noticed(
    tmp_path: Path, change: Callable[[Path], object], every_byte: bool, file: str | None, replaced: bool
) -> None:
    store = ImageStore(tmp_path)
    output = saved(store)
    change(tmp_path / "x.png")
    store.recover(record_of(output), every_byte=every_byte)
    assert output.file == file
    assert (output.writing == "x.png") is replaced


# ---- files that are not files ----


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    files.write_atomically(path, b"one")

    def torn(file: object) -> None:
        file.write(b"tw")  # type: ignore[attr-defined]
        raise ValueError

    with pytest.raises(ValueError):
        files.write_atomically(path, torn)
    assert path.read_bytes() == b"one"
    assert all_files(tmp_path) == ["x"]
    assert path.stat().st_mode & 0o777 == 0o600
