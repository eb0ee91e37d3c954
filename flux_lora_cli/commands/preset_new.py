"""``flux-lora preset new``: a preset to start from, or a repository of presets."""

from __future__ import annotations

import os
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from flux_lora_cli._version import __version__
from flux_lora_cli.commands.console import Console, reason
from flux_lora_cli.commands.options import argument, command, option
from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import printable

EXAMPLES = """
flux-lora preset new posters
flux-lora preset new > presets/posters.yaml
flux-lora preset new --repo my-images
"""

_RESOURCES = files("flux_lora_cli") / "resources"
#: What a repository of presets is made of: path in it → resource.
_REPOSITORY = {
    "presets/example.yaml": "new-preset.yaml",
    "presets/preset.schema.json": "preset.schema.json",
    ".github/workflows/presets.yml": "repository/workflow.yml",
    ".gitignore": "repository/gitignore",
    ".pre-commit-config.yaml": "repository/pre-commit-config.yaml",
    "README.md": "repository/README.md",
}


@command
def preset_new(
    console: Console,
    name: Annotated[Path | None, argument("NAME|FILE", "File to write (default: standard output).", Path)] = None,
    repo: Annotated[
        Path | None, option("--repo", "DIR", "Add what a repository of presets needs, and leave what is there.", Path)
    ] = None,
) -> int:
    """Write a commented preset to start from. An existing file is never overwritten."""
    if repo is not None and name is not None:
        raise UsageError("NAME and --repo exclude each other", "Leave one of them out.")
    if repo is not None:
        for relative, resource in _REPOSITORY.items():
            path = repo / relative
            written = _write(path, _resource(resource))
            if written:
                console.result(str(path))
            else:
                console.info(f"left as it is: {printable(str(path))}")
            console.record("file", {"file": str(path), "written": written})
        place = shlex.quote(str(repo))
        console.info(f"next: cd {place}\n      git init\n      flux-lora batch presets/example.yaml --sandbox")
    elif name is None or name == Path("-"):
        text = _resource("new-preset.yaml")
        console.result(text.rstrip("\n"))
        console.record("preset", {"text": text})
    else:
        path = name if name.suffix.lower() in (".yaml", ".yml") else name.with_name(f"{name.name}.yaml")
        if not _write(path, _resource("new-preset.yaml")):
            raise UsageError(f"{printable(str(path))} is not written: the file exists", "Choose another name.")
        console.result(str(path))
        console.record("preset", {"file": str(path)})
        place = shlex.quote(str(path))
        console.info(f"try it: flux-lora preset show {place}\n        flux-lora batch {place} --sandbox")
    return 0


def _resource(name: str) -> str:
    return _RESOURCES.joinpath(*name.split("/")).read_text("utf-8").replace("@VERSION@", __version__)


def _write(path: Path, text: str) -> bool:
    """Write a new file; False where something of its name exists."""
    if os.path.lexists(path):
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{printable(str(path))} is not written: {reason(error)}", "Choose another place.") from None
    return True
