"""Every line of --json that a test makes the program print is held against the shipped schema."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any


def check_event_lines(out: str) -> None:
    """Assert that ``out`` is NDJSON, each line an event of the schema, and the last, and only the last, a summary."""
    lines = [json.loads(line) for line in out.splitlines()]
    for line in lines:
        check_event(line)
    summaries = [number for number, line in enumerate(lines, 1) if line["event"] == "summary"]
    assert summaries == [len(lines)], f"summaries stand on lines {summaries} of {len(lines)}"


def check_event(line: dict[str, Any]) -> None:
    """Assert that one line is an event of the schema."""
    validators = _validators()
    assert line.get("event") in validators, f"not an event of the schema: {line}"
    problems = [f"{problem.json_path}: {problem.message}" for problem in validators[line["event"]].iter_errors(line)]
    assert not problems, f"{problems} in {line}"


@lru_cache(maxsize=1)
def _validators() -> dict[str, Any]:
    # One validator an event: trying all of them for each line would be slow, and its message of no use.
    from jsonschema import Draft202012Validator

    schema = json.loads((files("flux_lora_cli") / "resources" / "event.schema.json").read_text("utf-8"))
    return {name: Draft202012Validator(definition) for name, definition in schema["$defs"].items()}
