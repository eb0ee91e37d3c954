"""Checking and expanding presets: time and peak memory, each case in a process of its own.

Run: python tests/benchmarks/bench_presets.py
Targets: 10,000 jobs (1 MB of YAML) under 1.0 s and 150 MB with libyaml; any file up to 1 MB under
5 s and 200 MB; 100,000 expanded jobs in about 100 MB; 10 of 1,000,000 combinations at once.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def many_jobs(count: int) -> str:
    lines = ["version: 1", "defaults:", "  size: 1024*1024", "jobs:"]
    for number in range(count):
        lines += [
            f"  - id: job-{number}",
            f'    prompt: "a poster of place number {number}, travel style, bold shapes"',
            f"    seed: {number}",
            "    num_inference_steps: 28",
        ]
    return "\n".join(lines) + "\n"


def matrix(*sizes: int, sample: str = "") -> str:
    names = ("seed", "num_inference_steps", "guidance_scale", "strength")
    steps = {"seed": 1.0, "num_inference_steps": 1.0, "guidance_scale": 0.01, "strength": 0.01}
    axes = [
        f"  {name}: [{', '.join(f'{(n + 1) * steps[name]:g}' for n in range(size))}]"
        for name, size in zip(names, sizes, strict=False)
    ]
    return "\n".join(["version: 1", "matrix:", *axes, "jobs:", "  - prompt: a cat", sample, ""])


def merge_bomb(levels: int = 60) -> str:
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}" for n in range(1, levels)]
    return "\n".join(lines)


def alias_bomb(levels: int = 30) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


CASES = {
    "10,000 jobs": (many_jobs(10_000), 10_000),
    "100,000 jobs of a matrix": (matrix(500, 40, 5), 100_000),
    "10 of 1,000,000 combinations": (matrix(1000, 40, 25, sample="    sample: 10"), 1000),
    "merge keys that explode": (merge_bomb(), 1000),
    "aliases that explode": (alias_bomb(), 1000),
    "1 MB of brackets": ("[" * 1_000_000, 1000),
    "1 MB of small values": ("jobs: [" + "1," * 499_990 + "1]", 1000),
    "1 MB of duplicate keys": ("a: 1\n" * 200_000, 1000),
    "1 MB of one choice": ("jobs: [{prompt: '" + "{a|b}" * 199_990 + "'}]", 1000),
    "1 MB of open braces": ("jobs: [{prompt: '" + "{" * 999_000 + "'}]", 1000),
    "1 MB of one word": ("jobs: [{prompt: " + "a" * 999_000 + "}]", 1000),
    "1 MB of bad jobs": ("jobs:\n" + "- {x: 1}\n" * 110_000, 1000),
}


def run(text_file: str, max_jobs: str) -> None:
    started = time.process_time()
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.domain.presets import LoadOptions, load_sources
    from flux_lora_cli.errors import FluxLoraError

    try:
        loaded = load_sources([text_file], FolderPresetFiles(), LoadOptions(max_jobs=int(max_jobs)))
        outcome = f"{len(loaded.jobs)} jobs"
    except FluxLoraError as error:
        problems = getattr(error, "problems", ())
        outcome = f"{len(problems)} problems, first: {str(problems[0])[-60:]}" if problems else str(error)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:6.2f} s  {peak:5.0f} MB  {outcome}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, (text, max_jobs) in CASES.items():
            path = Path(folder, "case.yaml")
            path.write_text(text)
            command = [sys.executable, __file__, str(path), str(max_jobs)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            print(f"{name:32}{result.stdout or result.stderr[-300:]}", end="", flush=True)


if __name__ == "__main__":
    run(*sys.argv[1:]) if len(sys.argv) > 1 else main()
