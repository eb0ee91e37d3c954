"""What went wrong with a job is told with its name and reason: under -q, to programs, to GitHub, and in reruns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Cli

Service = Callable[..., dict[str, str]]
QUIET = ("--format", "github", "-q")


def _jobs(folder: Path, count: int) -> Path:
    lines = [f"  - {{id: job{n:02d}, prompt: a cat {n}, seed: 1}}\n" for n in range(1, count + 1)]
    path = folder / "many.yaml"
    path.write_text(f"version: 1\ndefaults: {{size: 512*512}}\njobs:\n{''.join(lines)}")
    return path


@pytest.mark.parametrize(
    ("fault", "options", "code", "words"),
    [
        ("look:failed=1200", [], 6, r": failed (task "),
        pytest.param("submit:400", [], 6, ": failed: ", marks=pytest.mark.slow),
        pytest.param("download:404", [], 6, ": image 0 is missing: ", marks=pytest.mark.slow),
        ("submit:reset-after", ["--on-unknown", "hold"], 13, ": held: "),
    ],
)
def test_each_job_that_went_wrong_is_named_under_q_also_by_a_rerun(
    cli: Cli, service: Service, preset: Path, fault: str, options: list[str], code: int, words: str
) -> None:
    env = service(fault)
    for words_now in (words, words.replace("failed", "failed in an earlier run")):
        done = cli("batch", preset, "-o", "out", *QUIET, *options, env=env)
        assert done.code == code
        told = [line for line in done.err.splitlines() if words_now in line and not line.startswith("::")]
        assert sorted(line.partition(":")[0] for line in told) == ["one", "three", "two"]
        marked = [line for line in done.err.splitlines() if line.startswith("::error::") and words_now in line]
        assert len(marked) == 3


def test_q_says_nothing_of_what_went_well(cli: Cli, service: Service, preset: Path) -> None:
    assert cli("batch", preset, "-o", "out", *QUIET, env=service()).err == ""


@pytest.mark.parametrize(("count", "shown"), [pytest.param(3, 3, marks=pytest.mark.slow), (12, 10)])
def test_a_rerun_names_what_failed_before(cli: Cli, service: Service, tmp_path: Path, count: int, shown: int) -> None:
    env, path = service("look:failed=1200"), _jobs(tmp_path, count)
    first = cli("batch", path, "-o", "out", "--json", env=env)
    failed = [event for event in first.events if event["event"] == "failed"]
    assert {event["earlier"] for event in failed} == {False}
    for options in ((), QUIET):
        again = cli("batch", path, "-o", "out", *options, env=env)
        assert again.code == 6
        lines = again.err.splitlines()
        told = [line for line in lines if ": failed in an earlier run (task " in line and not line.startswith("::")]
        assert [line.partition(":")[0] for line in told] == [f"job{n:02d}" for n in range(1, shown + 1)]
        assert all(line.partition("): ")[2] for line in told)
        rest = "and 2 more jobs failed in an earlier run; the manifest names them"
        assert (rest in lines) == (count > shown)
        if options:
            marked = [line for line in lines if line.startswith("::error::")]
            assert len(marked) == shown + (count > shown) + 1  # and the reason for the exit code
    again = cli("batch", path, "-o", "out", "--json", env=env)
    earlier = [event for event in again.events if event["event"] == "failed"]
    key = ("job", "task", "code", "message")
    assert sorted([event[k] for k in key] for event in earlier) == sorted([event[k] for k in key] for event in failed)
    assert {event["earlier"] for event in earlier} == {True}


@pytest.mark.slow
def test_what_is_submitted_again_has_not_failed(cli: Cli, service: Service, preset: Path) -> None:
    env = service("look:failed=1200:first=1")
    assert cli("batch", preset, "-o", "out", env=env).code == 6
    again = cli("batch", preset, "-o", "out", "--retry-failed", "-q", env=env)
    assert (again.code, again.err) == (0, "")


def test_each_task_that_is_overdue_is_named_and_the_reason_counts_them(
    cli: Cli, service: Service, preset: Path
) -> None:
    env = service(service_time=(60.0, 60.0))
    for run in ("first", "rerun"):
        done = cli("batch", preset, "-o", "out", *QUIET, "--task-timeout", "1", "--poll-interval", "0.5", env=env)
        assert done.code == 9, run
        lines = done.err.splitlines()
        told = [line for line in lines if ": overdue (task " in line and not line.startswith("::")]
        assert sorted(line.partition(":")[0] for line in told) == ["one", "three", "two"]
        assert all(line.endswith("): not finished 1 second after its submit: still processing") for line in told)
        assert [line for line in lines if line.startswith("error: ")] == [
            "error: 3 tasks were not finished 1 second after their submit"
        ]
        assert len([line for line in lines if line.startswith("::error::")]) == 4
    told_too = cli("batch", preset, "-o", "out", "--json", "--task-timeout", "1", env=env)
    assert sorted(event["job"] for event in told_too.events if event["event"] == "overdue") == ["one", "three", "two"]
