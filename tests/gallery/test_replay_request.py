"""What made an image: by the request inside it, by its hash, by its job."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from make_run import add_image, draw, job, matrix, write

from flux_lora_cli.errors import FolderError, NotFoundError, UsageError
from flux_lora_cli.gallery.embed import embed_run
from flux_lora_cli.gallery.replay import find_request
from flux_lora_cli.gallery.run import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrix(tmp_path_factory.mktemp("runs") / "posters", side=16)


def test_by_job_and_alias(run: Path) -> None:
    found = find_request(run, "rings/both/2")
    assert found.input["seed"] == 2
    assert [lora["scale"] for lora in found.input["loras"]] == [0.6, 0.5]
    assert found.model == "wavespeed-ai/flux-dev-lora"
    assert found.job_id == "rings/both/2"


def test_by_hash_whatever_its_name(run: Path) -> None:
    renamed = run / "holiday.png"
    shutil.copy(run / "reef-nasa-3.png", renamed)
    found = find_request(renamed)
    assert (found.job_id, found.folder) == ("reef/nasa/3", run.resolve())
    renamed.unlink()


def test_by_the_request_inside_far_from_its_folder(run: Path, tmp_path: Path) -> None:
    list(embed_run(read_run(run), tmp_path / "out"))
    alone = tmp_path / "alone.png"
    shutil.move(tmp_path / "out/dawn-both-1.png", alone)
    found = find_request(alone)
    assert found.input == find_request(run, "dawn/both/1").input
    assert str(alone) in found.where


def test_in_a_folder_below(tmp_path: Path) -> None:
    entry = job("one", seed=7)
    add_image(tmp_path, entry, draw(1, 16, 16), "a/b/c.png")
    write(tmp_path, [entry])
    assert find_request(tmp_path / "a/b/c.png").input["seed"] == 7
    assert find_request(tmp_path).job_id == "one", "the only job needs no name"


def test_input_images_are_found_beside_the_copy(tmp_path: Path) -> None:
    entry = job("i2i", image="inputs/abc.png")
    add_image(tmp_path / "run", entry, draw(1, 16, 16), "x.png")
    (tmp_path / "run/inputs").mkdir()
    (tmp_path / "run/inputs/abc.png").write_bytes(draw(2, 8, 8))
    write(tmp_path / "run", [entry])
    list(embed_run(read_run(tmp_path / "run"), tmp_path / "out"))
    found = find_request(tmp_path / "out/x.png")
    assert (found.folder / found.input["image"]).read_bytes() == draw(2, 8, 8)


@pytest.mark.parametrize(
    ("target", "wanted", "error", "words"),
    [
        ("posters", "dawn/nasa/9", NotFoundError, "dawn/nasa"),
        ("posters", None, UsageError, "36 jobs"),
        ("nowhere.png", None, NotFoundError, "no such file"),
        ("unknown.png", None, NotFoundError, "carries no request"),
        ("notes.txt", None, NotFoundError, "carries no request"),
        ("posters/dawn-plain-1.png", "dawn/plain/1", UsageError, "is a file"),
        (".", None, FolderError, "no manifest.json"),
    ],
)
def test_what_is_not_there(run: Path, tmp_path: Path, target: str, wanted: str | None, error: Any, words: str) -> None:
    (tmp_path / "posters").symlink_to(run)
    (tmp_path / "unknown.png").write_bytes(draw(99, 16, 16))
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(error) as caught:
        find_request(tmp_path / target, wanted)
    assert words in caught.value.message + caught.value.hint
