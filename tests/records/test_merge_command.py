"""``flux-lora merge``: everything arrives whole, nothing is overwritten, and twice is as good as once."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from records_samples import (
    SERVICE,
    check_schema,
    completed,
    digest,
    manifest,
    names,
    planned,
    python,
    read,
    submitted,
    write_folder,
)

from flux_lora_cli.cli.main import run
from flux_lora_cli.domain.merging import join
from flux_lora_cli.domain.records import JobRecord, State
from tests.event_lines import check_event_lines


def _shard(root: Path, name: str, numbers: Any, **options: Any) -> Path:
    folder = root / name
    folder.mkdir()
    write_folder(folder, [completed(number, folder=folder) for number in numbers], **options)
    return folder


def _everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shards_become_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = _shard(tmp_path, "one", [0, 2, 4]), _shard(tmp_path, "two", [1, 3])
    sources = [_everything(one), _everything(two)]
    target = tmp_path / "all"
    assert run(["merge", str(one), str(two), "-o", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert [record.id for record in read(target)] == [f"dawn/{number}" for number in range(5)]
    assert names(target) == {"ledger.sqlite3", "manifest.json", *(f"image-{n}.png" for n in range(5))}
    assert manifest(target)["summary"]["cost_usd"] == "0.075"
    assert manifest(target)["sources"] == manifest(one)["sources"]
    check_schema(target)
    assert run(["verify", str(target)]) == 0
    assert [_everything(one), _everything(two)] == sources


def test_merging_again_changes_nothing(tmp_path: Path) -> None:
    one, two = _shard(tmp_path, "one", [0, 1]), _shard(tmp_path, "two", [1, 2])
    target = tmp_path / "all"
    assert run(["merge", str(one), str(two), "-o", str(target)]) == 0
    before = _everything(target)
    for arguments in ([one, two], [two, one], [one, two, target]):
        assert run(["merge", *map(str, arguments), "-o", str(target)]) == 0
        assert _everything(target) == before


def test_a_folder_is_merged_into_one_that_is_there(tmp_path: Path) -> None:
    one, two = _shard(tmp_path, "one", [0]), _shard(tmp_path, "two", [1])
    assert run(["merge", str(one), "-o", str(two)]) == 0
    assert {record.id for record in read(two)} == {"dawn/0", "dawn/1"}
    assert run(["verify", str(two)]) == 0


def test_a_job_of_two_folders_is_kept_once_with_both_charges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "all"
    one.mkdir()
    two.mkdir()
    write_folder(one, [submitted(0, "first", state=State.FAILED)])
    write_folder(two, [completed(0, "second", folder=two, price=Decimal("0.02"), id="dusk")])
    for _ in range(2):
        assert run(["merge", str(one), str(two), "-o", str(target)]) == 0
        (record,) = read(target)
        assert (record.state, record.task_id, record.id, record.aliases) == (
            State.COMPLETED, "second", "dawn/0", ("dusk",)
        )  # fmt: skip
        assert (record.price, record.attempts) == (Decimal("0.035"), 2)
    assert "1 jobs were submitted in more than one folder: dusk" in capsys.readouterr().err
    assert manifest(target)["summary"]["cost_usd"] == "0.035"


def test_a_source_that_has_gone_on_is_taken_up(tmp_path: Path) -> None:
    one, target = tmp_path / "one", tmp_path / "all"
    one.mkdir()
    for record in (
        planned(0),
        planned(0, state=State.SUBMITTING, attempts=1, price=Decimal("0.015"), intent_at="t"),
        submitted(0, "first", intent_at="t"),
        completed(0, "first", folder=one, intent_at="t"),
    ):
        write_folder(one, [record])
        assert run(["merge", str(one), "-o", str(target)]) == 0
        (found,) = read(target)
        assert (found.state, found.task_id, found.cost) == (record.state, record.task_id, record.cost)
    assert run(["verify", str(target)]) == 0


def test_names_that_are_taken_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "all"
    for folder, number in ((one, 0), (two, 1)):
        folder.mkdir()
        record = completed(number, folder=folder)
        (folder / f"image-{number}.png").rename(folder / "same.png")
        record.outputs[0].file = "same.png"
        write_folder(folder, [record])
    target.mkdir()
    (target / "same.png").write_bytes(b"mine")
    assert run(["merge", "-v", str(one), str(two), "-o", str(target)]) == 0
    assert (target / "same.png").read_bytes() == b"mine"
    assert [record.outputs[0].file for record in read(target)] == ["same-2.png", "same-3.png"]
    assert f"{one}/same.png is {target}/same-2.png: its name was taken" in capsys.readouterr().err
    before = _everything(target)
    assert run(["merge", str(one), str(two), "-o", str(target)]) == 0
    assert _everything(target) == before


def test_inputs_come_along(tmp_path: Path) -> None:
    one, target = tmp_path / "one", tmp_path / "all"
    image = f"inputs/{digest(b'input')}.png"
    (one / "inputs").mkdir(parents=True)
    (one / image).write_bytes(b"input")
    write_folder(one, [planned(0, input={"prompt": "x", "image": image})])
    assert run(["merge", str(one), "-o", str(target)]) == 0
    assert (target / image).read_bytes() == b"input"


def test_altered_and_missing_images_are_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, target = _shard(tmp_path, "one", [0, 1, 2]), tmp_path / "all"
    (one / "image-0.png").unlink()
    (one / "image-1.png").write_bytes(b"altered")
    assert run(["merge", "-q", str(one), "-o", str(target)]) == 6
    assert f"error: 2 files were missing or altered, and not taken: {one}/image-0.png" in capsys.readouterr().err
    assert [record.outputs[0].file for record in read(target)] == [None, None, "image-2.png"]
    assert manifest(target)["summary"]["missing"] == 2
    assert not [name for name in names(target) if name.startswith(".")]


def test_links_are_neither_read_nor_written_through(tmp_path: Path) -> None:
    one, target, outside = _shard(tmp_path, "one", [0]), tmp_path / "all", tmp_path / "outside"
    outside.mkdir()
    (one / "image-0.png").rename(outside / "image-0.png")
    (one / "image-0.png").symlink_to(outside / "image-0.png")
    assert run(["merge", str(one), "-o", str(target)]) == 6
    two = tmp_path / "two"
    (two / "nsfw").mkdir(parents=True)
    record = completed(1, folder=two)
    (two / "image-1.png").rename(two / "nsfw" / "image-1.png")
    record.outputs[0].file = "nsfw/image-1.png"
    write_folder(two, [record])
    (target / "nsfw").symlink_to(outside)
    run(["merge", str(two), "-o", str(target)])
    assert names(outside) == {"image-0.png"}


def test_folders_of_two_services_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = _shard(tmp_path, "one", [0]), _shard(tmp_path, "two", [1], service="sandbox")
    target = tmp_path / "all"
    assert run(["merge", str(one), str(two), "-o", str(target)]) == 7
    assert not target.exists()
    assert run(["merge", str(one), "-o", str(two)]) == 7
    assert "sandbox" in capsys.readouterr().err


def test_what_cannot_be_merged_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = _shard(tmp_path, "one", [0])
    assert run(["merge", str(tmp_path / "nowhere"), "-o", str(tmp_path / "all")]) == 3
    assert run(["merge", str(tmp_path), "-o", str(tmp_path / "all")]) == 3
    assert run(["merge", str(one), "-o", str(one)]) == 2
    assert run(["merge", str(one)]) == 2
    assert capsys.readouterr().out == ""
    assert names(tmp_path) == {"one"}


def test_a_busy_folder_is_exit_11(tmp_path: Path) -> None:
    one, target = _shard(tmp_path, "one", [0]), _shard(tmp_path, "all", [1])
    script = """
import sys; from pathlib import Path
from flux_lora_cli.adapters.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True); sys.stdin.read()
"""
    holder = python(script, target, stdin=-1)
    assert holder.stdout is not None and holder.stdout.readline()
    assert run(["merge", str(one), "-o", str(target)]) == 11
    holder.communicate("")


_KILLED = """
import os, sys
from flux_lora_cli.adapters import merge_files
from flux_lora_cli.cli.main import run
left = int(sys.argv[1])
def counted(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0: os._exit(9)
        return function(*arguments, **options)
    return call
for name in ("fsync", "link", "unlink", "replace", "rename"):
    setattr(os, name, counted(getattr(os, name)))
sys.exit(run(["merge", *sys.argv[3:], "-o", sys.argv[2]]))
"""


def test_a_kill_at_any_step_is_made_good_by_the_next_merge(tmp_path: Path) -> None:
    one, two = _shard(tmp_path, "one", [0]), _shard(tmp_path, "two", [1])
    for step in range(0, 200, 2):
        target = tmp_path / f"all-{step}"
        code = python(_KILLED, step, target, one, two).wait()
        assert code in {0, 9}
        assert run(["merge", str(one), str(two), "-o", str(target)]) == 0
        assert names(target) == {"ledger.sqlite3", "manifest.json", "image-0.png", "image-1.png"}
        assert len(read(target)) == 2
        if code == 0:
            break
    else:
        raise AssertionError("never ran to its end")
    assert step > 4


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = _shard(tmp_path, "one", [0])
    assert run(["merge", "--json", str(one), "-o", str(tmp_path / "all")]) == 0
    out = capsys.readouterr().out
    check_event_lines(out)
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["added"], last["images"], last["exit_code"]) == ("summary", 1, 1, 0)


def test_an_unknown_price_is_not_added_to_a_known_one() -> None:
    one, other = submitted(0, "a"), submitted(0, "b", price=None)
    assert join(one, other, add_charge=True).price is None
    assert join(planned(0), other, add_charge=False).attempts == 1


def test_a_deleted_ledger_of_the_target_is_rebuilt(tmp_path: Path) -> None:
    one, target = _shard(tmp_path, "one", [0]), _shard(tmp_path, "all", [1])
    (target / "ledger.sqlite3").unlink()
    assert run(["merge", str(one), "-o", str(target)]) == 0
    found: list[JobRecord] = read(target, SERVICE)
    assert {record.id: record.state for record in found} == {
        "dawn/0": State.COMPLETED, "dawn/1": State.COMPLETED
    }  # fmt: skip
