"""The presets in the README are good, and mean what the text beside them says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent.parent / "README.md"


def blocks() -> list[str]:
    text = README.read_text("utf-8") if README.exists() else ""
    return [block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if block.startswith("version: 1\n")]


@pytest.mark.parametrize("block", blocks())
def test_presets_in_the_readme_are_good(studio, block):
    jobs = studio.load("p.yaml", block).jobs
    assert jobs
    if "nasa-posters" in block:
        ids = [job.id for job in jobs]
        assert sum(name.startswith("dawn/") for name in ids) == 8
        assert "dawn/a-lunar-base/nasa/1" in ids
        assert [job.seed for job in jobs if job.id.startswith("a-red-a-blue-rocket/a-red/")] == [7, 8, 9]
    if "of 180" in block:
        assert len(jobs) == 10
