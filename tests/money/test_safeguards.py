"""Each safeguard taken out once: some test has to notice. Slow, for every change runs the tests anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cut:
    """A safeguard, and the change that takes it out.

    Attributes:
        tests: which have to notice, as pytest takes them.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ("tests/workflow/test_kill_points.py",)


_KILLS = ("tests/workflow/test_kill_points.py",)
_UNKNOWN = ("tests/workflow/test_unknown_outcomes.py",)
_BUDGET = ("tests/workflow/test_budget_runs.py",)

CUTS = [
    Cut(
        "the intent is durable before the POST",
        "workflow/submitter.py",
        "self._ctx.book.change(record, lambda: self._send(work), urgent=True)",
        "self._send(work); self._ctx.book.change(record)",
    ),
    Cut(
        "the id is durable before the first look",
        "workflow/submitter.py",
        "self._ctx.book.change(record, lambda: self._recorded(work, task), urgent=True)",
        "self._recorded(work, task)",
        ("tests/workflow/test_kill_points.py", "tests/workflow/test_reruns.py"),
    ),
    Cut(
        "an intent without an answer is unknown, not planned",
        "workflow/runner.py",
        "        elif state in (State.SUBMITTING, State.UNKNOWN):",
        "        elif state is State.SUBMITTING:\n            self.submitter.add(work)\n"
        "        elif state is State.UNKNOWN:",
    ),
    Cut(
        "only what was surely not sent is sent again",
        "workflow/submitter.py",
        "elif isinstance(result, NeverSent):",
        "elif isinstance(result, (NeverSent, Uncertain)):",
        _UNKNOWN,
    ),
    Cut(
        "tasks of others are left out",
        "workflow/reconciler.py",
        "findings = found.without(claimed)",
        "findings = found",
        _UNKNOWN,
    ),
    Cut(
        "the list is read before anything is sent again",
        "workflow/reconciler.py",
        "        self._deadline[work] = self._ctx.clock.monotonic() + self._time_left(work)",
        "        if self._ctx.settings.on_unknown == 'resubmit' and not work.resubmitted:\n"
        "            work.resubmitted = True\n            self._resubmit(work)\n            return\n"
        "        self._deadline[work] = self._ctx.clock.monotonic() + self._time_left(work)",
        _UNKNOWN,
    ),
    Cut(
        "without an echo nothing is adopted",
        "domain/matching.py",
        "        elif agrees is None:\n            candidates.append(task.id)",
        "        elif agrees is None:\n            matches.append(task.id)",
        _UNKNOWN,
    ),
    Cut(
        "every page is read",
        "workflow/reconciler.py",
        "            if more and page < _MOST_PAGES:",
        "            if False:",
        _UNKNOWN,
    ),
    Cut(
        "the price is reserved before the submit",
        "domain/budget.py",
        "        self.spent += amount or Decimal(0)\n        return True",
        "        return True",
        _BUDGET,
    ),
    Cut(
        "earlier runs count",
        "workflow/batch.py",
        "Budget(settings.max_cost, spent(records.values()))",
        "Budget(settings.max_cost, Decimal(0))",
        _BUDGET,
    ),
    Cut(
        "an unknown price is not zero",
        "domain/budget.py",
        "(amount is None or self.spent + amount > self.limit)",
        "(self.spent + (amount or 0) > self.limit)",
        _BUDGET,
    ),
    Cut(
        "one batch in a folder",
        "adapters/run_folder.py",
        "undo.enter_context(FolderLock(folder))",
        "pass",
        ("tests/money/test_interrupts.py::test_a_second_batch_is_refused_at_once_and_sends_nothing",),
    ),
    Cut(
        "an empty ledger is rebuilt",
        "adapters/run_folder.py",
        "        if not self._empty():\n            return\n",
        "        if not self.ledger.created:\n            return\n",
    ),
    Cut(
        "an image has its name in the ledger before it has it on disk",
        "workflow/collector.py",
        "self._ctx.book.change(fetch.work.record, lambda: self._publish(fetch))\n\n    @staticmethod",
        "self._publish(fetch)\n\n    @staticmethod",
        ("tests/money/test_system_calls.py",),
    ),
    Cut(
        "images are flushed before they are named",
        "adapters/sink.py",
        "            os.fsync(self._file)\n",
        "            pass\n",
        ("tests/money/test_system_calls.py",),
    ),
    Cut(
        "the ledger flushes each commit",
        "adapters/ledger_reading.py",
        '"PRAGMA synchronous = FULL"',
        '"PRAGMA synchronous = NORMAL"',
        ("tests/money/test_system_calls.py",),
    ),
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.name)
def test_a_safeguard_that_is_taken_out_is_missed(cut: Cut, tmp_path: Path) -> None:
    for part in ("flux_lora_cli", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / "flux_lora_cli" / cut.file
    text = file.read_text(encoding="utf-8")
    assert text.count(cut.old) == 1, f"{cut.file} has changed: bring this test up to date"
    file.write_text(text.replace(cut.old, cut.new), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", "--timeout", "120", *cut.tests],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1, f"nobody noticed that this was gone: {cut.name}\n{done.stdout[-2000:]}"
