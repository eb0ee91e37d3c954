"""Every line of --json that a test makes the program print is held against the shipped schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any


def check_output(arguments: Sequence[object], out: str, code: int) -> None:
    """What every helper that runs commands asks of what they print: under --json, events of the schema.

    Args:
        code: as ``subprocess`` has it, below zero where the process was killed.
    """
    if "--json" in arguments and "--help" not in arguments:
        check_event_lines(out, to_its_end=code >= 0)


def check_event_lines(out: str, to_its_end: bool = True) -> None:
    """Assert that ``out`` is NDJSON, each line an event of the schema, and the last, and only the last, a summary.

    Without its end, a last line that was cut off does not count, and there need be no summary.
    """
    whole = out if to_its_end else out[: out.rfind("\n") + 1]
    lines = [json.loads(line) for line in whole.splitlines()]
    for line in lines:
        check_event(line)
    if not to_its_end:
        return
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
