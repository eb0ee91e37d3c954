"""``flux-lora verify``: the lines, the exit codes, and what counts as foreign."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from records_samples import completed, digest, manifest, names, planned, python, write_folder

from flux_lora_cli.cli.main import run
from flux_lora_cli.domain.records import OutputRecord, State
from tests.event_lines import check_event_lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "nsfw").mkdir()
    image = f"inputs/{digest(b'input')}.png"
    (tmp_path / image).write_bytes(b"input")
    records = [completed(number, folder=tmp_path) for number in range(4)]
    records[3].input = {"prompt": "x", "image": image}
    (tmp_path / "image-2.png").rename(tmp_path / "nsfw" / "image-2.png")
    records[2].outputs[0].file = "nsfw/image-2.png"
    write_folder(tmp_path, [*records, planned(4)])
    return tmp_path


def test_a_sound_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(folder)
    assert run(["verify", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "5 files checked: all as they were saved" in captured.err
    assert names(folder) == before


@pytest.mark.parametrize("keep", ["both", "ledger.sqlite3", "manifest.json"])
def test_what_is_missing_or_altered_is_a_line_each(folder: Path, capsys: pytest.CaptureFixture[str], keep: str) -> None:
    (folder / "image-0.png").unlink()
    data = bytearray((folder / "image-1.png").read_bytes())
    stamp = (folder / "image-1.png").stat()
    data[77] ^= 1
    (folder / "image-1.png").write_bytes(data)
    os.utime(folder / "image-1.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (image,) = (folder / "inputs").iterdir()
    image.write_bytes(b"outut")
    expected = [f"{folder}/image-0.png\tmissing", f"{folder}/image-1.png\taltered", f"{image}\taltered"]
    if keep == "ledger.sqlite3":
        (folder / "manifest.json").unlink()
        expected.append(f"{folder}/manifest.json\tmissing")
    elif keep == "manifest.json":
        (folder / "ledger.sqlite3").unlink()
    assert run(["verify", "-q", str(folder)]) == 6
    captured = capsys.readouterr()
    assert captured.out.splitlines() == expected
    assert captured.err.startswith(f"error: 5 files checked: {len(expected) - 2} missing, 2 altered\n")


def test_a_file_replaced_by_a_link_or_a_folder_is_altered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "image-0.png").rename(folder / "inputs" / "elsewhere")
    (folder / "image-0.png").symlink_to(folder / "inputs" / "elsewhere")
    (folder / "image-1.png").unlink()
    (folder / "image-1.png").mkdir()
    (folder / "nsfw").rename(folder / "real")
    (folder / "nsfw").symlink_to(folder / "real")
    assert run(["verify", str(folder)]) == 6
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(f"{folder}/") for line in lines] == [
        "image-0.png\taltered", "image-1.png\taltered", "nsfw/image-2.png\taltered"
    ]  # fmt: skip


def test_a_manifest_that_tells_other_files_than_the_ledger_is_altered(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "manifest.json"
    text = path.read_text("utf-8")
    path.write_text(text.replace(manifest(folder)["jobs"][0]["outputs"][0]["sha256"], "0" * 64), "utf-8")
    assert run(["verify", str(folder)]) == 6
    assert capsys.readouterr().out == f"{path}\taltered\n"
    path.write_text("{", "utf-8")
    assert run(["verify", str(folder)]) == 6
    assert capsys.readouterr().out == f"{path}\taltered\n"


def test_foreign_files_are_named_under_v_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("index.html", ".flux-lora.lock", "notes.txt", "nsfw/mine.png"):
        (folder / name).write_text("x")
    assert run(["verify", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "notes.txt" not in captured.err
    assert run(["verify", "-v", str(folder)]) == 0
    captured = capsys.readouterr()
    named = [line for line in captured.err.splitlines() if line.startswith("not of this folder")]
    assert named == [
        f"not of this folder: {folder}/notes.txt", f"not of this folder: {folder}/nsfw/mine.png"
    ]  # fmt: skip
    assert captured.out == ""


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "image-0.png").unlink()
    assert run(["verify", "--json", str(folder)]) == 6
    out = capsys.readouterr().out
    check_event_lines(out)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["record", "error", "summary"]
    assert events[0]["data"]["finding"] == "missing" and events[0]["data"]["job"] == "dawn/0"
    assert events[-1] == {
        "event": "summary", "checked": 5, "missing": 1, "altered": 0, "never_saved": 0, "foreign": 0, "exit_code": 6
    }  # fmt: skip


def test_images_that_were_never_saved_are_told_but_no_fault_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [OutputRecord(0, url="https://x.example/"), OutputRecord(1, left_out=True)]
    write_folder(tmp_path, [planned(0, state=State.COMPLETED, attempts=1, outputs=outputs)])
    assert run(["verify", str(tmp_path)]) == 0
    assert "1 images of completed jobs were never saved" in capsys.readouterr().err


def test_a_run_that_goes_on_is_read_without_disturbing_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = """
import sys; from pathlib import Path; from records_samples import *
ledger = Ledger.open(Path(sys.argv[1]), SERVICE)
ledger.save([completed(9, folder=Path(sys.argv[1]))])
print("ready", flush=True); sys.stdin.read(); ledger.close()
"""
    writer = python(script, folder, stdin=-1)
    assert writer.stdout is not None and writer.stdout.readline()
    (folder / "image-9.png").unlink()
    assert run(["verify", str(folder)]) == 6
    assert capsys.readouterr().out == f"{folder}/image-9.png\tmissing\n"
    writer.communicate("")
    assert writer.returncode == 0


@pytest.mark.parametrize("make", [False, True])
def test_what_is_no_output_folder_is_not_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: bool) -> None:
    folder = tmp_path / "nothing"
    if make:
        folder.mkdir()
    assert run(["verify", str(folder)]) == 3
    captured = capsys.readouterr()
    assert captured.out == "" and str(folder) in captured.err


def test_a_damaged_ledger_is_exit_7(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ledger.sqlite3").write_bytes(b"")
    assert run(["verify", str(folder)]) == 7
    assert "is damaged" in capsys.readouterr().err


def test_a_hostile_manifest_reads_nothing_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_folder(folder, [completed(0, folder=folder)])
    (folder / "ledger.sqlite3").unlink()
    path = folder / "manifest.json"
    path.write_text(path.read_text("utf-8").replace('"image-0.png"', '"../../etc/passwd"'), "utf-8")
    assert run(["verify", str(folder)]) == 7
    assert "leads out of the folder" in capsys.readouterr().err
