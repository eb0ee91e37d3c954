"""``flux-lora serve`` as users start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli

Spawn = Callable[..., "subprocess.Popen[str]"]


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _post(base: str, key: str = "k", **inputs: Any) -> Any:
    request = urllib.request.Request(
        f"{base}/api/v2/wavespeed-ai/flux-dev-lora", json.dumps(inputs).encode(), {"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)["data"]


def _status(base: str, key: str) -> int:
    try:
        _post(base, key, prompt="x")
    except urllib.error.HTTPError as error:
        return error.code
    return 200


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_line_is_the_base_url_and_a_signal_ends_it(spawn: Spawn, sent: int, code: int) -> None:
    process = spawn("serve")
    base = _first_line(process)
    assert base.startswith("http://127.0.0.1:")
    assert _post(base, prompt="x")["status"] == "created"
    process.send_signal(sent)
    out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert out == "" and "Traceback" not in err


def test_json_tells_the_url_and_ends_with_what_was_counted(spawn: Spawn) -> None:
    process = spawn("serve", "--json")
    event = json.loads(_first_line(process))
    _post(event["data"]["url"], prompt="x")
    process.send_signal(signal.SIGINT)
    summary = json.loads(process.communicate(timeout=10)[0].splitlines()[-1])
    assert (event["event"], event["kind"], summary["event"], summary["exit_code"]) == (
        "record",
        "serving",
        "summary",
        130,
    )
    assert summary["sandbox"]["charged_usd"] == "0.015"


def test_its_options_reach_the_sandbox(spawn: Spawn, tmp_path: Path) -> None:
    process = spawn(
        "serve", "-v", "--service-time", "0", "--rate", "60/min", "--concurrency", "2", "--price-per-image", "0.5",
        "--balance", "1", "--api-key", "right", "--nsfw-rate", "1", "--fault", "submit:503:1", "--seed", "4",
        "--state", "state.sqlite3",
    )  # fmt: skip
    base = _first_line(process)
    statuses = [_status(base, key) for key in ("right", "right", "right", "right", "wrong")]
    assert statuses == [503, 200, 200, 400, 401]
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=10)[1]
    assert "POST /api/v2/wavespeed-ai/flux-dev-lora 503  fault submit:503:1" in err
    assert [path.name for path in tmp_path.iterdir()] == ["state.sqlite3"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--fault", "submit:boom"], 2, "no kind of fault"),
        (["--service-time", "6-2"], 2, "shortest first"),
        (["--service-time", "soon"], 2, "--service-time"),
        (["--nsfw-rate", "2"], 2, "--nsfw-rate"),
        (["--port", "70000"], 2, "--port"),
        (["--state", "notes.txt"], 7, "notes.txt"),
        (["--state", "file/below"], 7, "file/below"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(cli: Cli, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "notes.txt").write_text("no database " * 100)
    (tmp_path / "file").write_text("")
    done = cli("serve", *arguments)
    assert done.code == code
    assert words in done.err and done.out == ""


def test_a_port_that_is_taken_is_named(cli: Cli, spawn: Spawn) -> None:
    port = _first_line(spawn("serve")).rpartition(":")[2]
    done = cli("serve", "--port", port)
    assert done.code == 2 and f"port {port}" in done.err


def test_help_carries_the_fault_language_in_80_columns(cli: Cli) -> None:
    done = cli("serve", "--help", env={"COLUMNS": "80", **os.environ})
    assert "ENDPOINT:KIND" in done.out and "reset-after" not in done.err
    assert max(map(len, done.lines)) <= 80
