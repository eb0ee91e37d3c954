"""The schema of --json lines: shipped as generated, strict, and printed by the command."""

from __future__ import annotations

import json
import subprocess
from contextlib import nullcontext
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flux_lora_cli.domain import events
from flux_lora_cli.domain.event_schema import build_event_schema, event_classes
from tests.conftest import Cli
from tests.event_lines import Overheard, check_event_lines, check_output

_ERROR = {"event": "error", "code": "usage", "message": "no", "hint": ""}
_SUMMARY = {"event": "summary", "exit_code": 2}


def _shipped() -> Any:
    return json.loads((files("flux_lora_cli") / "resources" / "event.schema.json").read_text("utf-8"))


def test_the_shipped_schema_is_the_generated_one() -> None:
    assert _shipped() == build_event_schema(), "run .ci/event-schema.py"


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(_shipped())


def test_every_event_class_has_a_place() -> None:
    written = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert set(event_classes()) == written - {events.Event}


@pytest.mark.parametrize(
    "line",
    [
        {**_ERROR, "extra": 1},
        {"event": "error", "code": "usage", "message": "no"},
        {"event": "nonsense"},
        {"event": "waiting", "what": "rate", "seconds": "3", "message": ""},
        {"event": "summary", "exit_code": 99},
        {"event": "adopted", "job": "a", "task": None, "matched_by": "seed"},
    ],
)
def test_what_is_no_event_is_refused(line: dict[str, Any]) -> None:
    assert list(Draft202012Validator(_shipped()).iter_errors(line))


def test_a_summary_may_say_more() -> None:
    assert not list(Draft202012Validator(_shipped()).iter_errors({**_SUMMARY, "jobs": 4, "folder": None}))


@pytest.mark.parametrize(
    "lines",
    [
        [_ERROR],
        [_SUMMARY, _ERROR],
        [_SUMMARY, _SUMMARY],
        [{**_ERROR, "code": 3}, _SUMMARY],
    ],
)
def test_the_hook_of_all_tests_sees_bad_output(lines: list[dict[str, Any]]) -> None:
    with pytest.raises(AssertionError):
        check_event_lines("\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize(("last", "sound"), [("summary", True), ("nonsense", False)])
def test_what_a_test_reads_line_by_line_is_checked_too(last: str, sound: bool) -> None:
    text = "".join(f"{json.dumps(line)}\n" for line in (_ERROR, {**_SUMMARY, "event": last}))
    process = subprocess.Popen(["printf", "%s", text], stdout=subprocess.PIPE, encoding="utf-8")
    overheard = Overheard(process, ["status", "--json"])
    assert process.stdout is not None
    assert process.stdout.readline() == text.splitlines(keepends=True)[0]
    assert process.communicate()[0] is not None
    with nullcontext() if sound else pytest.raises(AssertionError):
        overheard.check()


def test_what_a_kill_cut_off_needs_no_end() -> None:
    cut = json.dumps(_ERROR) + '\n{"event": "summ'
    check_output(["batch", "--json"], cut, -9)
    check_output(["batch"], "out/0.png\n", 0)
    with pytest.raises(ValueError):
        check_output(["batch", "--json"], cut, 0)
    with pytest.raises(AssertionError):
        check_output(["batch", "--json"], '{"event": "nonsense"}\n', -9)


def test_the_command_prints_it(cli: Cli) -> None:
    assert json.loads(cli("schema", "event").out) == _shipped()
