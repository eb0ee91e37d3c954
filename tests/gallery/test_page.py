"""The page as a file: what may run, what it links, what stands in it without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.errors import FolderError, UsageError
from flux_lora_cli.gallery.embed import embed_images
from flux_lora_cli.gallery.page import build_gallery
from flux_lora_cli.gallery.pictures import choose_axes, facets_of, read_pictures
from flux_lora_cli.gallery.sheet import make_sheet
from flux_lora_cli.presets.load import load_presets
from tests.gallery.make_run import HOSTILE, add_image, draw, hostile_run, job, matrix, one_image, write


def page_of(folder: Path, *more: Path, output: Path | None = None) -> str:
    return build_gallery([folder, *more], read_pictures(folder, *more), output or folder).read_text(encoding="utf-8")


def data_of(page: str) -> Any:
    return json.loads(page.split('id="data">')[1].split("</script>")[0])


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_policy_allows_the_pages_own_script_and_style_alone(tmp_path: Path) -> None:
    page = page_of(matrix(tmp_path, side=8))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy[1]
    assert "http" not in policy[1]
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert len(inside) == 1
        assert rules[rule] == "'sha256-" + base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode() + "'"
    assert page.index("Content-Security-Policy") < page.index("<title>")
    elements = Elements(page)
    assert not [(tag, a) for tag, a in elements.found if any(name.startswith("on") or name == "style" for name in a)]


def test_the_page_is_self_contained_and_shows_images_and_captions_without_the_script(tmp_path: Path) -> None:
    folder = matrix(tmp_path / "deep" / "posters", side=8)
    page = page_of(folder)
    head, tail = page.split('id="data">')
    own = head + tail.split("</script>", 1)[1]
    assert set(re.findall(r"https?://[^\s'\"]+", own)) == {"http://www.w3.org/2000/svg"}
    assert "cdn.example" not in page, "where an image came from is not told"
    assert str(tmp_path) not in page
    elements = Elements(page.split("<script")[0])
    images = elements.of("img")
    assert len(images) == 33
    assert all((folder / str(image["src"])).is_file() and image["alt"] for image in images)
    text = " ".join(elements.text)
    for words in ("a lunar base at dawn", "refused by the service's", "the service deleted it", "Submitted"):
        assert words in text


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / "a <b>&amp; b'")
    page = page_of(folder)
    elements = Elements(page)
    assert len(elements.of("script")) == 2
    assert not elements.of("svg")
    assert {str(image["src"]) for image in elements.of("img")} == {
        f"it%27s%20{n}%20%231%2541%20%26quot%3B%20%E6%9D%B1%E4%BA%AC%20%D7%A9%D7%9C%D7%95%D7%9D.png" for n in range(7)
    }
    raw = page.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(raw)
    data = data_of(page)
    assert data["items"][0]["sides"][0]["prompt"] == HOSTILE["script"], "shown as it is"
    assert not re.search("[\u202e\u2066\x00\x1b]", page), "what reorders or steers is escaped"


@pytest.mark.parametrize("name", ["../out.png", "/etc/x.png", "https://evil.example/x.png", "x.txt", "link.png"])
def test_a_file_that_is_no_image_of_the_folder_is_never_linked(tmp_path: Path, name: str) -> None:
    entry = job("x")
    add_image(tmp_path / "run", entry, draw(1, 8, 8), "fine.png")
    entry["outputs"][0]["file"] = name
    (tmp_path / "out.png").write_bytes(draw(1, 8, 8))
    (tmp_path / "run/x.txt").write_text("no image")
    (tmp_path / "run/link.png").symlink_to(tmp_path / "out.png")
    folder = write(tmp_path / "run", [entry])
    with suppress(FolderError):  # the reader refuses such a manifest whole
        assert not Elements(page_of(folder)).of("img")


@pytest.mark.parametrize("name", ["x.gif", "x.bin", "X.PNG"])
def test_an_image_of_any_format_that_is_saved_is_shown(tmp_path: Path, name: str) -> None:
    entry = job("x")
    add_image(tmp_path / "run", entry, draw(1, 8, 8, "GIF"), name)
    folder = write(tmp_path / "run", [entry])
    assert [image["src"] for image in Elements(page_of(folder)).of("img")] == [name]
    make_sheet([folder], read_pictures(folder), tmp_path / "sheet.png")
    [copy] = embed_images(folder, tmp_path / "out")
    assert "only PNG" in copy.problem


def test_the_preset_that_is_copied_gives_back_the_request(tmp_path: Path) -> None:
    prompt = "a {b|c} ${d} __e__ \\\\{f} <lora:o/n:1> <lora: g\n# h: 'i'\n\t- k\u2028\x85" + HOSTILE["quotes"]
    entry = job("one", prompt=prompt, loras=[{"path": "o/n", "scale": 0.5}])
    (item,) = data_of(page_of(write(tmp_path / "run", [entry])))["items"]
    (tmp_path / "again.yaml").write_text(item["yaml"], "utf-8")
    (again,) = load_presets(tmp_path / "again.yaml").jobs
    assert {**again.params, "seed": again.seed} == entry["request"]["input"]


def test_replaced_jobs_are_marked_and_can_be_filtered(tmp_path: Path) -> None:
    old, new, other = job("dawn", prompt="old"), job("dawn", prompt="new", fingerprint="ab" * 32), job("noon")
    new["task"]["id"] = "tnew"
    for number, entry in enumerate((old, new, other)):
        add_image(tmp_path, entry, draw(number, 8, 8), f"{number}.png")
    folder = write(tmp_path, [old, other, new])
    assert [p.replaced for p in read_pictures(folder)] == [True, False, False]
    page = page_of(folder)
    assert page.count('<span class="badge">replaced</span>') == 1
    [(values, codes)] = [each for label, *each in data_of(page)["facets"] if label == "State"]
    assert [values[code] for code in codes] == ["Replaced", "Saved", "Saved"]


def test_a_jobs_details_tell_its_history(tmp_path: Path) -> None:
    history = [{"task_id": "tfirst", "error": "1200: out of memory", "cost_usd": "0.015", "refunded_usd": "0.015"}]
    folder = one_image(tmp_path, job("dawn", history=history, cost_usd="0.015"))
    [item] = data_of(page_of(folder))["items"]
    facts = dict(item["sides"][0]["facts"])
    assert facts["Earlier task"] == "tfirst · $0.015, $0.015 refunded · 1200: out of memory"
    assert facts["Cost"] == "$0.015"


def test_several_folders_on_one_page_are_linked_relatively(tmp_path: Path) -> None:
    for name in ("one", "two #2"):
        one_image(tmp_path / name, job(name), "a b%.png")
    page = page_of(tmp_path / "one", tmp_path / "two #2", output=tmp_path / "one")
    sources = [image["src"] for image in Elements(page).of("img")]
    assert sources == ["a%20b%25.png", "../two%20%232/a%20b%25.png"]


def test_only_its_own_page_is_replaced(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", [job("x")])
    for _ in range(2):
        assert page_of(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["index.html", "manifest.json"]
    path = folder / "index.html"
    for make in (path.touch, lambda: path.symlink_to(tmp_path / "target"), path.mkdir):
        path.unlink()
        make()
        with pytest.raises(UsageError, match="left alone"):
            page_of(folder)


# ---- facets and axes ----------------------------------------------------------------------


def test_axes_have_the_names_that_the_preset_gave_them(tmp_path: Path) -> None:
    folder = matrix(tmp_path, side=8)
    found = facets_of(read_pictures(folder))
    assert {label: facet.values for label, facet in found.items()} == {
        "place": ["dawn", "rings", "reef"],
        "stack": ["plain", "nasa", "tarot", "both"],
        "seed": ["1", "2", "3"],
    }, "prompt, LoRAs and seed say the same again, and are left out"
    assert choose_axes(found) == ("place", "stack")
