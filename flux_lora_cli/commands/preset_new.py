"""``flux-lora preset new``: a preset to start from."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.options import command
from flux_lora_cli.engine.events import Record
from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import printable

EXAMPLES = """
flux-lora preset new posters
flux-lora preset new > presets/posters.yaml
"""


@command
def preset_new(
    console: Console,
    name: Annotated[
        Path | None, typer.Argument(metavar="NAME|FILE", help="File to write (default: standard output).")
    ] = None,
) -> int:
    """Write a commented preset to start from. An existing file is never overwritten."""
    text = (files("flux_lora_cli") / "resources" / "new-preset.yaml").read_text("utf-8")
    if name is None or name == Path("-"):
        console.document(text)
        console.event(Record("preset", {"text": text}))
        return 0
    path = name if name.suffix.lower() in (".yaml", ".yml") else name.with_name(f"{name.name}.yaml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        why = "the file exists" if path.exists() else (error.strerror or str(error)).lower()
        raise UsageError(f"{printable(str(path))} is not written: {why}", "Choose another name.") from None
    console.result(str(path))
    console.event(Record("preset", {"file": str(path)}))
    word = shlex.quote(str(path))
    console.info(f"try it: flux-lora preset show {word}\n        flux-lora batch {word} --sandbox")
    return 0
