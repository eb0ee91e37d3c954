"""``flux-lora preset new``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.domain.events import Record
from flux_lora_cli.errors import UsageError


def new(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", help="The file to write; without it, standard output."),
    ] = None,
    *,
    console: Console,
) -> None:
    """Write a commented preset to start from. An existing file is never overwritten."""
    text = (files("flux_lora_cli") / "resources" / "new-preset.yaml").read_text("utf-8")
    if name is None or name == "-":
        console.document(text)
        console.event(Record("preset", {"text": text}))
        return
    path = Path(name if name.lower().endswith((".yaml", ".yml")) else f"{name}.yaml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists; it is not overwritten", "choose another name") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
    console.result(str(path))
    console.event(Record("preset", {"file": str(path)}))
    console.info(f"try it: flux-lora preset show {path}; flux-lora batch {path} --sandbox")


command = build(new, "new", examples="  flux-lora preset new posters")
