"""``preset diff``: two sides of presets, the old one from git."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x")
        return self.git("rev-parse", "HEAD")


Diff = Callable[..., Any]


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def diff(run: Run, repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Diff:
    monkeypatch.chdir(repo.folder)
    return lambda *words: run("preset", "diff", *words)


def changes(done: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """By what happened and to which job."""
    assert done.code == 0, done.err
    records = [event["data"] for event in done.events if event.get("kind") == "change"]
    return {(record["change"], record["id"]): record for record in records}


def test_a_shared_line_changes_the_jobs_that_extend_it(diff: Diff, repo: Repository) -> None:
    repo.edit("presets/base.yaml", "28", "20")
    done = diff("presets/posters.yaml", "--json")
    steps = {"from": 28, "to": 20, "file": "presets/base.yaml", "line": 4}
    found = changes(done)
    assert found["changed", "dawn"]["parameters"] == {"num_inference_steps": steps}
    assert [(found["changed", id_]["images"], found["changed", id_]["cost_usd"]) for id_ in ("dawn", "dusk")] == [
        (1, "0.015"), (2, "0.03"),
    ]  # fmt: skip
    assert done.events[-1]["cost_usd"] == "0.045"
    repo.edit("presets/base.yaml", "  num_inference_steps: 20\n", "")  # what is gone came from the old side
    steps = changes(diff("presets", "--json"))["changed", "dawn"]["parameters"]["num_inference_steps"]
    assert steps == {"from": 28, "to": None, "file": "presets/base.yaml", "line": 4}


def test_added_removed_renamed(diff: Diff, repo: Repository) -> None:
    repo.edit("presets/posters.yaml", "id: dawn", "id: morning")
    repo.edit("presets/posters.yaml", "- {id: dusk, prompt: a cat at dusk, num_images: 2}", "- {id: noon, prompt: b}")
    found = changes(diff("presets", "--json"))
    assert {key: record["images"] for key, record in found.items()} == {
        ("renamed", "morning"): 0, ("added", "noon"): 1, ("removed", "dusk"): 0,
    }  # fmt: skip
    assert found["renamed", "morning"]["old_id"] == "dawn"


def test_presets_that_are_moved_new_or_gone(diff: Diff, repo: Repository) -> None:
    repo.git("mv", "presets/posters.yaml", "presets/cats and 猫.yaml")
    found = changes(diff("presets", "--json"))
    assert {key: record["images"] for key, record in found.items()} == {("renamed", "dawn"): 0, ("renamed", "dusk"): 0}
    repo.git("mv", "presets/cats and 猫.yaml", "presets/posters.yaml")
    (repo.folder / "presets" / "posters.yaml").unlink()
    repo.put("presets/new.yml", "version: 1\njobs:\n  - {id: x, prompt: y}\n")
    expected = {("added", "x"), ("removed", "dawn"), ("removed", "dusk")}
    assert changes(diff("presets", "--json")).keys() == expected
    assert changes(diff("presets/posters.yaml", "presets/new.yml", "--json")).keys() == expected
    assert diff("presets/neither.yaml").code == 3
    assert diff("nowhere").code == 3


def test_what_a_folder_has_is_not_bought(diff: Diff, repo: Repository, run: Run) -> None:
    repo.put("presets/posters.yaml", POSTERS + "  - {id: noon, prompt: c}\n")
    assert changes(diff("presets", "--json", "-o", "out"))["added", "noon"]["images"] == 1
    from flux_lora_cli.presets.load import load_presets

    entry = job("noon", fingerprint=load_presets("presets/posters.yaml").jobs[-1].fingerprint)
    write(repo.folder / "out", [entry])
    assert changes(diff("presets", "--json", "-o", "out"))["added", "noon"]["images"] == 0
    assert "nowhere" in diff("presets", "-o", "nowhere").err


def test_from_a_revision_and_its_merge_base(diff: Diff, repo: Repository) -> None:
    start = repo.git("rev-parse", "HEAD")
    repo.git("checkout", "-q", "-b", "feature")
    repo.edit("presets/base.yaml", "28", "20")
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.edit("presets/posters.yaml", "id: dusk", "id: evening")
    repo.commit()
    repo.git("checkout", "-q", "feature")
    assert changes(diff("presets", "--json")) == {}
    assert changes(diff("presets", "--json", "--from", start)).keys() == {("changed", "dawn"), ("changed", "dusk")}
    assert changes(diff("presets", "--json", "--from", "main...")).keys() == {("changed", "dawn"), ("changed", "dusk")}
    assert ("removed", "evening") in changes(diff("presets", "--json", "--from", "main"))


def test_from_a_folder(diff: Diff, repo: Repository, tmp_path: Path) -> None:
    repo.put("before/base.yaml", BASE.replace("28", "12"))
    repo.put("before/posters.yaml", POSTERS)
    assert changes(diff("presets", "--json", "--from", "before")).keys() == {("changed", "dawn"), ("changed", "dusk")}
    assert changes(diff("presets/posters.yaml", "--json", "--from", "./before")).keys() == {
        ("changed", "dawn"), ("changed", "dusk"),
    }  # fmt: skip


def test_a_subfolder_as_working_directory(diff: Diff, repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.edit("presets/base.yaml", "28", "20")
    monkeypatch.chdir(repo.folder / "presets")
    found = changes(diff("posters.yaml", ".", "--json"))
    assert found["changed", "dawn"]["parameters"]["num_inference_steps"]["file"] == "base.yaml"


@pytest.mark.parametrize("revision", ["nosuch", "nosuch...", "--output=x", "", "HEAD~99", "v1^{tree}"])
def test_no_such_revision(diff: Diff, revision: str) -> None:
    done = diff("presets", f"--from={revision}")
    assert (done.code, done.out) == (3, "")


def test_a_shallow_clone_is_named(run: Run, repo: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.put("more.txt", "x")
    repo.commit()
    repo.git("clone", "-q", "--depth", "1", repo.folder.as_uri(), str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    done = run("preset", "diff", "presets", "--from", first)
    assert done.code == 3
    assert "--unshallow" in done.err


def test_no_repository_and_no_git(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text(BASE)
    done = run("preset", "diff", "a.yaml")
    assert (done.code, "not a git repository" in done.err) == (3, True)
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("preset", "diff", "a.yaml")
    assert (done.code, "git is not installed" in done.err) == (3, True)


def test_a_repository_of_another_user(diff: Diff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    done = diff("presets")
    assert done.code == 3
    assert "safe.directory" in done.err


def test_the_old_side_is_read_with_all_its_files(diff: Diff, repo: Repository) -> None:
    repo.put("presets/lists/my prompts.txt", "one\ntwo\n")
    repo.put("presets/wildcards/pet.txt", "cat\ndog\n")
    repo.put("presets/in put.png", draw(1, 64, 64))
    repo.put(
        "presets/all.yaml",
        "version: 1\njobs:\n  - prompts_file: lists/my prompts.txt\n  - {id: pet, prompt: __pet__}\n"
        "  - {id: image, prompt: x, image: in put.png}\n",
    )
    repo.commit()
    repo.put("presets/lists/my prompts.txt", "one\nthree\n")
    repo.put("presets/wildcards/pet.txt", "cat\ncow\n")
    repo.put("presets/in put.png", draw(2, 64, 64))
    found = changes(diff("presets/all.yaml", "--json"))
    assert found.keys() == {
        ("added", "three"), ("removed", "two"), ("added", "pet/cow"), ("removed", "pet/dog"), ("changed", "image"),
    }  # fmt: skip
    assert found["changed", "image"]["parameters"]["image"]["from"].startswith("in put.png (")


def test_an_invalid_old_side_counts_as_none(diff: Diff, repo: Repository) -> None:
    repo.put("presets/posters.yaml", "version: 1\njobs:\n  - {promt: x}\n")
    repo.commit()
    repo.put("presets/posters.yaml", POSTERS)
    done = diff("presets", "--json")
    assert changes(done).keys() == {("added", "dawn"), ("added", "dusk")}
    assert "presets/posters.yaml in HEAD is invalid" in done.err
    assert "/flux-lora-diff-" not in done.err


def test_an_invalid_new_side(diff: Diff, repo: Repository) -> None:
    repo.edit("presets/posters.yaml", "id: dawn, prompt", "id: dawn, promt")
    done = diff("presets")
    assert done.code == 10
    assert "presets/posters.yaml:4:" in done.err


def pointer(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n"


def test_git_lfs(diff: Diff, repo: Repository) -> None:
    """A pointer on the old side stands for its file; on the new side it is a problem."""
    image = draw(1, 64, 64)
    repo.put("presets/in.png", pointer(image))
    repo.put("presets/image.yaml", "version: 1\njobs:\n  - {id: image, prompt: x, image: in.png}\n")
    repo.commit()
    done = diff("presets/image.yaml")
    assert (done.code, "LFS" in done.err) == (10, True)
    repo.put("presets/in.png", image)
    assert changes(diff("presets/image.yaml", "--json")) == {}
    repo.put("presets/in.png", draw(2, 64, 64))
    assert changes(diff("presets/image.yaml", "--json")).keys() == {("changed", "image")}


def test_the_old_side_reads_nothing_outside(diff: Diff, repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text(BASE)
    (repo.folder / "presets" / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    repo.commit()
    (repo.folder / "presets" / "link.yaml").unlink()
    repo.put("presets/link.yaml", BASE)
    done = diff("presets/link.yaml")
    assert done.code == 0
    assert "link.yaml in HEAD is invalid" in done.err


def test_a_link_within_the_repository_is_followed(diff: Diff, repo: Repository) -> None:
    repo.put("shared/cats.yaml", "version: 1\njobs:\n  - {id: cat, prompt: a}\n")
    (repo.folder / "presets" / "link.yaml").symlink_to("../shared/cats.yaml")
    repo.commit()
    done = diff("presets/link.yaml", "--json")
    assert (changes(done), done.events[-1]["unchanged"]) == ({}, 1), done.err


def test_fail_over(diff: Diff, repo: Repository) -> None:
    repo.edit("presets/base.yaml", "28", "20")
    assert diff("presets", "--fail-over", "0.045").code == 0
    done = diff("presets", "--fail-over", "0.04")
    assert (done.code, "~ dawn" in done.out) == (8, True)
    assert diff("presets", "--fail-over", "1", "--price", "1").code == 8
    repo.edit("presets/base.yaml", "version: 1", "version: 1\nmodel: flux-kontext-dev-lora")
    assert diff("presets", "--fail-over", "100").code in (8, 10)


def test_markdown_fits_into_a_comment(diff: Diff, repo: Repository) -> None:
    jobs = "".join(f"  - {{id: job{n}, prompt: {'very long ' * 20}{n}}}\n" for n in range(900))
    repo.put("presets/many.yaml", f"version: 1\njobs:\n{jobs}")
    done = diff("presets", "--format", "markdown")
    assert done.code == 0
    assert len(done.out) <= 65_536
    assert "job0`" in done.out
    assert "more jobs not shown" in done.out


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


def test_github_annotates_the_line_that_changed(diff: Diff, repo: Repository) -> None:
    repo.edit("presets/base.yaml", "28", "20")
    done = diff("presets", "--format", "github")
    assert done.lines[0] == "::notice file=presets/base.yaml,line=4::num_inference_steps: 28 → 20: dawn, dusk"


def test_ten_thousand_jobs(diff: Diff, repo: Repository) -> None:
    lines = "".join(json.dumps({"prompt": f"cat {n}", "seed": n}) + "\n" for n in range(10_000))
    repo.put("presets/many.jsonl", lines)
    repo.commit()
    repo.put("presets/many.jsonl", lines.replace("cat 5", "dog 5"))
    started = time.process_time()
    done = diff("presets/many.jsonl", "--max-jobs", "10000", "--json", "-q")
    assert done.code == 0, done.err
    assert done.events[-1]["images"] == 1111
    assert time.process_time() - started < 6 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
