"""What the README and the help texts show, as data; and a place in which it can be run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")

#: All commands that have a help of their own.
COMMANDS = (
    "submit", "status", "wait", "batch", "preset", "preset check", "preset show", "preset list", "preset new",
    "verify", "replay", "merge", "gallery", "embed", "doctor", "schema", "serve",
)  # fmt: skip

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


def marked(kind: str) -> dict[str, str]:
    """Blocks behind ``<!-- KIND: NAME -->``, by name."""
    found = re.findall(rf"^<!-- {kind}: ?(.*?) ?-->\n```\w+\n(.*?)^```$", README, re.M | re.S)
    return {name.strip(): text for name, text in found}


def shell_blocks() -> list[str]:
    """The plain ``sh`` blocks, in order: those that a reader pastes one after the other."""
    unmarked = re.sub(r"^<!-- [a-z]+: ?.*?-->\n```\w+\n.*?^```$", "", README, flags=re.M | re.S)
    return re.findall(r"^```sh\n(.*?)^```$", unmarked, re.M | re.S)


def examples(help_text: str) -> list[str]:
    """The commands under ``Examples:``."""
    part = help_text.partition("\nExamples:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in part.splitlines() if line.strip()]


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
        "PYTHONPATH": str(ROOT),
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
