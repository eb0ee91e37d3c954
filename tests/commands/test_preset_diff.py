"""``preset diff``: two sides of presets, the old one from git."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.presets.load import load_presets
from tests.commands.conftest import Run
from tests.conftest import require_tool
from tests.gallery.make_run import draw, job, write

BASE = "version: 1\ndefaults:\n  size: 512*768\n  num_inference_steps: 28\n"
POSTERS = """\
version: 1
extends: base.yaml
jobs:
  - {id: dawn, prompt: a cat at dawn, seed: 1}
  - {id: dusk, prompt: a cat at dusk, num_images: 2}
"""
#: The program, with its most memory (KB) in the end; rusage would count this process, which starts it, too.
PEAK = (
    "from flux_lora_cli.__main__ import main\n"
    "try: main()\nfinally: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
)
BOTH = {("changed", "dawn"), ("changed", "dusk")}


class Repository:
    """A git repository with ``presets/`` in it."""

    def __init__(self, folder: Path) -> None:
        require_tool("git")
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.put("presets/base.yaml", BASE)
        self.put("presets/posters.yaml", POSTERS)
        self.commit()

    def git(self, *words: str) -> str:
        options = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *options, *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def put(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.put(name, text.replace(old, new))

    def commit(self, **files: str) -> None:
        """Commit what there is, and these presets."""
        for name, text in files.items():
            self.put(f"presets/{name}.yaml", text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x")


Diff = Callable[..., Any]
Changes = Callable[..., dict[tuple[str, str], dict[str, Any]]]


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def diff(run: Run, repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Diff:
    monkeypatch.chdir(repo.folder)
    return lambda *words: run("preset", "diff", *words)


@pytest.fixture
def changes(diff: Diff) -> Changes:
    """What happened, by kind and job."""

    def ask(*words: str) -> dict[tuple[str, str], dict[str, Any]]:
        done = diff(*words, "--json")
        assert done.code == 0, done.err
        records = [event["data"] for event in done.events if event.get("kind") == "change"]
        return {(record["change"], record["id"]): record for record in records}

    return ask


def test_a_shared_line_changes_the_jobs_that_extend_it(diff: Diff, changes: Changes, repo: Repository) -> None:
    repo.edit("presets/base.yaml", "28", "20")
    found = changes("presets/posters.yaml")
    place = {"file": "presets/base.yaml", "line": 4}
    assert found["changed", "dawn"]["parameters"] == {"num_inference_steps": {"from": 28, "to": 20, **place}}
    assert {key: (record["images"], record["cost_usd"]) for key, record in found.items()} == {
        ("changed", "dawn"): (1, "0.015"), ("changed", "dusk"): (2, "0.03"),
    }  # fmt: skip
    assert diff("presets", "--json").events[-1]["cost_usd"] == "0.045"
    assert diff("presets", "--fail-over", "0.045").code == 0
    done = diff("presets", "--fail-over", "0.04")
    assert (done.code, "~ dawn" in done.out) == (8, True)
    assert diff("presets", "--fail-over", "1", "--price", "1").code == 8
    done = diff("presets", "--format", "github")
    assert done.lines[0] == "::notice file=presets/base.yaml,line=4::num_inference_steps: 28 → 20: dawn, dusk"
    repo.edit("presets/base.yaml", "  num_inference_steps: 20\n", "")  # what is gone came from the old side
    steps = changes("presets")["changed", "dawn"]["parameters"]["num_inference_steps"]
    assert steps == {"from": 28, "to": None, **place}


HOUSE = """\
version: 1
model: flux-dev-lora
stacks:
  nasa:
    - path: a/nasa
      scale: 0.9
  other: [{path: c/d}]
vars:
  place: [moon, mars]
  tail: fine
  style: oil, ${tail}
"""
SPACE = """\
version: 1
extends: house.yaml
jobs:
  - id: x
    stack: nasa
    prompt: "${place} in ${style} <lora:e/f:0.5>"
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "parameter", "place"),
    [
        ("house", "flux-dev-lora", "flux-dev-lora-ultra-fast", "model", "house.yaml:2"),
        ("house", "0.9", "0.8", "loras", "house.yaml:6"),
        ("house", "0.9", "0.9\n    - path: b/b", "loras", "house.yaml:7"),
        ("space", "stack: nasa", "stack: other", "loras", "space.yaml:5"),
        ("house", "oil", "pencil", "prompt", "house.yaml:11"),
        ("house", "fine", "rough", "prompt", "house.yaml:10"),
    ],
)
def test_the_place_that_a_change_came_from(
    changes: Changes, repo: Repository, file: str, old: str, new: str, parameter: str, place: str
) -> None:
    repo.commit(house=HOUSE, space=SPACE)
    repo.edit(f"presets/{file}.yaml", old, new)
    found = changes("presets/space.yaml")
    assert found.keys() == {("changed", "x/moon"), ("changed", "x/mars")}
    values = found["changed", "x/mars"]["parameters"]
    assert {name: f"{value['file']}:{value['line']}" for name, value in values.items()} == {
        parameter: f"presets/{place}"
    }


def test_a_folder_that_presets_may_read(changes: Changes, repo: Repository) -> None:
    repo.put("shared/house.yaml", BASE)
    repo.put("presets/posters.yaml", POSTERS.replace("base.yaml", "../shared/house.yaml"))
    repo.commit()
    repo.edit("shared/house.yaml", "28", "20")
    assert changes("presets/posters.yaml", "--allow-path", "shared").keys() == BOTH


def test_a_price_that_is_a_floor(run: Run, diff: Diff, repo: Repository) -> None:
    assert run("models", "--update", "models.json", "--sandbox").code == 0
    repo.put("presets/new.yaml", "version: 1\nmodel: flux-2-dev/text-to-image-lora\njobs:\n  - prompt: x\n")
    words = ("presets/new.yaml", "--models", "models.json", "--fail-over", "5")
    done = diff(*words)
    assert (done.code, "$5 is not kept: 1 image to buy, from $0.015" in done.err) == (8, True), done.err
    assert "1 image to buy, $0.02\n" in diff(*words, "--price", "0.02").err


def test_added_removed_renamed(changes: Changes, repo: Repository) -> None:
    repo.edit("presets/posters.yaml", "id: dawn", "id: morning")
    repo.edit("presets/posters.yaml", "- {id: dusk, prompt: a cat at dusk, num_images: 2}", "- {id: noon, prompt: b}")
    found = changes("presets")
    assert {key: record["images"] for key, record in found.items()} == {
        ("renamed", "morning"): 0, ("added", "noon"): 1, ("removed", "dusk"): 0,
    }  # fmt: skip
    assert found["renamed", "morning"]["old_id"] == "dawn"


def test_presets_that_are_moved_new_or_gone(diff: Diff, changes: Changes, repo: Repository) -> None:
    repo.git("mv", "presets/posters.yaml", "presets/cats and 猫.yaml")
    moved = {key: record["images"] for key, record in changes("presets").items()}
    assert moved == {("renamed", "dawn"): 0, ("renamed", "dusk"): 0}
    repo.git("mv", "presets/cats and 猫.yaml", "presets/posters.yaml")
    (repo.folder / "presets" / "posters.yaml").unlink()
    repo.put("presets/new.yml", "version: 1\njobs:\n  - {id: x, prompt: y}\n")
    expected = {("added", "x"), ("removed", "dawn"), ("removed", "dusk")}
    assert changes("presets").keys() == expected
    assert changes("presets/posters.yaml", "presets/new.yml").keys() == expected
    assert diff("presets/neither.yaml").code == diff("nowhere").code == 3


def test_what_a_folder_has_is_not_bought(diff: Diff, changes: Changes, repo: Repository) -> None:
    repo.put("presets/posters.yaml", POSTERS + "  - {id: noon, prompt: c}\n")
    assert changes("presets", "-o", "out")["added", "noon"]["images"] == 1
    write(repo.folder / "out", [job("noon", fingerprint=load_presets("presets/posters.yaml").jobs[-1].fingerprint)])
    assert changes("presets", "-o", "out")["added", "noon"]["images"] == 0
    assert "nowhere" in diff("presets", "-o", "nowhere").err


def test_from_a_revision_its_merge_base_and_a_folder(changes: Changes, repo: Repository) -> None:
    start = repo.git("rev-parse", "HEAD")
    repo.git("checkout", "-q", "-b", "feature")
    repo.edit("presets/base.yaml", "28", "20")
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.edit("presets/posters.yaml", "id: dusk", "id: evening")
    repo.commit()
    repo.git("checkout", "-q", "feature")
    repo.put("before/base.yaml", BASE)
    repo.put("before/posters.yaml", POSTERS)
    assert changes("presets") == {}
    for side in (start, "main...", "before"):
        assert changes("presets", "--from", side).keys() == BOTH
    assert changes("presets/posters.yaml", "--from", "./before").keys() == BOTH
    assert ("removed", "evening") in changes("presets", "--from", "main")


def test_a_subfolder_as_working_directory(
    diff: Diff, changes: Changes, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.edit("presets/base.yaml", "28", "20")
    monkeypatch.chdir(repo.folder / "presets")
    found = changes("posters.yaml", ".")
    assert found["changed", "dawn"]["parameters"]["num_inference_steps"]["file"] == "base.yaml"
    for lines in (diff(".", "--format", "github").lines, diff("../presets", "--format", "github").lines):
        assert lines[0].startswith("::notice file=presets/base.yaml,line=4::")
    repo.edit("presets/base.yaml", "20", "99")
    assert "::error file=presets/base.yaml,line=4" in diff(".", "--format", "github").err


def test_where_git_cannot_help(
    run: Run, diff: Diff, repo: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(folder: Path, *words: str) -> str:
        monkeypatch.chdir(folder)
        done = run("preset", "diff", *words)
        assert done.code == 3
        return str(done.err)

    for revision in ("nosuch", "nosuch...", "--output=x", ""):
        assert "--from" in refused(repo.folder, "presets", f"--from={revision}")
    first = repo.git("rev-parse", "HEAD")
    repo.edit("presets/base.yaml", "28", "27")
    repo.commit()
    repo.git("clone", "-q", "--depth", "1", repo.folder.as_uri(), str(tmp_path / "shallow"))
    repo.git("clone", "-q", "--bare", repo.folder.as_uri(), str(tmp_path / "bare"))
    assert "--unshallow" in refused(tmp_path / "shallow", "presets", "--from", first)
    assert "bare repository" in refused(tmp_path / "bare", "a.yaml")
    assert "not a git repository" in refused(tmp_path, "a.yaml")
    blob = repo.git("rev-parse", f"{first}:presets/base.yaml")
    (repo.folder / ".git/objects" / blob[:2] / blob[2:]).unlink()  # as a clone with --filter has it
    assert "presets/base.yaml as it was is not in this clone" in refused(repo.folder, "presets", "--from", first)
    with monkeypatch.context() as patch:
        patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        assert "--add safe.directory" in refused(repo.folder, "presets")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "git is not installed" in refused(repo.folder, "presets")


def test_the_old_side_is_read_with_all_its_files(changes: Changes, repo: Repository) -> None:
    def put(prompts: str, pets: str, picture: int) -> None:
        repo.put("presets/lists/my prompts.txt", prompts)
        repo.put("presets/wildcards/pet.txt", pets)
        repo.put("presets/in put.png", draw(picture, 64, 64))

    put("one\ntwo\n", "cat\ndog\n", 1)
    repo.commit(
        all="""version: 1
jobs:
  - prompts_file: lists/my prompts.txt
  - {id: pet, prompt: __pet__}
  - {id: image, prompt: x, image: in put.png}
"""
    )
    put("one\nthree\n", "cat\ncow\n", 2)
    found = changes("presets/all.yaml")
    assert found.keys() == {
        ("added", "three"), ("removed", "two"), ("added", "pet/cow"), ("removed", "pet/dog"), ("changed", "image"),
    }  # fmt: skip
    assert found["changed", "image"]["parameters"]["image"]["from"].startswith("in put.png (")


def test_invalid_sides(diff: Diff, changes: Changes, repo: Repository) -> None:
    repo.commit(posters="version: 1\njobs:\n  - {promt: x}\n")
    repo.put("presets/posters.yaml", POSTERS)
    assert changes("presets").keys() == {("added", "dawn"), ("added", "dusk")}
    done = diff("presets")
    assert "presets/posters.yaml in HEAD is invalid" in done.err
    repo.edit("presets/posters.yaml", "id: dawn, prompt", "id: dawn, promt")
    done = diff("presets")
    assert (done.code, "presets/posters.yaml:4:" in done.err) == (10, True)
    assert "::error file=presets/posters.yaml,line=4,col=" in diff("presets", "--format", "github").err


def test_names_of_files_in_any_spelling(changes: Changes, repo: Repository) -> None:
    names = ['a "b".png', "it's.png", "in put.png", "\u732b \U0001f389.png", "\xe9\u0301a\U0001f389.png"]
    for name in names:
        repo.put(f"presets/{name}", draw(1, 64, 64))
    repo.put("presets/a.jsonl", "".join(json.dumps({"prompt": "x", "image": name}) + "\n" for name in names))
    repo.commit()
    assert changes("presets/a.jsonl") == {}


def pointer(data: bytes) -> str:
    """What stands in git for a file in Git LFS."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\nsize {len(data)}\n"
    )


def test_git_lfs(diff: Diff, changes: Changes, repo: Repository) -> None:
    """A pointer on the old side stands for its file; on the new side it is a problem."""
    image, preset = draw(1, 64, 64), "version: 1\njobs:\n  - {id: image, prompt: x, image: in.png}\n"
    for folder in ("presets", "old"):
        repo.put(f"{folder}/in.png", pointer(image))
        repo.put(f"{folder}/image.yaml", preset)
    repo.commit()
    done = diff("presets/image.yaml")
    assert (done.code, "LFS" in done.err) == (10, True)
    repo.put("presets/in.png", image)
    assert changes("presets/image.yaml") == changes("presets/image.yaml", "--from", "old/") == {}
    repo.put("presets/in.png", draw(2, 64, 64))
    assert changes("presets/image.yaml").keys() == {("changed", "image")}


def test_a_text_in_git_lfs(changes: Changes, repo: Repository) -> None:
    """It is taken from the work tree, or from where Git LFS keeps it."""
    digest = hashlib.sha256(b"one\ntwo\n").hexdigest()
    repo.put("presets/my.txt", pointer(b"one\ntwo\n"))
    repo.commit(list="version: 1\njobs:\n  - prompts_file: my.txt\n")
    repo.put("presets/my.txt", "one\ntwo\n")
    assert changes("presets/list.yaml") == {}
    repo.put(f".git/lfs/objects/{digest[:2]}/{digest[2:4]}/{digest}", "one\ntwo\n")
    repo.put("presets/my.txt", "one\nthree\n")
    assert changes("presets/list.yaml").keys() == {("added", "three"), ("removed", "two")}


def test_links_on_the_old_side(diff: Diff, repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text(BASE)
    repo.put("shared/cats.yaml", "version: 1\njobs:\n  - {id: cat, prompt: a}\n")
    (repo.folder / "presets" / "out.yaml").symlink_to(tmp_path / "secret.yaml")
    (repo.folder / "presets" / "in.yaml").symlink_to("../shared/cats.yaml")
    repo.commit()
    (repo.folder / "presets" / "out.yaml").unlink()
    repo.put("presets/out.yaml", BASE)
    done = diff("presets/out.yaml")
    assert (done.code, "out.yaml in HEAD is invalid" in done.err) == (0, True)
    assert "(1 problem: presets/out.yaml:1:1: is a link that leads out" in done.err  # no path of this machine
    assert diff("presets/in.yaml", "--json").events[-1]["unchanged"] == 1


def test_a_folder_that_was_a_link_out_of_the_repository(changes: Changes, repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    for folder in (tmp_path / "outside", repo.folder / "own"):
        folder.mkdir(exist_ok=True)
        (folder / "a.yaml").write_text(f"version: 1\njobs:\n  - {{id: a, prompt: {folder.name}}}\n")
        (folder / "folder.yaml").mkdir()
    (repo.folder / "own").rename(repo.folder / "hidden")
    (repo.folder / "own").symlink_to(tmp_path / "outside")
    repo.commit()
    (repo.folder / "own").unlink()
    (repo.folder / "hidden").rename(repo.folder / "own")
    assert changes("own").keys() == changes("own", "own/a.yaml").keys() == {("added", "a")}


def test_a_tree_made_by_hand_writes_nothing_elsewhere(diff: Diff, repo: Repository, tmp_path: Path) -> None:
    def put(kind: str, *entries: tuple[str, bytes, str], data: bytes = b"") -> str:
        for mode, name, digest in entries:
            data += mode.encode() + b" " + name + b"\0" + bytes.fromhex(digest)
        command = ["git", "hash-object", "-w", "-t", kind, "--literally", "--stdin"]
        done = subprocess.run(command, cwd=repo.folder, input=data, check=True, capture_output=True)
        return done.stdout.decode().strip()

    links = {b"none.yaml": b"", b"nul.yaml": b"a\0b", b"long.yaml": b"a" * 5_000}
    extends = b"[d/x.yaml, " + b", ".join(links) + b"]"
    preset = put("blob", data=b"version: 1\nextends: " + extends + b"\njobs:\n  - {id: a, prompt: b}\n")
    inner = put("tree", ("100644", b"x.yaml", preset))
    link = put("blob", data=str(tmp_path).encode())
    twice = (("120000", b"d", link), ("40000", b"d", inner), ("100644", b"x.yaml", link), ("40000", b"x.yaml", inner))
    broken = [("120000", name, put("blob", data=data)) for name, data in links.items()]
    presets = put("tree", ("100644", b"a.yaml", preset), *twice, *broken)
    commit = repo.git("commit-tree", "-m", "x", put("tree", ("40000", b"..", inner), ("40000", b"presets", presets)))
    repo.put("presets/a.yaml", "version: 1\njobs:\n  - {id: a, prompt: b}\n")
    assert diff("presets/a.yaml", "--from", commit).code == 0
    assert not (tmp_path / "x.yaml").exists()


def test_a_repository_among_the_files_is_not_asked(diff: Diff, repo: Repository, tmp_path: Path) -> None:
    """It would say what the old side was."""
    repo.git("clone", "-q", "--bare", ".", str(tmp_path / "bare"))
    shutil.copytree(tmp_path / "bare", repo.folder / "presets", dirs_exist_ok=True)
    repo.put("presets/config", "[core]\nrepositoryformatversion = 0\nbare = false\nworktree = ..\n")
    assert diff("presets").code == 3


def test_markdown_fits_into_a_comment(diff: Diff, repo: Repository) -> None:
    jobs = "".join(f"  - {{id: job{n}, prompt: {'very long ' * 20}{n}}}\n" for n in range(500))
    repo.put("presets/many.yaml", f"version: 1\njobs:\n{jobs}")
    for n in range(150):
        repo.put(f"presets/{'very long ' * 24}{n}.yaml", "version: 1\njobs: 1\n")
    repo.commit()
    repo.put("presets/many.yaml", f"version: 1\njobs:\n{jobs}".replace("very", "quite"))
    for path in repo.folder.glob("presets/very*"):
        path.write_text("version: 1\njobs:\n  - prompt: x\n")
    done = diff("presets", "--format", "markdown")
    assert (done.code, len(done.out) <= 65_536) == (0, True)
    assert "more jobs not shown" in done.out and "more presets with an invalid old side" in done.out


@pytest.mark.parametrize("form", ["text", "markdown", "github"])
def test_no_line_begins_with_a_presets_text(diff: Diff, repo: Repository, form: str) -> None:
    evil = ["::error::x", "# heading", "##[group]x", "`code` @user <img src=x>", "x\\n::warning::y"]
    jobs = "".join(f'  - {{prompt: "{text}", seed: {n}}}\n' for n, text in enumerate(evil))
    repo.put("presets/evil.yaml", f"version: 1\njobs:\n{jobs}")
    done = diff("presets/evil.yaml", "--format", form)
    assert done.code == 0, done.err
    for line in done.lines:
        assert not line.lstrip().startswith(("::error::x", "::warning::y", "# heading", "##[", "@user", "<img"))
        assert form != "github" or line.startswith("::notice")
    if form == "markdown":
        assert '``"`code` @user <img src=x>"``' in done.out


@pytest.mark.parametrize("form", [["--format", "text"], ["--format", "markdown"], ["--format", "github"], ["--json"]])
def test_secrets_are_masked_and_long_texts_shown_where_they_differ(
    diff: Diff, repo: Repository, form: list[str]
) -> None:
    prompt = f"https://h.example/x?token={'SECRET' * 50} a cat "  # is masked before it is cut
    job = {"id": "a", "prompt": f"{prompt}x", "loras": [{"path": "https://h.example/x?token=SECRET", "scale": 1}]}
    repo.put("presets/a.jsonl", json.dumps(job))
    repo.commit()
    repo.edit("presets/a.jsonl", '"scale": 1', '"scale": 0.5')
    repo.edit("presets/a.jsonl", "cat x", "cat https://user:SECRET@h.example/y")
    done = diff("presets/a.jsonl", *form)
    assert (done.code, "SECRET" in done.out + done.err) == (0, False)
    assert "token=***" in done.out
    assert all(f"cat {end}" in done.out for end in ("x", "https://***@h.example/y"))


def test_a_huge_file_of_the_old_side_is_not_read(repo: Repository) -> None:
    repo.put("presets/image.yaml", "version: 1\njobs:\n  - {id: image, prompt: x, image: in.png}\n")
    with (repo.folder / "presets/in.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(300_000_000)
    repo.git("config", "core.bigFileThreshold", "1m")  # such a file goes into git piece by piece
    repo.commit()
    (repo.folder / "presets/in.png").unlink()
    repo.put("presets/in.png", draw(1, 64, 64))
    command = [sys.executable, "-c", PEAK, "preset", "diff", str(repo.folder / "presets/image.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "in HEAD is invalid" in done.stderr and "is larger than 100,000,000 bytes" in done.stderr
    assert int(done.stdout.split()[-1]) < 150_000
