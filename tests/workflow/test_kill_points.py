"""A kill between any two effects, then the same command again: paid once, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flux_lora_cli.domain.records import State
from flux_lora_cli.errors import ExitCode
from flux_lora_cli.workflow.context import Settings
from tests.support import simulation, truth
from tests.support.simulation import Sim, jobs

RESUBMIT = Settings(on_unknown="resubmit")


def killed_runs(
    new_sim: Callable[[], Sim], count: int, latencies: tuple[float, ...] = (0.05,)
) -> list[tuple[str, Sim]]:
    """A folder for every step at which the first run can be killed."""
    found = []
    number = 0
    while True:
        number += 1
        sim = new_sim()
        turn = iter(latencies * 1000)
        sim.latency = lambda turn=turn: next(turn)  # type: ignore[misc]
        if not sim.kill(jobs(count), number):
            return found
        found.append((f"{number}: {simulation._steps[-1]}", sim))


def settled(sim: Sim, count: int) -> None:
    """All is done: each job charged once, each image there; and once more costs nothing at all."""
    assert len(sim.service.made) == count
    assert len(truth.images(sim.folder)) == count
    before = dict(sim.service.calls)
    assert sim.run(jobs(count)).outcome.exit_code is ExitCode.OK
    assert sim.service.calls == before


# Answers in turn, and in the opposite order of the requests.
@pytest.mark.parametrize("latencies", [(0.05,), pytest.param((0.4, 0.2, 0.1, 0.05), marks=pytest.mark.slow)])
def test_a_kill_at_every_step(new_sim: Callable[[], Sim], latencies: tuple[float, ...]) -> None:
    points = killed_runs(new_sim, 3, latencies)
    assert len(points) > 40
    for point, sim in points:
        charged = len(sim.service.made)
        code = sim.run(jobs(3)).outcome.exit_code
        unsent = [record for record in sim.records().values() if record.state is State.UNKNOWN]
        assert code is (ExitCode.UNKNOWN if unsent else ExitCode.OK), point
        # What was not found was never accepted; the rest is there.
        assert len(sim.service.made) == 3 - len(unsent), point
        assert len(truth.images(sim.folder)) == 3 - len(unsent), point
        assert charged <= 3, point
        assert sim.run(jobs(3), settings=RESUBMIT).outcome.exit_code is ExitCode.OK, point
        settled(sim, 3)


def test_a_kill_where_the_list_does_not_answer(new_sim: Callable[[], Sim]) -> None:
    for point, sim in killed_runs(new_sim, 3)[::3]:
        sim.service.script = lambda endpoint, number: "down" if endpoint == "list" else None
        outcome = sim.run(jobs(3)).outcome
        records = sim.records().values()
        held = [record for record in records if record.state is State.UNKNOWN]
        assert outcome.exit_code is (ExitCode.UNKNOWN if held else ExitCode.OK), point
        assert len(sim.service.made) <= 3, point
        assert len(truth.images(sim.folder)) == 3 - len(held), point
        assert {record.id for record in held} == {event.job for event in sim.events if type(event).__name__ == "Held"}
        sim.service.script = lambda endpoint, number: None
        sim.run(jobs(3), settings=RESUBMIT)
        settled(sim, 3)


def test_a_kill_of_the_rerun_as_well(new_sim: Callable[[], Sim]) -> None:
    first = len(killed_runs(new_sim, 2))
    for number in range(1, first, 8):
        for again in range(1, first, 9):
            sim = new_sim()
            sim.kill(jobs(2), number)
            sim.kill(jobs(2), again)
            sim.run(jobs(2))
            assert len(sim.service.made) <= 2, (number, again)
            sim.run(jobs(2), settings=RESUBMIT)
            settled(sim, 2)


def test_a_kill_where_a_deleted_ledger_is_rebuilt(new_sim: Callable[[], Sim]) -> None:
    number = 0
    alive = False
    while not alive:
        number += 1
        sim = new_sim()
        sim.run(jobs(2))
        (sim.folder / "ledger.sqlite3").unlink()
        alive = not sim.kill(jobs(2), number)
        assert sim.run(jobs(2)).outcome.exit_code is ExitCode.OK
        settled(sim, 2)
    assert number > 2


def test_a_submit_leaves_only_after_its_intent_and_a_look_only_after_its_id(sim: Sim) -> None:
    def check(endpoint: str) -> None:
        records = sim.records().values() if endpoint in ("submit", "look") else ()
        states = [record.state for record in records]
        if endpoint == "submit":
            assert states.count(State.SUBMITTING) >= 1
            accepted = states.count(State.SUBMITTED) + states.count(State.COMPLETED)
            assert sim.service.calls["submit"] <= states.count(State.SUBMITTING) + accepted
        if endpoint == "look":
            assert {made.id for made in sim.service.made} >= {r.task_id for r in records if r.task_id}
            assert any(record.task_id for record in records)

    sim.service.on_call = check
    assert sim.run(jobs(5)).outcome.exit_code is ExitCode.OK
