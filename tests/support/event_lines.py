"""Every line of --json that a test makes the program print is held against the shipped schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jsonschema


def check_output(arguments: Sequence[object], out: str, code: int) -> None:
    """What every helper that runs commands asks of what they print: under --json, events of the schema.

    The last, and only the last, is a summary; where the process was killed (``code`` below zero), there need be none,
    and a line that was cut off does not count.
    """
    if "--json" not in arguments or "--help" in arguments:
        return
    lines = [json.loads(line) for line in (out if code >= 0 else out[: out.rfind("\n") + 1]).splitlines()]
    for line in lines:
        assert line.get("event") in _validators(), f"not an event of the schema: {line}"
        problems = [f"{each.json_path}: {each.message}" for each in _validators()[line["event"]].iter_errors(line)]
        assert not problems, f"{problems} in {line}"
    summaries = [number for number, line in enumerate(lines, 1) if line["event"] == "summary"]
    assert code < 0 or summaries == [len(lines)], f"summaries stand on lines {summaries} of {len(lines)}"


@lru_cache(maxsize=1)
def _validators() -> dict[str, Any]:
    # One validator an event: trying all of them for each line would be slow, and its message of no use.
    schema = json.loads((files("flux_lora_cli") / "resources" / "event.schema.json").read_text("utf-8"))
    return {name: jsonschema.Draft202012Validator(definition) for name, definition in schema["$defs"].items()}
