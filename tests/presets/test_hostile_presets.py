"""Files made to exhaust the reader: bounded in time and memory, and named for what they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import os, resource, sys
from flux_lora_cli.adapters.preset_files import FolderPresetFiles
from flux_lora_cli.domain.presets import LoadOptions, load_sources
from flux_lora_cli.errors import PresetError
try:
    print(len(load_sources([sys.argv[1]], FolderPresetFiles(), LoadOptions()).jobs), "jobs")
except PresetError as error:
    print(error.problems[0])
use = resource.getrusage(resource.RUSAGE_SELF)
peak = use.ru_maxrss
if os.path.exists("/proc/self/status"):  # ru_maxrss begins with the size of the process that started this one
    peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print(use.ru_utime + use.ru_stime, peak / 1024)
"""


def merge_bomb() -> str:
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}" for n in range(1, 300)]
    return "\n".join(lines)


def alias_bomb() -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)]
    return "\n".join(lines)


CASES = {
    "merge keys": (merge_bomb(), "explode"),
    "aliases": (alias_bomb(), "explode"),
    "brackets": ("[" * 1_000_000, "nested more than 40 levels"),
    "dashes": ("- " * 500_000, "nested more than 40 levels"),
    "small values": ("jobs: [" + "1," * 499_990 + "1]", "jobs[0]"),
    "duplicates": ("a: 1\n" * 200_000, "duplicate"),
    "choices": ("jobs: [{prompt: '" + "{a|b}" * 199_990 + "'}]", "more than the limit of 1000"),
    "open braces": ("jobs: [{prompt: '" + "{" * 999_000 + "'}]", "nested more than 20"),
    "bad jobs": ("jobs:\n" + "- {x: 1}\n" * 110_000, "no prompt"),
    "one long key": ("a" * 999_000 + ": 1", "not YAML"),
    "anchors": ("jobs: [" + "&a 1," * 199_000 + "1]", "jobs[0]"),
    "empty merges": ("jobs:\n- &a {prompt: x}\n" + "- {<<: [" + "*a," * 300_000 + "*a]}\n", "explode"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_megabyte_of_anything_is_bounded(tmp_path: Path, name: str) -> None:
    text, words = CASES[name]
    path = tmp_path / "p.yaml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=100, check=True
    )
    first, used = done.stdout.splitlines()
    assert words in first
    seconds, megabytes = map(float, used.split())
    assert megabytes < 200
    # 5 s on an idle machine; CPU time still doubles when other tests share a core's caches.
    assert seconds < 10


def test_a_million_combinations_are_not_made(studio):
    values = ", ".join(str(n) for n in range(1000))
    text = (
        f"matrix: {{seed: [{values}]}}\nvars: {{a: [{values}]}}\njobs:\n- {{id: j, prompt: 'x ${{a}}', sample: 10}}\n"
    )
    loaded = studio.load("p.yaml", text)
    assert loaded.total == len(loaded.jobs) == 10
    found = studio.problems(text.replace(", sample: 10", ""))
    assert "1000 × 1000 = 1000000 jobs" in found[0]


def test_beyond_all_numbers(studio):
    """2 to the power of 20,000 combinations: counted, refused, and still sampled."""
    prompt = "{a|b}" * 20_000
    assert "over 10^6019" in studio.problems(f"jobs:\n- {{id: j, prompt: '{prompt}'}}\n")[0]
