"""All figures of speed in one run, as ratios, against the peers: ``python tests/benchmarks/run.py``.

Each drives the real command line against a stub of the service in a process of its own, and prints a Markdown
table. Ratios within one run can be compared; absolute times depend on the machine. Takes about half an hour, with
``--quick`` less.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from figures import FIGURES, Bench, Row


def line(row: Row) -> str:
    """A line of the table."""
    limit = "" if row.target is None else f"{'≥' if row.at_least else '≤'} {row.target:g}"
    return f"| {row.figure} | {row.ours} | {row.peer} | {row.value:.3g} | {limit} | {row.met} |"


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
            except (RuntimeError, OSError, KeyError, TypeError) as error:
                rows = [Row(name, f"failed: {str(error).splitlines()[-1][:120]}", "–", float("nan"), 0.0)]
            for row in rows:
                print(line(row), flush=True)
                missed += "no" in row.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
