"""Write the events' JSON Schema into the package, from the event classes."""

import json
from pathlib import Path

from flux_lora_cli.domain.event_schema import build_event_schema

target = Path(__file__).parent.parent / "flux_lora_cli" / "resources" / "event.schema.json"
target.write_text(json.dumps(build_event_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
