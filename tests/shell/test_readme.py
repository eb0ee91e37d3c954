"""What the documentation says is true, and what it tells to type works, in the sandbox."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flux_lora_cli.commands.app import COMMANDS
from flux_lora_cli.presets.language import JOB_KEYS
from flux_lora_cli.service.models import Models
from tests.conftest import Cli
from tests.shell.documented import (
    AGENTS,
    LANGUAGE,
    README,
    ROOT,
    blocks,
    environment,
    place_presets,
    run,
    shell_blocks,
    table,
    written,
)

_TASK = "1f0c9a3e"  # stands for any task's ID in the help texts
_AFTER_A_RUN = ("verify", "replay", "merge", "gallery", "embed", "audit")
PAGES = [README, LANGUAGE, ROOT / ".github" / "recipes" / "README.md", ROOT / "CHANGELOG.md"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with presets, in a repository of git."""
    place_presets(tmp_path)
    git = "git init -q . && git add presets && git -c user.name=n -c user.email=e commit -qm first && "
    git += "git update-ref refs/remotes/origin/main HEAD"
    subprocess.run(["bash", "-c", git], cwd=tmp_path, check=True, capture_output=True)
    shutil.copytree(tmp_path / "presets", tmp_path / "my-presets")
    return tmp_path


@pytest.fixture
def filled(place: Path) -> Path:
    """The same with what the examples of help texts start from: folders of runs, and shards."""
    shards = " && ".join(f"flux-lora batch posters.yaml -o shard-{n} --shard {n}/3" for n in (1, 2, 3))
    done = run(f"flux-lora batch posters.yaml -o out && {shards}", place, environment(place))
    assert done.returncode == 0, done.stderr
    for name in ("posters", "nasa"):
        shutil.copytree(place / "out", place / "flux-lora-output" / name)
    for number in (1, 2, 3):
        shutil.copytree(place / f"shard-{number}", place / "shards" / str(number))
    for name in ("before", "after"):
        shutil.copytree(place / "out", place / name)
    (place / "picks.txt").write_text("dawn/nasa/1\n")
    image = next((place / "out").glob("a-lunar-base-*.png"))
    shutil.copyfile(image, place / "out" / "a-cat-0f3c-0.png")
    return place


def test_what_the_readme_shows_of_the_program_is_what_it_says() -> None:
    text = README.read_text("utf-8")
    assert text == written(text), "run: python -m tests.shell.documented"
    assert all(f"`{name}`" in text for model in Models.builtin() for name in model.parameters)


def test_the_readme_is_short() -> None:
    assert README.stat().st_size < 10_900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
    for target in targets:
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_table_of_variables_is_whole() -> None:
    """Names in the source that look like variables of the environment stand in the table, and the other way round."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "flux_lora_cli").rglob("*.py"))
    ours = r"(?:WAVESPEED|FLUX_LORA|SLURM_ARRAY|AWS_BATCH|CI_NODE|JOB_COMPLETION|GITHUB)\w*"
    used = {name for name in re.findall(rf'"({ours})"', source) if re.fullmatch(r"[A-Z_]+[A-Z]", name)}
    told = {name for row in table("environment") for name in re.findall(r"`([A-Z_]{2,})`", row[0])}
    assert used - told == set()
    for name in told:
        assert re.search(rf"\b{name}\b", source, re.IGNORECASE), f"{name} is told of, and not used"


def test_the_tables_of_keys_are_whole() -> None:
    schema = json.loads((ROOT / "flux_lora_cli" / "resources" / "preset.schema.json").read_text("utf-8"))
    for name, keys in (("top", schema["properties"]), ("job", JOB_KEYS)):
        told = {key for row in table(name, LANGUAGE) for key in re.findall(r"`(\w+)`", row[0])}
        assert told == set(keys)


@pytest.mark.parametrize("page", [README, LANGUAGE], ids=["README", "language"])
def test_the_presets_that_are_shown_are_valid(cli: Cli, tmp_path: Path, page: Path) -> None:
    presets = [block for block in blocks("yaml", page) if "jobs:" in block]
    assert presets
    for number, block in enumerate(presets):
        (tmp_path / f"p{number}.yaml").write_text(block, "utf-8")
        done = cli("preset", "check", f"p{number}.yaml", "--strict")
        assert done.code == 0, done.err + done.out


def test_the_first_example_of_the_language_counts_right(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(blocks("yaml", LANGUAGE)[0], "utf-8")
    ids = [event["data"]["id"] for event in cli("preset", "show", "p.yaml", "--json").events if "data" in event]
    assert sum(name.startswith("dawn/") for name in ids) == 8
    assert len(ids) == 8 + 2 * 3


def test_the_readmes_script(place: Path) -> None:
    (script,) = blocks("python", README)
    (place / "script.py").write_text(script)
    done = run(f"{sys.executable} script.py", place, environment(place))
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, LANGUAGE, AGENTS], ids=["README", "language", "agents"])
def test_a_page_from_top_to_bottom(place: Path, page: Path) -> None:
    env = environment(place)
    for block in shell_blocks(page):
        done = run(block.replace("export WAVESPEED_API_KEY=your-key", ":"), place, env)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    if page == README:
        for made in ("out/posters/manifest.json", "posters.png", "to-share", "varied", "pets"):
            assert (place / made).exists(), made


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("serve", "preset")])
def test_the_examples_of_each_help_text(request: pytest.FixtureRequest, name: str) -> None:
    place = request.getfixturevalue("filled" if name in _AFTER_A_RUN else "place")
    env = environment(place)
    if name == "schema":
        run("flux-lora models --update models.json", place, env)
    if name == "preset new":
        (place / "posters.yaml").unlink()  # or it would, rightly, not be overwritten
    text = run(f"COLUMNS=200 flux-lora {name} --help", place, env).stdout
    for script in re.findall(r"(?m)^ *\$ (.+?) *$", text.partition("Examples:\n")[2]):
        if re.search(rf"\b{_TASK}\b", script):
            task = run('flux-lora submit "a cat" --size 512*512', place, env).stdout.strip()
            script = script.replace(_TASK, task)
        done = run(script, place, env)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
