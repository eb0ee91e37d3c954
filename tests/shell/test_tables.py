"""Tables and the line of facts on narrow screens: nothing wraps, and what matters most is kept."""

from __future__ import annotations

import pytest

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.display import LiveDisplay
from flux_lora_cli.cli.preset_list import _lines
from flux_lora_cli.cli.table import table
from flux_lora_cli.domain.events import Progress

_ROWS = [
    ("JOB", "SEED", "LORAS", "PROMPT"),
    (
        "dawn/the-rings-of-saturn",
        "7",
        "nasa_concept_art-flux-lora:0.9",
        "nasa_concept_art, the rings of Saturn",
    ),
]


@pytest.mark.parametrize("columns", [80, 60])
def test_a_table_fits_the_screen_and_keeps_the_names(columns: int) -> None:
    lines = list(table(_ROWS, columns))
    assert max(map(len, lines)) <= columns
    name, seed, *others = lines[1].split("  ")
    assert name == "dawn/the-rings-of-saturn"
    assert seed.strip() == "7"
    assert "nasa_concep" in others[-1]


def test_off_a_screen_nothing_is_cut() -> None:
    assert _ROWS[1][3] in list(table(_ROWS, 0))[1]


def test_on_a_screen_that_is_too_small_names_are_cut_at_last() -> None:
    assert "dawn/the-ri…" in list(table(_ROWS, 20))[1]


@pytest.mark.parametrize("columns", [0, 200, 80])
def test_descriptions_of_presets_stand_where_there_is_room(columns: int) -> None:
    words = "Space travel posters in the style of NASA's concept art"
    row = {"file": "presets/product-variations.yaml", "name": "product-variations", "jobs": 4}
    lines = list(_lines([{**row, "stacks": ["plain", "nasa", "realism"], "description": words}], columns))
    assert max(map(len, lines)) <= (columns or 200)
    assert len(lines) == (3 if columns == 80 else 2)
    assert words in lines[-1]


@pytest.mark.parametrize("columns", [80, 60])
def test_the_time_left_is_the_last_to_go(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    display = LiveDisplay(Console())
    display._started -= 100
    display._saved.extend([display._started + 90] * 9)
    display(
        Progress(
            jobs=37,
            done=9,
            failed=0,
            in_flight=2,
            saving=25,
            images=9,
            cost_usd="0.555",
            elapsed_seconds=100.0,
            remaining_seconds=15.0,
        )
    )
    line = display._facts().plain
    assert len(line) <= columns
    assert line.startswith("2 in flight · ")
    assert " · 0 failed · 9 images · " in line
    assert line.endswith(" · 15 s left")
