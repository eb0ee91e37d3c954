"""The manifest on disk: true, whole at every moment, small in memory."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_samples import (
    SERVICE,
    check_schema,
    completed,
    head,
    manifest,
    names,
    planned,
    python,
    submitted,
    write_folder,
)

from flux_lora_cli import errors
from flux_lora_cli.adapters.manifest_file import ManifestFile, read_entries, read_head, read_manifest
from flux_lora_cli.adapters.rebuild import manifest_records, rebuild
from flux_lora_cli.domain.manifest import Cadence, decimal_text, document, summary
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State


def test_the_document_is_the_contracts(tmp_path: Path) -> None:
    write_folder(tmp_path, [completed(1, aliases=("dusk",))])
    written = manifest(tmp_path)
    assert list(written) == [
        "version", "tool", "service", "sandbox", "created_at", "updated_at", "sources", "summary", "jobs"
    ]  # fmt: skip
    assert written["summary"] == {
        "jobs": 1, "completed": 1, "failed": 0, "unknown": 0, "pending": 0, "skipped": 0,
        "images": 1, "missing": 0, "nsfw": 0, "nsfw_unknown": 0, "cost_usd": "0.015",
    }  # fmt: skip
    (job,) = written["jobs"]
    assert list(job) == [
        "id", "aliases", "preset", "fingerprint", "state", "request", "task", "outputs", "attempts", "cost_usd",
        "error",
    ]  # fmt: skip
    assert list(job["task"]) == ["id", "model", "status", "created_at", "execution_ms", "error", "matched_by"]
    assert list(job["outputs"][0]) == [
        "index", "url", "nsfw", "file", "sha256", "bytes", "width", "height", "media_type", "saved_at", "error"
    ]  # fmt: skip
    assert (job["aliases"], job["cost_usd"], job["request"]["input"]["seed"]) == (["dusk"], "0.015", 1)


def test_the_file_is_private_readable_text_with_a_line_for_each_job(tmp_path: Path) -> None:
    write_folder(tmp_path, [planned(0), planned(1)])
    path = tmp_path / "manifest.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line.rstrip(","))["id"] for line in lines[9:-1]] == ["dawn/0", "dawn/1"]
    assert "é" in lines[9]
    assert names(tmp_path) == {"ledger.sqlite3", "manifest.json"}


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_streamed_and_whole_are_the_same(tmp_path: Path, count: int) -> None:
    records = [completed(number) for number in range(count)]
    ManifestFile(tmp_path, head()).write(iter(records))
    assert manifest(tmp_path) == document(head(), records)
    assert list(read_entries(tmp_path)) == manifest(tmp_path)["jobs"]
    assert read_head(tmp_path) == {**manifest(tmp_path), "jobs": []}
    check_schema(tmp_path)


def test_half_a_surrogate_pair_does_not_stop_it(tmp_path: Path) -> None:
    ManifestFile(tmp_path, head()).write([planned(0, input={"prompt": "\ud83d cat \u2028"})])
    assert manifest(tmp_path)["jobs"][0]["request"]["input"]["prompt"] == "\ud83d cat \u2028"


def test_counts() -> None:
    def outputs(*kinds: OutputRecord) -> list[OutputRecord]:
        return list(kinds)

    records = [
        planned(0),
        planned(1, state=State.SUBMITTING, attempts=1, price=Decimal("0.01")),
        submitted(2),
        planned(3, state=State.UNKNOWN, attempts=1, price=None),
        planned(4, state=State.FAILED, attempts=2, price=Decimal("0.020")),
        planned(5, state=State.SKIPPED),
        submitted(
            6,
            state=State.COMPLETED,
            outputs=outputs(
                OutputRecord(0, file="a.png", nsfw=True),
                OutputRecord(1, nsfw=None),
                OutputRecord(2, nsfw=False, left_out=True),
                OutputRecord(3, nsfw=False, error="output_expired: gone"),
            ),
        ),
    ]
    assert summary(records) == {
        "jobs": 7, "completed": 1, "failed": 1, "unknown": 1, "pending": 3, "skipped": 1, "images": 1, "missing": 2,
        "nsfw": 1, "nsfw_unknown": 1, "cost_usd": "0.06",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("0.0150", "0.015"), ("1E+3", "1000"), ("1E-7", "0.0000001"), ("-0", "0"), ("150.00", "150")],
)
def test_money_is_plain_digits(amount: str, text: str) -> None:
    assert decimal_text(Decimal(amount)) == text


_REPLACE_FOREVER = """
import sys; from pathlib import Path; from records_samples import *
file = ManifestFile(Path(sys.argv[1]), head())
for size in range(1, 100000):
    file.write([completed(number) for number in range(size % 300)])
    print(flush=True)
"""


def test_it_is_whole_at_every_moment_and_after_a_kill(tmp_path: Path) -> None:
    writer = python(_REPLACE_FOREVER, tmp_path)
    assert writer.stdout is not None
    writer.stdout.readline()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        jobs = read_manifest(tmp_path)["jobs"]
        assert read_manifest(tmp_path)["version"] == 1 and isinstance(jobs, list)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    check_schema(tmp_path)
    assert all(name == "manifest.json" or name.startswith(".") for name in names(tmp_path))


def test_a_failing_write_leaves_the_one_before(tmp_path: Path) -> None:
    file = ManifestFile(tmp_path, head())
    file.write([planned(0)])

    def failing() -> Iterator[JobRecord]:
        yield planned(1)
        raise OSError(28, "No space left on device")

    class Failing:
        def __iter__(self) -> Iterator[JobRecord]:
            return failing()

    with pytest.raises(errors.DiskFull):
        file.write(Failing())
    assert [job["id"] for job in manifest(tmp_path)["jobs"]] == ["dawn/0"]
    assert names(tmp_path) == {"manifest.json"}


def test_memory_does_not_grow_with_the_jobs(tmp_path: Path) -> None:
    class Many:
        def __init__(self, count: int) -> None:
            self.count = count

        def __iter__(self) -> Iterator[JobRecord]:
            return (completed(number) for number in range(self.count))

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            ManifestFile(tmp_path, head()).write(Many(count))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(3000)  # more than is kept in memory
    assert peak(9000) < few * 1.2


def test_cadence_follows_what_a_write_takes() -> None:
    cadence = Cadence()
    assert not cadence.due(100.0)
    cadence.touch()
    assert cadence.due(100.0)
    cadence.wrote(100.0, 100.01)
    assert not cadence.due(200.0)
    cadence.touch()
    assert not cadence.due(104.0)
    assert cadence.due(105.01)
    cadence.wrote(200.0, 201.0)
    cadence.touch()
    assert not cadence.due(220.9)
    assert cadence.due(221.0)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": 1e999}', "[]", "null", '{"a": NaN}', "\xff"])
def test_what_is_no_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, "latin-1")
    with pytest.raises(errors.ManifestDamaged, match="damaged"):
        rebuild(tmp_path, SERVICE)


def test_no_manifest_rebuilds_nothing(tmp_path: Path) -> None:
    assert rebuild(tmp_path, SERVICE) == []
    assert read_manifest(tmp_path) is None


def test_a_rebuilt_ledger_knows_what_was_paid_for(tmp_path: Path) -> None:
    records = [
        planned(0),
        planned(1, state=State.SUBMITTING, attempts=1, price=Decimal("0.01")),
        planned(2, state=State.UNKNOWN, attempts=2, price=Decimal("0.02")),
        submitted(3),
        completed(4, folder=tmp_path),
        planned(5, state=State.FAILED, attempts=1, price=Decimal("0.01"), error="rejected: no"),
        JobRecord(key="task:abc", order=6, state=State.COMPLETED, task_id="abc"),
    ]
    write_folder(tmp_path, records)
    (tmp_path / "ledger.sqlite3").unlink()
    found = rebuild(tmp_path, SERVICE)
    for record in records:
        record.intent_at = None  # a manifest does not tell
    assert found == records


def test_a_rebuilt_image_counts_only_when_every_byte_matches(tmp_path: Path) -> None:
    write_folder(tmp_path, [completed(number, folder=tmp_path) for number in range(4)])
    (tmp_path / "image-1.png").unlink()
    (tmp_path / "image-2.png").write_bytes(b"x" * (tmp_path / "image-2.png").stat().st_size)
    outside = tmp_path.with_name(tmp_path.name + "-outside")
    (tmp_path / "image-3.png").rename(outside)
    (tmp_path / "image-3.png").symlink_to(outside)
    found = rebuild(tmp_path, SERVICE)
    assert [record.outputs[0].file for record in found] == ["image-0.png", None, None, None]
    assert [record.outputs[0].url is not None for record in found] == [True] * 4
    assert {record.state for record in found} == {State.COMPLETED}


def test_a_folder_of_another_service_is_known_by_its_manifest(tmp_path: Path) -> None:
    write_folder(tmp_path, [planned(0)], "sandbox")
    with pytest.raises(errors.OtherService, match="sandbox"):
        rebuild(tmp_path, SERVICE)


@pytest.mark.parametrize(
    "path",
    [
        "../x.png", "/etc/x.png", "a/../../x.png", "..\\x.png", "C:x.png", "C:\\x.png", "\\\\host\\x.png", "a//x.png",
        "", ".", "..", "a/./x.png", ".hidden.png", "a/.hidden.png", "x.png\n", "a\0.png", "manifest.json",
        "MANIFEST.JSON", "index.html", "ledger.sqlite3", "ledger.sqlite3-wal", "inputs/" + "0" * 64 + ".png",
        "x" * 5000, "a. /x.png", "con:x",
    ],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    write_folder(tmp_path, [completed(0)])
    text = (tmp_path / "manifest.json").read_text("utf-8").replace('"image-0.png"', json.dumps(path))
    (tmp_path / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(errors.ManifestDamaged, match="file"):
        list(manifest_records(tmp_path))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _places(value: object, at: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*at, name)
        yield from _places(inner, (*at, name))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_value_in_any_place_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = document(head(), [completed(0), submitted(1)])
    place = data.draw(st.sampled_from(list(_places(whole))))
    inner = whole
    for name in place[:-1]:
        inner = inner[name]  # type: ignore[index]
    inner[place[-1]] = data.draw(_JSON)  # type: ignore[index]
    folder = tmp_path_factory.mktemp("any")
    (folder / "manifest.json").write_text(json.dumps(whole))
    try:
        found = rebuild(folder, SERVICE)
    except errors.FolderError:
        return
    assert len(found) == len(whole["jobs"])
    assert all(record.key for record in found)


def test_two_entries_of_one_job_are_both_kept(tmp_path: Path) -> None:
    ManifestFile(tmp_path, head()).write([submitted(0, "a"), submitted(0, "b")])
    assert [record.key for record in manifest_records(tmp_path)] == [planned(0).key, "task:b"]
    ManifestFile(tmp_path, head()).write([submitted(0, "a"), planned(0)])
    with pytest.raises(errors.ManifestDamaged, match="fingerprint of another"):
        list(manifest_records(tmp_path))


def test_a_newer_manifest_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, [planned(0)])
    text = (tmp_path / "manifest.json").read_text("utf-8").replace('"version": 1', '"version": 2', 1)
    (tmp_path / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(errors.LedgerNewer, match="later flux-lora"):
        rebuild(tmp_path, SERVICE)


def test_a_manifest_that_was_laid_out_anew_is_read_as_well(tmp_path: Path) -> None:
    write_folder(tmp_path, [completed(0), submitted(1)])
    before = list(manifest_records(tmp_path))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(tmp_path), indent=4))
    assert list(manifest_records(tmp_path)) == before


@pytest.mark.parametrize("jobs", ["", ', "jobs": null', ', "jobs": {}', ', "jobs": "none"'])
def test_a_manifest_without_its_jobs_is_not_one_without_any(tmp_path: Path, jobs: str) -> None:
    (tmp_path / "manifest.json").write_text(f'{{"version": 1, "service": "{SERVICE}"{jobs}}}')
    with pytest.raises(errors.ManifestDamaged, match="list of jobs"):
        rebuild(tmp_path, SERVICE)
