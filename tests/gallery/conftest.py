"""A real browser for the gallery's page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.gallery.page import build_gallery
from flux_lora_cli.gallery.pictures import read_pictures
from tests.conftest import require_module, require_tool
from tests.gallery.make_run import matrix

#: The page needs none of this; without it Chromium itself tries to reach its maker's hosts.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

#: Keeps what the page copies where a test can read it: a headless browser has no clipboard.
_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (t) => { window.copied = t; }}});"


@pytest.fixture(scope="package")  # no longer: while it lives, an event loop runs, and no command could run its own
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    chromium = require_tool("chromium")
    driver = require_module("playwright.sync_api")
    with driver.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def open_file(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page from its file; its ``requested`` URLs and ``problems`` are collected on it."""
    contexts = []

    def opened(index: Path, *, width: int = 1440, height: int = 900, fragment: str = "", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        if options.get("java_script_enabled", True):
            context.add_init_script(_CLIPBOARD)
        page = context.new_page()
        page.requested, page.problems = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
        page.goto(index.as_uri() + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(open_file: Callable[..., Any]) -> Callable[..., Any]:
    """Build the page of a folder and open it."""
    return lambda folder, **options: open_file(build_gallery([folder], read_pictures(folder), folder), **options)


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 jobs: three places, four stacks, three seeds, with every kind of gap."""
    return matrix(tmp_path_factory.mktemp("runs") / "posters", side=64)
