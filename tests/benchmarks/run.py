"""All figures of speed in one run, as ratios, against the official SDK: ``python tests/benchmarks/run.py``.

Each drives the real command line against a stub of the service in a process of its own, and prints a line of a
Markdown table. Ratios within one run can be compared; absolute times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MB = 1 << 20
FAST = ("--concurrency", "32", "--poll-interval", "0.05")


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, the SDK's, and the value that is held against the target."""

    figure: str
    ours: str
    peer: str
    value: float
    target: float
    at_least: bool = False

    def line(self) -> str:
        limit = f"{'≥' if self.at_least else '≤'} {self.target:g}"
        cells = (self.figure, self.ours, self.peer, f"{self.value:.3g}", limit, "" if self.met else "no")
        return f"| {' | '.join(cells)} |"

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True)
class Done:
    """One process that ended: seconds, seconds of CPU, bytes of peak memory, when it began."""

    wall: float
    cpu: float
    peak: int
    out: str
    began: float


def run(command: Sequence[str | Path], **env: str) -> Done:
    """Run a command to its end and measure it alone. No settings of the caller's reach it."""
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    home = {"HOME": tempfile.gettempdir(), "FLUX_LORA_STATE_DIR": tempfile.gettempdir() + "/flux-lora-bench-state"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=HERE.parents[1],
            env={**keep, **home, "WAVESPEED_API_KEY": "benchmark", **env},
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            raise RuntimeError(f"exit {process.returncode}: {err.read().decode()[-500:]}")
        text = out.read().decode()
    return Done(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text, began)


def ours() -> list[str]:
    """The command as users start it."""
    script = Path(sys.executable).parent / "flux-lora"
    return [str(script)] if script.exists() else [sys.executable, "-m", "flux_lora_cli"]


class Bench:
    """Where measurements lie, and how large they are."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick, self._places = folder, quick, 0

    def place(self) -> Path:
        self._places += 1
        place = self.folder / f"place-{self._places}"
        place.mkdir()
        return place

    def jobs(self, count: int) -> Path:
        path = self.folder / f"jobs-{count}.jsonl"
        lines = ({"id": f"j{n}", "prompt": f"a red rocket, number {n}", "seed": n} for n in range(count))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def batch(self, stub: Stub, count: int, output: Path, *options: str) -> Done:
        most = ("--max-jobs", "200000", "--yes", "-q")
        return run([*ours(), "batch", self.jobs(count), "-o", output, *most, *options], **stub.env)

    def sdk(self, stub: Stub, count: int, poll: float = 0.05) -> Done:
        return run([sys.executable, HERE / "peers.py", str(count), "32", str(poll), self.place()], **stub.env)


class Stub:
    """A running stub of the service."""

    def __init__(self, base: str, env: dict[str, str]) -> None:
        self.base, self.env = base, {"WAVESPEED_BASE_URL": base, **env}

    def stats(self) -> dict[str, Any]:
        """What was counted since the last call; the stub forgets it."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.base}/stats") as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def stub(bench: Bench, tls: bool = False, **options: Any) -> Iterator[Stub]:
    """Start a stub; options as on its command line, with underscores."""
    command, env = [sys.executable, str(HERE / "stub.py")], {}
    if tls:
        import certifi

        pem, trusted = bench.folder / "stub.pem", bench.folder / "trusted.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", pem, "-out",
             bench.folder / "stub.crt"], check=True, capture_output=True,
        )  # fmt: skip
        pem.write_text(pem.read_text() + (bench.folder / "stub.crt").read_text())
        # The usual authorities, too: a file of one would flatter those who reload it for each connection.
        trusted.write_text(Path(certifi.where()).read_text() + (bench.folder / "stub.crt").read_text())
        command += ["--tls", str(pem)]
        env = {"REQUESTS_CA_BUNDLE": str(trusted), "SSL_CERT_FILE": str(trusted)}
    for name, value in options.items():
        command += ["--" + name.replace("_", "-"), *map(str, value if isinstance(value, tuple) else (value,))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Stub(process.stdout.readline().strip(), env)
    finally:
        process.stdin.close()
        process.wait(10)


# ---- the figures --------------------------------------------------------------------------


def start_up(bench: Bench) -> list[Row]:
    """In multiples of ``python -c pass``; the least of several runs."""

    def least(command: Sequence[str | Path]) -> float:
        return min(run(command).wall for _ in range(3 if bench.quick else 9))

    plain = least([sys.executable, "-c", "pass"])
    sdk = least([sys.executable, "-c", "import wavespeed"]) / plain
    check = ["preset", "check", str(bench.jobs(1))]
    rows = []
    for words, target in ((["--version"], 2.5), (["--help"], 20), (["batch", "--help"], 20), (check, 16)):
        took, name = least([*ours(), *words]), f"start-up, `{' '.join(words[:2])}`"
        rows.append(Row(name, f"{took * 1000:.0f} ms", f"SDK's import {sdk:.1f}", took / plain, target))
    with stub(bench) as served:
        firsts = []
        for _ in range(3):
            done = bench.batch(served, 1, bench.place() / "o")
            firsts.append(served.stats()["first_request"] - done.began)
    return [*rows, Row("up to the first request", f"{min(firsts) * 1000:.0f} ms", f"SDK's import {sdk:.1f}",
                       min(firsts) / plain, 22)]  # fmt: skip


def cpu(bench: Bench) -> list[Row]:
    """CPU that a job adds, start-up left out: the slope between two sizes."""
    rows, few, more = [], 16, 200 if bench.quick else 800
    for tls in (False, True):
        with stub(bench, tls=tls) as served:

            def slope(measured: Callable[[int], Done], jobs: int) -> float:
                return (measured(few + jobs).cpu - measured(few).cpu) / jobs

            both = [
                (
                    slope(lambda n: bench.batch(served, n, bench.place() / "o", *FAST), more),
                    slope(lambda n: bench.sdk(served, n), more // (4 if tls else 1)),
                )
                for _ in range(1 if bench.quick else 3)
            ]
        mine, sdk = (statistics.median(costs) * 1000 for costs in zip(*both, strict=True))
        name = f"CPU per job of 100 KB, {'TLS' if tls else 'HTTP'}: SDK ÷ ours"
        rows.append(Row(name, f"{mine:.1f} ms", f"SDK {sdk:.1f} ms", sdk / mine, 10.0 if tls else 1.0, at_least=True))
    return rows


def makespan(bench: Bench) -> list[Row]:
    """256 jobs at a service of 32 with a queue, from the first submission to the last image, over the ideal."""
    rows = []
    quick = ("--concurrency", "48", "--poll-interval", "0.1")
    for name, times, options, delay in (
        ("0.5–1.5 s", (0.5, 1.5), quick, 0.0),
        ("0.5–1.5 s, 0.3 s downloads", (0.5, 1.5), quick, 0.3),
        ("2–6 s, default interval", (2.0, 6.0), ("--concurrency", "48"), 0.0),
    ):
        ratios, polls, gaps, sdk = [], [], [], "–"
        for seed in range(1 if bench.quick else 3):
            with stub(bench, seed=seed, service_time=times, slots=32, download_delay=delay) as served:
                bench.batch(served, 256, bench.place() / "o", *options)
                seen = served.stats()
                ratios.append((seen["last_download"] - seen["first_submit"]) / seen["ideal"])
                polls.append(seen["polls"] / 256)
                gaps.append(seen["least_gap"] or 9e9)
                if seed == 0 and not bench.quick:
                    bench.sdk(served, 256, poll=1.0)
                    other = served.stats()
                    ratio = (other["last_download"] - other["first_submit"]) / other["ideal"]
                    sdk = f"SDK {ratio:.2f}, {other['polls'] / 256:.1f} polls"
        middle, mean = statistics.median(ratios), statistics.mean(polls)
        span = f"{min(ratios):.3f}–{max(ratios):.3f}"
        rows.append(Row(f"makespan ÷ ideal, {name}", span, sdk, middle, 1.07 if delay else 1.05))
        rows.append(Row(f"polls per task, {name}", f"{mean:.2f}", sdk, mean, 5))
        rows.append(Row(f"least gap of polls, {name}", f"{min(gaps):.2f} s", "SDK 1 s", min(gaps),
                        1.98 if times[0] == 2.0 else 0.099, True))  # fmt: skip
    return rows


def lost(bench: Bench) -> list[Row]:
    """Jobs lost to 429."""
    rows, jobs = [], 32 if bench.quick else 96
    for name, cap in (("16 in flight allowed", {"in_flight_cap": 16}), ("5 a second allowed", {"rate_cap": 5})):
        with stub(bench, service_time=(0.5, 1.0), bytes=10_000, retry_after=1, **cap) as served:
            place = bench.place()
            bench.batch(served, jobs, place / "o", "--concurrency", "32", "--poll-interval", "0.2")
            missing = jobs - len(list((place / "o").glob("*.png")))
            other = int(bench.sdk(served, jobs, poll=0.2).out)
        rows.append(Row(f"jobs lost to 429 of {jobs}, {name}", str(missing), f"SDK {jobs - other}", missing, 0))
    return rows


def memory(bench: Bench) -> list[Row]:
    """Peak memory."""
    rows = []
    for count, size, target in ((1000, 1_000_000, 90.0), (100_000, 10_000, 400.0)):
        jobs = count // 20 if bench.quick else count
        with stub(bench, bytes=size) as served:
            done = bench.batch(served, jobs, bench.place() / "o", *FAST)
            sdk = f"SDK {bench.sdk(served, jobs).peak / MB:.0f} MB" if count == 1000 else "–"
        name = f"peak memory, {jobs:,} jobs of {size // 1000:,} KB"
        rows.append(Row(name, f"{done.peak / MB:.0f} MB", sdk, done.peak / MB, target))
    return rows


def large(bench: Bench) -> list[Row]:
    """A rerun of a finished folder, its preset included; and CPU per job, large against small."""
    many, small = (1000, 200) if bench.quick else (10_000, 500)
    with stub(bench, bytes=10_000) as served:
        least, few, all_ = (bench.place() / "o" for _ in range(3))
        slopes = [bench.batch(served, n, place, *FAST).cpu for n, place in ((16, least), (small, few), (many, all_))]
        served.stats()
        again = min((bench.batch(served, many, all_, *FAST) for _ in range(3)), key=lambda done: done.wall)
        requests = served.stats()["requests"]
    ratio = (slopes[2] - slopes[0]) / (many - 16) / ((slopes[1] - slopes[0]) / (small - 16))
    return [
        Row(f"rerun of {many:,} finished jobs", f"{again.wall:.2f} s", "–", again.wall, 3.0),
        Row("requests of that rerun", str(requests), "–", requests, 0),
        Row(f"CPU per job at {many:,} ÷ at {small:,}", f"{ratio:.2f}", "–", ratio, 1.15),
    ]


def throughput(bench: Bench) -> list[Row]:
    """The highest tier, 5,000 images a minute, on one core."""
    jobs, rate = (1_000 if bench.quick else 5_000), 5000 / 60
    with stub(bench, service_time=(2.0, 6.0)) as served:
        done = bench.batch(served, jobs, bench.place() / "o", "--rate", "5000/min", "--concurrency", "1000")
        seen = served.stats()
    reached = (jobs - 1) / (seen["last_submit"] - seen["first_submit"]) / rate
    return [
        Row("sustained rate ÷ 5,000 a minute", f"{reached * rate:.1f} /s", "–", reached, 0.97, True),
        Row("cores used at 5,000 a minute", f"{done.cpu * rate / jobs:.2f}", "–", done.cpu * rate / jobs, 0.6),
    ]


def preset(bench: Bench) -> list[Row]:
    """A preset of 10,000 jobs checked and expanded, start-up left out."""
    large_, one = bench.folder / "large.yaml", bench.folder / "one.yaml"
    job = '  - id: j{0}\n    prompt: "a poster of place {0}"\n    seed: {0}\n'
    for path, count in ((large_, 10_000), (one, 1)):
        path.write_text("version: 1\ndefaults:\n  size: 1024*1024\njobs:\n" + "".join(map(job.format, range(count))))
    took, empty = (
        min(run([*ours(), "preset", "check", "--max-jobs", "10000", path]).wall for _ in range(3))
        for path in (large_, one)
    )
    return [Row("preset of 10,000 jobs, check and expand", f"{took - empty:.2f} s", "–", took - empty, 3.0)]


FIGURES = {f.__name__: f for f in (start_up, cpu, makespan, lost, memory, large, throughput, preset)}


def main() -> int:
    """Measure, print, and say by the exit code whether all targets were met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, smaller runs")
    parser.add_argument("--only", action="append", choices=sorted(FIGURES), help="only this figure; repeatable")
    options = parser.parse_args()
    print("| figure | ours | peer | value | target | met |\n|---|---|---|---|---|---|", flush=True)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="flux-lora-bench-") as folder:
        bench = Bench(Path(folder), options.quick)
        for name in options.only or FIGURES:
            try:
                rows = FIGURES[name](bench)
            except (RuntimeError, OSError, KeyError, ValueError) as error:
                rows = [Row(name, f"failed: {str(error).splitlines()[-1][:120]}", "–", float("nan"), 0.0)]
            for row in rows:
                print(row.line(), flush=True)
                missed += not row.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
