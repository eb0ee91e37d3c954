"""Everything that the README and the help texts tell to type is typed here, in the sandbox."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import Cli
from tests.shell.documented import COMMANDS, environment, examples, marked, place_presets, run, shell_blocks

_RECIPES = marked("recipe")
_TASK = "1f0c9a3e"  # stands for any task's id in the help texts
_AFTER_A_RUN = ("verify", "replay", "merge", "gallery", "embed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with presets."""
    place_presets(tmp_path)
    return tmp_path


@pytest.fixture
def filled(place: Path) -> Path:
    """The same with what the examples of help texts start from: folders of runs, and shards."""
    batch = f"flux-lora batch posters.yaml -o out && {_shards('shard-', 3)}"
    done = run(batch, place, environment(place))
    assert done.returncode == 0, done.stderr
    for name in ("posters", "nasa"):
        shutil.copytree(place / "out", place / "flux-lora-output" / name)
    for number in (1, 2, 3):
        shutil.copytree(place / f"shard-{number}", place / "shards" / str(number))
    image = next((place / "out").glob("a-lunar-base-*.png"))
    shutil.copyfile(image, place / "out" / "a-cat-0f3c-0.png")
    return place


def _shards(prefix: str, parts: int) -> str:
    return " && ".join(
        f"flux-lora batch posters.yaml -o {prefix}{part} --shard {part}/{parts}" for part in range(1, parts + 1)
    )


@pytest.mark.slow
def test_the_readme_from_top_to_bottom(place: Path) -> None:
    env = environment(place)
    blocks = shell_blocks()
    assert len(blocks) > 5
    for block in blocks:
        done = run(block.replace("export WAVESPEED_API_KEY=your-key", ":"), place, env)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    for made in ("out/posters/index.html", "posters.png", "to-share", "again", "merged/manifest.json", "pets"):
        assert (place / made).exists(), made


@pytest.mark.parametrize("name", sorted(marked("python")))
def test_the_readmes_scripts(place: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", marked("python")[name]],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout or "'image'" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "serve"])
def test_the_examples_of_each_help_text(request: pytest.FixtureRequest, cli: Cli, name: str) -> None:
    place = request.getfixturevalue("filled" if name in _AFTER_A_RUN else "place")
    env = environment(place)
    if name == "preset new":
        (place / "posters.yaml").unlink()  # or it would, rightly, not be overwritten
    for line in examples(cli(*name.split(), "--help").out):
        script = line.replace("/srv/images", str(place / "srv"))
        if _TASK in script:
            task = run('flux-lora submit "a cat" --size 512*512', place, env).stdout.strip()
            script = script.replace(_TASK, task)
        done = run(script, place, env)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("number", range(3))
def test_the_examples_of_serve(
    spawn: Callable[..., subprocess.Popen[str]], cli: Cli, tmp_path: Path, number: int
) -> None:
    lines = [*examples(cli("serve", "--help").out), _RECIPES["serve.sh"].strip()]
    assert len(lines) == 4
    for line in lines[number : number + 2] if number == 2 else lines[number : number + 1]:
        arguments = shlex.split(re.sub(r"--port \d+", "--port 0", line))[1:]
        process = spawn(*arguments)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")


# ---- recipes: each with the variables set as its engine sets them ------------------------


def _whole(place: Path, pattern: str, parts: int) -> None:
    """The parts together are the preset's four jobs, none twice; and they can be merged."""
    found: list[str] = []
    folders = sorted(place.glob(pattern))
    for folder in folders:
        found += [job["id"] for job in json.loads((folder / "manifest.json").read_text())["jobs"]]
    assert len(folders) == parts
    assert len(found) == len(set(found)) == 4


def _parts(place: Path, script: str, environments: list[dict[str, str]], shell: str = "bash") -> None:
    env = environment(place)
    for more in environments:
        done = run(script, place, {**env, **more}, shell)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_kubernetes(place: Path) -> None:
    pod = yaml.safe_load(_RECIPES["job.yaml"])["spec"]
    container = pod["template"]["spec"]["containers"][0]
    count = next(entry["value"] for entry in container["env"] if entry["name"] == "JOB_COMPLETIONS")
    assert container["command"] == ["sh", "-c"]
    each = [{"JOB_COMPLETION_INDEX": str(n), "JOB_COMPLETIONS": count} for n in range(pod["completions"])]
    _parts(place, container["args"][0], each, "sh")
    _whole(place, "out/shard-*", 4)


@pytest.mark.slow
def test_slurm(place: Path, own_home: Path) -> None:
    script = _RECIPES["slurm.sh"]
    (own_home / ".wavespeed.key").write_text("k")
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    each = [
        {
            "SLURM_ARRAY_TASK_ID": str(n),
            "SLURM_ARRAY_TASK_COUNT": str(last - first + 1),
            "SLURM_ARRAY_TASK_MIN": str(first),
            "SLURM_ARRAY_TASK_MAX": str(last),
            "SLURM_ARRAY_TASK_STEP": "1",
        }
        for n in range(first, last + 1)
    ]
    _parts(place, script, each)
    _whole(place, "out/shard-*", 4)


@pytest.mark.slow
def test_aws_batch(place: Path) -> None:
    command = json.loads(_RECIPES["aws-batch.json"])["containerProperties"]["command"]
    each = [{"AWS_BATCH_JOB_ARRAY_INDEX": str(n), "AWS_BATCH_JOB_ARRAY_SIZE": "4"} for n in range(4)]
    _parts(place, command[2], each, "sh")
    _whole(place, "out/shard-*", 4)


@pytest.mark.slow
def test_gitlab(place: Path) -> None:
    recipe = yaml.safe_load(_RECIPES[".gitlab-ci.yml"])
    total = recipe["make"]["parallel"]
    each = [{"CI_NODE_INDEX": str(n + 1), "CI_NODE_TOTAL": str(total)} for n in range(total)]
    _parts(place, "\n".join(recipe["make"]["script"]), each)
    _whole(place, "out/shard-*", total)
    assert (place / recipe["make"]["artifacts"]["reports"]["junit"]).is_file()
    _parts(place, "\n".join(recipe["merge"]["script"]), [{}])
    assert (place / "posters" / "index.html").is_file()


@pytest.mark.slow
def test_github(place: Path) -> None:
    jobs = yaml.safe_load(_RECIPES["github.yml"])["jobs"]
    batch = next(s["run"] for s in jobs["make"]["steps"] if "flux-lora batch" in s.get("run", ""))
    for shard in jobs["make"]["strategy"]["matrix"]["shard"]:
        script = batch.replace("${{ matrix.shard }}", str(shard))
        _parts(place, script, [{"GITHUB_STEP_SUMMARY": str(place / "summary.md")}])
        # As upload and download of the artifact arrange it.
        target = place / "shards" / f"shard-{shard}"
        target.mkdir(parents=True)
        (place / "out").rename(target / "out")
        (place / "junit.xml").rename(target / "junit.xml")
    assert (place / "summary.md").read_text().count("### flux-lora: done") == 3
    merge = next(s["run"] for s in jobs["merge"]["steps"] if "merge" in s.get("run", ""))
    _parts(place, merge, [{}])
    _whole(place, "posters", 1)


def test_github_check(place: Path) -> None:
    step = yaml.safe_load(_RECIPES["check.yml"])["jobs"]["check"]["steps"][-1]["run"]
    assert run(step, place, environment(place)).returncode == 0
    (place / "presets" / "bad.yaml").write_text("version: 1\njobs:\n  - promt: x\n")
    done = run(step, place, environment(place))
    assert done.returncode == 10
    assert "::error file=presets/bad.yaml,line=3" in done.stdout


def test_cron(place: Path) -> None:
    """cron has almost no environment, and mails whatever is printed."""
    line = _RECIPES["crontab"].strip()
    minute, hour, day, month, weekday, command = line.split(None, 5)
    assert [minute.isdigit(), hour.isdigit(), day, month, weekday] == [True, True, "*", "*", "*"]
    assert not re.search(r"(?<!\\)%", command), "cron ends the command at a bare %"
    command = command.replace("\\%", "%").replace("/srv/images", str(place)).replace("/etc", str(place))
    (place / "flux-lora.key").write_text("k")
    full = environment(place)
    bare = {name: full[name] for name in ("PATH", "HOME", "PYTHONPATH", "FLUX_LORA_SANDBOX", "FLUX_LORA_STATE_DIR")}
    done = run(command, place, bare, "sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert len(list((place / "out" / time.strftime("%Y-%m-%d")).glob("*.png"))) == 4
    again = run(command, place, bare, "sh")
    assert again.returncode == 0
    quiet = run(command.replace("posters.yaml", "absent.yaml"), place, bare, "sh")
    assert quiet.returncode == 3
    assert "absent.yaml" in quiet.stderr


def test_systemd(place: Path) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep capitals
    unit.read_string(_RECIPES["flux-lora.service"])
    service = unit["Service"]
    (place / "key").write_text("k")
    # What systemd itself replaces: %% and ${VARIABLE}.
    command = service["ExecStart"].replace("%%", "%").replace("${CREDENTIALS_DIRECTORY}", str(place))
    program, option, script = shlex.split(command)
    assert (program, option) == ("/bin/sh", "-c")
    done = run(script, place, environment(place), "sh")
    assert done.returncode == 0, done.stderr
    assert len(list((place / "out").glob("*/*.png"))) == 4
    timer = configparser.ConfigParser(interpolation=None)
    timer.read_string(_RECIPES["flux-lora.timer"])
    assert timer["Timer"]["OnCalendar"].startswith("*-*-* ")
