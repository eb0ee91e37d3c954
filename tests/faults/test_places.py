"""Where and how it runs: no home, a random user, odd environments; and files that are no files."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, require_tool
from tests.support.stage import Stage

BATCH = "batch jobs.jsonl -o out"


#: As a process of its own, with its own clock.
PLAINLY = {"scale": 1, "before": ["/usr/bin/env"]}
NOBODY = ["setpriv", "--reuid", "12345", "--regid", "0", "--clear-groups"]


@pytest.fixture
def anybody() -> Iterator[Stage]:
    """A stage that every user may write to; not below pytest's folders, which each session closes to others again."""
    require_tool("setpriv")
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        if subprocess.run([*NOBODY, *PROGRAM, "--version"], capture_output=True, cwd=folder).returncode:
            pytest.skip("another user may not read the program here")
        made = Stage(folder, scale=60)
        made.jobs(1)
        (folder / "jobs.jsonl").chmod(0o666)
        yield made
        made.close()


@pytest.mark.parametrize("home", [None, "/", pytest.param("/nonexistent", marks=pytest.mark.slow)])
def test_a_user_without_home_or_entry(anybody: Stage, home: str | None) -> None:
    """As OpenShift runs containers: work, or exit 7 naming the variable that helps."""
    env = {"HOME": home, "FLUX_LORA_STATE_DIR": None}
    anybody.run(BATCH, before=NOBODY, env=env, code=0)
    submitted = anybody.run("submit 'a cat'", before=NOBODY, env=env)
    assert submitted.code in (0, 7), submitted.err
    if submitted.code == 7:
        assert "FLUX_LORA_STATE_DIR" in submitted.err
        assert anybody.fake.charged == 1


#: Settings that do not hide each other together; what one of them alone breaks is easily found.
ODD: dict[str, dict[str, str | None]] = {
    "for developers": {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "PYTHONNODEBUGRANGES": "1"},
    "without unicode": {"LC_ALL": "C", "LANG": None, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "TERM": "dumb"},
    "optimized": {"PYTHONOPTIMIZE": "2", "PATH": "", "TMPDIR": "/nonexistent", "TEMP": "/nonexistent"},
    "odd terminal": {"COLUMNS": "abc", "LINES": "-1", "TERM": "nonsense"},
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_environment(stage: Stage, odd: str) -> None:
    stage.jobs(1, prompt="ein Bär, 猫")
    stage.run(BATCH, env=ODD[odd], **PLAINLY, code=0)
    if odd == "without unicode":  # names are UTF-8 on disk, and found again under every locale
        assert stage.run(BATCH).err.startswith("all there")
        (stage.folder / "p.yaml").write_text("version: 1\nextends: 家.yaml\njobs: [{prompts_file: 行.txt}]\n", "utf-8")
        (stage.folder / "家.yaml").write_text("vars: {v: [a]}\n", "utf-8")
        (stage.folder / "行.txt").write_text("猫\n", "utf-8")
        for command in ("verify out -v", "embed out -o 出", "merge out -o m", "preset check p.yaml", "preset list ."):
            done = stage.run(command, env=ODD[odd], **PLAINLY)
            assert (done.code, "foreign" in done.err) == (0, False), done.err
    if odd in ("optimized", "odd terminal"):  # docstrings and width, which help is made of
        stage.run("batch --help", env=ODD[odd], **PLAINLY, code=0)


def test_paths_that_are_not_utf8_are_printed_byte_for_byte(stage: Stage) -> None:
    folder = os.fsdecode(b"caf\xe9")
    (stage.folder / folder).mkdir()
    preset = f"{folder}/p\udcff.yaml"
    (stage.folder / preset).write_text("version: 1\nstacks: {unused: []}\njobs: [{prompt: a}]\n")
    ended = stage.run(["batch", preset, "-o", f"{folder}/out", "--junit", f"{folder}/j.xml"], code=0)
    assert ended.lines == [str(path.relative_to(stage.folder)) for path in (stage.folder / folder).rglob("*.png")]


def test_a_working_directory_that_was_deleted(stage: Stage) -> None:
    gone = stage.folder / "gone"
    gone.mkdir()
    script = f'cd {gone}; rmdir {gone}; exec "$0" "$@"'
    for command, code in ((f"batch {stage.folder}/jobs.jsonl -o {stage.folder}/out", 0), ("batch jobs.jsonl", 3)):
        gone.mkdir(exist_ok=True)
        assert stage.run(command, scale=1, before=["sh", "-c", script]).code in (code, 7)
    assert stage.fake.charged <= 1


@pytest.mark.parametrize("mask", ["0777", "0000", pytest.param("0077", marks=pytest.mark.slow)])
def test_a_umask(anybody: Stage, mask: str) -> None:
    before = ["sh", "-c", f'umask {mask}; exec {shlex.join(NOBODY)} "$0" "$@"']
    for _ in range(2):
        assert anybody.run(BATCH, before=before).code in (0, 7)
    assert anybody.fake.charged <= 1
    if mask == "0000":
        assert (anybody.out / "manifest.json").stat().st_mode & 0o077 == 0


def no_file(kind: str, path: Path) -> None:
    """Put something at a path that is no file to be read to its end."""
    path.unlink(missing_ok=True)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            zero = path.with_name(f"{path.name}.zero")  # never the real one: who is wrong here replaces it, as root
            try:
                os.mknod(zero, stat.S_IFCHR | 0o666, os.makedev(1, 5))
                zero.open("rb").close()
            except PermissionError:
                pytest.skip("a device node of one's own needs root")
            path.symlink_to(zero)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path.name)
        case "huge":
            path.touch()
            os.truncate(path, 1 << 40)


KINDS = ["fifo", "device", "folder", "loop", "huge"]
#: What is opened, and by which command; ``X`` is the path.
INPUTS = {
    "manifest.json of verify": ("out/manifest.json", "verify out"),
    "manifest.json of gallery": ("out/manifest.json", "gallery out"),
    "manifest.json of batch": ("out/manifest.json", BATCH),
    "ledger.sqlite3": ("out/ledger.sqlite3", BATCH),
    "preset": ("p.yaml", "preset check p.yaml"),
    "list": ("p.txt", "preset check p.txt"),
    "prompts_file": ("prompts.txt", "preset check q.yaml"),
    "image": ("photo.png", "batch jobs.jsonl -o out -i photo.png"),
    "key": ("key", "status t1 --api-key-file key"),
    "log": ("log.txt", "status --log-file log.txt"),
    "only-file": ("only.txt", f"{BATCH} --only-file only.txt"),
    "models": ("models.json", "models --models models.json"),
    "junit": ("junit.xml", f"{BATCH} --junit junit.xml"),
    "user's ledger": ("state/ledger.sqlite3", "status"),
}


#: All of these are tried on every input in the slow tests; in others only FIFOs are.
THOROUGH = ("ledger.sqlite3", "preset")


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One job was run, and one prompt was submitted."""
    made = Stage(tmp_path_factory.mktemp("settled"), scale=60)
    made.jobs(1)
    (made.folder / "q.yaml").write_text("version: 1\njobs: [{prompts_file: prompts.txt}]\n")
    made.run(BATCH, code=0)
    made.run("submit 'a cat'", code=0)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(n, k, marks=[] if k == "fifo" or n in THOROUGH else pytest.mark.slow) for n in INPUTS for k in KINDS],
)
def test_what_is_no_file_hangs_nothing(settled: Stage, tmp_path: Path, name: str, kind: str) -> None:
    where, command = INPUTS[name]
    shutil.copytree(settled.folder, tmp_path, dirs_exist_ok=True)
    stage = Stage(tmp_path, scale=60, fake=settled.fake)
    path = stage.folder / where
    no_file(kind, path)
    charged = stage.fake.charged
    ended = stage.run(command, timeout=12, most_megabytes=300)
    assert ended.seconds < 8
    if name not in ("log", "junit", "user's ledger", "manifest.json of batch"):
        assert ended.code in (2, 3, 4, 7, 10), ended.err
    if name != "junit":
        assert stage.fake.charged == charged
    if kind == "fifo":
        assert path.is_fifo()
    if kind == "device":
        assert path.is_symlink()


@pytest.mark.parametrize("name", ["ledger.sqlite3", pytest.param("preset", marks=pytest.mark.slow)])
def test_what_may_not_be_read_is_refused(anybody: Stage, name: str) -> None:
    where, command = INPUTS[name]
    path = anybody.folder / where
    path.parent.mkdir(exist_ok=True)
    path.touch(0o000)
    assert anybody.run(command, before=NOBODY).code in (7, 10)
    assert anybody.fake.charged == 0


def test_cjk_prompts_get_names_of_their_own(stage: Stage) -> None:
    (stage.folder / "p.txt").write_text("夜の猫\n雨の街\n", encoding="utf-8")
    ended = stage.run("batch p.txt -o out", code=0)
    assert "夜の猫" in ended.out
    assert "untitled" not in ended.out


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
def test_ids_as_other_shells_write_them(stage: Stage, encoding: str) -> None:
    name = stage.task()
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    ended = stage.run("status -", stdin=f"{mark}{name}\r\n".encode(encoding))
    if mark:
        assert (ended.code, "UTF-16" in ended.err) == (2, True)
    else:
        assert (ended.code, ended.out.startswith(name)) == (0, True), ended.err


@pytest.mark.parametrize("times", ["copied", "2 s steps", "future", "whole seconds"])
def test_a_finished_folder_as_caches_and_archives_move_it(stage: Stage, times: str) -> None:
    stage.jobs(2)
    stage.run(BATCH, code=0)
    before = stage.fake.count()
    now = time.time()
    for path in stage.pictures():
        data, moved = path.read_bytes(), path.with_suffix(".moved")
        moved.write_bytes(data)
        moved.replace(path)
        at = {"2 s steps": now // 2 * 2, "future": 2**31 - 1, "whole seconds": now // 1}.get(times)
        if at is not None:
            os.utime(path, (at, at))
    stage.run(BATCH, code=0)
    stage.run("verify out", code=0)
    assert stage.fake.count() == before
