"""Each fault, seen from a raw socket: what goes over the wire, and whether it was charged."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from flux_lora_cli.sandbox.fault_kinds import KINDS
from tests.sandbox.conftest import DEV, DEV3, Caller, Make


@dataclass
class Raw:
    """All bytes of a connection, and how it ended: fin, reset, or timeout."""

    data: bytes
    end: str

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        return int(self.data.split(b" ", 2)[1]) if self.data else 0

    def header(self, name: str) -> str:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return ""


def raw(call: Caller, method: str, path: str, body: bytes = b"", timeout: float = 5, most: int = 1 << 30) -> Raw:
    """One request on a connection of its own, read to its end."""
    host, port = call.sandbox.base_url[7:].split(":")
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer canary\r\nConnection: close\r\n"
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        parts: list[bytes] = []
        try:
            while (more := connection.recv(1 << 20)) and sum(map(len, parts)) < most:
                parts.append(more)
            end = "fin"
        except TimeoutError:
            end = "timeout"
        except ConnectionResetError:
            end = "reset"
    return Raw(b"".join(parts), end)


def submitted(call: Caller, timeout: float = 5) -> Raw:
    return raw(call, "POST", DEV, b'{"prompt": "a cat", "size": "512*512"}', timeout)


def looked(call: Caller) -> dict[str, object]:
    data: dict[str, object] = json.loads(
        raw(call, "GET", f"/api/v2/predictions/{call.submit(num_images=2)['id']}/result").body
    )["data"]
    return data


def downloaded(call: Caller, timeout: float = 5, most: int = 1 << 30) -> Raw:
    return raw(call, "GET", f"/outputs/{call.submit()['id']}/1.png", timeout=timeout, most=most)


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


# spec, what the answer to a submit must be, tasks charged
SUBMITS: list[tuple[str, Callable[[Raw], object], int]] = [
    ("submit:503", lambda got: got.status == 503 and is_json(got.body), 0),
    ("submit:503-after", lambda got: got.status == 503, 1),
    ("submit:429:retry-after=7", lambda got: got.status == 429 and got.header("Retry-After") == "7", 0),
    ("submit:429:retry-after=date+9", lambda got: got.header("Retry-After").endswith(" GMT"), 0),
    ("submit:204", lambda got: got.status == 204 and not got.body, 0),
    ("submit:400:message=Insufficient credits", lambda got: b"Insufficient credits" in got.body, 0),
    ("submit:envelope=401", lambda got: got.status == 200 and json.loads(got.body)["code"] == 401, 0),
    ("submit:reset", lambda got: not got.data and got.end == "reset", 0),
    ("submit:reset-after", lambda got: not got.data and got.end == "reset", 1),
    ("submit:eof", lambda got: not got.data and got.end == "fin", 0),
    ("submit:eof-after", lambda got: not got.data and got.end == "fin", 1),
    ("submit:stall=0.2", lambda got: not got.data and got.end == "fin", 0),
    ("submit:stall-after=0.2", lambda got: not got.data and got.end == "fin", 1),
    ("submit:slow=0.2", lambda got: got.status == 200 and json.loads(got.body)["data"]["id"], 1),
    ("submit:slow-before=0.2", lambda got: got.status == 200, 1),
    ("submit:redirect=307:location=http://h:1/", lambda got: got.header("Location") == "http://h:1/", 0),
    ("submit:redirect", lambda got: got.status == 302 and got.header("Location") == DEV, 0),
    ("submit:cut", lambda got: 0 < len(got.body) < int(got.header("Content-Length")), 1),
    ("submit:short", lambda got: got.body and not got.header("Content-Length") and not is_json(got.body), 1),
    ("submit:html", lambda got: got.status == 200 and b"<html>" in got.body, 1),
    ("submit:html-before", lambda got: b"<html>" in got.body, 0),
    ("submit:empty", lambda got: got.status == 200 and got.body == b"", 1),
    ("submit:broken-json", lambda got: got.body and not is_json(got.body), 1),
    ("submit:list", lambda got: json.loads(got.body) == [], 1),
    ("submit:no-data", lambda got: "data" not in json.loads(got.body), 1),
    ("submit:huge=2", lambda got: len(got.body) > 2_000_000 and is_json(got.body), 1),
    ("submit:bomb=3", lambda got: len(got.body) < 50_000 and len(gzip.decompress(got.body)) > 3_000_000, 1),
    ("submit:deep", lambda got: got.body.startswith(b"[[[") and not is_json(got.body), 1),
    ("submit:big-number=5000", lambda got: b"9" * 5000 in got.body, 1),
    ("submit:echo-key", lambda got: got.status == 400 and b"Bearer canary" in got.body, 0),
    ("submit:no-id", lambda got: "id" not in json.loads(got.body)["data"], 1),
    ("submit:bad-id", lambda got: json.loads(got.body)["data"]["id"] == "../../etc/passwd", 1),
    ("submit:foreign-url", lambda got: "elsewhere.invalid" in json.loads(got.body)["data"]["urls"]["get"], 1),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "right", "charged"), SUBMITS, ids=[row[0] for row in SUBMITS])
def test_a_submit_goes_wrong_as_asked(make: Make, spec: str, right: Callable[[Raw], object], charged: int) -> None:
    call = make(faults=[spec])
    assert right(submitted(call))
    stats = call.sandbox.stats()
    assert (stats["charged_tasks"], stats["accepted"]) == (charged, charged)
    assert sum(stats["faults"].values()) == 1


LOOKS: list[tuple[str, Callable[[dict[str, object]], object]]] = [
    ("no-outputs", lambda data: data["status"] == "completed" and data["outputs"] == []),
    ("no-flags", lambda data: "has_nsfw_contents" not in data and data["outputs"]),
    ("few-flags", lambda data: data["has_nsfw_contents"] == [False]),
    ("many-flags", lambda data: data["has_nsfw_contents"] == [False] * 3),
    ("unknown-status", lambda data: data["status"] == "pondering" and data["error"] == ""),
    ("stuck", lambda data: data["status"] == "processing" and data["outputs"] == []),
    ("failed", lambda data: data["status"] == "failed" and data["code"] == 1200 and data["error"]),
    ("ended=timeout", lambda data: data["status"] == "timeout" and data["error"]),
    ("foreign-url:location=http://other:9/x", lambda data: data["urls"] == {"get": "http://other:9/x"}),
    ("file-url", lambda data: data["outputs"] == ["file:///etc/passwd"] * 2),
    ("no-id", lambda data: "id" not in data),
    ("bad-id=x y", lambda data: data["id"] == "x y"),
]


@pytest.mark.parametrize(("kind", "right"), LOOKS, ids=[row[0] for row in LOOKS])
def test_a_look_goes_wrong_as_asked(make: Make, kind: str, right: Callable[[dict[str, object]], object]) -> None:
    assert right(looked(make(faults=[f"look:{kind}"])))


def test_base64_comes_bare(make: Make) -> None:
    call = make(faults=["look:bare-base64"])
    task = call.submit(DEV3, enable_base64_output=True)["id"]
    (output,) = call.look(task, "v3")["outputs"]
    assert base64.b64decode(output).startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["stuck", "failed", "ended"])
def test_a_task_can_be_doomed_at_its_submit(make: Make, kind: str) -> None:
    call = make(faults=[f"submit:{kind}:nth=2"])
    states = [call.look(call.submit()["id"])["status"] for _ in range(3)]
    doom = {"stuck": "processing", "failed": "failed", "ended": "cancelled"}[kind]
    assert states == ["completed", doom, "completed"]


@pytest.mark.parametrize(("kind", "name"), [("no-inputs", ""), ("input-name", "input")])
def test_a_list_hides_or_renames_inputs(make: Make, kind: str, name: str) -> None:
    call = make(faults=[f"list:{kind}"])
    call.submit(seed=5)
    (item,) = call("POST", "/api/v3/predictions", {"include_inputs": True}).data["items"]
    assert "inputs" not in item
    assert item.get("input", {}).get("seed") == (5 if name else None)


DOWNLOADS: list[tuple[str, Callable[[Raw], object]]] = [
    ("404", lambda got: got.status == 404),
    ("cut", lambda got: 0 < len(got.body) < int(got.header("Content-Length"))),
    ("short", lambda got: got.body[:4] == b"\x89PNG" and b"IEND" not in got.body and not got.header("Content-Length")),
    ("wrong-type", lambda got: got.header("Content-Type") == "image/png" and b"<html>" in got.body),
    ("other-file", lambda got: got.header("Content-Type") == "image/png" and got.body.startswith(b"%PDF")),
    ("damaged", lambda got: got.body.startswith(b"\x89PNG") and got.body.endswith(b"IEND\xaeB`\x82")),
    ("too-large=3", lambda got: got.body.startswith(b"\x89PNG") and len(got.body) > 3_000_000),
    ("long-length=500", lambda got: got.header("Content-Length") == "500000000" and b"IEND" in got.body),
    ("redirect=301:location=file:///etc/passwd", lambda got: got.header("Location") == "file:///etc/passwd"),
    ("reset", lambda got: got.end == "reset"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "right"), DOWNLOADS, ids=[row[0] for row in DOWNLOADS])
def test_a_download_goes_wrong_as_asked(make: Make, kind: str, right: Callable[[Raw], object]) -> None:
    assert right(downloaded(make(faults=[f"download:{kind}"])))


def test_a_damaged_image_differs_by_one_bit(make: Make) -> None:
    call = make(faults=["download:damaged:1"])
    url = call.look(call.submit()["id"])["outputs"][0]
    one, other = call("GET", url).body, call("GET", url).body
    assert [bin(a ^ b).count("1") for a, b in zip(one, other, strict=True) if a != b] == [1]


def test_a_trickle_never_ends_and_never_pauses_long(make: Make) -> None:
    call = make(faults=["submit:trickle=0.02"])
    began = time.monotonic()
    got = raw(call, "POST", DEV, b"{}", timeout=0.5, most=150)
    assert got.status == 200 and got.end == "fin"
    assert time.monotonic() - began < 5
    assert not got.body.strip()


def test_a_refused_port_opens_again(make: Make) -> None:
    call = make(faults=["submit:refuse=0.3:1"])
    assert submitted(call).status == 200
    host, port = call.sandbox.base_url[7:].split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    deadline = time.monotonic() + 10
    while not _open(call) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert submitted(call).status == 200


def _open(call: Caller) -> bool:
    host, port = call.sandbox.base_url[7:].split(":")
    with socket.socket() as connection:
        return connection.connect_ex((host, int(port))) == 0


def test_stopping_ends_a_stall_at_once(make: Make) -> None:
    call = make(faults=["submit:stall=60"])
    host, port = call.sandbox.base_url[7:].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"POST {DEV} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        while not call.sandbox.stats()["submits_received"]:
            time.sleep(0.005)
        began = time.monotonic()
        call.sandbox.stop()
        assert connection.recv(100) == b""
        assert time.monotonic() - began < 2


def test_every_kind_is_tested_here() -> None:
    specs = [row[0] for row in SUBMITS] + [f"x:{row[0]}" for row in (*LOOKS, *DOWNLOADS)]
    tested = {spec.split(":")[1].split("=")[0].removesuffix("-after").removesuffix("-before") for spec in specs}
    elsewhere = {"status", "kill", "refuse", "trickle", "bare-base64", "no-inputs", "input-name"}
    assert set(KINDS) <= tested | elsewhere
