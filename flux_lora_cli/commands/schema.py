"""``flux-lora schema``: the JSON Schemas of what users write and read."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Annotated, Any, Literal

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.inputs import model_tables
from flux_lora_cli.commands.options import ModelTables, ServiceOptions, argument, command

EXAMPLES = """
flux-lora schema preset > preset.schema.json
flux-lora schema preset --models models.json > preset.schema.json
"""

Name = Literal["preset", "manifest", "event"]


@command
def schema(
    name: Annotated[Name, argument("preset|manifest|event", "Which schema.")],
    console: Console,
    models: ModelTables = None,
) -> int:
    """Print a JSON Schema (2020-12): of presets, of manifest.json, or of a line of --json."""
    if name == "preset":
        from flux_lora_cli.presets.language import schema as schema_of

        document: dict[str, Any] = schema_of(model_tables(models, ServiceOptions.offline()))
    else:
        document = json.loads((files("flux_lora_cli") / "resources" / f"{name}.schema.json").read_text("utf-8"))
    console.result(json.dumps(document, indent=2, ensure_ascii=False))
    console.record("schema", {"name": name, "schema": document})
    return 0
