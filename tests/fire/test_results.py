"""Images that were altered, lost, refused, flagged or aimed elsewhere; and which exit code wins."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rows import LOOK, http
from stage import Front, Stage, bytes_of, check_text

from flux_lora_cli.domain.outcome import ORDER, exit_code
from flux_lora_cli.errors import ExitCode
from flux_lora_cli.sandbox.pictures.plain import plain_png

BATCH = "batch jobs.jsonl -o out"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, scale=60)
    stage.jobs(3)
    yield stage
    stage.close()


def flip(path: Path) -> None:
    """Change one byte, and nothing that a look at the folder shows."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "a-folder": lambda path: (path.unlink(), path.mkdir()),
    "a-link": lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_fetched_again_without_a_charge(stage: Stage, damage: str) -> None:
    assert stage.run(BATCH).code == 0
    victim = stage.pictures()[1]
    before = victim.read_bytes()
    DAMAGE[damage](victim)
    (stage.out / "stranger.png").write_bytes(before)
    found = stage.run("verify out -v")
    assert found.code == 6
    assert found.lines == [f"out/{victim.name}\t{'missing' if damage == 'missing' else 'altered'}"] or (
        damage in ("a-folder", "a-link") and len(found.lines) == 1 and victim.name in found.lines[0]
    )
    assert "stranger.png" in found.err
    again = stage.run(f"{BATCH} --verify")
    assert again.code == 0, again.err
    assert stage.charges() == 3
    assert len(again.lines) == 3
    (stage.out / "stranger.png").unlink()
    if damage not in ("a-folder", "a-link"):
        assert victim.read_bytes() == before
        stage.check_folder()
    assert stage.run("verify out").code in (0, 6) if damage == "a-folder" else stage.run("verify out").code == 0


def test_what_the_service_has_no_more_is_named_as_expired(stage: Stage) -> None:
    assert stage.run(BATCH).code == 0
    stage.pictures()[0].unlink()
    stage.sandbox.faults.add("download:404")
    ended = stage.run(BATCH)
    assert ended.code == 6
    assert ended.err.count("image 0 is missing") == 1
    assert "7 days" in ended.err
    assert stage.charges() == 3
    stage.sandbox.faults.clear()
    assert stage.run(BATCH).code == 0
    stage.check_folder()


def test_wait_fetches_again_too(stage: Stage) -> None:
    task = stage.task()
    assert stage.run(f"wait {task} -o out").code == 0
    stage.pictures()[0].write_bytes(b"")
    ended = stage.run(f"wait {task} -o out")
    assert ended.code == 0
    assert Path(stage.folder, ended.lines[0]).read_bytes().startswith(b"\x89PNG")
    stage.check_folder()


def test_a_file_of_somebody_else_is_never_overwritten(stage: Stage) -> None:
    stage.out.mkdir()
    stage.run(f"{BATCH} --no-download --filename same-{{index}}-{{job}}.{{ext}}")
    theirs = stage.out / "same-0-cat1.png"
    theirs.write_bytes(b"a holiday picture")
    ended = stage.run(f"{BATCH} --filename same-{{index}}-{{job}}.{{ext}}")
    assert ended.code == 0
    assert theirs.read_bytes() == b"a holiday picture"
    assert len(set(ended.lines)) == 3


def test_a_link_that_leads_out_is_not_written_through(stage: Stage) -> None:
    outside = stage.folder / "outside"
    outside.mkdir()
    stage.out.mkdir()
    (stage.out / "sub").symlink_to(outside)
    ended = stage.run([*BATCH.split(), "--filename", "sub/{job}-{index}.{ext}"])
    check_text(ended)
    assert ended.code == 7
    assert "link" in ended.err
    assert list(outside.iterdir()) == []


HOSTILE_TEMPLATES = ("../{index}{job}.{ext}", "/tmp/{index}{job}.{ext}", "a/../../{index}{job}.{ext}", "C:{index}{job}",
                     "..\\{index}{job}.{ext}", "{index.__class__}", "{job!r}{index}", "{index}{job}\n.{ext}", "",
                     "{nothing}{index}", "con.{ext}", "{slug}.{ext}")  # fmt: skip


@pytest.mark.parametrize("template", HOSTILE_TEMPLATES)
def test_a_hostile_template_writes_nothing_outside(stage: Stage, template: str) -> None:
    before = set(stage.folder.iterdir())
    ended = stage.run([*BATCH.split(), "--filename", template])
    check_text(ended)
    assert ended.code in (0, 2)
    left = {path.name for path in stage.folder.iterdir() if path not in before}
    assert left <= {"out", "state"}
    if ended.code == 0:
        stage.check_folder()
        assert all(".." not in path.parts for path in stage.pictures())


def test_outputs_in_the_answer_itself(stage: Stage) -> None:
    """As data URIs and bare: saved like others, and not copied into the manifest."""
    image = plain_png({"size": "512*512"}, 1, 1, 200_000)
    text = base64.b64encode(image).decode()
    data = {"status": "completed", "outputs": [f"data:image/png;base64,{text}", text]}
    front = Front(stage.base_url, {LOOK: bytes_of(http(json.dumps({"code": 200, "data": data}).encode()))})
    stage.jobs(1)
    ended = stage.run(BATCH, base_url=front.url)
    assert ended.code == 0, ended.err
    assert [path.read_bytes() for path in stage.pictures()] == [image, image]
    assert text[:60] not in (stage.out / "manifest.json").read_text()
    stage.check_folder()


# ---- which exit code wins ----------------------------------------------------------------------

#: Two faults in one run, in the contract's order: the first of them is the exit code.
BOTH = [
    (4, "submit:503-before:nth=1 submit:401-before:nth=2", "--on-unknown hold"),
    (8, "submit:503-before:nth=1 submit:402-before:nth=2", "--on-unknown hold"),
    (8, "submit:402-before:nth=3 look:404", ""),
    (13, "submit:503-before:nth=1 look:500", "--on-unknown hold"),
    (13, "submit:503-before:nth=1 submit:stuck", "--on-unknown hold --task-timeout 1m"),
    (13, "submit:503-before:nth=1 submit:400-before:nth=2", "--on-unknown hold"),
    (5, "submit:400-before:nth=1 look:500", ""),
    (5, "submit:stuck:nth=1 look:302:after=3", "--task-timeout 1m"),
    (9, "submit:stuck:nth=1 submit:400-before:nth=2", "--task-timeout 1m"),
    (6, "submit:400-before:nth=1", "--fail-on-nsfw"),
]


@pytest.mark.parametrize(("code", "faults", "options"), BOTH)
def test_of_two_reasons_the_first_wins(tmp_path: Path, code: int, faults: str, options: str) -> None:
    stage = Stage(tmp_path, scale=150, nsfw_rate=1.0)
    try:
        stage.jobs(3)
        for fault in faults.split():
            stage.sandbox.faults.add(fault)
        ended = stage.run(f"{BATCH} --concurrency 1 --rate 1/s {options}" if "stuck" not in faults else
                          f"{BATCH} --rate 1/s {options}")  # fmt: skip
        check_text(ended)
        assert ended.code == code, ended.err
        stage.check_folder()
    finally:
        stage.close()


def test_the_order_is_the_contracts() -> None:
    during = [ExitCode.AUTH, ExitCode.BUDGET, ExitCode.UNKNOWN, ExitCode.SERVICE, ExitCode.DEADLINE,
              ExitCode.INCOMPLETE, ExitCode.NSFW]  # fmt: skip
    assert [code for code in ORDER if code in during] == during
    for place, code in enumerate(during):
        assert exit_code(during[place:]) is code
        for before in (ExitCode.FOLDER, ExitCode.USAGE, ExitCode.NOT_FOUND, ExitCode.PRESET, ExitCode.BUSY):
            assert exit_code([*during, before]) is before
        for interrupt in (ExitCode.INTERRUPTED, ExitCode.TERMINATED, ExitCode.CLOSED_OUTPUT):
            assert exit_code([code, ExitCode.FOLDER, interrupt]) is interrupt
