"""A run as pictures to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from flux_lora_cli.errors import UsageError
from flux_lora_cli.gallery.pictures import read_pictures
from flux_lora_cli.gallery.sheet import font_for, make_sheet, wrap
from tests.gallery.make_run import PLACES, STACKS, add_image, draw, failed, job, matrix, write


def sheet_of(folder: Path, target: Path) -> list[Path]:
    return make_sheet([folder], read_pictures(folder), target)


def listed(folder: Path, count: int = 5, side: int = 64, **flags: Any) -> Path:
    jobs = []
    for number in range(count):
        entry = job(f"j{number}", prompt=f"prompt {number}", seed=1000 + number * 7)
        add_image(folder, entry, draw(number % 7, side, side), f"{number}.png", **flags)
        jobs.append(entry)
    return write(folder, jobs)


def test_a_matrix_becomes_a_grid_with_labels(tmp_path: Path) -> None:
    [grid] = sheet_of(matrix(tmp_path / "grid", side=16, seeds=1), tmp_path / "grid.png")
    [wall] = sheet_of(matrix(tmp_path / "wall", side=16, seeds=2), tmp_path / "wall.png")
    with Image.open(grid) as image:
        assert image.width == 2 * 32 + 190 + len(PLACES) * 314 - 14, "a column for each place, after the labels"
        labels = image.convert("L").crop((32, 150, 210, image.height - 40))
        assert min(labels.tobytes()) < 80, "rows are named"
        assert image.height > len(STACKS) * 300
    with Image.open(wall) as image:
        assert image.width > 2 * 32 + 5 * 300, "two images in a cell: a plain wall"


@pytest.mark.parametrize(("count", "pages"), [(42, 1), (100, 3)])
def test_many_images_take_pages_of_a_readable_size(tmp_path: Path, count: int, pages: int) -> None:
    paths = sheet_of(listed(tmp_path / "run", count, 16), tmp_path / "sheet.jpg")
    assert [path.name for path in paths] == ["sheet.jpg", *(f"sheet-{n}.jpg" for n in range(2, pages + 1))]
    for path in paths:
        with Image.open(path) as image:
            assert image.width <= 2_000 and image.height <= 3_300


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".JPEG", "JPEG"), (".webp", "WEBP")])
def test_a_sheet_is_replaced_and_nothing_else(tmp_path: Path, suffix: str, kind: str) -> None:
    run = listed(tmp_path / "run")
    target = tmp_path / f"deep/sheet{suffix}"
    for _ in range(2):
        assert sheet_of(run, target) == [target]
        with Image.open(target) as image:
            assert image.format == kind
    target.write_bytes((run / "0.png").read_bytes())
    with pytest.raises(UsageError, match="left alone"):
        sheet_of(run, target)


def test_flagged_images_are_blurred(tmp_path: Path) -> None:
    def edges(nsfw: bool) -> int:
        [path] = sheet_of(listed(tmp_path / f"run{nsfw}", 1, 320, nsfw=nsfw), tmp_path / f"{nsfw}.png")
        gray = Image.open(path).convert("L").crop((40, 115, 320, 235))
        return sum(ImageChops.difference(gray, ImageChops.offset(gray, 0, 1)).crop((0, 1, *gray.size)).histogram()[24:])

    assert edges(False) > 100
    assert edges(True) < edges(False) / 20


def test_damaged_images_failures_and_strangers_text_have_their_place(tmp_path: Path) -> None:
    folder = listed(tmp_path / "run", 3)
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    sheet_of(folder, tmp_path / "sheet.png")
    refused = failed("x", "1200: refused", prompt="\x1b[31m\u202e 東京 " * 99)
    sheet_of(write(tmp_path / "failed", [refused]), tmp_path / "f.png")
    with pytest.raises(UsageError, match="no job"):
        sheet_of(write(tmp_path / "empty", []), tmp_path / "x.png")


@pytest.mark.parametrize("text", ["", "two words", "W" * 500, "many " * 200, "東京の夜" * 50])
def test_text_fits_its_box(text: str) -> None:
    font = font_for(text, 17)
    lines = wrap(text, font, 140, 2)
    assert len(lines) <= 2
    assert all(font.getlength(line) <= 141 for line in lines)
    assert (lines == []) == (text == "")
    if len(text) > 100:
        assert lines[-1].endswith("…")
