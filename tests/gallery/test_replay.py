"""From an image back to its job: by the request inside it, by its hash, by the job's ID."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.errors import FluxLoraError, FolderError, NotFoundError, UsageError
from flux_lora_cli.folder.ledger import Ledger
from flux_lora_cli.folder.manifest import read_manifest
from flux_lora_cli.gallery.embed import embed_images
from flux_lora_cli.gallery.replay import find_request
from tests.gallery.make_run import add_image, draw, job, matrix, write


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrix(tmp_path_factory.mktemp("runs") / "posters", side=16)


def test_by_job_alias_and_task(run: Path, tmp_path: Path) -> None:
    found = find_request(run, "rings/both/2")
    assert (found.job.id, found.job.seed, found.job.model) == ("rings/both/2", 2, "wavespeed-ai/flux-dev-lora")
    assert [lora["scale"] for lora in found.job.params["loras"]] == [0.6, 0.5]
    assert "seed" not in found.job.params
    assert (found.sandbox, found.service, found.masked) == (False, "https://api.wavespeed.ai", ())
    aliased = write(tmp_path / "aliased", [job("one", aliases=["two"]), job("three")])
    assert find_request(aliased, "two").job.id == "one"


def test_by_hash_whatever_its_name(run: Path) -> None:
    renamed = run / "holiday.png"
    shutil.copy(run / "reef-nasa-3.png", renamed)
    assert find_request(renamed).job.id == "reef/nasa/3"
    renamed.unlink()


@pytest.mark.parametrize("sandbox", [False, True])
def test_by_the_request_inside_far_from_its_folder(tmp_path: Path, sandbox: bool) -> None:
    entry = job("dawn/1", seed=7)
    add_image(tmp_path / "run", entry, draw(1, 16, 16), "x.png")
    folder = write(tmp_path / "run", [entry], sandbox=sandbox, service="sandbox" if sandbox else "https://a.example")
    embed_images(folder, tmp_path / "out")
    alone = tmp_path / "alone.png"
    shutil.move(tmp_path / "out/x.png", alone)
    found = find_request(alone)
    wanted = find_request(folder, "dawn/1")
    assert (found.job, found.sandbox, found.service) == (wanted.job, sandbox, wanted.service)
    assert str(alone) in found.where


def test_in_a_folder_below_and_the_only_job_needs_no_name(tmp_path: Path) -> None:
    entry = job("one", seed=7)
    add_image(tmp_path, entry, draw(1, 16, 16), "a/b/c.png")
    write(tmp_path, [entry])
    assert find_request(tmp_path / "a/b/c.png").job.seed == 7
    assert find_request(tmp_path).job.id == "one"


@pytest.mark.parametrize("kept", ["there", "gone", "another"])
def test_a_local_input_image_is_the_copy_that_the_folder_kept(tmp_path: Path, kept: str) -> None:
    data = draw(2, 8, 8)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"inputs/{sha256}.png"
    entry = job("i2i", image=name)
    add_image(tmp_path / "run", entry, draw(1, 16, 16), "x.png")
    (tmp_path / "run/inputs").mkdir()
    (tmp_path / "run" / name).write_bytes(data)
    write(tmp_path / "run", [entry])
    embed_images(tmp_path / "run", tmp_path / "out")
    if kept == "gone":
        (tmp_path / "out" / name).unlink()
    if kept == "another":
        (tmp_path / "out" / name).write_bytes(draw(3, 8, 8))
    found = find_request(tmp_path / "out/x.png")
    if kept == "there":
        assert found.job.params["image"] == sha256
        [image] = found.job.images.values()
        assert (Path(image.path).read_bytes(), image.media_type, image.bytes) == (data, "image/png", len(data))
        assert found.missing == ()
    else:
        assert (found.missing, found.job.params["image"]) == ((name,), name)


def test_a_masked_secret_is_told(tmp_path: Path) -> None:
    url = "https://civitai.com/x?token=hunter2secret"
    entry = job("x", loras=[{"path": url, "scale": 1}])
    add_image(tmp_path / "run", entry, draw(1, 16, 16), "x.png")
    embed_images(write(tmp_path / "run", [entry]), tmp_path / "out")
    assert find_request(tmp_path / "out/x.png").masked == ("loras",)


@pytest.mark.parametrize(
    ("target", "wanted", "error", "words"),
    [
        ("posters", "dawn/nasa/9", NotFoundError, "dawn/nasa"),
        ("posters", None, UsageError, "36 jobs"),
        ("nowhere.png", None, NotFoundError, "no such file"),
        ("unknown.png", None, NotFoundError, "carries no request"),
        ("notes.txt", None, NotFoundError, "carries no request"),
        ("posters/dawn-plain-1.png", "dawn/plain/1", UsageError, "is a file"),
        (".", None, (NotFoundError, FolderError), "manifest.json"),
        ("unasked", "x", NotFoundError, "not known"),
        ("/dev/zero", None, FluxLoraError, "/dev/zero"),
    ],
)
def test_what_cannot_be_replayed(
    run: Path, tmp_path: Path, target: str, wanted: str | None, error: Any, words: str
) -> None:
    (tmp_path / "posters").symlink_to(run)
    (tmp_path / "unknown.png").write_bytes(draw(99, 16, 16))
    (tmp_path / "notes.txt").write_text("not an image")
    foreign = job("x")
    foreign["request"]["input"] = None
    write(tmp_path / "unasked", [foreign])
    with pytest.raises(error) as caught:
        find_request(tmp_path / target, wanted)
    assert words in caught.value.message + caught.value.hint


def test_the_ledger_still_knows_what_the_manifest_masks(tmp_path: Path) -> None:
    url = "https://civitai.com/x?token=hunter2secret"
    entry = job("x", loras=[{"path": url.replace("hunter2secret", "***"), "scale": 1}])
    add_image(tmp_path, entry, draw(1, 16, 16), "x.png")
    write(tmp_path, [entry])
    [record] = read_manifest(tmp_path).records
    record.input = {**(record.input or {}), "loras": [{"path": url, "scale": 1}]}
    record.api_version = "v3"
    with Ledger.open(tmp_path / "ledger.sqlite3", "https://api.wavespeed.ai") as ledger:
        ledger.save([ledger.row(record)])
    for found in (find_request(tmp_path, "x"), find_request(tmp_path / "x.png")):
        assert found.job.params["loras"][0]["path"] == url
        assert (found.masked, found.api_version) == ((), "v3")
