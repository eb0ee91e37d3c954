"""Accessibility by axe-core, and two thousand large images."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from make_run import PLACES, STACKS, job, write
from PIL import Image

from flux_lora_cli.gallery.page import write_page
from flux_lora_cli.gallery.run import read_run
from tests.conftest import require_tool

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core, installed from npm."""
    npm = require_tool("npm")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", "axe-core@4"]
    subprocess.run(command, check=True, timeout=100)
    return (folder / "node_modules/axe-core/axe.min.js").read_text("utf-8")


def _serious(page: Any, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Any, posters: Path, axe: str, scheme: str, width: int) -> None:
    # axe itself needs what the policy forbids.
    page = open_page(posters, width=width, color_scheme=scheme, bypass_csp=True)
    press = page.keyboard.press
    found = {"wall": _serious(page, axe)}
    page.select_option("[data-filter=stack]", label="nasa", force=True)
    found["filtered"] = _serious(page, axe)
    page.click("#clear")
    page.click("#to-grid")
    found["grid"] = _serious(page, axe)
    page.locator("#grid button.shot").first.focus()
    press("Enter")
    page.locator("summary").click()
    found["detail"] = _serious(page, axe)
    press("x")
    press("ArrowRight")
    press("x")
    press("c")
    found["compare"] = _serious(page, axe)
    press("Escape")
    found["tray"] = _serious(page, axe)
    press("?")
    found["help"] = _serious(page, axe)
    assert {view: problems for view, problems in found.items() if problems} == {}


@pytest.fixture(scope="module")
def two_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 jobs with images of a megapixel and three megabytes; few distinct ones, linked under many names."""
    folder = tmp_path_factory.mktemp("runs") / "large"
    folder.mkdir()
    for number in range(4):
        noise = Image.effect_noise((1024, 1024), 40 + number)
        out = io.BytesIO()
        Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180))).save(out, "PNG", compress_level=1)
        (folder / f".base{number}").write_bytes(out.getvalue())
    jobs = []
    for number in range(2_000):
        place, stack, seed = number // 50, list(STACKS)[number % 4], number % 50
        prompt = f"{list(PLACES.values())[place % 3]}, scene {place}, " + "harbour ember copper moss violet " * 6
        entry = job(f"scene{place}/{stack}/{seed}", prompt=prompt, loras=STACKS[stack], seed=seed)
        name = f"scene-{place}-{stack}-{seed}-{number:012x}-0.png"
        os.link(folder / f".base{number % 4}", folder / name)
        entry["outputs"].append(
            {
                "index": 0, "url": "https://cdn.example/x.png", "nsfw": False, "file": name,
                "sha256": hashlib.sha256(name.encode()).hexdigest(), "bytes": 3_000_000,
                "width": 1024, "height": 1024,
                "media_type": "image/png", "saved_at": "2026-11-23T03:14:20.000Z", "error": None,
            }
        )  # fmt: skip
        jobs.append(entry)
    return write(folder, jobs)


def test_two_thousand_images_stay_usable(open_page: Any, two_thousand: Path) -> None:
    index = write_page([read_run(two_thousand)], two_thousand)
    assert index.stat().st_size < 3_000_000
    page = open_page(two_thousand)
    paint = page.evaluate(
        "performance.getEntriesByType('paint').find((e) => e.name === 'first-contentful-paint').startTime"
    )
    page.wait_for_timeout(1_500)
    assert page.locator(".card").count() == 2_000
    loaded = page.evaluate("[...document.images].filter((i) => i.naturalWidth).length")
    # What the page itself takes, layout included; how fast frames follow is the machine's business.
    script = """() => {
      const list = document.querySelector('[data-filter=stack]');
      const start = performance.now();
      list.value = '1'; list.dispatchEvent(new Event('change')); document.body.offsetHeight;
      return performance.now() - start;
    }"""
    filtering = page.evaluate(script)
    assert page.inner_text("#count") == "500 of 2,000"
    size = index.stat().st_size / 1e6
    print(f"page {size:.2f} MB, first paint {paint:.0f} ms, filter {filtering:.0f} ms, {loaded} images loaded")
    assert paint < 2_000
    assert loaded < 200, "images far below are not loaded"
    assert filtering < 1_000
