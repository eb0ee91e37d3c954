"""``verify``, ``merge``, ``gallery``, ``embed``: commands on folders that exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.commands.conftest import Run
from tests.gallery.make_run import add_image, draw, job, write

JOBS = ("dawn/1", "dawn/2", "dusk/1")


def make(folder: Path, *ids: str, shift: int = 0, **head: Any) -> Path:
    """A folder with an image for each job; ``shift`` changes the pictures."""
    entries = []
    for number, job_id in enumerate(ids):
        entry = job(job_id, seed=number)
        add_image(folder, entry, draw(number + shift, 64, 64), f"{job_id.replace('/', '-')}.png")
        entries.append(entry)
    return write(folder, entries, **head)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return make(tmp_path / "out", *JOBS)


def test_verify_names_what_is_missing_or_altered(run: Run, out: Path) -> None:
    done = run("verify", "out")
    assert (done.code, done.out) == (0, "")
    assert "3 files checked" in done.err
    (out / "dawn-1.png").unlink()
    (out / "dawn-2.png").write_bytes(b"x")
    (out / "notes.txt").write_text("mine")
    done = run("verify", "out")
    assert done.code == 6
    assert done.lines == ["out/dawn-1.png\tmissing", "out/dawn-2.png\taltered"]
    assert "--verify" in done.err
    assert "notes.txt" not in done.err
    assert "out/notes.txt" in run("verify", "out", "-v").err
    events = run("verify", "out", "--json").events
    found = [(event["data"]["finding"], event["data"]["job"]) for event in events if event.get("kind") == "file"]
    assert found == [("missing", "dawn/1"), ("altered", "dawn/2")]
    assert [events[-1][key] for key in ("checked", "missing", "altered", "foreign")] == [3, 1, 1, 1]


def test_verify_of_an_image_that_never_came(run: Run, tmp_path: Path) -> None:
    entry = job("dawn", num_images=2)
    add_image(tmp_path / "out", entry, draw(1, 64, 64), "a.png")
    entry["outputs"].append({**entry["outputs"][0], "index": 1, "url": None, "file": None, "sha256": None,
                             "error": "missing: the service sent 1 of 2 images"})  # fmt: skip
    write(tmp_path / "out", [entry])
    done = run("verify", "out")
    assert (done.code, done.out) == (6, "")
    assert "dawn: image 1 was never saved" in done.err


@pytest.mark.parametrize("command", ["verify", "gallery", "embed", "merge"])
def test_no_such_folder(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("nowhere", "empty"):
        done = run(command, folder, *(["-o", "new"] if command in ("embed", "merge") else []))
        assert done.code == 3
        assert len(done.err.splitlines()) > 1  # what happened, and what to do next


@pytest.mark.parametrize(
    "command",
    [
        "batch jobs.txt --sandbox -o DIR",
        "verify DIR",
        "gallery DIR",
        "embed DIR -o new",
        "merge DIR -o new",
        "replay DIR a",
        "preset list DIR",
        "preset diff DIR",
        "doctor --sandbox -o DIR",
    ],
)
def test_a_folder_that_cannot_be_looked_at(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "jobs.txt").write_text("a cat\n")
    done = run(*command.replace("DIR", "x" * 300).split())
    assert done.code == (3 if command.startswith(("preset", "doctor")) else 7)
    assert "file name too long" in done.err.lower()


def test_merge(run: Run, tmp_path: Path) -> None:
    make(tmp_path / "one", "dawn")
    make(tmp_path / "two", "dusk", shift=9)
    done = run("merge", "one", "two", "-o", "all")
    assert (done.code, done.lines) == (0, ["all"])
    assert "2 jobs added" in done.err
    assert run("verify", "all").code == 0
    assert "0 jobs added" in run("merge", "one", "two", "-o", "all").err


def test_merge_takes_nothing_altered(run: Run, tmp_path: Path) -> None:
    (make(tmp_path / "one", "dawn") / "dawn.png").write_bytes(b"x")
    done = run("merge", "one", "-o", "all")
    assert done.code == 6
    assert "one/dawn.png" in done.err
    assert not (tmp_path / "all" / "dawn.png").exists()


def test_gallery_writes_a_page_or_a_sheet(run: Run, out: Path) -> None:
    assert run("gallery", "out").lines == ["out/index.html"]
    assert run("gallery", "out", "--sheet", "sheet.png").lines == ["sheet.png"]
    with Image.open(out.with_name("sheet.png")) as sheet:
        assert sheet.width > 300
    assert run("gallery", "out", "--sheet", "sheet.png", "-o", "page").lines == ["sheet.png", "page/index.html"]
    summary = run("gallery", "out", "--json").events[-1]
    assert (summary["images"], summary["missing"]) == (3, 0)


def test_gallery_compares_two_folders(run: Run, out: Path, tmp_path: Path) -> None:
    after = make(tmp_path / "after", "dawn/1", "dusk/1")
    add = json.loads((after / "manifest.json").read_text())["jobs"]
    add_image(after, new := job("noon"), draw(77, 64, 64), "noon.png")
    write(after, [*add, new])
    done = run("gallery", "out", "after", "--compare", "-o", "review", "--sheet", "pairs.png")
    assert (done.code, done.lines) == (0, ["pairs.png", "review/index.html"])
    assert all((tmp_path / line).is_file() for line in done.lines)
    counts = run("gallery", "out", "after", "--compare", "--sheet", "pairs.png", "--json").events[-1]
    assert [counts[key] for key in ("changed", "only_before", "only_after", "unchanged")] == [1, 1, 1, 1]
    for words in (["out", "-o", "r"], ["out", "out", "out", "-o", "r"], ["out", "after"]):
        assert run("gallery", *words, "--compare").code == 2


def test_embed(run: Run, out: Path, tmp_path: Path) -> None:
    (tmp_path / "picks.txt").write_text("dawn/2\ndusk/1\n")
    for words, names in (([], ["dawn-1", "dawn-2", "dusk-1"]), (["--only-file", "picks.txt"], ["dawn-2", "dusk-1"])):
        done = run("embed", "out", "-o", "copies", *words)
        assert (done.code, done.lines) == (0, [f"copies/{name}.png" for name in names])
    (tmp_path / "picks.txt").write_text("dawn/9\n")
    assert run("embed", "out", "-o", "none", "--only-file", "picks.txt").code == 3
    assert not (tmp_path / "none").exists()


def test_embed_leaves_out_what_is_not_as_saved(run: Run, out: Path) -> None:
    (out / "dawn-1.png").write_bytes(b"x")
    done = run("embed", "out", "-o", "copies")
    assert done.code == 6
    assert "flux-lora verify out" in done.err
