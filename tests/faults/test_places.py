"""Where and how it runs: no home, a random user, odd environments; and files that are no files."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.support.stage import Stage

BATCH = "batch jobs.jsonl -o out"
PROGRAM = [sys.executable, "-m", "flux_lora_cli"]


def run_plainly(
    stage: Stage, command: str, *, before: Sequence[str] = (), env: dict[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with its own clock, by way of another program."""
    done = subprocess.run(
        [*before, *PROGRAM, *shlex.split(command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=40,
        cwd=stage.folder,
        env=stage.environment(None, {"PYTHONSAFEPATH": None, **(env or {})}),
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return done


NOBODY = ["setpriv", "--reuid", "12345", "--regid", "0", "--clear-groups"]


@pytest.fixture
def anybody(stage: Stage) -> Stage:
    """A stage that every user may write to."""
    require_tool("setpriv")
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for folder in (stage.folder, *list(stage.folder.parents)[:3]):
        folder.chmod(0o777)
    for path in stage.folder.iterdir():
        path.chmod(0o666)
    probe = subprocess.run(
        [*NOBODY, *PROGRAM, "--version"], capture_output=True, cwd=stage.folder, env=dict(os.environ)
    )
    if probe.returncode:
        pytest.skip("another user may not read the program here")
    return stage


@pytest.mark.parametrize("home", [None, "/", "/nonexistent"])
def test_a_user_without_home_or_entry(anybody: Stage, home: str | None) -> None:
    """As OpenShift runs containers: work, or exit 7 naming the variable that helps."""
    env = {"HOME": home, "FLUX_LORA_STATE_DIR": None}
    done = run_plainly(anybody, BATCH, before=NOBODY, env=env)
    assert done.returncode == 0, done.stderr
    submitted = run_plainly(anybody, "submit 'a cat'", before=NOBODY, env=env)
    assert submitted.returncode in (0, 7), submitted.stderr
    if submitted.returncode == 7:
        assert "FLUX_LORA_STATE_DIR" in submitted.stderr
        assert anybody.fake.charged == 1


ODD: dict[str, dict[str, str | None]] = {
    "optimized": {"PYTHONOPTIMIZE": "2"},
    "warnings": {"PYTHONWARNINGS": "error"},
    "developer": {"PYTHONDEVMODE": "1"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "no locale": {"LC_ALL": "C", "LANG": None},
    "utf-8 off": {"PYTHONUTF8": "0"},
    "columns": {"COLUMNS": "abc", "LINES": "-1", "TERM": "nonsense"},
    "dumb": {"TERM": "dumb", "CI": "true"},
    "no temporary folder": {"TMPDIR": "/nonexistent", "TEMP": "/nonexistent"},
    "no path": {"PATH": ""},
    "short hashes": {"PYTHONHASHSEED": "0", "PYTHONNODEBUGRANGES": "1"},
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_environment(stage: Stage, odd: str) -> None:
    stage.jobs(1, prompt="ein Bär, 猫")
    done = run_plainly(stage, BATCH, env=ODD[odd])
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert run_plainly(stage, "batch --help", env=ODD[odd]).returncode == 0


def test_a_working_directory_that_was_deleted(stage: Stage) -> None:
    gone = stage.folder / "gone"
    gone.mkdir()
    script = f'cd {gone}; rmdir {gone}; exec "$0" "$@"'
    for command, code in ((f"batch {stage.folder}/jobs.jsonl -o {stage.folder}/out", 0), ("batch jobs.jsonl", 3)):
        gone.mkdir(exist_ok=True)
        env = {"PYTHONPATH": os.environ["PYTHONPATH"]}
        done = run_plainly(stage, command, before=["sh", "-c", script], env=env)
        assert done.returncode in (code, 7), done.stderr
    assert stage.fake.charged <= 1


@pytest.mark.parametrize("mask", ["0777", "0077", "0000"])
def test_a_umask(anybody: Stage, mask: str) -> None:
    before = ["sh", "-c", f'umask {mask}; exec {shlex.join(NOBODY)} "$0" "$@"']
    for _ in range(2):
        done = run_plainly(anybody, BATCH, before=before)
        assert done.returncode in (0, 7), done.stderr
    assert anybody.fake.charged <= 1
    if mask == "0000":
        assert (anybody.out / "manifest.json").stat().st_mode & 0o077 == 0


def test_a_file_system_without_shared_memory(stage: Stage) -> None:
    """9p, some FUSE, SMB and NFS mounts: a map of shared memory is refused."""
    strace = require_tool("strace")
    inject = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=mmap", "-e", "inject=mmap:error=ENODEV:when=1+",
              "-P", str(stage.out / "ledger.sqlite3"), "-P", str(stage.out / "ledger.sqlite3-shm")]  # fmt: skip
    done = run_plainly(stage, f"batch jobs.jsonl -o {stage.out}", before=[strace, *inject])
    assert (done.returncode, stage.fake.charged) == (0, 1), done.stderr


def device(path: Path, minor: int) -> Path:
    """A device node of the test's own, of memory's kinds (3: null, 5: zero).

    Never the real one: a program that is wrong here replaces it, and root may.
    """
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        path.open("rb").close()
    except PermissionError:
        pytest.skip("a device node of one's own needs root")
    return path


def no_file(kind: str, path: Path) -> None:
    """Put something at a path that is no file to be read to its end."""
    path.unlink(missing_ok=True)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to(device(path.with_name(f"{path.name}.zero"), 5))
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", INPUTS)
def test_what_is_no_file_hangs_nothing(stage: Stage, name: str, kind: str) -> None:
    where, command = INPUTS[name]
    (stage.folder / "q.yaml").write_text("version: 1\njobs: [{prompts_file: prompts.txt}]\n")
    stage.run(BATCH)
    stage.run("submit 'a cat'")
    path = stage.folder / where
    path.parent.mkdir(exist_ok=True)
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


def test_presets_by_process_substitution_and_pipes(stage: Stage) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(PROGRAM)} batch <(echo 'jobs: [{{prompt: a cat}}]') -o out"],
        capture_output=True,
        text=True,
        timeout=40,
        cwd=stage.folder,
        env=stage.environment(None, None),
    )
    assert (done.returncode, stage.fake.charged) == (0, 1), done.stderr


@pytest.mark.parametrize("target", ["device", "fifo", "link", "descriptor"])
def test_a_report_is_written_into_what_is_there(stage: Stage, target: str) -> None:
    path, real = stage.folder / "report", stage.folder / "real.xml"
    match target:
        case "device":
            device(path, 3)
        case "fifo":
            os.mkfifo(path)
        case "link":
            real.write_text("old")
            path.symlink_to(real.name)
    where = "/dev/fd/2" if target == "descriptor" else path
    reader = subprocess.Popen(["cat", path], stdout=subprocess.PIPE) if target == "fifo" else None
    done = run_plainly(stage, f"{BATCH} --junit {where}")
    assert done.returncode == 0, done.stderr
    match target:
        case "device":
            assert path.is_char_device()
        case "fifo":
            assert reader is not None
            assert b"<testsuite" in reader.communicate(timeout=10)[0]
            assert path.is_fifo()
        case "link":
            assert path.is_symlink()
            assert "<testsuite" in real.read_text()
        case "descriptor":
            assert "<testsuite" in done.stderr


def test_paths_that_are_no_unicode_are_printed_byte_for_byte(stage: Stage) -> None:
    folder = os.fsencode(stage.folder) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/p\xff.txt", "w") as file:
        file.write("a cat\n")
    done = subprocess.run(
        [*PROGRAM, "batch", b"caf\xe9/p\xff.txt", "-o", b"caf\xe9/out"],
        capture_output=True,
        timeout=40,
        cwd=stage.folder,
        env=stage.environment(None, None),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"caf\xe9/out/")
    assert os.path.exists(os.fsencode(stage.folder) + b"/" + done.stdout.strip())


def test_cjk_prompts_get_names_of_their_own(stage: Stage) -> None:
    (stage.folder / "p.txt").write_text("夜の猫\n雨の街\n", encoding="utf-8")
    ended = stage.run("batch p.txt -o out")
    assert ended.code == 0
    assert "夜の猫" in ended.out
    assert "untitled" not in ended.out


INPUT_BYTES = {
    "bom": (b"\xef\xbb\xbf", "utf-8"),
    "crlf": (b"", "utf-8"),
    "utf16": (b"\xff\xfe", "utf-16-le"),
    "utf16be": (b"\xfe\xff", "utf-16-be"),
}


@pytest.mark.parametrize("form", INPUT_BYTES)
def test_ids_as_other_shells_write_them(stage: Stage, form: str) -> None:
    mark, encoding = INPUT_BYTES[form]
    name = stage.task()
    data = mark + (name + ("\r\n" if form == "crlf" else "\n")).encode(encoding)
    done = subprocess.run(
        [*PROGRAM, "status", "-"], input=data, capture_output=True, timeout=30, cwd=stage.folder,
        env=stage.environment(None, None),
    )  # fmt: skip
    if form.startswith("utf16"):
        assert done.returncode == 2
        assert b"UTF-16" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(name.encode())


@pytest.mark.parametrize("times", ["copied", "2 s steps", "future", "whole seconds"])
def test_a_finished_folder_as_caches_and_archives_move_it(stage: Stage, times: str) -> None:
    stage.jobs(2)
    assert stage.run(BATCH).code == 0
    before = stage.fake.count()
    now = time.time()
    for path in stage.pictures():
        data, moved = path.read_bytes(), path.with_suffix(".moved")
        moved.write_bytes(data)
        moved.replace(path)
        at = {"2 s steps": now // 2 * 2, "future": 2**31 - 1, "whole seconds": now // 1}.get(times)
        if at is not None:
            os.utime(path, (at, at))
    assert stage.run(BATCH).code == 0
    assert stage.run("verify out").code == 0
    assert stage.fake.count() == before
