"""``flux-lora schema``: the JSON Schemas that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.completion import words
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.option_values import choice

_NAMES = ("preset", "manifest", "event")


def schema(
    name: Annotated[
        str, typer.Argument(metavar="preset|manifest|event", help="Which schema.", autocompletion=words(*_NAMES))
    ],
    console: Console,
) -> None:
    """Print a JSON Schema (2020-12): of preset files, of manifest.json, or of a line of --json."""
    choice("schema", name, _NAMES)
    text = (files("flux_lora_cli") / "resources" / f"{name}.schema.json").read_text("utf-8")
    console.document(text)
    if console.json:
        import json

        from flux_lora_cli.domain.events import Record

        console.event(Record("schema", {"name": name, "schema": json.loads(text)}))


command = build(
    schema,
    "schema",
    examples="""\
  flux-lora schema preset > preset.schema.json
  flux-lora schema event""",
)
