"""A manifest from elsewhere: types defended, paths checked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_run import add_image, draw, job, write

from flux_lora_cli.errors import FolderError, NotFoundError
from flux_lora_cli.gallery.page import build_page
from flux_lora_cli.gallery.run import read_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside.png").write_bytes(draw(1, 8, 8))
    run = tmp_path / "run"
    run.mkdir()
    (run / "fine.png").write_bytes(draw(1, 8, 8))
    (run / "page.html").write_text("<script>")
    (run / "folder.png").mkdir()
    (run / "link-out.png").symlink_to(tmp_path / "outside.png")
    (run / "link-in.png").symlink_to(run / "fine.png")
    (run / "disguised.png").symlink_to(run / "page.html")
    (run / "loop.png").symlink_to(run / "loop.png")
    return run


SHOWN = ["fine.png", "./fine.png", "link-in.png"]
REFUSED: list[Any] = [
    *("../outside.png", "/etc/passwd", "a/../../outside.png", "..\\outside.png", "C:fine.png", "fine.png\0.txt"),
    *("link-out.png", "loop.png", "disguised.png", "page.html", "manifest.json", "folder.png", "absent.png"),
    *("https://evil.example/x.png", "data:image/png;base64,AA", "x" * 5000 + ".png", "", None, 7, ["fine.png"]),
]


@pytest.mark.parametrize(("name", "taken"), [*((name, True) for name in SHOWN), *((name, False) for name in REFUSED)])
def test_only_images_inside_the_folder_are_shown(folder: Path, name: Any, taken: bool) -> None:
    entry = job("one")
    add_image(folder, entry, draw(1, 8, 8), "fine.png")
    entry["outputs"][0]["file"] = name
    write(folder, [entry])
    [(_, picture)] = read_run(folder).pictures()
    assert (picture.file is not None) == taken
    assert bool(picture.why) != taken
    data = build_page([read_run(folder)], folder).split('id="data">')[1].split("</script>")[0]
    assert (json.loads(data)["items"][0][2] is not None) == taken


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["id", "aliases", "preset", "fingerprint", "state", "request", "task", "outputs", "cost_usd", "error"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4),
    inner=st.dictionaries(st.sampled_from(["prompt", "loras", "seed", "size"]), JSON, max_size=3),
    output=JSON,
)
def test_any_types_make_a_page(tmp_path: Path, changes: dict[str, Any], inner: dict[str, Any], output: Any) -> None:
    entry = job("a/b/c")
    entry["request"]["input"].update(inner)
    entry["outputs"] = [output, {"index": output, "file": output, "nsfw": output, "width": output, "sha256": output}]
    entry.update(changes)
    write(tmp_path, [entry, job("a/d/e"), output], service=output, updated_at=output)
    page = build_page([read_run(tmp_path)], tmp_path)
    json.loads(page.split('id="data">')[1].split("</script>")[0])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"version": 2, "jobs": []}', '{"jobs": []}', "[" * 100_000, '{"version": true}', "\xff"],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(FolderError, match=r"manifest\.json"):
        read_run(tmp_path)


def test_missing_things_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(FolderError, match="holds no manifest"):
        read_run(tmp_path)


def test_jobs_of_other_tools_have_no_request(tmp_path: Path) -> None:
    entry = {
        "id": None,
        "state": "completed",
        "request": None,
        "task": {"id": "abc", "model": "m/x"},
        "outputs": [],
        "cost_usd": None,
    }
    [found] = read_run(write(tmp_path, [entry])).jobs
    assert (found.id, found.model, found.input, found.cost) == ("abc", "m/x", {}, None)
