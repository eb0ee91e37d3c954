"""The composite actions, a step at a time, as GitHub's runner runs their scripts.

``python -m tests.shell.actions ACTION STEP`` prints the script of one step.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.shell.documented import ROOT, place_program, run

ACTIONS = ROOT / ".github" / "actions"


def action(name: str) -> dict[str, Any]:
    """One of them, as YAML has it."""
    return dict(yaml.safe_load((ACTIONS / name / "action.yml").read_text("utf-8")))


def scripts(name: str) -> dict[str, dict[str, Any]]:
    """Its steps that are scripts, by name."""
    return {step["name"]: step for step in action(name)["runs"]["steps"] if "run" in step}


def evaluated(text: str, values: dict[str, str]) -> str:
    """``text`` with its expressions replaced; one that is not known is empty, as on GitHub."""
    return re.sub(r"\$\{\{ *(.*?) *\}\}", lambda match: values.get(match[1], ""), text)


def run_step(
    name: str, step: str, folder: Path, env: dict[str, str], **inputs: str
) -> subprocess.CompletedProcess[str]:
    """Run one step's script in ``folder``; ``inputs`` with ``_`` for ``-``, the defaults for those left out."""
    runner = folder.parent / f"{folder.name}-runner"
    place_program(runner / "flux-lora")
    given = {key: str(entry.get("default", "")) for key, entry in action(name)["inputs"].items()}
    given |= {key.replace("_", "-").strip("-"): value for key, value in inputs.items()}
    values = {f"inputs.{key}": evaluated(value, {}) for key, value in given.items()}
    own = {key: evaluated(str(value), values) for key, value in scripts(name)[step].get("env", {}).items()}
    written = {f"GITHUB_{each}": str(runner / each.lower()) for each in ("OUTPUT", "STEP_SUMMARY")}
    env = {**env, **written, "RUNNER_TEMP": str(runner), "GITHUB_ACTIONS": "true", "CI": "true", **own}
    return run(scripts(name)[step]["run"], folder, env)


if __name__ == "__main__":
    print(scripts(sys.argv[1])[sys.argv[2]]["run"])
