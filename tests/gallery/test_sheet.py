"""A run as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from make_run import PLACES, add_image, draw, failed, job, matrix, write
from PIL import Image, ImageChops

from flux_lora_cli.errors import UsageError
from flux_lora_cli.gallery.layout import lay_out
from flux_lora_cli.gallery.lettering import font_for, wrap
from flux_lora_cli.gallery.run import Run, read_run
from flux_lora_cli.gallery.sheet import draw_sheet, write_sheet


def listed(folder: Path, count: int = 5, side: int = 64, **flags: Any) -> Run:
    jobs = []
    for number in range(count):
        entry = job(f"j{number}", prompt=f"prompt {number}", seed=1000 + number * 7)
        add_image(folder, entry, draw(number, side, side), f"{number}.png", **flags)
        jobs.append(entry)
    return read_run(write(folder, jobs))


def test_a_matrix_becomes_a_labelled_grid(tmp_path: Path) -> None:
    layout = lay_out([read_run(matrix(tmp_path, side=16))])
    assert layout.is_grid
    assert [section.title for section in layout.sections] == ["Seed: 1", "Seed: 2", "Seed: 3"]
    assert layout.sections[0].columns == ("plain", "nasa", "tarot", "both")
    assert [heading for heading, _ in layout.sections[0].rows] == list(PLACES)
    reasons = [cell.why for section in layout.sections for _, row in section.rows for cell in row if cell and cell.why]
    assert len(reasons) == 3
    assert any("moderation" in why for why in reasons)


def test_what_is_no_matrix_becomes_a_contact_sheet(tmp_path: Path) -> None:
    layout = lay_out([listed(tmp_path)])
    assert not layout.is_grid
    cells = [cell for _, row in layout.sections[0].rows for cell in row]
    assert [cell.caption for cell in cells if cell] == [f"prompt {n}" for n in range(5)]
    assert cells[1] is not None
    assert cells[1].detail == "seed 1007"


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP")])
def test_kinds_and_replacing(tmp_path: Path, suffix: str, kind: str) -> None:
    run = listed(tmp_path / "run")
    target = tmp_path / f"sheet{suffix}"
    for _ in range(2):
        assert write_sheet([run], target) == target
        with Image.open(target) as image:
            assert image.format == kind
            assert image.width > 480
    target.write_bytes((tmp_path / "run/0.png").read_bytes())
    with pytest.raises(UsageError, match="left alone"):
        write_sheet([run], target)


def test_a_run_image_is_never_replaced_by_a_sheet(tmp_path: Path) -> None:
    run = listed(tmp_path)
    before = (tmp_path / "0.png").read_bytes()
    with pytest.raises(UsageError):
        write_sheet([run], tmp_path / "0.png")
    assert (tmp_path / "0.png").read_bytes() == before


def test_flagged_images_are_blurred_unless_asked_for(tmp_path: Path) -> None:
    layout = lay_out([listed(tmp_path, count=1, side=320, nsfw=True)])
    box = (60, 200, 320, 380)
    hidden, open_ = (draw_sheet(layout, show_nsfw=show).crop(box) for show in (False, True))

    def edges(image: Any) -> int:
        grey = image.convert("L")
        moved = ImageChops.offset(grey, 0, 1).crop((0, 1, *grey.size))
        return sum(ImageChops.difference(grey.crop((0, 1, *grey.size)), moved).histogram()[24:])

    assert edges(open_) > 100
    assert edges(hidden) < edges(open_) / 20


@pytest.mark.parametrize("count", [1, 7, 300])
def test_size_stays_sensible(tmp_path: Path, count: int) -> None:
    run = listed(tmp_path, count=count, side=16)
    sheet = draw_sheet(lay_out([run]))
    assert sheet.width <= 4_200
    assert sheet.height <= 16_383
    assert sheet.width * sheet.height <= 40_000_000


def test_damaged_images_and_failures_have_their_place(tmp_path: Path) -> None:
    run = listed(tmp_path, count=3)
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    draw_sheet(lay_out([run]))
    with pytest.raises(UsageError, match="no job"):
        write_sheet([read_run(write(tmp_path / "empty", []))], tmp_path / "x.png")
    only_failed = read_run(write(tmp_path / "failed", [failed("x", "1200: refused")]))
    write_sheet([only_failed], tmp_path / "failed.png")


@pytest.mark.parametrize(
    "text", ["", "word", "two words", "W" * 500, "many " * 200, "a\u2028b\x00c\x1b", "東京の夜" * 50]
)
def test_text_fits_its_box(text: str) -> None:
    font = font_for(text, 13)
    lines = wrap(text, font, 120, 2)
    assert len(lines) <= 2
    assert all(font.getlength(line) <= 121 for line in lines)
