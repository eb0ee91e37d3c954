"""From an image back to its job: by the request inside it, by its hash, by the job's ID."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.errors import FluxLoraError, NotFoundError, UsageError
from flux_lora_cli.folder.ledger import Ledger
from flux_lora_cli.folder.manifest import read_manifest
from flux_lora_cli.gallery.embed import embed_images
from flux_lora_cli.gallery.replay import find_request
from tests.gallery.make_run import draw, job, matrix, one_image, write

SECRET_URL = "https://civitai.com/x?token=hunter2secret"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrix(tmp_path_factory.mktemp("runs") / "posters", side=16)


def test_by_job_alias_and_task(run: Path, tmp_path: Path) -> None:
    found = find_request(run, "rings/both/2")
    assert (found.job.id, found.job.seed, found.job.model) == ("rings/both/2", 2, "wavespeed-ai/flux-dev-lora")
    assert [lora["scale"] for lora in found.job.params["loras"]] == [0.6, 0.5]
    assert "seed" not in found.job.params
    assert not found.sandbox
    aliased = write(tmp_path / "aliased", [job("one", aliases=["two"]), job("three")])
    assert find_request(aliased, "two").job.id == "one"


def test_by_hash_whatever_its_name_and_in_a_folder_below(run: Path, tmp_path: Path) -> None:
    renamed = run / "holiday.png"
    shutil.copy(run / "reef-nasa-3.png", renamed)
    assert find_request(renamed).job.id == "reef/nasa/3"
    renamed.unlink()
    one_image(tmp_path, job("one", seed=7), "a/b/c.png")
    assert find_request(tmp_path / "a/b/c.png").job.seed == 7
    assert find_request(tmp_path).job.id == "one", "the only job needs no name"


@pytest.mark.parametrize("sandbox", [False, True])
def test_by_the_request_inside_far_from_its_folder(tmp_path: Path, sandbox: bool) -> None:
    folder = one_image(tmp_path / "run", job("dawn/1", seed=7), sandbox=sandbox)
    list(embed_images(folder, tmp_path / "out"))
    alone = tmp_path / "alone.png"
    shutil.move(tmp_path / "out/x.png", alone)
    found, wanted = find_request(alone), find_request(folder, "dawn/1")
    assert (found.job, found.sandbox) == (wanted.job, sandbox)
    assert str(alone) in found.where


@pytest.mark.parametrize("kept", ["there", "gone", "another"])
def test_a_local_input_image_is_the_copy_that_the_folder_kept(tmp_path: Path, kept: str) -> None:
    data = draw(2, 8, 8)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"inputs/{sha256}.png"
    folder = one_image(tmp_path / "run", job("i2i", image=name))
    (folder / "inputs").mkdir()
    (folder / name).write_bytes(data)
    list(embed_images(folder, tmp_path / "out"))
    if kept == "gone":
        (tmp_path / "out" / name).unlink()
    if kept == "another":
        (tmp_path / "out" / name).write_bytes(draw(3, 8, 8))
    found = find_request(tmp_path / "out/x.png")
    if kept == "there":
        [image] = found.job.images.values()
        assert found.job.params["image"] == sha256
        assert (Path(image.path).read_bytes(), image.media_type, image.bytes) == (data, "image/png", len(data))
    else:
        assert (found.job.images, found.job.params["image"]) == ({}, name)


@pytest.mark.parametrize(
    ("target", "wanted", "error", "words"),
    [
        ("nowhere.png", None, NotFoundError, "no such file"),
        ("unknown.png", None, NotFoundError, "carries no request"),
        ("posters/dawn-plain-1.png", "dawn/plain/1", UsageError, "is a file"),
        ("unasked", "x", NotFoundError, "not known"),
        ("/dev/zero", None, FluxLoraError, "/dev/zero"),
    ],
)
def test_what_cannot_be_replayed(
    run: Path, tmp_path: Path, target: str, wanted: str | None, error: Any, words: str
) -> None:
    (tmp_path / "posters").symlink_to(run)
    (tmp_path / "unknown.png").write_bytes(draw(99, 16, 16))
    foreign = job("x")
    foreign["request"]["input"] = None
    write(tmp_path / "unasked", [foreign])
    with pytest.raises(error) as caught:
        find_request(tmp_path / target, wanted)
    assert words in caught.value.message + caught.value.hint


def test_a_masked_secret_is_told_unless_the_ledger_still_knows_it(tmp_path: Path) -> None:
    folder = one_image(tmp_path / "run", job("x", loras=[{"path": SECRET_URL.replace("hunter2secret", "***")}]))
    list(embed_images(folder, tmp_path / "out"))
    assert "***" in str(find_request(tmp_path / "out/x.png").job.params["loras"])
    [record] = read_manifest(folder).records
    record.input = {**(record.input or {}), "loras": [{"path": SECRET_URL, "scale": 1}]}
    record.api_version = "v3"
    with Ledger.open(folder / "ledger.sqlite3", "https://api.wavespeed.ai") as ledger:
        ledger.save([ledger.row(record)])
    for found in (find_request(folder, "x"), find_request(folder / "x.png")):
        assert found.job.params["loras"][0]["path"] == SECRET_URL
        assert found.api_version == "v3"
