"""The money guarantees against a service of a few lines, as somebody would write it who knows the contract alone."""

from __future__ import annotations

import json
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, Finished

#: Seconds. Short: waits are real here.
PATIENCE = 2


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


class Service:
    """Completes every task at once. ``refuse``: path and number of the request to (status, headers), or None."""

    def __init__(self) -> None:
        self.refuse: Callable[[str, int], tuple[int, dict[str, str]] | None] = lambda path, number: None
        self.asked: list[tuple[float, str]] = []
        self.tasks: list[str] = []
        service, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                self.answer()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer()

            def answer(self) -> None:
                with lock:
                    service.asked.append((time.monotonic(), self.path))
                    refusal = service.refuse(self.path, len(service.times(self.path)))
                    if self.path.endswith("flux-dev-lora") and (refusal is None or refusal[0] >= 500):
                        service.tasks.append(f"task{len(service.tasks)}")
                if refusal is not None:
                    self.send(refusal[0], b"{}", refusal[1])
                elif self.path.startswith("/img"):
                    self.send(200, _png(), {})
                elif self.path.endswith("/price"):
                    self.data({"price": 0.015})
                elif self.path.endswith("/predictions"):
                    self.data({"page": 1, "items": []})
                elif self.path.endswith("/result"):
                    self.task(self.path.split("/")[-2], "completed")
                elif self.path.endswith("flux-dev-lora"):
                    self.task(service.tasks[-1], "created")
                else:
                    self.send(404, b"{}", {})

            def task(self, task: str, status: str) -> None:
                outputs = [f"{service.url}/img/{task}.png"] if status == "completed" else []
                self.data(
                    {"id": task, "model": "m", "status": status, "outputs": outputs, "has_nsfw_contents": [False]}
                )

            def data(self, data: dict[str, Any]) -> None:
                self.send(200, json.dumps({"code": 200, "message": "success", "data": data}).encode(), {})

            def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def times(self, path: str) -> list[float]:
        return [when for when, asked in self.asked if asked == path]


@pytest.fixture
def services() -> Iterator[Callable[[], Service]]:
    made: list[Service] = []

    def make() -> Service:
        made.append(Service())
        return made[-1]

    yield make
    for service in made:
        service.server.shutdown()
        service.server.server_close()


@pytest.fixture
def batch(cli: Cli, tmp_path: Path) -> Callable[..., Finished]:
    def run(service: Service, *options: object, jobs: int = 1) -> Finished:
        lines = [json.dumps({"prompt": f"cat {n}"}) for n in range(jobs)]
        if not (tmp_path / "jobs.jsonl").exists():
            (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
        env = {"WAVESPEED_API_KEY": "k", "WAVESPEED_BASE_URL": service.url}
        return cli("batch", "jobs.jsonl", "-o", "out", "--poll-interval", "0.1", *options, env=env)

    return run


@pytest.mark.parametrize(
    ("kind", "status"),
    [("/img", 429), *(pytest.param(kind, 503, marks=pytest.mark.slow) for kind in ("/img", "/result"))],
)
def test_retry_after_is_obeyed_by_every_get(
    services: Callable[[], Service], batch: Callable[..., Finished], kind: str, status: int
) -> None:
    service = services()
    service.refuse = lambda path, number: (
        (status, {"Retry-After": str(PATIENCE)}) if kind in path and number == 1 else None
    )
    assert batch(service).code == 0
    first, second = service.times(next(path for _, path in service.asked if kind in path))
    assert second - first >= PATIENCE


def test_a_look_that_is_to_be_made_much_later_ends_the_run(
    services: Callable[[], Service], batch: Callable[..., Finished]
) -> None:
    service = services()
    service.refuse = lambda path, number: (503, {"Retry-After": "4000"}) if "/result" in path else None
    assert batch(service).code == 9


def test_the_first_ten_are_all_that_is_sent(services: Callable[[], Service], batch: Callable[..., Finished]) -> None:
    service = services()
    service.refuse = lambda path, number: (400, {}) if path.endswith("flux-dev-lora") else None
    assert batch(service, "--concurrency", 64, jobs=50).code == 6
    assert len([1 for _, path in service.asked if path.endswith("flux-dev-lora")]) == 10


def test_a_run_that_was_refused_leaves_the_folder_its_owners(
    services: Callable[[], Service], batch: Callable[..., Finished], tmp_path: Path
) -> None:
    owner, other = services(), services()
    assert batch(owner).code == 0
    (tmp_path / "out/ledger.sqlite3").unlink()
    assert batch(other).code == 7
    assert batch(owner).code == 0
    assert len(owner.tasks) == 1


def test_the_command_that_adopted_can_be_repeated(
    services: Callable[[], Service], batch: Callable[..., Finished]
) -> None:
    service = services()
    service.refuse = lambda path, number: (500, {}) if path.endswith("flux-dev-lora") else None
    assert batch(service, "--on-unknown", "hold").code == 13
    for _ in range(2):
        assert batch(service, "--adopt", f"cat-0={service.tasks[0]}").code == 0
    assert len(service.tasks) == 1


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"another")], ids=["gone", "altered"])
def test_a_kept_input_is_put_back(
    services: Callable[[], Service], batch: Callable[..., Finished], cli: Cli, tmp_path: Path, damage: Any
) -> None:
    (tmp_path / "in.png").write_bytes(_png())
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"prompt": "x", "image": "in.png"}))
    service = services()
    assert batch(service).code == 0
    (kept,) = (tmp_path / "out/inputs").iterdir()
    damage(kept)
    assert cli("verify", "out").code == 6
    assert batch(service, "--verify").code == 0
    assert cli("verify", "out").code == 0
    assert len(service.tasks) == 1


def test_the_runs_time_counts_from_the_first_question(
    services: Callable[[], Service], batch: Callable[..., Finished]
) -> None:
    service = services()
    service.refuse = lambda path, number: (503, {}) if path.endswith("/model/price") else None
    began = time.monotonic()
    ended = batch(service, "--timeout", "1.5s")
    assert ended.code == 9
    assert "--timeout" in ended.err
    assert time.monotonic() - began < 10
    assert service.tasks == []
