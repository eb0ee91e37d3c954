"""doctor: every check says what it found and what to do, and the exit code is that of the worst."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.cli import checkup
from flux_lora_cli.domain.wire import HttpResponse
from flux_lora_cli.errors import KeyRefused
from tests.conftest import Cli, Finished

_NOW = datetime(2026, 11, 23, 3, 14, 15, tzinfo=timezone.utc)


def _checks(done: Finished) -> dict[str, dict[str, Any]]:
    return {line["data"]["check"]: line["data"] for line in done.events if line["event"] == "record"}


class Answering(http.server.ThreadingHTTPServer):
    """Answers each request as the test says."""

    def __init__(self, answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.paths: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Answering

    def _any(self) -> None:
        self.server.paths.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, body = self.server.answer(self.path)
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _any  # noqa: N815  # names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def answering() -> Iterator[Callable[..., Answering]]:
    started: list[Answering] = []

    def start(answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> Answering:
        server = Answering(answer)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def _ok(data: dict[str, Any]) -> bytes:
    return json.dumps({"code": 200, "message": "success", "data": data}).encode()


def test_in_the_sandbox_everything_works(cli: Cli) -> None:
    done = cli("doctor", "--sandbox")
    assert done.code == 0
    assert done.err == ""
    words = {line.split()[1]: line.split()[0] for line in done.lines}
    assert {words[name] for name in ("flux-lora", "python", "folder", "state", "service", "key", "clock")} == {"ok"}


def test_nothing_is_left_behind(cli: Cli, tmp_path: Path) -> None:
    cli("doctor", "--sandbox", "-o", "images/new")
    assert list(tmp_path.iterdir()) == []


def test_without_a_key_the_local_checks_come_first(cli: Cli) -> None:
    done = cli("doctor", "--json")
    assert done.code == 4
    checks = _checks(done)
    assert checks["folder"]["state"] == "ok"
    assert checks["key"]["state"] == "failed"
    assert "WAVESPEED_API_KEY" in checks["key"]["hint"]
    assert "--sandbox" in checks["key"]["hint"]
    assert checks["service"]["state"] == "skipped"
    assert [line["code"] for line in done.events if line["event"] == "error"] == ["key_missing"]


@pytest.mark.parametrize(
    ("options", "key", "code", "states", "hint"),
    [
        (["--api-key-file", "missing"], "k", 3, ("failed", "skipped"), ("key", "--api-key-file")),
        (["--api-key-file", "words"], "k", 2, ("failed", "skipped"), ("key", "Copy the key again")),
        (["--base-url", "https://x.example"], "k", 2, ("skipped", "failed"), ("service", "--allow-custom-host")),
        (["--base-url", "nonsense"], "k", 2, ("skipped", "failed"), ("service", "It looks like")),
        (["--base-url", "https://x.example"], "", 2, ("failed", "failed"), ("service", "--allow-custom-host")),
        (
            ["--base-url", "https://x.example", "--api-key-file", "missing"],
            "k",
            2,
            ("failed", "failed"),
            ("key", "--api-key-file"),
        ),
    ],
    ids=["no key file", "no key in it", "another host", "no URL", "another host and no key", "another host, no file"],
)
def test_what_was_said_wrongly_is_a_check_that_failed(
    cli: Cli,
    tmp_path: Path,
    options: list[str],
    key: str,
    code: int,
    states: tuple[str, str],
    hint: tuple[str, str],
) -> None:
    (tmp_path / "words").write_text("no key at all")
    env = {"WAVESPEED_API_KEY": key}
    done = cli("doctor", *options, "--json", env=env)
    assert done.code == code
    checks = _checks(done)
    assert checks["folder"]["state"] == "ok"
    assert (checks["key"]["state"], checks["service"]["state"]) == states
    assert hint[1] in checks[hint[0]]["hint"]
    assert done.events[-1]["failed"] == states.count("failed")
    shown = cli("doctor", *options, env=env)
    assert shown.code == code
    assert [line.split()[:2] for line in shown.lines if line.split()[1] in ("key", "service")] == [
        [states[0], "key"],
        [states[1], "service"],
    ]


def test_a_key_file_that_can_be_read_once_is_read_once(
    cli: Cli, answering: Callable[..., Answering], tmp_path: Path
) -> None:
    server = answering(lambda _: (200, {}, _ok({"balance": 1})))
    os.mkfifo(tmp_path / "key")
    writer = threading.Thread(target=lambda: (tmp_path / "key").write_text("k"), daemon=True)
    writer.start()
    done = cli("doctor", "--base-url", server.url, "--api-key-file", "key", "--json")
    assert done.code == 0
    assert _checks(done)["key"]["state"] == "ok"


def test_a_refused_key(cli: Cli, answering: Callable[..., Answering]) -> None:
    server = answering(lambda _: (401, {}, b'{"code":401,"message":"bad key s3cret-key"}'))
    done = cli("doctor", "--base-url", server.url, "--json", env={"WAVESPEED_API_KEY": "s3cret-key"})
    assert done.code == 4
    assert _checks(done)["service"]["state"] == "ok"
    assert _checks(done)["key"]["state"] == "failed"
    assert "s3cret" not in done.out + done.err


@pytest.mark.parametrize(
    ("status", "code", "exit_code"), [(401, 401, 4), (200, 401, 4), (429, 429, 5), (200, 500, 5), (400, 400, 0)]
)
def test_a_key_that_comes_back_spelt_in_escapes_is_not_shown(
    cli: Cli, answering: Callable[..., Answering], status: int, code: int, exit_code: int
) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in "s3cret-key")
    server = answering(lambda _: (status, {}, f'{{"code":{code},"message":"no: {escaped}"}}'.encode()))
    for form in ([], ["--json"]):
        done = cli("doctor", "--base-url", server.url, *form, env={"WAVESPEED_API_KEY": "s3cret-key"})
        assert done.code == exit_code
        assert "s3cret" not in done.out + done.err


def test_a_service_that_is_not_there(cli: Cli) -> None:
    done = cli("doctor", "--base-url", "http://127.0.0.1:9", env={"WAVESPEED_API_KEY": "k"})
    assert done.code == 5
    assert "failed   service" in done.out
    assert "connection refused" in done.out


@pytest.mark.parametrize("status", [500, 503])
def test_a_service_in_trouble(cli: Cli, answering: Callable[..., Answering], status: int) -> None:
    server = answering(lambda _: (status, {}, b"oops"))
    done = cli("doctor", "--base-url", server.url, "--json", env={"WAVESPEED_API_KEY": "k"})
    assert done.code == 5
    assert str(status) in _checks(done)["service"]["message"]


def test_a_service_without_a_balance_still_tells_of_the_key(cli: Cli, answering: Callable[..., Answering]) -> None:
    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        return (404, {}, b"{}") if "balance" in path else (200, {}, _ok({"page": 1, "items": []}))

    server = answering(answer)
    done = cli("doctor", "--base-url", server.url, "--json", env={"WAVESPEED_API_KEY": "k"})
    assert done.code == 0
    assert _checks(done)["key"]["state"] == "ok"
    assert _checks(done)["balance"]["state"] == "skipped"
    assert any("predictions" in path for path in server.paths)


def test_an_empty_balance_is_a_warning(cli: Cli, answering: Callable[..., Answering]) -> None:
    server = answering(lambda _: (200, {}, _ok({"balance": 0})))
    done = cli("doctor", "--base-url", server.url, "--json", env={"WAVESPEED_API_KEY": "k"})
    assert done.code == 0
    assert _checks(done)["balance"]["state"] == "warning"
    assert "Top up" in _checks(done)["balance"]["hint"]


def test_a_folder_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    done = cli("doctor", "--sandbox", "-o", "taken", "--json")
    assert done.code == 7
    assert _checks(done)["folder"]["state"] == "failed"
    assert "-o" in _checks(done)["folder"]["hint"]


def test_a_damaged_ledger(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ledger.sqlite3").write_bytes(os.urandom(4096))
    done = cli("doctor", "--sandbox", "-o", "out", "--json")
    assert done.code == 7
    assert _checks(done)["ledger"]["state"] == "failed"


@pytest.mark.parametrize(
    ("ahead", "state", "words"),
    [
        (0, "ok", "0 s"),
        (30, "ok", "s from the service's"),
        (3600, "warning", "ahead of"),
        (-90, "warning", "behind"),
    ],
)
def test_the_clock(ahead: float, state: str, words: str) -> None:
    answer = HttpResponse(
        200, {"date": "Mon, 23 Nov 2026 03:14:15 GMT"}, b"", received_at=_NOW + timedelta(seconds=ahead)
    )
    finding = checkup.clock(answer)
    assert finding.state == state
    assert words in finding.message
    assert bool(finding.hint) == (state == "warning")


def test_a_server_without_a_clock() -> None:
    assert checkup.clock(HttpResponse(200, {}, b"")).state == "skipped"


def test_an_error_is_shown_without_the_key() -> None:
    finding = checkup.failed(
        "key", KeyRefused("s3cret refused", "Not s3cret."), lambda text: text.replace("s3cret", "*")
    )
    assert (finding.message, finding.hint) == ("* refused", "Not *.")
    assert finding.error is not None
    assert "s3cret" not in finding.error.message
