"""Write the preset language's JSON Schema into the package, from the parameter tables."""

import json
from pathlib import Path

from flux_lora_cli.domain.presets.schema import build_schema

target = Path(__file__).parent.parent / "flux_lora_cli" / "resources" / "preset.schema.json"
target.write_text(json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
