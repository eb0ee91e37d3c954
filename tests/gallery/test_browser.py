"""The page in a real browser: finding, arranging, picking, comparing, by mouse and by keyboard."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_module
from tests.gallery.make_run import hostile_run

slow = pytest.mark.slow
FITS = "document.documentElement.scrollWidth <= innerWidth"


def shown(page: Any) -> int:
    return int(page.locator(".card:not([hidden])").count())


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds. (Playwright's own way evaluates text in the page, which its policy forbids.)"""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never came true: {expression}")


def card(page: Any, name: str) -> Any:
    return page.locator(f".card .shot[aria-label*='{name}']").first


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def title(page: Any) -> str:
    return str(page.inner_text("#viewer-title"))


def picked(page: Any) -> int:
    return int(page.locator(".pick[aria-pressed=true]").count())


def copied(page: Any, key: str) -> str:
    page.evaluate("window.copied = ''")
    press(page, key)
    until(page, "window.copied")
    return str(page.evaluate("copied"))


def test_the_wall_shows_every_job_and_can_be_narrowed(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    assert (shown(page), page.title()) == (36, "posters")
    assert "33 images · 1 failed · 1 submitted · 1 missing · $0.54" in page.inner_text(".summary")
    assert page.locator(".card img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") == 64
    page.select_option("[data-filter=stack]", label="nasa")
    page.select_option("[data-filter=seed]", label="2")
    assert (shown(page), page.inner_text("#count")) == (3, "3 of 36")
    page.click("#clear")
    page.select_option("[data-filter=State]", label="Failed")
    assert shown(page) == 1
    page.click("#clear")
    page.fill("#search", "SATURN seed:3")
    until(page, "document.querySelectorAll('.card:not([hidden])').length === 4")
    page.fill("#search", "no such thing")
    page.wait_for_selector("text=Nothing matches.")
    assert page.problems == []


def test_picks_are_marked_filtered_exported_and_kept(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    card(page, "dawn, plain, seed 1").focus()
    press(page, "p")
    page.get_by_role("button", name="Pick: ").nth(2).click()
    assert picked(page) == 2
    page.get_by_role("button", name="Show only picks").click()
    assert shown(page) == 2
    page.get_by_role("button", name="Copy picks").click()
    until(page, "window.copied")
    assert page.evaluate("copied") == "dawn/plain/1\ndawn/plain/3\n"
    with page.expect_download() as download:
        page.get_by_role("button", name="Export picks").click()
    assert Path(download.value.path()).read_text() == "dawn/plain/1\ndawn/plain/3\n"
    page.locator(".shot").first.focus()
    press(page, "p")
    assert shown(page) == 1, "a pick taken back leaves the filtered view"
    address = page.url
    assert "dawn%2Fplain%2F3" in address
    assert picked(open_page(posters, fragment="#" + address.split("#")[1])) == 1, "a browser that never saw the page"
    page.goto("about:blank")
    page.goto(address.split("#")[0])
    assert picked(page) == 1, "from local storage"
    plain = address.split("#")[0]
    page.goto("about:blank")
    page.goto(f"{plain}#pick=dawn%2Fplain%2F1&pick=dawn%2Fplain%2F2")
    assert picked(page) == 2
    page.goto("about:blank")
    page.goto(plain)
    assert page.url.count("pick=") == 1, "looking at another's picks stores none of them"
    page.get_by_role("button", name="Clear picks").click()
    page.reload()
    assert picked(page) == 0
    assert {url.split(":")[0] for url in page.requested} <= {"file", "data", "blob", "about"}


@slow
def test_the_address_leads_to_one_image(open_page: Any, posters: Path) -> None:
    page = open_page(posters, fragment="#image=reef%2Fboth%2F2")
    assert title(page) == "reef/both/2"
    assert copied(page, "l").endswith("index.html#image=reef%2Fboth%2F2")
    page.evaluate("location.hash = 'image=dawn%2Fplain%2F1'")
    until(page, "document.querySelector('#viewer-title').textContent === 'dawn/plain/1'")
    press(page, "Escape")
    until(page, "!location.hash.includes('image=')")


@slow
def test_flagged_stays_blurred_until_asked_for(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    flagged, blur = page.locator(".shot.veiled"), "img => getComputedStyle(img).filter"
    assert flagged.count() == 1 and "blur" in flagged.locator("img").evaluate(blur)
    card(page, "dawn, nasa, seed 3").focus()
    press(page, "Enter", "ArrowRight")
    assert "blur" in page.locator(".stage img").evaluate(blur)
    assert page.locator("#viewer a").count() == 0, "no link to the bare file either"
    press(page, "Escape")
    flagged.click()
    assert page.locator(".veiled").count() == 0
    assert page.locator("#viewer[open]").count() == 0, "the first click only shows it"


@slow
def test_grid_has_the_presets_axes_and_keeps_several_images_in_a_cell(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    press(page, "g")
    assert page.locator("#grid thead th").all_inner_texts()[1:] == ["dawn", "rings", "reef"]
    assert page.locator("#grid tbody th").all_inner_texts() == ["plain", "nasa", "tarot", "both"]
    assert page.locator("#grid td").first.locator(".card").count() == 3, "one for each seed: a wall in the cell"
    assert page.locator("#grid .card").count() == 36
    page.select_option("#axis-rows", "seed")
    page.select_option("#axis-columns", "seed")
    assert page.input_value("#axis-rows") == "place", "axes change places"
    page.click("#to-wall")
    assert page.locator("#wall .card").count() == 36


@slow
def test_keyboard_alone_does_everything(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    press(page, "ArrowRight", "ArrowRight", "ArrowDown")
    across = page.evaluate("getComputedStyle(document.querySelector('#wall')).gridTemplateColumns.split(' ').length")
    assert page.evaluate("document.activeElement.closest('.card').dataset.i") == str(1 + across)
    press(page, "Home", "Enter", "ArrowRight")
    assert title(page) == "dawn/plain/2"
    press(page, "Escape")
    until(page, "document.activeElement.closest('.card')?.dataset.i === '1'")  # focus follows what was looked at
    press(page, "/")
    page.keyboard.type("reef")
    press(page, "Enter")
    assert page.inner_text("#count") == "12 of 36"
    press(page, "p", "ArrowRight", "p", "c")
    assert title(page) == "reef/plain/1 and reef/plain/2"
    assert page.locator(".pane img").count() == 2
    assert page.locator(".differences tbody th").all_inner_texts() == ["Seed"], "only what differs"
    press(page, "Escape", "?")
    assert page.locator("#help:popover-open").count() == 1
    page = open_page(posters)
    for number, words in ((10, [str(posters / "dawn-both-2.png")]), (4, [str(posters), "dawn/nasa/2"])):
        page.locator(".shot").nth(number).focus()
        assert shlex.split(copied(page, "r")) == ["flux-lora", "replay", *words]


@slow
def test_hostile_text_is_only_text(open_page: Any, tmp_path: Path) -> None:
    page = open_page(hostile_run(tmp_path / "a <b>&amp; b'"))
    for item in range(8):
        page.locator(".card .shot").nth(item).click()
        assert page.evaluate("document.querySelector('#viewer').scrollWidth <= innerWidth")
        press(page, "Escape")
    press(page, "g")
    for axis in page.locator("#axis-columns option").evaluate_all("all => all.map((x) => x.value)"):
        page.select_option("#axis-columns", axis)
    page.click("#to-wall")
    page.fill("#search", "<script>")
    page.wait_for_selector("#clear:visible")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.scripts.length") == 2
    assert {url.split(":")[0] for url in page.requested} <= {"file", "data"}
    assert page.problems == []
    page.click("#clear")
    loaded = page.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert set(loaded) == {32}


@slow
@pytest.mark.parametrize("fragment", ["#pick=<script>", "#image=__proto__&pick=constructor", "#%E0%A4%A", "#x=1"])
def test_any_address_is_survived(open_page: Any, posters: Path, fragment: str) -> None:
    page = open_page(posters, fragment=fragment)
    assert page.problems == []
    assert page.locator(".card").count() == 36


@pytest.fixture(scope="module")
def axe() -> str:
    """The text of axe-core."""
    module = require_module("axe_playwright_python")
    return (Path(module.__file__).parent / "axe.min.js").read_text("utf-8")


@slow
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    open_page: Any, posters: Path, axe: str, scheme: str, width: int
) -> None:
    page = open_page(posters, width=width, color_scheme=scheme, bypass_csp=True)  # axe needs what the policy forbids
    page.evaluate(axe)
    found: dict[str, list[str]] = {}

    def check(view: str) -> None:
        rules = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        found[view] = [f"{rule['id']}: {node['target']}" for rule in rules for node in rule["nodes"]]
        found[view] += [] if page.evaluate(FITS) else ["wider than the screen"]

    check("wall")
    press(page, "ArrowRight", "p", "ArrowRight", "p")
    check("picks")
    press(page, "g")
    check("grid")
    press(page, "Enter")
    page.locator("summary").click()
    check("viewer")
    press(page, "Escape", "c", "w")
    check("compare")
    press(page, "Escape", "?")
    check("help")
    assert {view: problems for view, problems in found.items() if problems} == {}
