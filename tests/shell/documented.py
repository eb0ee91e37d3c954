"""What the documentation shows, as data; what it has to show; and a place in which it can be run.

``python -m tests.shell.documented`` rewrites the blocks of README.md that come from the program.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from flux_lora_cli.errors import ExitCode
from flux_lora_cli.service.models import Models
from tests.conftest import require_module

ROOT = Path(__file__).parents[2]
README, LANGUAGE = ROOT / "README.md", ROOT / "presets" / "README.md"
AGENTS = ROOT / "flux_lora_cli" / "resources" / "SKILL.md"
RECIPES = ROOT / ".github" / "recipes"

#: The README's table of models has a column for each of these, and names all others beneath.
_COLUMNS = ("strength", "num_inference_steps", "guidance_scale", "num_images", "mask_image")

_POSTERS = """\
version: 1
name: posters
description: Small posters
defaults: {size: 512*512}
stacks:
  nasa: [{path: davanstrien/nasa_concept_art-flux-lora, scale: 0.9}]
  plain: []
matrix: {stack: [nasa, plain], seed: [1, 2]}
jobs:
  - {id: dawn, prompt: a lunar base}
"""


def shell_blocks(path: Path) -> list[str]:
    """The plain ``sh`` blocks, in order: those that a reader pastes one after the other."""
    unmarked = re.sub(r"^<!-- [a-z]+: ?.*?-->\n```\w+\n.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    return re.findall(r"^```sh\n(.*?)^```$", unmarked, re.M | re.S)


def blocks(kind: str, path: Path) -> list[str]:
    """The blocks of code of one kind that a page shows."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)


def by_schema(schema: str, text: str, folder: Path) -> str:
    """What the schema that editors use for a service's files has against one; "" where it is valid."""
    require_module("check_jsonschema")
    (folder / "file.yml").write_text(text)
    done = run(f"{sys.executable} -m check_jsonschema --builtin-schema {schema} file.yml", folder, {**os.environ})
    return "" if done.returncode == 0 else done.stdout + done.stderr


def table(name: str, path: Path = README) -> list[list[str]]:
    """The rows of the table behind ``<!-- table: NAME -->``, as cells, without its head."""
    found = re.search(rf"^<!-- table: {name} -->\n((?:\|.*\n)+)", path.read_text("utf-8"), re.M)
    assert found, f"no table of {name}"
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in found[1].splitlines()[2:]]
    return [[cell.strip() for cell in row] for row in rows]


# ---- what the README has to show ---------------------------------------------------------


def exit_codes() -> list[str]:
    """The rows of the table of exit codes."""
    return [f"| {code.value} | {code.meaning} |" for code in ExitCode]


def models() -> list[str]:
    """The rows of the table of models."""
    rows = []
    for model in Models.builtin():
        price = f"${model.price}" if model.price is not None else "not known"
        takes = " | ".join("yes" if name in model.parameters else "" for name in _COLUMNS)
        rows.append(f"| `{model.short}` ({model.version}) | {model.max_loras} | {price} | {takes} |".replace("  ", " "))
    return rows


def written(text: str) -> str:
    """``text`` of the README with the tables that come from the program as they have to be."""
    for name, rows in (("models", models()), ("exit codes", exit_codes())):
        head = rf"(<!-- table: {name} -->\n\|.*\n\|.*\n)(?:\|.*\n)*"
        block = "".join(f"{row}\n" for row in rows)
        text = re.sub(head, lambda match, block=block: match[1] + block, text)  # type: ignore[misc]
    return text


# ---- a place to run it --------------------------------------------------------------------


def place_program(folder: Path) -> Path:
    """A folder to put on PATH, with ``flux-lora`` in it."""
    program = folder / "bin" / "flux-lora"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flux_lora_cli "$@"\n')
    program.chmod(0o755)
    return program.parent


def place_presets(folder: Path) -> None:
    """The shipped presets, with small pictures so that they are drawn quickly, and some of the test's own."""
    for path in (ROOT / "presets").rglob("*"):
        target = folder / "presets" / path.relative_to(ROOT / "presets")
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            small = re.sub(rb"\b(896|1024)\*(1024|1152|1536)\b", b"512*512", path.read_bytes())
            target.write_bytes(small if path.suffix == ".yaml" else path.read_bytes())
    for name in ("posters.yaml", "a.yaml", "b.yaml"):
        (folder / name).write_text(_POSTERS.replace("name: posters", f"name: {name[:-5]}"))
    (folder / "prompts.txt").write_text("a cat\na dog\n")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The sandbox, with a state of its own."""
    return {
        **os.environ,
        "PATH": f"{place_program(folder)}:{os.environ['PATH']}",
        "FLUX_LORA_SANDBOX": "1",
        "FLUX_LORA_STATE_DIR": str(folder / "state"),
        **more,
    }


def run(script: str, folder: Path, env: dict[str, str], shell: str = "bash") -> subprocess.CompletedProcess[str]:
    """Run a script there; every command of a pipe counts."""
    strict = ["-euo", "pipefail"] if shell == "bash" else ["-eu"]
    return subprocess.run(
        [shell, *strict, "-c", script],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


if __name__ == "__main__":
    README.write_text(written(README.read_text("utf-8")), "utf-8")
