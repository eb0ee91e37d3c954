"""Each safeguard taken out once: some test has to notice. Slow, for every change runs tests anew."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.conftest import ROOT


@dataclass(frozen=True)
class Cut:
    """A safeguard, and the change that takes it out.

    Attributes:
        old, new: a text that stands in the file once, and what takes its place.
        tests: which have to notice, as a shell gives them to pytest.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


_KILLS = "tests/money/test_kills.py -k server_kills_a_middle"
_ORDER = "tests/money/test_system_calls.py -k every_step"
_ROWS = "tests/faults/test_rows.py -m 'slow or not slow' -k "
_RERUNS = "tests/money/test_reruns.py -k "
_SPENDING = "tests/money/test_spending.py -k "

CUTS = [
    Cut("the intent is durable before the POST", "engine/run.py",
        "await self.save(record)\n            self.calls.check_open()", "self.calls.check_open()", _KILLS),
    Cut("the ID is durable before the first poll", "engine/run.py",
        "        note_task(record, task)\n        await self.save(record)", "        note_task(record, task)", _ORDER),
    Cut("an intent without an answer is unknown, not planned", "engine/run.py",
        "        if record.state is State.PLANNED:\n            task = await self.submit(work)",
        "        if record.state in (State.PLANNED, State.SUBMITTING):\n            record.state = State.PLANNED\n"
        "            task = await self.submit(work)", _KILLS),
    Cut("only what was surely not taken counts as not taken", "engine/run.py",
        "NOT_TAKEN = (*FATAL, NeverSent,", "NOT_TAKEN = (*FATAL, ServiceError,",
        _ROWS + "'found-reset or held-503'"),
    Cut("tasks of others are left out", "engine/reconcile.py",
        " if task not in claimed}", "}", _SPENDING + "another_folder"),
    Cut("the list is read before anything is sent again", "engine/reconcile.py",
        '        if run.settings.on_unknown == "hold":', '        if run.settings.on_unknown == "resubmit":\n'
        '            return Verdict("x", resubmit=True)\n        if False:', _ROWS + "resubmit-finds"),
    Cut("beside a candidate nothing is sent again", "engine/reconcile.py",
        "if found:  # sending", "if False:  # sending", _ROWS + "beside-a-candidate"),
    Cut("every page of the list is read", "engine/reconcile.py",
        "for page in range(1, MAX_PAGES + 1)", "for page in range(1, 2)", _SPENDING + "to_its_end"),
    Cut("the price is reserved before the submission", "engine/calls.py",
        "            self.spent += price or ZERO\n", "",
        _SPENDING + "stops_in_time"),
    Cut("earlier runs count", "engine/batch.py",
        "session.calls.spent = charged or ZERO", "session.calls.spent = ZERO", _SPENDING + "over_kills"),
    Cut("an unknown price is not zero", "engine/budget.py",
        "        return price_not_known(option)", "        planned = ZERO",
        "tests/engine/test_plan.py -k over_the_limit"),
    Cut("a folder is held by a lock on itself", "folder/files.py",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "            pass",
        _RERUNS + "second_batch"),
    Cut("the ledger keeps two batches apart", "folder/ledger.py",
        'if self._holder is not None and self.meta("holder") != self._holder:', "if False:",
        "tests/folder/test_ledger.py -k lost_its_hold"),
    Cut("nothing foreign is in the ledger", "folder/ledgerfile.py",
        "if set(found) != _SCHEMA or len(found) != len(_SCHEMA):", "if False:",
        "tests/folder/test_ledger.py -k somebody_changed"),
    Cut("what the manifest shows as bought is bought", "folder/output.py",
        "if joined != mine:", "if False:", _RERUNS + "either_shows"),
    Cut("ledger and manifest belong together", "folder/ledger.py",
        "if created_at not in (None, ledger.created_at):", "if False:",
        _RERUNS + "of_another_folder"),
    Cut("images without ledger and manifest are not bought again", "engine/batch.py",
        "        if is_new(folder):", "        if False:",
        _RERUNS + "images_of_ours"),
    Cut("images that ledger and manifest do not know are not bought again", "engine/batch.py",
        "await in_thread(check_orphans, opened.path, opened.records.values(), fingerprints, confirm_orphans)",
        "pass", _RERUNS + "older_copies"),
    Cut("an image has its name in the ledger before it has it on disk", "engine/fetch.py",
        "            await run.save(record)\n        except Fold", "            pass\n        except Fold", _ORDER),
    Cut("images are flushed before they are named", "folder/images.py",
        "            os.fsync(self._file)\n", "            pass\n", _ORDER),
    Cut("a name is flushed before the ledger calls it saved", "engine/fetch.py",
        "        self._images.sync(name for _, name, _ in images)\n", "", _ORDER),
    Cut("the ledger flushes each commit", "folder/ledgerfile.py",
        '    database.execute("PRAGMA synchronous = FULL")', '    database.execute("PRAGMA synchronous = OFF")',
        _ORDER),
    Cut("an end waits for an image that is being saved", "engine/fetch.py",
        "                with run.unbroken():\n", "                if True:\n",
        "tests/money/test_interrupts.py -k whole_is_kept"),
    Cut("where no task can be polled, no more are bought", "engine/follow.py",
        "        run.calls.stuck(record, error.message)\n", "", _SPENDING + "refused_for_good"),
    Cut("what was paid for when the folder went away is not bought again", "engine/batch.py",
        "        await in_thread(_take_over_left, opened, observer)\n", "",
        "tests/money/test_later.py -k 'collects_what_was_paid and deleted'"),
    Cut("fewer images than asked for are missing", "engine/fetch.py",
        "range(max(len(task.outputs), record.images_asked if record.input else 0))", "range(len(task.outputs))",
        _ROWS + "few-outputs"),
    Cut("images that are late are waited for", "engine/fetch.py", "LATE = 120.0", "LATE = 0.0", _ROWS + "image-403:3"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.name)
def test_a_safeguard_that_is_taken_out_is_missed(
    cut: Cut, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("cut")
    for part in ("flux_lora_cli", "tests"):
        shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    file = place / "flux_lora_cli" / cut.file
    text = file.read_text(encoding="utf-8")
    assert text.count(cut.old) == 1, f"{cut.file} has changed: bring this test up to date"
    file.write_text(text.replace(cut.old, cut.new), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *shlex.split(cut.tests)],
        cwd=place,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(place)},
    )
    shutil.rmtree(place, ignore_errors=True)
    assert done.returncode == 1, f"nobody noticed that this was gone: {cut.name}\n{done.stdout[-2000:]}"
