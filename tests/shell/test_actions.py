"""The actions, workflows, image and hooks that others build on: valid, and their scripts do what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import require_module
from tests.shell.actions import action, run_step
from tests.shell.documented import RECIPES, ROOT, environment, place_presets

NAMES = ("check", "diff", "batch")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCKERFILE = ROOT / ".ci" / "Dockerfile"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository of presets, some with names that a careless script trips over."""
    folder = tmp_path / "repository"
    folder.mkdir()
    place_presets(folder)
    shutil.copyfile(folder / "posters.yaml", folder / "presets" / "two words.yaml")
    return folder


def git(folder: Path, *words: str) -> str:
    """Run git there, as somebody."""
    command = ["git", "-c", "user.name=n", "-c", "user.email=e", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


# ---- what the services would take -----------------------------------------------------------


def test_text_from_outside_reaches_a_shell_through_variables_alone() -> None:
    steps = [step for name in NAMES for step in action(name)["runs"]["steps"]]
    for path in [*WORKFLOWS, *RECIPES.glob("github*.yml")]:
        steps += [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
    assert not [step["run"] for step in steps if "${{" in step.get("run", "")]


def test_pre_commit_would_take_the_hook() -> None:
    require_module("pre_commit")
    hooks = ROOT / ".pre-commit-hooks.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-manifest", str(hooks)], check=True)
    (hook,) = yaml.safe_load(hooks.read_text())
    names = ("presets/a.yaml", "presets/sub/a.yml", "a.yaml", "presets/a.txt")
    assert [name for name in names if re.search(hook["files"], name)] == ["presets/a.yaml", "presets/sub/a.yml"]


def test_the_image_runs_without_root_and_hands_signals_on() -> None:
    """A linter, and the build's own steps, are run by .ci/run."""
    lines = [line.split(None, 1) for line in DOCKERFILE.read_text().splitlines() if line[:1].isupper()]
    last = dict(lines)  # the last of each instruction is what holds
    assert int(last["USER"].split(":")[0]) > 0
    assert json.loads(last["ENTRYPOINT"]) == ["flux-lora"]
    for words in (rest.split() for word, rest in lines if word == "COPY" and "--from" not in rest):
        assert all((ROOT / each).exists() for each in words[:-1])


def test_a_release_needs_the_tag_that_is_the_version(tmp_path: Path) -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["build"]["steps"]
    script = next(step["run"] for step in steps if "tag" in step.get("name", ""))
    version = re.findall('= "(.+)"', (ROOT / "flux_lora_cli" / "_version.py").read_text())[0]
    for tag, code in ((f"v{version}", 0), ("v99.0", 1)):
        env = environment(tmp_path, GITHUB_REF_NAME=tag)
        assert subprocess.run(["bash", "-e", "-c", script], cwd=ROOT, env=env, check=False).returncode == code


# ---- what they do ---------------------------------------------------------------------------


def test_check_annotates_and_fails_where_a_preset_is_wrong(place: Path) -> None:
    env = environment(place)
    good = run_step("check", "Check", place, env)
    assert good.returncode == 0, good.stderr
    (place / "presets" / "bad name.yaml").write_text("version: 1\njobs:\n  - promt: x\n")
    bad = run_step("check", "Check", place, env)
    assert bad.returncode == 10
    assert "::error file=presets/bad name.yaml,line=3" in bad.stdout + bad.stderr
    only = run_step("check", "Check", place, env, presets="posters.yaml\npresets/two words.yaml\n")
    assert only.returncode == 0, only.stderr
    none = run_step("check", "Check", place, env, presets="$(touch owned)/*.yaml")
    assert none.returncode == 3
    assert not (place / "owned").exists()


def test_diff_fetches_the_base_and_writes_a_comment(place: Path) -> None:
    origin = place.parent / "origin"
    place.rename(origin)
    git(origin, "init", "-q")
    git(origin, "add", "presets")
    git(origin, "commit", "-qm", "first")
    base = git(origin, "rev-parse", "HEAD")
    preset = origin / "presets" / "two words.yaml"
    preset.write_text(preset.read_text().replace("seed: [1, 2]", "seed: [1, 3]"))
    git(origin, "commit", "-qam", "second")
    git(origin.parent, "clone", "-q", "--depth=1", f"file://{origin}", "repository")
    env = environment(place.parent)
    for step in ("Fetch the base", "Compare"):
        done = run_step("diff", step, place, env, from_=base)
        assert done.returncode == 0, done.stderr
    runner = place.parent / "repository-runner"
    comment = Path((runner / "output").read_text().strip().removeprefix("comment="))
    assert "2 images to buy" in comment.read_text()
    assert comment.read_text() in (runner / "step_summary").read_text()
    assert run_step("diff", "Fetch the base", place, env).returncode == 2


def test_batch_buys_once_and_only_where_the_folder_was_restored(place: Path) -> None:
    env = environment(place)
    inputs = {"presets": "presets/two*.yaml", "output": "out put", "max_cost": "1", "key": "k"}
    refused = run_step("batch", "Make the images", place, env, require_folder="true", **inputs)
    assert refused.returncode == 7
    assert "Nothing was bought" in refused.stdout
    assert not (place / "out put").exists()
    done = run_step("batch", "Make the images", place, env, **inputs)
    assert done.returncode == 0, done.stderr
    assert len(list((place / "out put").glob("*.png"))) == 4
    again = run_step("batch", "Make the images", place, env, require_folder="true", **inputs)
    assert again.returncode == 0, again.stderr
    assert len(list((place / "out put").glob("*.png"))) == 4
    assert (place.parent / "repository-runner" / "step_summary").read_text().count("### flux-lora: done") == 2
    poor = run_step("batch", "Make the images", place, env, **{**inputs, "output": "new", "max_cost": "0.001"})
    assert poor.returncode == 8


def test_batch_saves_the_folder_whatever_happens() -> None:
    steps = action("batch")["runs"]["steps"]
    after = steps[[step["name"] for step in steps].index("Make the images") + 1 :]
    assert [step["if"] for step in after] == ["always()"] * 2
    restore = next(step for step in steps if step.get("id") == "restore")
    save = next(step for step in after if "cache/save" in step.get("uses", ""))
    assert save["with"] == {name: restore["with"][name] for name in ("path", "key")}
