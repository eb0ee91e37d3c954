"""The page as a file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from make_run import add_image, draw, job, matrix, write

from flux_lora_cli.errors import ExitCode, UsageError
from flux_lora_cli.gallery.page import build_page, safe_json, write_page
from flux_lora_cli.gallery.run import read_run


def data_of(page: str) -> Any:
    return json.loads(page.split('id="data">')[1].split("</script>")[0])


def test_policy_allows_nothing_but_the_pages_own_script_and_style(tmp_path: Path) -> None:
    page = build_page([read_run(matrix(tmp_path, side=8))], tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy[1]
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert len(inside) == 1
        assert rules[rule] == "'sha256-" + base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode() + "'"
    head = page.split("<style>")[0]
    assert head.index("Content-Security-Policy") < head.index("<title>")


def test_nothing_in_the_page_points_outside(tmp_path: Path) -> None:
    page = build_page([read_run(matrix(tmp_path, side=8))], tmp_path)
    own = page.split('id="data">')[0] + page.split('id="data">')[1].split("</script>", 1)[1]
    assert set(re.findall(r"https?://[^\s'\"]+", own)) == {"http://www.w3.org/2000/svg"}
    assert "cdn.example" not in page
    assert "signature=secret" not in page
    assert not re.search(r"\son\w+\s*=\s*[\"']", own.split("<script")[0])
    assert str(tmp_path) not in page, "no path of the machine that made it"


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "\u2028", "&lt;", "\ud800", '"\\', "@@data@@", "]]>"])
def test_data_cannot_leave_its_element(text: str) -> None:
    written = safe_json({"x": text})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written)["x"] == text.encode("utf-8", "replace").decode()


def test_several_folders_are_linked_relatively(tmp_path: Path) -> None:
    for name in ("one", "two #2"):
        entry = job(name)
        add_image(tmp_path / name, entry, draw(1, 8, 8), "a b%.png")
        write(tmp_path / name, [entry])
    runs = [read_run(tmp_path / "one"), read_run(tmp_path / "two #2")]
    data = data_of(build_page(runs, tmp_path / "one"))
    assert [run["base"] for run in data["runs"]] == ["", "../two%20%232/"]
    assert data["items"][0][2] == "a%20b%25.png"
    assert data["facets"][0]["key"] == "folder"


def test_only_its_own_page_is_replaced(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "run", [job("x")]))
    assert write_page([run], run.folder) == run.folder / "index.html"
    write_page([run], run.folder)
    assert sorted(p.name for p in run.folder.iterdir()) == ["index.html", "manifest.json"]
    (run.folder / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(UsageError, match="left alone"):
        write_page([run], run.folder)
    (run.folder / "index.html").unlink()
    (tmp_path / "target").write_text("mine")
    (run.folder / "index.html").symlink_to(tmp_path / "target")
    with pytest.raises(UsageError, match="left alone"):
        write_page([run], run.folder)
    assert (tmp_path / "target").read_text() == "mine"
    write_page([run], tmp_path / "elsewhere")
    (run.folder / "index.html").unlink()
    (run.folder / "index.html").symlink_to(tmp_path / "elsewhere/index.html")
    with pytest.raises(UsageError, match="left alone"):
        write_page([run], run.folder)


def test_two_thousand_jobs_stay_under_three_megabytes(tmp_path: Path) -> None:
    prompt = "a lunar base at dawn, long shadows, travel poster " * 8
    jobs = []
    for number in range(2_000):
        entry = job(f"scene{number % 50}/nasa/{number}", prompt=f"{prompt}{number % 1000}", seed=number)
        output = {
            "index": 0,
            "file": f"scene{number % 50}-nasa-{number:012x}-0.png",
            "sha256": "ab" * 32,
            "bytes": 1_500_000,
        }
        entry["outputs"] = [
            {**output, "nsfw": False, "width": 1024, "height": 1024, "saved_at": "2026-11-23T03:14:20.000Z"}
        ]
        (tmp_path / output["file"]).touch()
        jobs.append(entry)
    assert len(build_page([read_run(write(tmp_path, jobs))], tmp_path).encode()) < 3_000_000


def test_command(cli: Any, tmp_path: Path) -> None:
    matrix(tmp_path / "run", side=8)
    done = cli("gallery", "run")
    assert (done.code, done.lines) == (0, ["run/index.html"])
    assert "33 images, 3 without an image" in done.err
    done = cli("gallery", "run", "--json", "-o", "elsewhere")
    assert done.events[0]["data"]["file"] == "elsewhere/index.html"
    assert "../run/" in (tmp_path / "elsewhere/index.html").read_text()
    assert cli("gallery", "nowhere").code == ExitCode.NOT_FOUND
    assert cli("gallery", ".").code == ExitCode.FOLDER
    assert cli("gallery").code == ExitCode.USAGE
    assert cli("gallery", "run", "--sheet", "x.gif").code == ExitCode.USAGE
