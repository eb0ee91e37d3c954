"""Before and after: pairs, the review folder, the modes of looking."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.errors import FolderError, UsageError
from flux_lora_cli.gallery.page import build_review, count_changes, pair_folders
from tests.gallery.make_run import add_image, draw, job, write
from tests.gallery.test_browser import press, shown, until
from tests.gallery.test_page import Elements


def side(folder: Path, pictures: dict[str, int], prompt: str = "a lighthouse", nsfw: bool = False) -> Path:
    """A folder with a job for each picture: its ID, and the seed of its pixels."""
    jobs = []
    for name, pixels in pictures.items():
        entry = job(name, prompt=f"{prompt} {name}", seed=1)
        add_image(folder, entry, draw(pixels, 96, 64), f"{name.replace('/', '-')} 1.png", nsfw=nsfw)
        jobs.append(entry)
    return write(folder, jobs)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    before = side(tmp_path / "before", {"same": 1, "changed": 2, "gone": 3})
    after = side(tmp_path / "after", {"changed": 22, "same": 1, "new": 4}, prompt="oil painting of a lighthouse")
    return before, after


def review_of(before: Path, after: Path, output: Path) -> Path:
    return build_review(before, after, pair_folders(before, after), output)


def changes(before: Path, after: Path) -> list[tuple[str | None, str]]:
    return [(pair.picture.record.id, pair.change) for pair in pair_folders(before, after)]


def test_pairs_by_job_and_tells_by_the_bytes_what_changed(sides: tuple[Path, Path]) -> None:
    wanted = [("changed", "Changed"), ("same", "Unchanged"), ("new", "Only after"), ("gone", "Only before")]
    assert changes(*sides) == wanted
    (sides[1] / "same 1.png").write_bytes(draw(9, 96, 64))
    assert ("same", "Changed") in changes(*sides), "whatever the manifest says"


@pytest.mark.parametrize("presets", ["pp", "pq"])
def test_the_newest_of_an_edited_job_counts_and_one_id_in_two_presets_pairs_within_each(
    tmp_path: Path, presets: str
) -> None:
    folders = []
    for name in ("a", "b"):
        entries = [job("x", prompt="old", preset=presets[0]), job("x", prompt="new", preset=presets[1])]
        entries[1]["fingerprint"], entries[1]["task"]["id"] = "ab" * 32, "tnew"
        for number, entry in enumerate(entries):
            add_image(tmp_path / name, entry, draw(number, 16, 16), f"{number}.png")
        folders.append(write(tmp_path / name, entries))
    pairs = pair_folders(*folders)
    assert [pair.picture.prompt for pair in pairs] == (["new"] if presets == "pp" else ["old", "new"])
    assert {pair.change for pair in pairs} == {"Unchanged"}


def test_the_review_stands_alone(sides: tuple[Path, Path], tmp_path: Path) -> None:
    review_of(*sides, tmp_path / "review")
    assert count_changes(pair_folders(*sides)) == {"Changed": 1, "Unchanged": 1, "Only after": 1, "Only before": 1}
    shutil.move(tmp_path / "review", tmp_path / "elsewhere")
    for folder in sides:
        shutil.rmtree(folder)
    page = (tmp_path / "elsewhere/index.html").read_text()
    cards = page.split("<script")[0].split('<li class="card"')[1:]
    assert [" hidden" in each.split(">")[0] for each in cards] == [False, True, False, False], "what did not change"
    for image in Elements(page).of("img"):
        assert (tmp_path / "elsewhere" / str(image["src"]).replace("%20", " ")).is_file()
    assert str(tmp_path) not in page


def test_pairs_are_laid_out_by_what_their_preset_varies(sides: tuple[Path, Path], tmp_path: Path) -> None:
    page = review_of(*sides, tmp_path / "review").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [label for label, *_ in data["facets"]] == ["Change", "Job"]
    assert data["axes"] == ["Job", None], "how a pair changed is no axis"


@pytest.mark.parametrize("output", ["before", "before/review", "after", "foreign", "link"])
def test_where_no_review_is_written(sides: tuple[Path, Path], tmp_path: Path, output: str) -> None:
    (tmp_path / "foreign/before").mkdir(parents=True)
    (tmp_path / "link").symlink_to(sides[0])
    with pytest.raises(UsageError):
        review_of(*sides, tmp_path / output)
    assert not list((tmp_path / "foreign/before").iterdir())


def test_a_link_in_the_review_folder_is_not_written_through(sides: tuple[Path, Path], tmp_path: Path) -> None:
    review_of(*sides, tmp_path / "review")
    shutil.rmtree(tmp_path / "review/after")
    (tmp_path / "outside").mkdir()
    (tmp_path / "review/after").symlink_to(tmp_path / "outside")
    with pytest.raises(FolderError, match="leads out"):
        review_of(*sides, tmp_path / "review")
    assert not list((tmp_path / "outside").iterdir())


# ---- in the browser ----


@pytest.fixture
def review(sides: tuple[Path, Path], tmp_path: Path, open_file: Any) -> Any:
    return open_file(review_of(*sides, tmp_path / "review"))


def test_what_changed_is_shown_side_by_side_swiped_and_blinking_by_keys(review: Any) -> None:
    assert shown(review) == 3
    assert "1 unchanged" in review.inner_text(".summary")
    review.get_by_role("button", name="Show 1 unchanged").click()
    assert shown(review) == 4
    press(review, "u")
    assert shown(review) == 3
    press(review, "ArrowRight", "Enter")
    assert review.locator(".pane:visible").count() == 2
    for key, name in (("s", "Side by side"), ("w", "Swipe"), ("b", "Blink")):
        control = review.get_by_role("button", name=name)
        assert control.get_attribute("aria-keyshortcuts") == key
        press(review, key)
        assert control.get_attribute("aria-pressed") == "true"
    assert review.locator(".differences tbody th").all_inner_texts() == ["Prompt"]
    press(review, "ArrowRight")
    assert review.locator("#viewer-title").inner_text() == "new"
    assert review.locator(".pane .gap").inner_text().strip() == "Not here"
    assert review.problems == []


@pytest.mark.slow
def test_every_control_of_the_keyboard_names_its_key(review: Any) -> None:
    press(review, "ArrowRight", "Enter")
    keys = review.evaluate("[...document.querySelectorAll('[aria-keyshortcuts]')].map((x) => x.ariaKeyShortcuts)")
    assert {"g", "?", "/", "u", "p", "s", "w", "b", "r", "y", "t", "l", "ArrowLeft", "Escape"} <= set(keys)


@pytest.mark.slow
def test_blinking_shows_one_then_the_other_and_stops(review: Any) -> None:
    after = "getComputedStyle(document.querySelectorAll('.pane')[1]).visibility"
    press(review, "ArrowRight", "Enter", "b")
    until(review, f"{after} === 'hidden'")
    until(review, f"{after} === 'visible'")
    press(review, "b")
    before = review.evaluate(after)
    for _ in range(18):
        review.wait_for_timeout(50)
        assert review.evaluate(after) == before, "the second press holds it"
    press(review, "b")
    until(review, f"{after} !== '{before}'")


@pytest.mark.slow
def test_a_pair_is_blurred_when_either_side_is_flagged(tmp_path: Path, open_file: Any) -> None:
    before, after = side(tmp_path / "before", {"x": 1}, nsfw=True), side(tmp_path / "after", {"x": 2})
    page = open_file(review_of(before, after, tmp_path / "review"))
    assert page.locator(".shot.veiled").count() == 1
    press(page, "ArrowRight")
    page.evaluate("location.hash = 'image=x'")
    page.wait_for_selector(".stage.veiled")
    page.get_by_role("button", name="Show").last.click()
    assert page.locator(".veiled").count() == 0
