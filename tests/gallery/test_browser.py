"""The page in a real browser: looking, filtering, comparing, by mouse and by keyboard."""

from __future__ import annotations

import json
import shlex
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from make_run import add_image, draw, failed, job, write

from flux_lora_cli.gallery.job_yaml import job_as_yaml
from flux_lora_cli.gallery.page import write_page
from flux_lora_cli.gallery.run import read_run

HOSTILE = {
    "script": "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>",
    "quotes": """"'`><svg onload="window.pwned = 3">${window.pwned = 4} {{constructor}} @@data@@ <!-- <script>""",
    "right-to-left": "\u202eevil\u202c שלום עולם \u2066hidden\u2069 مرحبا",
    "long": "lorem ipsum " * 834,
    "no-break": "W" * 10_000,
    "separators": "one\u2028two\u2029three\x00four\x1b[31m\ud800",
}


def shown(page: Any) -> int:
    return int(page.locator("#wall .card").count())


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds. (Playwright's own way evaluates text in the page, which its policy forbids.)"""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never came true: {expression}")


def ids(page: Any) -> str:
    return str(page.inner_text("#detail-title"))


def test_wall_shows_every_job(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    assert shown(page) == 36
    assert page.title() == "posters"
    assert "33 images · 1 failed · 1 not made yet · $0.54" in page.inner_text("#facts")
    assert page.locator(".none", has_text="refused by the service's moderation").count() == 1
    assert page.locator(".none", has_text="the service deleted it").count() == 1
    assert page.locator(".card img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") == 64
    assert page.locator(".card img:not([loading=lazy])").count() == 0
    assert page.problems == []


def test_filters_narrow_and_clear(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.select_option("[data-filter=stack]", label="nasa")
    assert shown(page) == 9
    page.select_option("[data-filter=seed]", label="2")
    assert shown(page) == 3
    assert page.inner_text("#count") == "3 of 36"
    page.click("#clear")
    assert shown(page) == 36
    page.select_option("[data-filter=state]", label="failed")
    assert shown(page) == 1
    page.click("#clear")
    page.fill("#search", "SATURN seed:3")
    until(page, "document.querySelectorAll('#wall .card').length === 4")
    page.fill("#search", "no such thing")
    page.wait_for_selector("text=Nothing matches.")


def test_sort_and_address_remember(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.select_option("#sort", "prompt")
    assert "a glass city" in page.locator(".card .prompt").first.inner_text()
    page.select_option("[data-filter=stack]", label="tarot")
    again = open_page(posters, fragment="#" + page.url.split("#")[1])
    assert again.inner_text("#count") == "9 of 36"
    assert again.input_value("#sort") == "prompt"


def test_flagged_stays_blurred_until_clicked(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    flagged = page.locator(".shot.veiled")
    assert flagged.count() == 1
    assert "blur" in flagged.locator("img").evaluate("img => getComputedStyle(img).filter")
    flagged.click()
    assert page.locator(".veiled").count() == 0
    assert page.locator("#detail[open]").count() == 0, "the first click only shows it"
    until(page, """getComputedStyle(document.querySelector('.shot[data-item="6"] img')).filter === 'none'""")
    page.keyboard.press("Enter")
    assert page.locator("#detail[open]").count() == 1


def test_flagged_is_blurred_in_detail_compare_and_tray(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.locator('.shot[data-item="5"]').focus()
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    assert "blur" in page.locator("#detail .stage img").evaluate("img => getComputedStyle(img).filter")
    assert page.locator("#detail a").count() == 0, "no link to the bare file either"
    page.keyboard.press("x")
    page.keyboard.press("c")
    assert page.locator("#compare .stage.veiled").count() == 1
    page.locator("#compare .stage.veiled button").click()
    assert page.locator(".veiled").count() == 0


def test_grid_finds_the_axes_and_says_why_cells_are_empty(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.keyboard.press("g")
    heads = page.locator("#grid thead th").all_inner_texts()
    assert heads[1:] == ["plain", "nasa", "tarot", "both"]
    rows = page.locator("#grid tbody th").all_inner_texts()
    assert [text.split("\n")[0] for text in rows] == ["dawn", "rings", "reef"]
    sizes = page.locator("#grid td .shot").evaluate_all("all => all.map(x => `${x.offsetWidth}x${x.offsetHeight}`)")
    assert len(sizes) == 12
    assert len(set(sizes)) == 1
    assert page.locator("#grid thead th").first.evaluate("th => getComputedStyle(th).position") == "sticky"
    page.keyboard.press("]")
    assert page.locator("#grid .none", has_text="refused by the service's moderation").count() == 1
    page.keyboard.press("]")
    assert page.locator("#grid .none", has_text="Being made").count() == 1


def test_grid_axes_can_be_chosen(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.click("#to-grid")
    page.select_option("#axis-rows", "seed")
    assert page.input_value("#axis-pages") == "job", "axes change places"
    assert page.locator("#grid tbody th").all_inner_texts() == ["1", "2", "3"]
    page.select_option("#axis-pages", "")
    assert page.locator("#grid .also").first.inner_text() == "1 of 3"


def test_headers_stay_while_the_grid_scrolls(open_page: Any, posters: Path) -> None:
    page = open_page(posters, width=500, height=500)
    page.click("#to-grid")
    before = page.locator("#grid thead th").nth(1).bounding_box()["y"]
    page.locator(".scroll").evaluate("box => box.scrollTo(200, 150)")
    assert page.locator("#grid thead th").nth(1).bounding_box()["y"] == before
    corner = page.locator("#grid thead th").first.bounding_box()["x"]
    assert page.locator("#grid tbody th").first.bounding_box()["x"] == corner


def test_keyboard_alone_does_everything(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    press = page.keyboard.press
    press("ArrowRight")
    press("ArrowRight")
    press("ArrowDown")
    across = page.evaluate("getComputedStyle(document.querySelector('#wall')).gridTemplateColumns.split(' ').length")
    assert page.evaluate("document.activeElement.dataset.item") == str(1 + across)
    press("Home")
    press("Enter")
    assert ids(page) == "dawn/plain/1"
    press("ArrowRight")
    assert ids(page) == "dawn/plain/2"
    press("Escape")
    until(page, "document.activeElement.dataset.item === '1'")  # focus follows what was looked at
    press("/")
    page.keyboard.type("reef")
    press("Enter")
    assert page.inner_text("#count") == "12 of 36"
    press("x")
    press("ArrowRight")
    press("x")
    press("c")
    assert page.locator("#compare[open] figure").count() == 2
    press("Escape")
    press("?")
    assert page.locator("#help[open]").count() == 1
    press("Escape")
    press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_tab_stays_in_the_dialog(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.locator(".shot").first.click()
    for _ in range(25):
        page.keyboard.press("Tab")
        inside = page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('#detail')"
        )
        assert inside
    page.keyboard.press("Escape")
    until(page, "document.activeElement.dataset.item === '0'")


def test_compare_shows_only_what_differs(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    for item in (0, 3, 5, 7):
        page.locator(f'[data-pick="{item}"]').first.hover()
        page.locator(f'[data-pick="{item}"] input').check()
    page.locator('[data-pick="9"]').hover()
    page.locator('[data-pick="9"] input').click()
    assert page.locator(".tray-shots button").count() == 4, "four at most"
    page.click("#tray-compare")
    names = page.locator("#compare figure").first.locator("dt").all_inner_texts()
    assert names == ["LoRAs", "Seed", "Job"]
    assert page.locator("#compare figure").nth(1).locator("dd").first.inner_text() == "nasa_concept_art-flux-lora 0.9"


def test_detail_copies_what_python_would_write(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.locator('.shot[data-item="10"]').click()
    page.click("[data-copy='job as YAML']")
    run = read_run(posters)
    chosen = run.jobs[10]
    assert page.evaluate("copied") == job_as_yaml(chosen.id, chosen.model, chosen.input)
    page.click("[data-copy='replay command']")
    assert shlex.split(page.evaluate("copied")) == ["flux-lora", "replay", str(posters / "dawn-both-2.png")]
    page.click("text=Full request")
    assert json.loads(page.inner_text("#detail pre")) == {"model": chosen.model, "input": dict(chosen.input)}
    for text in (chosen.fingerprint, chosen.pictures[0].sha256, "2.4 s", "$0.015"):
        assert text in page.inner_text("#detail .panel")


def test_a_job_without_a_file_is_replayed_by_its_id(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.locator('.shot[data-item="4"]').focus()
    page.keyboard.press("r")
    until(page, "window.copied")
    assert shlex.split(page.evaluate("copied")) == ["flux-lora", "replay", str(posters), "dawn/nasa/2"]


def hostile_run(folder: Path) -> Path:
    jobs = []
    for number, (name, text) in enumerate(HOSTILE.items()):
        entry = job(
            f"{name}/{text[:80]}", prompt=text, preset=text[:200], seed=number, aliases=[text[:50]],
            loras=[{"path": text[:100], "scale": 1e-7}], size=text[:40], model=text[:60], other=text[:9], skip=True,
        )  # fmt: skip
        add_image(folder, entry, draw(number, 32, 32), f"it's {number} #1?%41 &quot;<b>.png")
        jobs.append(entry)
    jobs.append(failed("bad", HOSTILE["script"], prompt=HOSTILE["quotes"]))
    outside = job("outside", prompt="x")
    add_image(folder, outside, draw(9, 32, 32), "fine.png")
    outside["outputs"][0]["file"] = "https://evil.example/x.png"
    jobs.append(outside)
    return write(folder, jobs, service=HOSTILE["script"], updated_at=HOSTILE["quotes"])


def test_hostile_text_is_only_text(open_page: Any, tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / "a <b>&amp; b'")
    page = open_page(folder)
    for item in range(8):
        page.locator(f'.shot[data-item="{item}"]').click()
        assert page.evaluate("document.querySelector('#detail').scrollWidth <= innerWidth")
        page.keyboard.press("y")
        until(page, "window.copied")
        chosen = read_run(folder).jobs[item]
        assert page.evaluate("copied") == job_as_yaml(chosen.id, chosen.model, chosen.input)
        page.evaluate("window.copied = ''")
        page.keyboard.press("Escape")
    page.keyboard.press("g")
    for axis in page.locator("#axis-columns option").evaluate_all("all => all.map((x) => x.value)"):
        page.select_option("#axis-columns", axis)
    page.click("#to-wall")
    page.fill("#search", "<script>")
    page.wait_for_selector("#clear:visible")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.scripts.length") == 2
    assert {url.split(":")[0] for url in page.requested} <= {"file", "data"}
    assert not [text for text in page.problems if "ERR_FILE" not in text]
    loaded = page.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert set(loaded) == {32}


def test_policy_stops_scripts_styles_and_requests(open_page: Any, posters: Path) -> None:
    page = open_page(posters)
    page.evaluate(
        """async () => {
          window.stopped = new Set();
          addEventListener('securitypolicyviolation', (e) => stopped.add(e.effectiveDirective));
          const add = (tag, values) => {
            const element = Object.assign(document.createElement(tag), values);
            document.body.append(element);
            return element;
          };
          const attempts = [
            () => { document.body.innerHTML += '<b>x</b>'; },
            () => add('script', { textContent: 'window.pwned = 1' }),
            () => { document.body.setAttribute('onclick', 'window.pwned = 1'); document.body.click(); },
            () => { const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; },
            () => add('style', { textContent: 'body{display:none}' }),
            () => fetch('http://127.0.0.1:9/').catch(() => {}),
            () => add('form', { action: 'http://127.0.0.1:9/' }).submit(),
          ];
          for (const attempt of attempts) { try { await attempt(); } catch {} }
        }"""
    )
    for directive in ("connect-src", "img-src", "form-action", "require-trusted-types-for", "style-src-elem"):
        until(page, f"stopped.has('{directive}')")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("getComputedStyle(document.body).display") != "none"
    assert all(url.startswith(("file:", "data:")) for url in page.requested if "127.0.0.1:9" not in url)


def test_served_over_http_it_asks_only_its_own_host(browser: Any, posters: Path) -> None:
    write_page([read_run(posters)], posters)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(posters))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.server_port}/"
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(origin + "index.html")
        until(page, "[...document.images].some((i) => i.naturalWidth === 64)")
        assert all(url.startswith((origin, "data:")) for url in asked)
        page.locator('.shot[data-item="0"]').focus()
        page.locator('.shot[data-item="0"]').click()
        page.close()
        server.shutdown()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(open_page: Any, posters: Path, width: int, scheme: str) -> None:
    page = open_page(posters, width=width, color_scheme=scheme)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    page.keyboard.press("g")
    assert page.evaluate(fits)
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('#detail').scrollWidth <= innerWidth")
    frame, panel = (page.locator(f"#detail {part}").bounding_box() for part in (".stage", ".panel"))
    assert panel["y"] >= frame["y"] + frame["height"] - 1 or panel["x"] >= frame["x"] + frame["width"] - 1
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(18, 18, 18)") == (scheme == "dark")


def test_an_empty_run_says_so(open_page: Any, tmp_path: Path) -> None:
    page = open_page(write(tmp_path / "empty", []))
    assert page.inner_text("#empty") == "No images yet."
    assert page.problems == []


def test_the_grid_is_arranged_anew_for_what_a_filter_leaves(open_page: Any, tmp_path: Path) -> None:
    jobs = []
    for scale in (0.5, 1.0, 1.5):
        for seed in (1, 2):
            loras = [{"path": "a/style", "scale": scale}]
            jobs.append(failed(f"m{scale}-{seed}", "x", preset="matrix", prompt="p", loras=loras, seed=seed))
    jobs += [failed(f"other{n}", "x", preset="list", prompt=f"other {n}", seed=1000 + n * 13) for n in range(9)]
    page = open_page(write(tmp_path / "run", jobs))
    page.select_option("[data-filter=preset]", label="matrix")
    page.click("#to-grid")
    assert page.input_value("#axis-columns") == "stack"
    assert page.input_value("#axis-rows") == "seed"
    assert page.locator("#grid td").count() == 6
