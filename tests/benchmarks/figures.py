"""The figures: each a function that measures and gives rows of the table."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import Run, Stub, batch, jobs_file, ours, peer, run, stub

MB = 1e6


@dataclass(frozen=True)
class Row:
    """One line: ``value`` is compared with ``target`` in the same unit; None where nothing is asked."""

    figure: str
    ours: str
    peer: str
    value: float
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> str:
        """yes, no, or a dash where there is no target."""
        if self.target is None:
            return "–"
        good = self.value >= self.target if self.at_least else self.value <= self.target
        return "yes" if good else "**no**"


@dataclass(frozen=True)
class Bench:
    """Where to work, and whether to hurry."""

    folder: Path
    quick: bool = False

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A folder that is empty before and gone afterwards."""
        place = self.folder / "work"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


Figure = Callable[[Bench], list[Row]]
FIGURES: dict[str, Figure] = {}


def figure(name: str) -> Callable[[Figure], Figure]:
    """Put a function on the list under the name that ``--only`` takes."""

    def keep(function: Figure) -> Figure:
        FIGURES[name] = function
        return function

    return keep


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


@figure("start")
def start(bench: Bench) -> list[Row]:
    """Start-up in multiples of an empty Python; interleaved, the least of the runs."""
    preset = jobs_file(bench.folder, 1)
    cases: dict[str, list[str]] = {
        "plain": [sys.executable, "-c", "pass"],
        "--version": [*ours(), "--version"],
        "--help": [*ours(), "--help"],
        "batch --help": [*ours(), "batch", "--help"],
        "preset check": [*ours(), "preset", "check", str(preset)],
        "SDK import": [sys.executable, "-c", "import wavespeed"],
    }
    best = dict.fromkeys([*cases, "first request"], float("inf"))
    with stub(bench.folder, bytes=1000) as served:
        for number in range(4 if bench.quick else 15):
            for name, command in cases.items():
                best[name] = min(best[name], run(command).must().wall)
            with bench.place() as place:
                done = batch(served, preset, place / str(number), "--poll-interval", "0.05").must()
            best["first request"] = min(best["first request"], served.stats()["first_request"] - done.started)
    plain, sdk = best["plain"], best["SDK import"] / best["plain"]
    targets = {"--version": 1.3, "--help": 7.0, "batch --help": 7.0, "preset check": 9.5, "first request": 15.0}
    return [
        Row(f"start-up, {name}", f"{best[name] / plain:.1f} × plain", f"SDK import {sdk:.1f} ×", best[name] / plain, t)
        for name, t in targets.items()
    ]


def _cpu_per_job(few: Callable[[], Run], many: Callable[[], Run], jobs: int) -> float:
    """CPU seconds that a job adds, start-up left out: the slope between two sizes."""
    return (many().must().cpu - few().must().cpu) / jobs


def _cpu(bench: Bench, tls: bool) -> list[Row]:
    few, more = 16, 200 if bench.quick else 800
    costs: dict[str, list[float]] = {"ours": [], "requests": [], "urllib3": [], "sdk": []}
    with stub(bench.folder, tls=tls) as served:

        def mine(place: Path, jobs: int) -> Run:
            options = ("--concurrency", "32", "--poll-interval", "0.05")
            return batch(served, jobs_file(bench.folder, jobs), place / f"o{jobs}", *options)

        for _ in range(1 if bench.quick else 3):
            with bench.place() as place:
                mine_few, mine_many = (lambda n=n: mine(place, n) for n in (few, few + more))
                costs["ours"].append(_cpu_per_job(mine_few, mine_many, more))
                for name in ("requests", "urllib3", "sdk"):
                    threads, jobs = (32, more // (4 if tls else 1)) if name == "sdk" else (8, more)
                    less, all_ = (
                        lambda n=n, name=name, threads=threads: peer(name, served, n, place / name, threads)
                        for n in (few, few + jobs)
                    )
                    costs[name].append(_cpu_per_job(less, all_, jobs))
    cost = {name: statistics.median(values) for name, values in costs.items()}
    how = "TLS" if tls else "HTTP"
    to_tuned, to_sdk = cost["ours"] / cost["requests"], cost["sdk"] / cost["ours"]
    own = ms(cost["ours"])
    return [
        Row(f"CPU per job of 100 KB, {how}: × requests tuned", own, ms(cost["requests"]), to_tuned, 1.3),
        Row(f"CPU per job of 100 KB, {how}: × urllib3", own, ms(cost["urllib3"]), cost["ours"] / cost["urllib3"]),
        Row(f"CPU per job of 100 KB, {how}: SDK ×", own, ms(cost["sdk"]), to_sdk, 20.0 if tls else 1.0, True),
    ]


@figure("cpu")
def cpu(bench: Bench) -> list[Row]:
    """CPU per job over plain HTTP, all records included."""
    return _cpu(bench, tls=False)


@figure("cpu-tls")
def cpu_tls(bench: Bench) -> list[Row]:
    """The same over TLS."""
    return _cpu(bench, tls=True)


def _makespan(
    bench: Bench,
    name: str,
    times: tuple[float, float],
    options: tuple[str, ...],
    target: float,
    looks: float | None,
    download: float = 0.0,
    floor: float = 0.1,
    seeds: int = 3,
) -> list[Row]:
    ratios, per_task, gaps, sdk = [], [], [], "–"
    jobs = 256
    settings = {"service_time": times, "slots": 32, "download_delay": download}
    for seed in range(1 if bench.quick else seeds):
        with stub(bench.folder, seed=seed, **settings) as served, bench.place() as place:
            run_ = batch(served, jobs_file(bench.folder, jobs), place / "o", *options)
            run_.must()
            seen = served.stats()
            # From the first submit to the last answer: start-up is a figure of its own.
            ratios.append((seen["last_download"] - seen["first_submit"]) / seen["ideal"])
            per_task.append(seen["looks"] / jobs)
            gaps.append(seen["least_gap"] or float("inf"))
            if seed == 0 and not bench.quick:
                peer("sdk", served, jobs, place / "sdk", threads=32, poll=1.0).must()
                other = served.stats()
                ratio = (other["last_download"] - other["first_submit"]) / other["ideal"]
                sdk = f"SDK {ratio:.3f} with {other['looks'] / jobs:.1f} looks"
    middle = statistics.median(ratios)
    spread = f"{middle:.3f} ({min(ratios):.3f}–{max(ratios):.3f})"
    rows = [Row(f"makespan ÷ ideal, {name}", spread, sdk, middle, target)]
    if looks is not None:
        mean = statistics.mean(per_task)
        rows.append(Row(f"looks a task, {name}", f"{mean:.2f}", sdk, mean, looks))
    rows.append(Row(f"least gap of looks, {name}", f"{min(gaps):.2f} s", "SDK 1 s", min(gaps), floor * 0.99, True))
    return rows


FAST = ("--concurrency", "48", "--poll-interval", "0.1")


@figure("makespan")
def makespan(bench: Bench) -> list[Row]:
    """256 jobs of 0.5 to 1.5 s at a service of 32 with a queue."""
    return _makespan(bench, "0.5–1.5 s", (0.5, 1.5), FAST, 1.03, 3.0)


@figure("makespan-downloads")
def makespan_downloads(bench: Bench) -> list[Row]:
    """The same, each image taking 0.3 s to arrive."""
    return _makespan(bench, "with 0.3 s downloads", (0.5, 1.5), FAST, 1.07, None, download=0.3)


@figure("makespan-real")
def makespan_real(bench: Bench) -> list[Row]:
    """2 to 6 s a job, with the default floor."""
    options = ("--concurrency", "48")  # the end of the last task between two looks is chance: three seeds say little
    return _makespan(bench, "2–6 s, default floor", (2.0, 6.0), options, 1.02, 5.0, floor=2.0, seeds=9)


@figure("lost")
def lost(bench: Bench) -> list[Row]:
    """Jobs lost to 429, at a cap of 16 in flight and at one of 5 submits a second."""
    rows = []
    caps: dict[str, dict[str, int]] = {"cap of 16 in flight": {"in_flight_cap": 16}, "5 a second": {"rate_cap": 5}}
    for name, cap in caps.items():
        service = {"service_time": (0.5, 1.0), "bytes": 10_000, "retry_after": 1, **cap}
        with stub(bench.folder, **service) as served, bench.place() as place:
            jobs = 32 if bench.quick else 96
            options = ("--concurrency", "32", "--poll-interval", "0.2")
            done = batch(served, jobs_file(bench.folder, jobs), place / "o", *options)
            missing = jobs - len(list((place / "o").glob("*.png")))
            mine = served.stats()
            other = peer("sdk", served, jobs, place / "sdk", threads=32, poll=0.2).must()
        own = f"{missing} of {jobs} ({mine['refused']} refused, {done.wall:.0f} s, exit {done.code})"
        rows.append(Row(f"jobs lost to 429, {name}", own, f"SDK {jobs - int(other.out)} of {jobs}", missing, 0))
    return rows


@figure("memory")
def memory(bench: Bench) -> list[Row]:
    """Peak memory."""
    rows = []
    for count, size, target in ((1000, 1_000_000, 80.0), (100_000, 10_000, 250.0)):
        jobs = count // 20 if bench.quick else count
        with stub(bench.folder, bytes=size) as served, bench.place() as place:
            options = ("--concurrency", "32", "--poll-interval", "0.05")
            done = batch(served, jobs_file(bench.folder, jobs), place / "o", *options).must()
            other = "–"
            if count == 1000:
                other = f"SDK {peer('sdk', served, jobs, place / 'sdk', threads=32).must().peak / MB:.0f} MB"
        name = f"peak memory, {jobs:,} jobs of {size // 1000:,} KB"
        rows.append(Row(name, f"{done.peak / MB:.0f} MB", other, done.peak / MB, target))
    return rows


@figure("rerun")
def rerun(bench: Bench) -> list[Row]:
    """A finished folder, its preset's reading included."""
    jobs = 1000 if bench.quick else 10_000
    with stub(bench.folder, bytes=10_000) as served, bench.place() as place:
        source, output = jobs_file(bench.folder, jobs), place / "o"
        options = ("--concurrency", "64", "--poll-interval", "0.05")
        first = batch(served, source, output, *options).must()
        served.stats()
        again = min((batch(served, source, output, *options).must() for _ in range(3)), key=lambda done: done.wall)
        requests = served.stats()["requests"]
    name = f"of a finished folder, {jobs:,} jobs"
    return [
        Row(f"rerun {name}", f"{again.wall:.2f} s", f"first run {first.wall:.0f} s", again.wall, 1.5),
        Row(f"requests {name}", str(requests), "–", requests, 0),
    ]


@figure("linear")
def linear(bench: Bench) -> list[Row]:
    """CPU per job, large against small."""
    large, small = (2_000, 200) if bench.quick else (20_000, 500)
    with stub(bench.folder, bytes=10_000) as served, bench.place() as place:
        options = ("--concurrency", "32", "--poll-interval", "0.05")
        few, middle, many = (
            batch(served, jobs_file(bench.folder, n), place / f"o{n}", *options).must().cpu for n in (16, small, large)
        )
    at_small, at_large = (middle - few) / (small - 16), (many - few) / (large - 16)
    name = f"CPU per job at {large:,} ÷ at {small:,}"
    return [Row(name, f"{ms(at_large)} ÷ {ms(at_small)}", "–", at_large / at_small, 1.15)]


@figure("throughput")
def throughput(bench: Bench) -> list[Row]:
    """The highest tier, 5,000 images a minute, on one core."""
    jobs, rate = (1_000 if bench.quick else 5_000), 5000 / 60
    with stub(bench.folder, service_time=(2.0, 6.0), bytes=100_000) as served, bench.place() as place:
        options = ("--rate", "5000/min", "--concurrency", "1000")
        done = batch(served, jobs_file(bench.folder, jobs), place / "o", *options).must()
        seen = served.stats()
    # The last jobs' time at the service is not ours: the rate is that of the submits, and all of them were saved.
    busy = jobs / rate
    reached = (jobs - 1) / (seen["last_submit"] - seen["first_submit"]) / rate
    return [
        Row("sustained rate ÷ 5,000 a minute", f"{reached * rate:.1f} /s", "–", reached, 0.97, True),
        Row("cores used at 5,000 a minute", f"{done.cpu / busy:.2f}", "–", done.cpu / busy, 0.5),
    ]


@figure("preset")
def preset(bench: Bench) -> list[Row]:
    """A preset of 10,000 jobs checked and expanded, start-up left out."""
    source = bench.folder / "large.yaml"
    head = "version: 1\ndefaults:\n  size: 1024*1024\njobs:\n"
    source.write_text(
        head + "".join(f'  - id: j{n}\n    prompt: "a poster of place {n}"\n    seed: {n}\n' for n in range(10_000))
    )
    small = jobs_file(bench.folder, 1)
    command = [*ours(), "preset", "check", "--max-jobs", "10000"]
    took = min(run([*command, str(source)]).must().wall for _ in range(3))
    empty = min(run([*command, str(small)]).must().wall for _ in range(3))
    return [Row("preset of 10,000 jobs, check and expand", f"{took - empty:.2f} s", "–", took - empty, 1.0)]


@figure("records")
def records(bench: Bench) -> list[Row]:
    """The ledger's commits, by their own program."""
    program = Path(__file__).with_name("bench_records.py")
    if not program.exists():
        return []
    started = time.monotonic()
    done = run([sys.executable, str(program)], PYTHONPATH=str(program.parent.parent.parent))
    print(done.out or done.err, file=sys.stderr)
    return [Row("bench_records.py", f"exit {done.code}", "see above", time.monotonic() - started)]


__all__ = ["FIGURES", "Bench", "Row", "Stub"]
