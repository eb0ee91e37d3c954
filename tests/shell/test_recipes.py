"""The recipes: run with the variables that their engines set, and held against those engines' own descriptions.

Each checker is shown a mistake, too, so that it is known to look.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import require_module, require_tool
from tests.shell.documented import RECIPES, ROOT, by_schema, environment, place_presets, run

TEXTS = {path.name: path.read_text("utf-8") for path in RECIPES.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with presets."""
    place_presets(tmp_path)
    return tmp_path


def secret(path: Path) -> None:
    """A key in a file that nobody else may read."""
    path.touch(0o600)
    path.write_text("k")


def whole(place: Path, pattern: str, parts: int) -> None:
    """The parts together are the preset's four jobs, none twice."""
    found: list[str] = []
    folders = sorted(place.glob(pattern))
    for folder in folders:
        found += [job["id"] for job in json.loads((folder / "manifest.json").read_text())["jobs"]]
    assert len(folders) == parts
    assert len(found) == len(set(found)) == 4


def run_parts(place: Path, script: str, environments: list[dict[str, str]], shell: str = "bash") -> None:
    env = environment(place)
    for more in environments:
        done = run(script, place, {**env, **more}, shell)
        assert done.returncode == 0, done.stderr


def test_all_are_listed() -> None:
    listed = re.findall(r"^\| (`.+?) \|", TEXTS["README.md"], re.M)
    names = {name for cell in listed for name in re.findall(r"`([^`]+)`", cell)}
    assert names == set(TEXTS) - {"README.md"}


def test_every_container_and_unit_hands_signals_on() -> None:
    for name in ("kubernetes.yaml", "aws-batch.json", "flux-lora.service", "slurm.sh"):
        for command in re.findall(r"(?:\w+ )?flux-lora batch", TEXTS[name]):
            assert command.startswith("exec "), name


# ---- what they run ------------------------------------------------------------------------


@pytest.mark.slow
def test_kubernetes(place: Path) -> None:
    pod = yaml.safe_load(TEXTS["kubernetes.yaml"])["spec"]
    container = pod["template"]["spec"]["containers"][0]
    count = next(entry["value"] for entry in container["env"] if entry["name"] == "JOB_COMPLETIONS")
    assert container["command"] == ["sh", "-c"]
    each = [{"JOB_COMPLETION_INDEX": str(n), "JOB_COMPLETIONS": count} for n in range(pod["completions"])]
    run_parts(place, container["args"][0], each, "sh")
    whole(place, "out/shard-*", 4)


@pytest.mark.slow
def test_slurm(place: Path, own_home: Path) -> None:
    script = TEXTS["slurm.sh"]
    secret(own_home / ".wavespeed.key")
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    array = {"COUNT": last - first + 1, "MIN": first, "MAX": last, "STEP": 1}
    each = [{f"SLURM_ARRAY_TASK_{k}": str(v) for k, v in {"ID": n, **array}.items()} for n in range(first, last + 1)]
    run_parts(place, script, each)
    whole(place, "out/shard-*", 4)


@pytest.mark.slow
def test_aws_batch(place: Path) -> None:
    command = json.loads(TEXTS["aws-batch.json"])["containerProperties"]["command"]
    each = [{"AWS_BATCH_JOB_ARRAY_INDEX": str(n), "AWS_BATCH_JOB_ARRAY_SIZE": "4"} for n in range(4)]
    run_parts(place, command[2], each, "sh")
    whole(place, "out/shard-*", 4)


@pytest.mark.slow
def test_gitlab(place: Path) -> None:
    recipe = yaml.safe_load(TEXTS["gitlab-ci.yml"])
    total = recipe["make"]["parallel"]
    each = [{"CI_NODE_INDEX": str(n + 1), "CI_NODE_TOTAL": str(total)} for n in range(total)]
    run_parts(place, "\n".join(recipe["make"]["script"]), each)
    whole(place, "out/shard-*", total)
    assert (place / recipe["make"]["artifacts"]["reports"]["junit"]).is_file()
    run_parts(place, "\n".join(recipe["merge"]["script"]), [{}])
    assert (place / "posters" / "index.html").is_file()


@pytest.mark.slow
def test_github(place: Path) -> None:
    jobs = yaml.safe_load(TEXTS["github.yml"])["jobs"]
    batch = next(s["run"] for s in jobs["make"]["steps"] if "flux-lora batch" in s.get("run", ""))
    for shard in jobs["make"]["strategy"]["matrix"]["shard"]:
        run_parts(place, batch, [{"SHARD": str(shard)}])
        # As upload and download of the artifact arrange it.
        target = place / "shards" / f"shard-{shard}"
        target.mkdir(parents=True)
        (place / "out").rename(target / "out")
        (place / "junit.xml").rename(target / "junit.xml")
    merge = next(s["run"] for s in jobs["merge"]["steps"] if "merge" in s.get("run", ""))
    run_parts(place, merge, [{}])
    whole(place, "posters", 1)


def test_github_check(place: Path) -> None:
    step = yaml.safe_load(TEXTS["github-check.yml"])["jobs"]["check"]["steps"][-1]["run"]
    assert run(step, place, environment(place)).returncode == 0
    (place / "presets" / "bad.yaml").write_text("version: 1\njobs:\n  - promt: x\n")
    done = run(step, place, environment(place))
    assert done.returncode == 10
    assert "::error file=presets/bad.yaml,line=3" in done.stdout + done.stderr


def test_cron(place: Path) -> None:
    """cron has almost no environment, and mails whatever is printed."""
    line = TEXTS["crontab"].strip()
    minute, hour, day, month, weekday, command = line.split(None, 5)
    assert [minute.isdigit(), hour.isdigit(), day, month, weekday] == [True, True, "*", "*", "*"]
    assert not re.search(r"(?<!\\)%", command), "cron ends the command at a bare %"
    command = command.replace("\\%", "%").replace("/srv/images", str(place)).replace("/etc", str(place))
    secret(place / "flux-lora.key")
    full = environment(place)
    bare = {name: full[name] for name in ("PATH", "HOME", "PYTHONPATH", "FLUX_LORA_SANDBOX", "FLUX_LORA_STATE_DIR")}
    done = run(command, place, bare, "sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert len(list((place / "out" / time.strftime("%Y-%m-%d")).glob("*.png"))) == 4
    quiet = run(command.replace("posters.yaml", "absent.yaml"), place, bare, "sh")
    assert quiet.returncode == 3
    assert "absent.yaml" in quiet.stderr


@pytest.mark.slow
def test_systemd(place: Path) -> None:
    secret(place / "key")
    (started,) = re.findall(r"(?m)^ExecStart=(.+)", TEXTS["flux-lora.service"])
    # What systemd itself replaces: %% and ${VARIABLE}.
    command = started.replace("%%", "%").replace("${CREDENTIALS_DIRECTORY}", str(place))
    program, option, script = shlex.split(command)
    assert (program, option) == ("/bin/sh", "-c")
    done = run(script, place, environment(place), "sh")
    assert done.returncode == 0, done.stderr
    assert len(list((place / "out").glob("*/*.png"))) == 4


# ---- what their engines say of them -------------------------------------------------------


CI_FILES = {
    "recipes/gitlab-ci.yml": "gitlab-ci", "recipes/github*.yml": "github-workflows",
    "workflows/*.yml": "github-workflows", "actions/*/action.yml": "github-actions",
}  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "name"),
    sorted(
        (f"vendor.{CI_FILES[names]}", str(path.relative_to(ROOT)))
        for names in CI_FILES
        for path in ROOT.glob(f".github/{names}")
    ),
)
def test_ci_services_would_take_it_and_refuse_a_mistake(tmp_path: Path, schema: str, name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert by_schema(schema, text, tmp_path) == ""
    assert by_schema(schema, text.replace("steps:", "step:").replace("when: always", "when: often"), tmp_path) != ""


def test_kubernetes_would_take_it_and_refuse_a_mistake() -> None:
    checker, text = require_module("kubernetes_validate"), TEXTS["kubernetes.yaml"]
    checker.validate(yaml.safe_load(text), checker.latest_version(), strict=True)
    with pytest.raises(Exception, match="completionMod"):
        wrong = yaml.safe_load(text.replace("completionMode", "completionMod"))
        checker.validate(wrong, checker.latest_version(), strict=True)


def test_aws_batch_would_take_it_and_refuse_a_mistake() -> None:
    session = require_module("botocore.session").Session()
    shape = session.get_service_model("batch").operation_model("RegisterJobDefinition").input_shape
    validator, text = require_module("botocore.validate").ParamValidator(), TEXTS["aws-batch.json"]
    assert validator.validate(json.loads(text), shape).generate_report() == ""
    wrong = json.loads(text.replace('"command"', '"comand"'))
    assert '"comand"' in validator.validate(wrong, shape).generate_report()


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [("timer", "", ""), ("timer", "*-*-* 02:17:00", "*-*-* 25:17:00"), ("service", "Type=oneshot", "Type=onceshot")],
)
def test_systemd_would_take_them_and_complain_of_a_mistake(tmp_path: Path, kind: str, old: str, new: str) -> None:
    for name in ("flux-lora.service", "flux-lora.timer"):
        (tmp_path / name).write_text(TEXTS[name].replace(old, new) if name.endswith(kind) else TEXTS[name])
    command = [require_tool("systemd-analyze"), "verify", "--man=no", *tmp_path.glob("flux-lora.*")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Other units of this machine are read, too, and may have faults of their own.
    assert ("flux-lora" in done.stdout + done.stderr) == bool(old)
