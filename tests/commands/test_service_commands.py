"""``serve``, ``doctor``, ``models``: the service and its tables."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from flux_lora_cli.sandbox import Answer, Request, Sandbox
from tests.commands.conftest import Run
from tests.conftest import KEY, Spawn

Start = Callable[..., Sandbox]

SUBMIT = "/api/v3/wavespeed-ai/flux-dev-lora"


@pytest.fixture
def serve(spawn: Spawn) -> Callable[..., tuple[str, Any]]:
    """Start a server; its URL and process."""

    def start(*words: object) -> tuple[str, Any]:
        process = spawn("serve", *words)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    return start


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serve_prints_its_url_and_ends_on_a_signal_also_while_an_answer_stalls(
    serve: Any, number: int, code: int
) -> None:
    url, process = serve("--fault", "submit:stall")
    assert requests.get(f"{url}/api/v3/balance", headers={"Authorization": "Bearer k"}, timeout=10).ok
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5) as stalled:
        stalled.sendall(f"POST {SUBMIT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(number)
        assert stalled.recv(100) == b""
        assert process.wait(timeout=10) == code and time.monotonic() - began < 2


def test_serve_takes_its_options(serve: Any, tmp_path: Path) -> None:
    options = "--service-time 0 --rate 2/min --concurrency 1 --price-per-image 0.5 --balance 3 --api-key secret"
    options += " --nsfw-rate 1 --undeclared refuse --seed 3 --state s.db --fault list:503:first=1"
    url, process = serve(*options.split())

    def call(path: str, inputs: Any = None, key: str = "secret") -> Any:
        method, headers = "GET" if inputs is None else "POST", {"Authorization": f"Bearer {key}"}
        return requests.request(method, url + path, json=inputs, headers=headers, timeout=10)

    assert call("/api/v3/balance", key="x").status_code == 401
    assert call("/api/v3/predictions", {}).status_code == 503
    assert call(SUBMIT, {"prompt": "a", "x": 1}).status_code == 400
    assert [call(SUBMIT, {"prompt": "a"}).status_code for _ in range(3)] == [200, 200, 429]
    assert call("/api/v3/balance").json()["data"]["balance"] == 2
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=10)
    assert (tmp_path / "s.db").stat().st_mode & 0o077 == 0


def test_serve_on_a_port_that_is_taken(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", taken.getsockname()[1])
    assert (done.code, done.out, "--port" in done.err) == (2, "", True)


def checks(done: Any) -> dict[str, str]:
    return {line.split()[1]: line.split()[0] for line in done.lines if not line.startswith(" ")}


def test_doctor_where_all_is_well(run: Run, sandbox: Sandbox) -> None:
    done = run("doctor")
    assert done.code == 0, done.out
    assert set(checks(done).values()) == {"ok"}
    assert {"flux-lora", "folder", "disk", "service", "key", "balance", "clock"} <= checks(done).keys()
    assert sandbox.charges == []
    events = run("doctor", "--json").events
    assert events[-1]["failed"] == 0
    assert {event["data"]["check"] for event in events[:-1]} == checks(done).keys()


@pytest.mark.parametrize(
    ("key", "words", "code", "check", "said"),
    [
        ("", [], 4, "key", "--sandbox"),
        (KEY, [], 5, "service", "127.0.0.1:9"),
        (KEY, ["--base-url", "https://example.org"], 2, "service", "--allow-custom-host"),
    ],
)
def test_doctor_says_what_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch, key: str, words: list[str], code: int, check: str, said: str
) -> None:
    monkeypatch.setenv("WAVESPEED_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WAVESPEED_API_KEY", key)
    done = run("doctor", *words)
    assert (done.code, checks(done)[check], said in done.out) == (code, "failed", True)


def test_doctor_of_folders_and_a_key_that_is_refused(run: Run, service: Start, tmp_path: Path) -> None:
    service(api_key="another")
    done = run("doctor")
    assert (done.code, checks(done)["key"], KEY in done.out + done.err) == (4, "failed", False)
    (tmp_path / "file").write_text("x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ledger.sqlite3").write_bytes(b"not a database" * 100)
    for name in ("file", "out"):
        done = run("doctor", "-o", name)
        assert (done.code, checks(done)["folder"]) == (7, "failed")


def test_doctor_on_clocks_and_credit(run: Run, service: Start) -> None:
    def late(endpoint: str, request: Request) -> Answer:
        return Answer(body=request.carry_out().body, headers=(("Date", "Mon, 01 Jan 2024 00:00:00 GMT"),))

    service(balance=0, faults=[late])
    done = run("doctor")
    assert (done.code, checks(done)["balance"]) == (0, "warning")


def test_models_lists_those_with_loras(run: Run, service: Start) -> None:
    asked: list[str] = []
    service(on_request=lambda endpoint, request: asked.append(endpoint))
    done = run("models")
    assert (done.code, asked) == (0, [])  # without --update
    assert ["wavespeed-ai/flux-dev-lora", "v2", "5", "$0.015", "10"] in [line.split()[:5] for line in done.lines]
    records = [event["data"] for event in run("models", "--json").events[:-1]]
    assert {"id", "version", "loras", "price_usd", "source", "parameters"} <= records[0].keys()
    assert all(record["loras"] for record in records)


def test_one_model(run: Run) -> None:
    done = run("models", "flux-dev-lora")
    steps = next(line.split() for line in done.lines if line.startswith("num_inference_steps"))
    assert " ".join(steps).startswith("num_inference_steps integer a whole number from 1 to 50 28 ")
    assert done.lines[0] == "wavespeed-ai/flux-dev-lora"
    assert "mask_image" in run("models", "flux-dev-lora", "--api-version", "v3").out
    assert "mask_image" not in done.out
    data = run("models", "flux-dev-lora", "--json").events[0]["data"]
    assert next(each for each in data["parameters"] if each["name"] == "size")["default"] == "1024*1024"


def test_update_into_a_file_and_use_it(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """A model that no built-in table has is checked, and made, after ``models --update``."""
    name, tables = "wavespeed-ai/flux-2-dev/text-to-image-lora", ("--models", "models.json")
    (tmp_path / "new.yaml").write_text(f"version: 1\nmodel: {name}\njobs:\n  - prompt: a\n")
    assert run("preset", "check", "new.yaml").code == 10
    done = run("models", "--update", "models.json")
    assert (done.code, done.lines) == (0, ["models.json"])
    assert run("preset", "check", "new.yaml", *tables).code == 0
    assert name in run("schema", "preset", *tables).out
    listed = run("models", *tables).out
    assert name in listed and f"catalogue of {sandbox.base_url}" in listed


def test_update_into_the_users_cache(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each service has its own: the sandbox's never serves the real one."""
    assert run("models", "--update").code == 0
    assert "catalogue" in run("models").out
    assert run("models", "flux-2-dev/text-to-image-lora").code == 0
    monkeypatch.delenv("WAVESPEED_BASE_URL")
    assert "catalogue" not in run("models").out
    assert run("models", "--sandbox", "--update").code == 0
    assert "catalogue of sandbox" in run("models", "--sandbox").out
    assert "catalogue" not in run("models").out


def test_a_catalogue_that_is_broken_in_part(run: Run, service: Start) -> None:
    """Entries that cannot be read are counted and named."""

    def broken(endpoint: str, request: Request) -> Answer | None:
        entries = [{"model_id": "odd/one"}]
        return Answer.data(json.loads(request.carry_out().body)["data"] + entries) if endpoint == "models" else None

    service(faults=[broken])
    done = run("models", "--update", "models.json")
    assert (done.code, "1 entry of the catalogue could not be read" in done.err) == (0, True)
    assert "odd/one" in done.err
