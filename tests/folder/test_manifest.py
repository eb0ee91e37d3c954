"""The manifest: valid JSON of its schema at every moment, the same when read back, and safe to read from anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli import errors
from flux_lora_cli.folder.manifest import (
    MANIFEST_NAME,
    Manifest,
    pause_after_write,
    read_manifest,
    tally,
    write_manifest,
)
from flux_lora_cli.folder.records import JobRecord, OutputRecord, PastTask, State, entry_and_rest, is_masked
from tests.folder.samples import NOW, SERVICE, completed, everything, planned, submitted
from tests.support import truth


def write(folder: Path, *records: JobRecord, sources: dict[str, str] | None = None) -> dict[str, Any]:
    head = Manifest(SERVICE, False, NOW, NOW, sources=sources or {})
    rows = ((tally(record, record.cost), entry_and_rest(record, record.cost)[0]) for record in records)
    write_manifest(folder, head, rows)
    return truth.manifest(folder, files=False)


def test_the_example_of_the_contract(tmp_path: Path) -> None:
    document = write(tmp_path, completed(1, "x.png"), sources={"nasa.yaml": "0" * 64})
    assert list(document) == [
        "version", "tool", "service", "sandbox", "created_at", "updated_at", "sources", "summary", "jobs",
    ]  # fmt: skip
    assert document["summary"] == {
        "jobs": 1, "completed": 1, "failed": 0, "unknown": 0, "pending": 0, "skipped": 0, "images": 1, "missing": 0,
        "nsfw": 0, "nsfw_unknown": 0, "cost_usd": "0.015",
    }  # fmt: skip
    (job,) = document["jobs"]
    assert list(job) == [
        "id", "aliases", "preset", "fingerprint", "state", "request", "task", "outputs", "attempts", "cost_usd",
        "error", "history", "submitted_at",
    ]  # fmt: skip
    assert list(job["task"]) == ["id", "model", "status", "created_at", "execution_ms", "error", "matched_by"]
    assert set(job["outputs"][0]) == {
        "index", "url", "nsfw", "file", "sha256", "bytes", "width", "height", "media_type", "saved_at", "error",
    }  # fmt: skip


def test_what_is_shown_comes_back(tmp_path: Path) -> None:
    records = [everything(0), planned(1), submitted(2), completed(3, "y.png")]
    write(tmp_path, *records, sources={"a": "1" * 64})
    manifest = read_manifest(tmp_path)
    assert (manifest.service, manifest.created_at, manifest.sources) == (SERVICE, NOW, {"a": "1" * 64})
    for read, kept in zip(manifest.records, records, strict=True):
        kept.service_clock = kept.api_version = None
        for output in kept.outputs:
            output.mtime_ns = output.writing = output.temp = None
            output.left_out = False
        assert read == kept or kept.history  # of an earlier task without a price the present one's cannot be told
    assert manifest.records[0].history == records[0].history
    assert manifest.records[0].axes == {"place": "moon", "seed": "1"}
    assert read_manifest(tmp_path / MANIFEST_NAME) == manifest
    past = PastTask("t0", "failed: x", Decimal("0.02"), Decimal("0.005"), NOW)
    record = submitted(1, history=(past,), refunded=Decimal("0.01"))
    write(tmp_path, record)
    (read,) = read_manifest(tmp_path).records
    assert (read.price, read.refunded, read.cost) == (record.price, record.refunded, Decimal("0.02"))


@pytest.mark.parametrize(
    ("records", "summary"),
    [
        ([], {"jobs": 0, "cost_usd": "0"}),
        ([planned(1)], {"pending": 1, "cost_usd": "0"}),
        ([submitted(1, price=None)], {"pending": 1, "cost_usd": None}),
        ([submitted(1, price=None), submitted(2)], {"cost_usd": "0.015"}),
        ([submitted(1, state=State.SUBMITTING), submitted(2, state=State.UNKNOWN)], {"pending": 1, "unknown": 1}),
        ([completed(1), completed(2, "x.png")], {"completed": 2, "images": 1, "missing": 1}),
        ([completed(1, outputs=[OutputRecord(0, left_out=True)])], {"missing": 0, "nsfw_unknown": 1}),
        ([completed(1, outputs=[OutputRecord(0, nsfw=True), OutputRecord(1)])], {"nsfw": 1, "nsfw_unknown": 1}),
        ([submitted(1, state=State.FAILED, refunded=Decimal("0.015"))], {"failed": 1, "cost_usd": "0"}),
    ],
)
def test_the_summary(tmp_path: Path, records: list[JobRecord], summary: dict[str, object]) -> None:
    found = write(tmp_path, *records)["summary"]
    assert {name: found[name] for name in summary} == summary
    assert len(read_manifest(tmp_path).records) == len(records)


SECRETS = {
    "prompt": "see https://u:SECRET@h/x?token=SECRET",
    "image": "https://h/x.png?X-Amz-Signature=SECRET&ok=1",
    "loras": [{"path": "https://civitai.com/api/download/models/1?token=SECRET", "scale": 1}],
}


def test_secrets_in_urls_are_not_shared(tmp_path: Path) -> None:
    record = completed(1, input=SECRETS, task_error="https://h/?key=SECRET", error="failed: https://a:SECRET@h")
    record.outputs = [OutputRecord(0, url="https://cdn/x?Signature=SECRET", error="https://h/?sig=SECRET")]
    write(tmp_path, record)
    assert "SECRET" not in (tmp_path / MANIFEST_NAME).read_text(encoding="utf-8")
    (read,) = read_manifest(tmp_path).records
    assert is_masked(read.input)
    assert read.key == record.key
    assert not is_masked(planned(1).input)


def test_a_manifest_laid_out_by_another_program_is_read_too(tmp_path: Path) -> None:
    document = write(tmp_path, completed(1, "x.png"), planned(2))
    ours = read_manifest(tmp_path)
    for text in (json.dumps(document), json.dumps(document, indent=4), "\ufeff" + json.dumps(document)):
        (tmp_path / MANIFEST_NAME).write_text(text, encoding="utf-8")
        assert read_manifest(tmp_path) == ours


def _set(*path: str | int) -> Callable[[dict[str, Any], Any], None]:
    def change(document: dict[str, Any], value: Any) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


_DEEP: Any = []
for _ in range(200):
    _DEEP = [_DEEP]


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("version",), 0, "version"),
        (("service",), 7, "service"),
        (("created_at",), None, "created_at"),
        (("jobs",), {}, "list of jobs"),
        (("jobs", 0), [], r"jobs\[0\] "),
        (("jobs", 0, "state"), "paid", r"jobs\[0\]\.state"),
        (("jobs", 0, "state"), [], r"jobs\[0\]\.state"),
        (("jobs", 0, "id"), 7, r"jobs\[0\]\.id"),
        (("jobs", 0, "aliases"), [7], r"jobs\[0\]\.aliases"),
        (("jobs", 0, "fingerprint"), "../x", r"jobs\[0\]\.fingerprint"),
        (("jobs", 0, "task", "id"), "a b", r"jobs\[0\]\.task\.id"),
        (("jobs", 0, "attempts"), -1, r"jobs\[0\]\.attempts"),
        (("jobs", 0, "attempts"), True, r"jobs\[0\]\.attempts"),
        (("jobs", 0, "attempts"), 10**30, r"jobs\[0\]\.attempts"),
        (("jobs", 0, "cost_usd"), 0.015, r"jobs\[0\]\.cost_usd"),
        (("jobs", 0, "cost_usd"), "NaN", r"jobs\[0\]\.cost_usd"),
        (("jobs", 0, "cost_usd"), "1e99", r"jobs\[0\]\.cost_usd"),
        (("jobs", 0, "cost_usd"), "-1", r"jobs\[0\]\.cost_usd"),
        (("jobs", 0, "request", "input"), [], r"jobs\[0\]\.request\.input"),
        (("jobs", 0, "request", "input"), {"x": _DEEP}, "nested too deeply"),
        (("jobs", 0, "outputs"), [None], r"jobs\[0\]\.outputs\[0\]"),
        (("jobs", 0, "outputs", 0, "index"), None, r"outputs\[0\]\.index"),
        (("jobs", 0, "outputs", 0, "nsfw"), "no", r"outputs\[0\]\.nsfw"),
        (("jobs", 0, "history"), [{"task_id": 1}], r"jobs\[0\]\.history\[0\]"),
        (("jobs", 0, "axes"), {"x": 1}, r"jobs\[0\]\.axes"),
        *(
            (("jobs", 0, "outputs", 0, "file"), name, r"outputs\[0\]\.file is not the name")
            for name in (
                "../x.png", "/etc/passwd", "a/../../x", "C:x.png", "a\\b", "", ".", "a//b", "x\n.png", "\ud800.png",
                ".ssh/id", "manifest.json", "Ledger.sqlite3-journal", "index.html", "inputs/x.png", "x ", "con?.png",
            )
        ),
    ],
)  # fmt: skip
def test_a_hostile_manifest_is_refused_with_the_place(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, place: str
) -> None:
    document = write(tmp_path, completed(1, "x.png"))
    _set(*path)(document, value)
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(errors.ManifestDamaged, match=place):
        read_manifest(tmp_path)


def test_two_entries_of_one_job_are_refused(tmp_path: Path) -> None:
    write(tmp_path, planned(1), planned(1))
    with pytest.raises(errors.ManifestDamaged, match="of another"):
        read_manifest(tmp_path)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "nsfw").symlink_to(tmp_path)
    write(tmp_path / "o", completed(1, "nsfw/x.png"))
    with pytest.raises(errors.ManifestDamaged, match="by way of a link"):
        read_manifest(tmp_path / "o")


def test_a_newer_manifest_says_so(tmp_path: Path) -> None:
    document = write(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text(json.dumps({**document, "version": 2}), encoding="utf-8")
    with pytest.raises(errors.LedgerNewer, match="later flux-lora"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", "null", "{}", "\0" * 100, '{"version": 1', "[" * 100_000, '{"version": ' + "9" * 5000 + "}", "NaN"],
    ids=range(10),
)
def test_what_is_not_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(errors.ManifestDamaged):
        read_manifest(tmp_path)


def test_no_cut_and_no_flipped_byte_is_read_as_something_else(tmp_path: Path) -> None:
    write(tmp_path, completed(1, "x.png"), submitted(2))
    path, whole = tmp_path / MANIFEST_NAME, read_manifest(tmp_path)
    data = path.read_bytes()
    for length in range(0, len(data) - 1, 29):
        path.write_bytes(data[:length])
        with pytest.raises(errors.ManifestDamaged):
            read_manifest(tmp_path)
    for place in range(0, len(data), 23):
        path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        try:
            assert len(read_manifest(tmp_path).records) == len(whole.records)
        except errors.ManifestDamaged as error:
            assert error.hint


def test_a_manifest_beyond_reason_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST_NAME).open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(errors.ManifestDamaged, match="too large"):
        read_manifest(tmp_path)
    with (tmp_path / MANIFEST_NAME).open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(errors.ManifestDamaged, match="larger than"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("took", "pause"), [(0.0, 5.0), (0.1, 4.8), (2.0, 40.0)])
def test_the_pause_between_two_writes(took: float, pause: float) -> None:
    assert pause_after_write(took) == pytest.approx(pause)
