"""The README's recipes for CI services and schedulers, held against those engines' own descriptions of their files.

GitHub's workflows are checked by actionlint, in test_readme; what the recipes run is run in test_examples. Each
checker is shown a mistake, too, so that it is known to look.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_module, require_tool
from tests.shell.documented import marked

_RECIPES = marked("recipe")


def _changed(name: str, old: str, new: str) -> str:
    assert old in _RECIPES[name]
    return _RECIPES[name].replace(old, new)


# ---- GitLab: the schema that its own editor uses -----------------------------------------


def _gitlab(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    require_module("check_jsonschema")
    (tmp_path / ".gitlab-ci.yml").write_text(text)
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci"]
    return subprocess.run([*checker, ".gitlab-ci.yml"], cwd=tmp_path, capture_output=True, text=True, check=False)


def test_gitlab_would_take_it(tmp_path: Path) -> None:
    done = _gitlab(tmp_path, _RECIPES[".gitlab-ci.yml"])
    assert done.returncode == 0, done.stdout


def test_gitlab_would_refuse_a_mistake(tmp_path: Path) -> None:
    done = _gitlab(tmp_path, _changed(".gitlab-ci.yml", "when: always", "when: allways"))
    assert done.returncode == 1
    assert "'allways' is not one of" in done.stdout


# ---- Kubernetes: the API's own schemas, nothing unknown allowed --------------------------


def _kubernetes(text: str) -> None:
    import yaml

    checker = require_module("kubernetes_validate")
    checker.validate(yaml.safe_load(text), checker.latest_version(), strict=True)


def test_kubernetes_would_take_it() -> None:
    _kubernetes(_RECIPES["job.yaml"])


def test_kubernetes_would_refuse_a_mistake() -> None:
    with pytest.raises(Exception, match="completionMod"):
        _kubernetes(_changed("job.yaml", "completionMode", "completionMod"))


# ---- AWS Batch: the description from which its clients are made --------------------------


def _aws(text: str) -> str:
    session = require_module("botocore.session").Session()
    shape = session.get_service_model("batch").operation_model("RegisterJobDefinition").input_shape
    found: str = (
        require_module("botocore.validate").ParamValidator().validate(json.loads(text), shape).generate_report()
    )
    return found


def test_aws_batch_would_take_it() -> None:
    assert _aws(_RECIPES["aws-batch.json"]) == ""


def test_aws_batch_would_refuse_a_mistake() -> None:
    assert '"comand"' in _aws(_changed("aws-batch.json", '"command"', '"comand"'))


# ---- systemd: its own parser -------------------------------------------------------------


def _systemd(tmp_path: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    units = []
    for kind in ("service", "timer"):
        unit = tmp_path / f"flux-lora.{kind}"
        unit.write_text(changed.get(kind, _RECIPES[unit.name]))
        units.append(str(unit))
    command: list[Any] = [require_tool("systemd-analyze"), "verify", "--man=no", *units]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_would_take_them(tmp_path: Path) -> None:
    done = _systemd(tmp_path)
    # Other units of this machine are read, too, and may have faults of their own.
    assert "flux-lora" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("timer", "*-*-* 02:17:00", "*-*-* 25:17:00"),
        ("timer", "Persistent", "Persistant"),
        ("service", "LoadCredential=key:", "LoadCredentials=key:"),
        ("service", "Type=oneshot", "Type=onceshot"),
    ],
)
def test_systemd_would_complain_of_a_mistake(tmp_path: Path, kind: str, old: str, new: str) -> None:
    done = _systemd(tmp_path, **{kind: _changed(f"flux-lora.{kind}", old, new)})
    assert f"flux-lora.{kind}" in done.stderr
