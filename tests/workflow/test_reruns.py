"""The same command again: what is done is neither paid for nor fetched again; what is not done, is done."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flux_lora_cli.assembly.batches import BatchOptions
from flux_lora_cli.domain.fingerprint import fingerprint
from flux_lora_cli.domain.records import State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import ExitCode, OtherService, UsageError
from flux_lora_cli.workflow.context import Settings
from tests.support import truth
from tests.support.simulation import Made, Sim, job, jobs


def again(sim: Sim, **options: object) -> dict[str, int]:
    """Requests that the same command again makes."""
    before = dict(sim.service.calls)
    outcome = sim.run(jobs(3), options=BatchOptions(**options)).outcome  # type: ignore[arg-type]
    assert outcome.exit_code is ExitCode.OK
    calls = {name: count - before.get(name, 0) for name, count in sim.service.calls.items()}
    return {name: count for name, count in calls.items() if count}


@pytest.fixture
def done(sim: Sim) -> Sim:
    sim.run(jobs(3))
    return sim


def image(sim: Sim, place: int = 1) -> Path:
    return sim.folder / truth.images(sim.folder)[place]


def test_a_finished_folder_asks_nobody_anything(done: Sim) -> None:
    manifest = (done.folder / "manifest.json").read_bytes()
    assert again(done) == {}
    assert again(done, verify=True, retry_failed=True) == {}
    assert [event.earlier for event in done.told("Image")] == [True] * 3
    assert truth.leftovers(done.folder) == []
    assert len((done.folder / "manifest.json").read_bytes()) == len(manifest)


def test_a_deleted_image_is_fetched_again_under_its_name(done: Sim) -> None:
    path = image(done)
    data = path.read_bytes()
    path.unlink()
    assert again(done) == {"look": 1, "download": 1}
    assert path.read_bytes() == data
    assert len(truth.images(done.folder)) == 3


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), {}),
        (lambda path: path.write_bytes(b""), {}),
        (lambda path: (path.write_bytes(path.read_bytes()[::-1]), os.utime(path, (1, 1))), {}),
    ],
    ids=["longer", "empty", "same size, other time"],
)
def test_an_altered_image_is_fetched_again(done: Sim, change: Callable[[Path], object], options: dict) -> None:
    path = image(done)
    data = path.read_bytes()
    change(path)
    assert again(done, **options) == {"look": 1, "download": 1}
    assert path.read_bytes() == data
    assert sorted(os.listdir(done.folder)) == sorted([*truth.images(done.folder), "ledger.sqlite3", "manifest.json"])


def flip(path: Path, place: int) -> None:
    """Alter one byte, and hide it from who looks at size and time only."""
    data, found = bytearray(path.read_bytes()), path.stat()
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("place", [0, 40, -1])
def test_any_altered_byte_is_found_by_verify(done: Sim, place: int) -> None:
    path = image(done)
    data = path.read_bytes()
    flip(path, place)
    assert again(done) == {}
    assert again(done, verify=True) == {"look": 1, "download": 1}
    assert path.read_bytes() == data


def test_a_touched_image_is_still_the_image(done: Sim) -> None:
    os.utime(image(done), (1, 1))
    assert again(done) == {}
    assert again(done) == {}


@pytest.mark.parametrize("fault", ["gone", "404"])
def test_an_image_that_cannot_be_had_again_is_named_and_not_paid_for(done: Sim, fault: str) -> None:
    path = image(done, 0)
    path.unlink()
    done.service.gone = {f"https://cdn.example/{made.id}.png" for made in done.service.made}
    if fault == "404":
        done.service.script = lambda endpoint, number: "404" if endpoint == "look" else None
    assert done.run(jobs(3)).outcome.exit_code is ExitCode.INCOMPLETE
    assert len(done.told("Missing")) == 1
    assert len(done.service.made) == 3
    errors = [output["error"] for entry in truth.manifest(done.folder)["jobs"] for output in entry["outputs"]]
    assert [error[:14] for error in errors if error] == ["output_expired"]


# ---- which jobs are the same -----------------------------------------------------------------


def test_one_edited_job_of_many_is_one_charge(sim: Sim) -> None:
    asked = jobs(40)
    sim.run(asked)
    asked[17] = job(18, "a dog instead")
    assert sim.run(asked).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 41
    assert len(truth.images(sim.folder)) == 41  # nothing is thrown away


def test_a_renamed_or_moved_job_is_the_same(sim: Sim) -> None:
    sim.run(jobs(3))
    renamed = [job(9, "a cat 3"), job(8, "a cat 1"), job(7, "a cat 2")]
    assert sim.run(renamed).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 3
    assert sorted(entry["id"] for entry in truth.manifest(sim.folder)["jobs"]) == ["job-7", "job-8", "job-9"]


def test_duplicates_are_made_once_and_told(sim: Sim) -> None:
    twice = [*jobs(2), job(7, "a cat 1"), job(8, "a cat 1")]
    result = sim.run(twice)
    assert len(sim.service.made) == 2
    assert result.plan.duplicates == [("job-7", "job-1"), ("job-8", "job-1")]
    assert [entry["aliases"] for entry in truth.manifest(sim.folder)["jobs"]] == [["job-7", "job-8"], []]
    assert sim.told("Plan")[0].duplicates == 2
    sim.run(jobs(2))
    assert [entry["aliases"] for entry in truth.manifest(sim.folder)["jobs"]] == [[], []]


def test_repeats_are_not_duplicates(sim: Sim) -> None:
    sim.run([job(1, "a cat", repeat=number) for number in (1, 2, 3)])
    assert len({made.input["seed"] for made in sim.service.made}) == 3


def test_a_drawn_seed_is_kept_when_the_submit_is_made_later(sim: Sim) -> None:
    sim.service.script = lambda endpoint, number: "401" if endpoint == "submit" else None
    sim.run(jobs(1))
    (record,) = sim.records().values()
    seed = (record.input or {})["seed"]
    sim.service.script = lambda endpoint, number: None
    sim.run(jobs(1))
    assert [made.input["seed"] for made in sim.service.made] == [seed]
    assert 0 <= seed < 2**31


def test_a_failed_job_is_submitted_again_only_when_asked(sim: Sim) -> None:
    sim.service.script = lambda endpoint, number: "failed" if endpoint == "submit" and number == 2 else None
    assert sim.run(jobs(3)).outcome.exit_code is ExitCode.INCOMPLETE
    assert sim.run(jobs(3)).outcome.exit_code is ExitCode.INCOMPLETE
    assert len(sim.service.made) == 3
    assert sim.run(jobs(3), options=BatchOptions(retry_failed=True)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 4
    assert truth.manifest(sim.folder)["summary"]["cost_usd"] == "0.06"


def test_only_some_leaves_the_others_alone(sim: Sim) -> None:
    options = BatchOptions(only_some=True)
    assert sim.run(jobs(5)[1:3], options=options).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 2
    sim.run(jobs(5))
    assert len(sim.service.made) == 5


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shards_are_the_whole_and_share_no_job(sim: Sim, parts: int) -> None:
    asked = jobs(20)
    found: list[str] = []
    for part in range(1, parts + 1):
        folder = sim.folder / str(part)
        assert sim.run(asked, folder=folder, options=BatchOptions(shard=(part, parts))).outcome.exit_code is ExitCode.OK
        found += sim.records(folder)
    assert sorted(found) == sorted(fingerprint(one) for one in asked)
    assert len(sim.service.made) == 20


def test_the_part_that_an_engine_named_is_durable_before_the_first_submit(sim: Sim) -> None:
    first, then = (BatchOptions(shard=shard, engine="Slurm") for shard in ((1, 2), (1, 1)))
    assert sim.kill(jobs(20), "before submit", options=first)
    with pytest.raises(UsageError, match=r"has part 1/2, .* Slurm now says 1/1"):
        sim.run(jobs(20), options=then)
    assert not sim.service.made


def test_what_a_removed_job_has_in_flight_is_collected(sim: Sim) -> None:
    sim.service.seconds = 500.0
    assert sim.run(jobs(3), settings=Settings(timeout=60.0)).outcome.exit_code is ExitCode.DEADLINE
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == len(truth.images(sim.folder)) == 3


# ---- ledger and manifest ---------------------------------------------------------------------


def test_a_deleted_ledger_is_rebuilt_and_nothing_is_paid_again(done: Sim) -> None:
    (done.folder / "ledger.sqlite3").unlink()
    assert again(done) == {}
    assert {record.state for record in done.records().values()} == {State.COMPLETED}


def test_a_deleted_ledger_and_image_cost_one_download(done: Sim) -> None:
    (done.folder / "ledger.sqlite3").unlink()
    image(done).unlink()
    assert again(done) == {"look": 1, "download": 1}


def test_a_deleted_manifest_is_written_again(done: Sim) -> None:
    (done.folder / "manifest.json").unlink()
    assert again(done) == {}
    assert len(truth.images(done.folder)) == 3


def test_a_ledger_that_was_deleted_after_a_kill_keeps_what_the_manifest_shows(sim: Sim) -> None:
    sim.service.script = lambda endpoint, number: "late" if endpoint == "submit" and number == 2 else None
    sim.run(jobs(3), settings=Settings(on_unknown="hold"))
    (sim.folder / "ledger.sqlite3").unlink()
    assert sim.run(jobs(3)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 3


def test_a_folder_of_another_service_is_refused_before_any_request(done: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(done.service.calls)
    monkeypatch.setattr("tests.support.simulation.SERVICE", "https://other.example")
    for missing in (None, "ledger.sqlite3"):
        if missing:
            (done.folder / missing).unlink()
        with pytest.raises(OtherService, match="belongs to"):
            done.run(jobs(3))
    assert done.service.calls == before


def test_an_image_that_the_service_has_no_more_is_told_by_every_run(sim: Sim) -> None:
    show = sim.service._task

    def with_another(made: Made, inputs: bool = False) -> Task:
        task = show(made, inputs)
        return (
            replace(task, outputs=(*task.outputs, "https://cdn.example/other.png"), nsfw=()) if task.outputs else task
        )

    sim.service._task = with_another  # type: ignore[method-assign]
    sim.service.gone = {"https://cdn.example/other.png"}
    sim.run(jobs(1))
    sim.service._task = show  # type: ignore[method-assign]
    for earlier in (False, True, True):
        assert [(event.index, event.code, event.earlier) for event in sim.told("Missing")] == [
            (1, "output_expired", earlier)
        ]
        sim.later(100.0)
        assert sim.run(jobs(1)).outcome.exit_code is ExitCode.INCOMPLETE


def test_a_failure_is_told_by_every_run_with_its_reason(sim: Sim) -> None:
    sim.service.script = lambda endpoint, number: "failed" if endpoint == "submit" and number == 2 else None
    for earlier in (False, True, True):
        assert sim.run(jobs(3)).outcome.exit_code is ExitCode.INCOMPLETE
        assert [(e.job, e.task, e.code, e.message, e.earlier) for e in sim.told("Failed")] == [
            ("job-2", "task0002", "task_failed", "content moderation", earlier)
        ]
