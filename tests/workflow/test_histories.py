"""Random histories of a folder: whatever happens to it, nobody pays twice and nothing paid for is lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flux_lora_cli.adapters.run_folder import RunFolder
from flux_lora_cli.domain.fingerprint import fingerprint
from flux_lora_cli.domain.records import State
from flux_lora_cli.errors import ExitCode, FolderBusy
from flux_lora_cli.workflow.context import Settings
from flux_lora_cli.workflow.runner import Runner
from tests.support import truth
from tests.support.simulation import PRICE, SERVICE, SUBMIT_FAULTS, Sim, SimInbox, job

_ON_UNKNOWN = st.sampled_from(["reconcile", "hold", "resubmit"])
_FAULTS = st.dictionaries(
    st.tuples(st.sampled_from(["submit", "look", "list"]), st.integers(1, 8)),
    st.sampled_from([*SUBMIT_FAULTS, "down", "404", "nonsense"]),
    max_size=4,
)
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Histories(RuleBasedStateMachine):
    """One folder, one service, one preset that is edited now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=_MEMORY, prefix="flux-lora-test-"))
        self.sim = Sim(self.place / "out")
        self.jobs = {number: job(number) for number in range(3)}
        self.ever: set[str] = set()
        self.edits = 0
        self.orderly = False

    @initialize(seconds=st.sampled_from([0.0, 3.0, 100.0]), echo=st.sampled_from(["all", "all", "none"]))
    def service(self, seconds: float, echo: str) -> None:
        self.sim.service.seconds, self.sim.service.echo = seconds, echo

    def _asked(self) -> list:
        asked = list(self.jobs.values())
        self.ever |= {fingerprint(one) for one in asked}
        return asked

    def _set_faults(self, faults: dict) -> None:
        calls = dict(self.sim.service.calls)
        self.sim.service.script = lambda endpoint, number: faults.get((endpoint, number - calls.get(endpoint, 0)))

    @rule(on_unknown=_ON_UNKNOWN, faults=_FAULTS, images=st.none() | st.integers(0, 6))
    def run(self, on_unknown: str, faults: dict, images: int | None) -> None:
        self._set_faults(faults)
        before = len(self.sim.service.made)
        limit = None if images is None else images * PRICE
        self.sim.run(self._asked(), settings=Settings(on_unknown=on_unknown, max_cost=limit))
        self.orderly = True
        if images is not None:
            assert len(self.sim.service.made) <= max(before, images)
        truth.manifest(self.sim.folder, {fingerprint(one) for one in self.jobs.values()})
        self.nothing_paid_for_is_forgotten()

    @rule(step=st.integers(1, 60), on_unknown=_ON_UNKNOWN, faults=_FAULTS)
    def kill(self, step: int, on_unknown: str, faults: dict) -> None:
        self._set_faults(faults)
        self.orderly = not self.sim.kill(self._asked(), step, settings=Settings(on_unknown=on_unknown))

    @rule()
    def run_beside_another(self) -> None:
        refused: list[bool] = []

        def second(runner: Runner, inbox: SimInbox) -> None:
            with pytest.raises(FolderBusy):
                RunFolder(self.sim.folder, SERVICE, self.sim.clock)
            refused.append(True)

        self._set_faults({})
        self.sim.on_runner = second
        self.sim.run(self._asked())
        self.sim.on_runner = lambda runner, inbox: None
        self.orderly = True
        assert refused

    @rule(number=st.integers(0, 4))
    def edit(self, number: int) -> None:
        self.edits += 1
        self.jobs[number] = job(number, f"edit {self.edits}")

    @precondition(lambda self: len(self.jobs) > 1)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        del self.jobs[data.draw(st.sampled_from(sorted(self.jobs)))]

    @rule(data=st.data(), alter=st.booleans())
    def lose_an_image(self, data: st.DataObject, alter: bool) -> None:
        found = sorted(self.sim.folder.glob("*.png"))
        if found:
            path = data.draw(st.sampled_from(found))
            path.write_bytes(b"x") if alter else path.unlink()

    @precondition(lambda self: self.orderly)
    @rule()
    def delete_the_manifest(self) -> None:
        (self.sim.folder / "manifest.json").unlink(missing_ok=True)

    @precondition(lambda self: self.orderly and (self.sim.folder / "manifest.json").exists())
    @rule()
    def delete_the_ledger(self) -> None:
        (self.sim.folder / "ledger.sqlite3").unlink(missing_ok=True)
        self.orderly = False  # until the next run the manifest is all there is

    @rule(seconds=st.sampled_from([1.0, 300.0, 86400.0]))
    def wait(self, seconds: float) -> None:
        self.sim.later(seconds)

    @invariant()
    def nobody_paid_twice(self) -> None:
        assert len(self.sim.service.made) <= len(self.ever)

    def nothing_paid_for_is_forgotten(self) -> None:
        if not (self.sim.folder / "ledger.sqlite3").exists():
            return
        records = self.sim.records().values()
        known = {record.task_id for record in records}
        doubtful = [record.input for record in records if record.state in (State.UNKNOWN, State.SUBMITTING)]
        for made in self.sim.service.made:
            assert made.id in known or made.input in doubtful

    def teardown(self) -> None:
        try:
            self._set_faults({})
            self.sim.service.echo = "all"
            outcome = self.sim.run(self._asked(), settings=Settings(on_unknown="resubmit")).outcome
            failed = any(record.state is State.FAILED for record in self.sim.records().values())
            assert outcome.exit_code is ExitCode.OK or failed
            self.nobody_paid_twice()
            self.nothing_paid_for_is_forgotten()
            # A run looks after the images of the jobs it is asked for; those of removed jobs are the user's.
            asked = {fingerprint(one) for one in self.jobs.values()}
            for entry in truth.manifest(self.sim.folder, asked)["jobs"]:
                if entry["state"] == "completed" and entry["fingerprint"] in asked:
                    assert all(output["file"] for output in entry["outputs"])
        finally:
            shutil.rmtree(self.place)


_EXAMPLES = int(os.environ.get("FLUX_LORA_TEST_HISTORIES", "0"))
_CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


class TestHistories(Histories.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(
        max_examples=_EXAMPLES or 5, stateful_step_count=10, deadline=None, suppress_health_check=_CHECKS
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestManyHistories(Histories.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=150, stateful_step_count=20, deadline=None, suppress_health_check=_CHECKS)
