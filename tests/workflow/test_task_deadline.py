"""The time that a task may take counts from its submit, also across runs."""

from __future__ import annotations

from flux_lora_cli.domain.records import State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import ExitCode, Rejected
from flux_lora_cli.workflow.context import Settings
from tests.support import simulation
from tests.support.simulation import PRICE, Sim, jobs


def test_a_task_whose_id_was_lost_still_has_its_time(sim: Sim) -> None:
    sim.service.seconds = 100.0
    assert sim.kill(jobs(1), "submit accepted")
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 1


def test_a_known_task_of_a_killed_run_still_has_its_time(sim: Sim) -> None:
    sim.service.seconds = 100.0
    sim.service.on_call = lambda endpoint: simulation.step(endpoint)
    assert sim.kill(jobs(1), "look")
    assert [record.state for record in sim.records().values()] == [State.SUBMITTED]
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 1


def test_a_task_that_is_stuck_is_left_pending_after_its_time_and_picked_up_again(sim: Sim) -> None:
    sim.service.seconds = 2000.0
    settings = Settings(task_timeout=600.0)
    assert sim.run(jobs(1), settings=settings).outcome.exit_code is ExitCode.DEADLINE
    assert 600.0 <= sim.clock.time - 5000.0 <= 640.0
    before = sim.service.calls["look"]
    # It is overdue now: one look, and no more waiting.
    assert sim.run(jobs(1), settings=settings).outcome.exit_code is ExitCode.DEADLINE
    assert sim.service.calls["look"] == before + 1
    sim.later(2000.0)
    assert sim.run(jobs(1), settings=settings).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 1
    assert [record.state for record in sim.records().values()] == [State.COMPLETED]


def test_many_tasks_of_a_killed_run_are_picked_up_without_any_submit_of_this_one(sim: Sim) -> None:
    turn = iter([0.1, 5.0, 9.0, 20.0] * 1000)
    sim.latency = lambda: next(turn)
    sim.service.seconds = 30.0
    sim.run(jobs(6), settings=Settings(timeout=12.0))
    pending = [record for record in sim.records().values() if record.state is not State.COMPLETED]
    assert len(pending) == 6
    assert sim.run(jobs(6), settings=Settings(on_unknown="resubmit")).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 6


def test_what_was_overdue_says_so_until_it_is_done(sim: Sim) -> None:
    sim.service.seconds = 2000.0
    result = sim.run(jobs(2), settings=Settings(task_timeout=600.0))
    words = "not finished 10 minutes after its submit: still processing"
    assert {(event.job, event.message) for event in sim.told("Overdue")} == {("job-1", words), ("job-2", words)}
    assert [record.error for record in sim.records().values()] == [f"overdue: {words}"] * 2
    reason = result.outcome.reasons[ExitCode.DEADLINE]
    assert reason is not None and reason.message == "2 tasks were not finished 10 minutes after their submit"
    assert {record.error for record in sim.run(jobs(2), settings=Settings(timeout=60.0)).records} == {None}
    sim.later(2000.0)
    assert sim.run(jobs(2)).outcome.exit_code is ExitCode.OK
    assert [(record.state, record.error) for record in sim.records().values()] == [(State.COMPLETED, None)] * 2
    assert sim.service.charged == PRICE * 2


def test_one_task_that_is_overdue_is_one(sim: Sim) -> None:
    sim.service.seconds = 2000.0
    reason = sim.run(jobs(1), settings=Settings(task_timeout=600.0)).outcome.reasons[ExitCode.DEADLINE]
    assert reason is not None and reason.message == "1 task was not finished 10 minutes after its submit"


def test_what_a_removed_job_has_overdue_is_told_and_does_not_count(sim: Sim) -> None:
    sim.service.seconds = 500.0
    settings = Settings(task_timeout=600.0)
    assert sim.run(jobs(2), settings=Settings(timeout=60.0)).outcome.exit_code is ExitCode.DEADLINE
    sim.service.made[1].ready = 1e9
    sim.later(700.0)
    assert sim.run(jobs(1), settings=settings).outcome.exit_code is ExitCode.OK
    assert [event.job for event in sim.told("Overdue")] == ["job-2"]


def test_each_task_that_cannot_be_looked_at_is_told_until_it_is_seen(sim: Sim) -> None:
    sim.service.script = lambda endpoint, number: "down" if endpoint == "look" else None
    result = sim.run(jobs(2))
    assert result.outcome.exit_code is ExitCode.SERVICE
    assert {(event.job, event.message) for event in sim.told("Unseen")} == {
        (name, "could not be looked at: 503") for name in ("job-1", "job-2")
    }
    assert {record.error for record in sim.records().values()} == {"uncertain: could not be looked at: 503"}
    reason = result.outcome.reasons[ExitCode.SERVICE]
    assert reason is not None and "tasks that could not be looked at" in reason.message
    sim.service.script = lambda endpoint, number: None
    assert sim.run(jobs(2)).outcome.exit_code is ExitCode.OK
    assert {record.error for record in sim.records().values()} == {None}
    assert sim.service.charged == PRICE * 2


def test_a_look_that_is_refused_is_told_of_each_task(sim: Sim) -> None:
    def refuse(task_id: str) -> Task:
        raise Rejected("not yours")

    sim.service.result = refuse  # type: ignore[method-assign]
    result = sim.run(jobs(2))
    assert result.outcome.exit_code is ExitCode.DEADLINE  # they may still run
    assert {event.job for event in sim.told("Unseen")} == {"job-1", "job-2"}
    assert {record.state for record in sim.records().values()} == {State.SUBMITTED}
    assert sim.run([], settings=Settings(timeout=60.0)).outcome.exit_code is ExitCode.OK  # of jobs that were removed
