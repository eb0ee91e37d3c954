"""The exit code, and advice that never leads to paying twice: error × state × command."""

from __future__ import annotations

import itertools
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.engine.ending import Left, ending, exit_code
from flux_lora_cli.errors import PRECEDENCE, Advice, ExitCode, FluxLoraError
from flux_lora_cli.folder.records import JobRecord, OutputRecord, State

NOW = datetime.now(UTC)
RECENT, OLD = (NOW - timedelta(hours=1)).isoformat(), (NOW - timedelta(days=8)).isoformat()
COMMANDS = ("batch", "wait", "submit", "submit --wait")
BUYING = COMMANDS[2:]


def record(name: str, state: State, *lacking: str, made: str = RECENT, nsfw: bool | None = False) -> JobRecord:
    lost = state in (State.PLANNED, State.UNKNOWN, State.SUBMITTING, State.SKIPPED)
    outputs = [OutputRecord(n, error=error, nsfw=nsfw) for n, error in enumerate(lacking)]
    outputs = outputs or [OutputRecord(0, file="a.png", nsfw=nsfw)]
    task_id = None if lost else f"task-{name}"
    return JobRecord(name, id=name, state=state, task_id=task_id, task_created_at=made, outputs=outputs)


#: Every way in which a job may be left, and the exit code that it alone means.
LEFT: dict[str, tuple[JobRecord, ExitCode]] = {
    "done": (record("done", State.COMPLETED), ExitCode.OK),
    "skipped": (record("skipped", State.SKIPPED), ExitCode.OK),
    "planned": (record("planned", State.PLANNED), ExitCode.INCOMPLETE),
    "submitting": (record("submitting", State.SUBMITTING), ExitCode.UNKNOWN),
    "unknown": (record("unknown", State.UNKNOWN), ExitCode.UNKNOWN),
    "running": (record("running", State.SUBMITTED), ExitCode.DEADLINE),
    "failed": (record("failed", State.FAILED), ExitCode.INCOMPLETE),
    "late": (record("late", State.COMPLETED, "bad_image: cut"), ExitCode.INCOMPLETE),
    "early": (record("early", State.COMPLETED, "output_expired: 404"), ExitCode.INCOMPLETE),
    "expired": (record("expired", State.COMPLETED, "output_expired: 404", made=OLD), ExitCode.INCOMPLETE),
    "undelivered": (record("undelivered", State.COMPLETED, "not_delivered: 1 of 2", made=OLD), ExitCode.INCOMPLETE),
    "flagged": (record("flagged", State.COMPLETED, nsfw=True), ExitCode.NSFW),
}
PAID = ("running", "late")


def leaves(kind: type[FluxLoraError] = FluxLoraError) -> list[type[FluxLoraError]]:
    """The whole tree of errors, its root first."""
    return [kind, *itertools.chain.from_iterable(leaves(sub) for sub in kind.__subclasses__())]


def end(
    names: list[str], *reasons: FluxLoraError, command: str = "batch"
) -> tuple[ExitCode, dict[ExitCode, FluxLoraError]]:
    records = [LEFT[name][0] for name in names]
    told = {reason.exit_code: reason for reason in reasons}
    reach = ["--base-url", "http://localhost:1"]
    return ending(Left(records), told, True, command=command, reach=reach, folder=Path("a b"))


# ---- codes ----


@pytest.mark.parametrize("name", LEFT)
def test_each_state_has_its_code_and_each_code_an_error_with_advice(name: str) -> None:
    code, told = end([name])
    assert code is LEFT[name][1]
    assert set(told) == ({code} if code else set())
    for error in told.values():
        assert error.exit_code is code
        assert error.message
        assert error.hint or code is ExitCode.NSFW


@pytest.mark.parametrize("name", ["s", "interrupted"])
def test_an_interrupt_names_what_is_of_unknown_outcome_whatever_its_own_words(name: str) -> None:
    told = {ExitCode.INTERRUPTED: errors.Interrupted("interrupted; state is saved")}
    _, told = ending(Left([record(name, State.SUBMITTING)]), told)
    assert f"Of unknown outcome: {name}." in told[ExitCode.INTERRUPTED].hint


def test_a_command_that_does_not_wait_leaves_tasks_running() -> None:
    assert end(["running"], command="submit")[0] is ExitCode.OK
    assert end(["running"], command="submit --wait")[0] is ExitCode.DEADLINE


def test_the_first_code_by_precedence_counts() -> None:
    for one, other in itertools.combinations(PRECEDENCE, 2):
        assert exit_code({one, other}) is one
    assert exit_code(set()) is ExitCode.OK
    assert set(PRECEDENCE) == set(ExitCode) - {ExitCode.OK}
    assert {left.state for left, _ in LEFT.values()} == set(State)
    code, told = end(list(LEFT))
    assert code is ExitCode.UNKNOWN
    assert set(told) == {ExitCode.UNKNOWN, ExitCode.DEADLINE, ExitCode.INCOMPLETE, ExitCode.NSFW}


def test_flags_count_only_when_asked_and_unknown_ones_never() -> None:
    flagged, dumb = LEFT["flagged"][0], record("dumb", State.COMPLETED, nsfw=None)
    assert ending(Left([flagged, dumb]), {})[0] is ExitCode.OK
    assert ending(Left([dumb]), {}, True)[0] is ExitCode.OK


def test_what_follows_from_the_end_of_the_run_is_not_told_twice() -> None:
    used_up = errors.BudgetError("used up", "Raise it.")
    assert set(end(["planned", "running"], used_up)[1]) == {ExitCode.BUDGET}
    assert set(end(["planned", "failed"], used_up)[1]) == {ExitCode.BUDGET, ExitCode.INCOMPLETE}
    code, told = end(["running"], errors.Rejected("the first 10 refused alike"))
    assert (code, set(told)) == (ExitCode.DEADLINE, {ExitCode.DEADLINE, ExitCode.INCOMPLETE})


# ---- advice: error × state × command ----

AGAIN = re.compile(r"same command|run .*again|rerun|--retry-failed", re.IGNORECASE)


@pytest.mark.parametrize("kind", leaves()[1:], ids=lambda kind: kind.__name__)
def test_no_advice_leads_to_paying_twice(kind: type[FluxLoraError]) -> None:
    for left, command in itertools.product(LEFT, COMMANDS):
        check_advice(kind, left, command)


def check_advice(kind: type[FluxLoraError], left: str, command: str) -> None:
    rerun = kind.advice is Advice.RERUN
    reason = kind("it happened", "Run the same command again." if rerun else "Do this.")
    code, told = end([left, "done"], reason, command=command)
    assert code is not ExitCode.OK
    deciding = told[code]
    paid = [(LEFT[left][0].id, LEFT[left][0].task_id)] if left in PAID else []
    assert list(deciding.tasks) == paid  # whatever the code
    held = left in ("unknown", "submitting")
    for error in told.values():
        words = error.hint
        assert len(words) < 400
        assert "resubmit" not in words  # nobody knows that it is absent
        assert ("replay" in words) <= (left == "expired")
        if command in BUYING and (paid or held):
            assert error.advice in (Advice.WAIT, Advice.DECIDE)
            assert not AGAIN.search(words.replace("pay for, everything again", ""))
            assert "Do not repeat this command" in words
        if command != "batch" and paid:
            assert words.endswith(f"flux-lora wait --base-url http://localhost:1 -o 'a b' {paid[0][1]}")
        if held:
            assert left in words or left in error.message
        if command == "batch":
            assert error.advice is not Advice.WAIT


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("command", COMMANDS)
def test_retrying_is_advised_for_what_failed_alone(left: str, command: str) -> None:
    words = " ".join(error.hint for error in end([left], command=command)[1].values())
    assert ("--retry-failed" in words) is (left == "failed" and command == "batch")
    assert ("Submit only what failed" in words) is (left == "failed" and command != "batch")


def test_resubmitting_is_told_of_where_all_are_surely_absent() -> None:
    held = [LEFT["unknown"][0], LEFT["submitting"][0]]
    for absent, told in ((["unknown"], False), (["unknown", "submitting"], True)):
        _, reasons = ending(Left(held, absent), {})
        assert ("--on-unknown resubmit" in reasons[ExitCode.UNKNOWN].hint) is told
        assert reasons[ExitCode.UNKNOWN].advice is Advice.DECIDE


def test_what_a_rerun_cannot_bring_is_not_promised() -> None:
    for name in ("expired", "early", "undelivered"):
        error = end([name])[1][ExitCode.INCOMPLETE]
        assert error.advice is Advice.FIX
        assert not AGAIN.search(error.hint)


def test_a_command_to_be_copied_is_whole_however_many_tasks_it_names() -> None:
    records = [JobRecord(f"k{n}", task_id=f"t{n}", state=State.SUBMITTED) for n in range(1000)]
    code, told = ending(Left(records), {}, command="wait")
    error = told[code]
    assert len(error.tasks) == 1000
    assert shlex.split(error.hint.partition(": ")[2]) == ["flux-lora", "wait", *(f"t{n}" for n in range(1000))]


def test_tasks_of_jobs_no_longer_asked_for_are_named_and_do_not_count() -> None:
    old = [LEFT["running"][0], LEFT["failed"][0]]
    assert ending(Left([LEFT["done"][0]], collected=old), {})[0] is ExitCode.OK
    code, told = ending(Left([LEFT["failed"][0]], collected=old), {})
    assert code is ExitCode.INCOMPLETE
    assert told[code].tasks == (("running", "task-running"),)
