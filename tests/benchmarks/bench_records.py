"""What keeping records costs: ``python tests/benchmarks/bench_records.py [FOLDER]``.

The disk of FOLDER (default: the temporary folder) decides the wall clock of commits; the rest is CPU.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.manifest_file import ManifestFile
from flux_lora_cli.domain.manifest import Head
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State

JOBS = 10_000
IN_FLIGHT = 32
_NOW = "2026-11-23T03:14:15.123Z"


def job(number: int) -> JobRecord:
    """A job as a preset with one LoRA makes it."""
    key = hashlib.sha256(str(number).encode()).hexdigest()
    return JobRecord(
        key=key,
        id=f"dawn/a-lunar-base/nasa/{number}",
        order=number,
        preset="nasa-posters",
        fingerprint=key,
        model="wavespeed-ai/flux-dev-lora",
        input={
            "prompt": f"a lunar base at dawn, travel poster, number {number}",
            "size": "1024*1024",
            "num_inference_steps": 28,
            "guidance_scale": 3.5,
            "num_images": 1,
            "seed": number,
            "loras": [{"path": "davanstrien/nasa_concept_art-flux-lora", "scale": 0.9}],
            "enable_safety_checker": True,
        },
    )


def through_its_life(ledger: Ledger, records: list[JobRecord]) -> None:
    """Commit what a batch commits, in groups: intents, ids, names of images, images."""
    for start in range(0, len(records), IN_FLIGHT):
        group = records[start : start + IN_FLIGHT]
        for record in group:
            record.state, record.attempts = State.SUBMITTING, 1
            record.price, record.intent_at = Decimal("0.015"), _NOW
        ledger.save(group)
        for record in group:
            record.state, record.task_id = State.SUBMITTED, record.key[:32]
        ledger.save(group)
        for record in group:
            url = f"https://cdn.example/{record.key}.png"
            record.state, record.task_status = State.COMPLETED, "completed"
            record.outputs = [OutputRecord(0, url, False, writing="x.png", temp=".x", sha256=record.key)]
        ledger.save(group)
        for record in group:
            output = record.outputs[0]
            output.file, output.writing, output.temp = f"image-{record.order}.png", None, None
            output.bytes, output.width, output.height = 100_000, 1024, 1024
            output.media_type, output.saved_at, output.mtime_ns = "image/png", _NOW, time.time_ns()
        ledger.save(group)


def measure(name: str, work: Callable[[], object], jobs: int = 1, unit: str = "ms") -> None:
    """Print what ``work`` takes, wall clock and CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:<58} {wall / jobs * 1e3:9.3f} {cpu / jobs * 1e3:9.3f}  {unit}")


def main(parent: str | None) -> None:
    """Run all."""
    print(f"{'':<58} {'wall':>9} {'CPU':>9}")
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        records = [job(number) for number in range(JOBS)]
        ledger = Ledger.open(folder, "sandbox")
        measure(f"plan of {JOBS:,} jobs committed", lambda: ledger.save(records))
        measure(
            f"commits of a job's life (4, in groups of {IN_FLIGHT}; target 5 ms)",
            lambda: through_its_life(ledger, records), JOBS, "ms a job",
        )  # fmt: skip
        measure("ledger closed", ledger.close)
        measure(f"ledger opened and checked, {JOBS:,} jobs", lambda: Ledger.open(folder, "sandbox").close())
        with Ledger.open(folder, "sandbox") as again:
            measure(f"{JOBS:,} jobs read", lambda: sum(1 for _ in again.jobs()))
        manifest = ManifestFile(folder, Head("sandbox", True, "0", _NOW, _NOW))
        for count in (1_000, JOBS):
            measure(f"manifest of {count:,} jobs written", lambda count=count: manifest.write(records[:count]))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
