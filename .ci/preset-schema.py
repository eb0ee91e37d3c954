"""Write the JSON Schema of presets into the package, from the language and the built-in tables of models."""

import json
from pathlib import Path
from typing import Any

from flux_lora_cli.presets.language import schema
from flux_lora_cli.service.models import Models

TARGET = Path(__file__).parent.parent / "flux_lora_cli" / "resources" / "preset.schema.json"


def build() -> dict[str, Any]:
    """The schema of a preset, whatever model it names."""
    return schema(Models.builtin())


if __name__ == "__main__":
    TARGET.write_text(json.dumps(build(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
