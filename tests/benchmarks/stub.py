"""A stub of the service for measurements: cheap, in a process of its own, and it keeps count.

Prints its base URL, then serves until its standard input closes. Tasks need no timers: a task's start and end
follow from those before it the moment it is submitted (first come, first served, on so many slots).
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import random
import ssl
import struct
import sys
import threading
import time
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

MODEL = "wavespeed-ai/flux-dev-lora"


def png(size: int) -> bytes:
    """A PNG of so many bytes whose chunks and checksums are right; its pixels are noise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1024, 1024, 8, 2, 0, 0, 0))
    end = chunk(b"IEND", b"")
    left = max(13, size - len(head) - len(end))
    body = b""
    while left > 0:
        part = min(left - 12, 65536)
        if 0 < left - 12 - part < 13:
            part -= 13
        body += chunk(b"IDAT", os.urandom(part))
        left -= part + 12
    return head + body + end


@dataclass
class Counts:
    """What the client did. Times are of CLOCK_MONOTONIC, which all processes of a machine share."""

    first_request: float | None = None
    first_submit: float | None = None
    last_submit: float = 0.0
    submits: int = 0
    accepted: int = 0
    refused: int = 0
    looks: int = 0
    last_seen: float = 0.0
    downloads: int = 0
    last_download: float = 0.0
    connections: int = 0
    requests: int = 0
    least_gap: float = float("inf")
    service_times: list[float] = field(default_factory=list)


class Service:
    """The tasks, and the answers about them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.base = ""
        self.image = png(args.bytes)
        self.reset()

    def reset(self) -> None:
        """As new: the next client finds nothing of the last one."""
        args = self.args
        self.random = random.Random(args.seed)
        self.counts = Counts()
        self.free: list[float] = [0.0] * (args.slots or 1)
        self.tasks: dict[str, tuple[float, float, float]] = {}  # id: start, end, service time
        self.looked: dict[str, float] = {}
        self.running: list[float] = []  # ends of the tasks in flight, for the cap
        self.recent: deque[float] = deque()  # submits of the last second, for the cap

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        now = time.monotonic()
        counts = self.counts
        if path == "/stats":
            return 200, self.stats(), {}
        counts.requests += 1
        if counts.first_request is None:
            counts.first_request = now
        if method == "GET" and path.startswith("/image/"):
            counts.downloads += 1
            counts.last_download = now + self.args.download_delay
            return 200, self.image, {"Content-Type": "image/png"}
        if method == "GET" and path.endswith("/result"):
            return self.look(path.split("/")[-2], now)
        if method == "GET" and path.endswith("/balance"):
            return self.answer({"balance": 1000000.0})
        if "/model/pric" in path:
            return self.answer({"price": 0.015, "unit_price": 0.015, "currency": "USD"})
        if path.endswith("/v3/predictions"):
            return self.answer({"page": 1, "items": []})
        return self.submit(now)

    def answer(self, data: Any) -> tuple[int, bytes, dict[str, str]]:
        return 200, json.dumps({"code": 200, "message": "success", "data": data}).encode(), {}

    def submit(self, now: float) -> tuple[int, bytes, dict[str, str]]:
        counts, args = self.counts, self.args
        counts.submits += 1
        if counts.first_submit is None:
            counts.first_submit = now
        counts.last_submit = now
        if self.too_many(now):
            counts.refused += 1
            headers = {"Retry-After": str(args.retry_after)} if args.retry_after else {}
            return 429, b'{"code":429,"message":"Too many requests"}', headers
        took = self.random.uniform(args.service_time[0], args.service_time[-1])
        start = max(now, heapq.heappop(self.free)) if args.slots else now
        if args.slots:
            heapq.heappush(self.free, start + took)
        number = counts.accepted
        counts.accepted += 1
        if args.slots:
            counts.service_times.append(took)
        if args.in_flight_cap:
            heapq.heappush(self.running, start + took)
        task = f"t{number:08x}"
        self.tasks[task] = (start, start + took, took)
        return self.answer(self.prediction(task, "created"))

    def too_many(self, now: float) -> bool:
        while self.running and self.running[0] <= now:
            heapq.heappop(self.running)
        while self.recent and self.recent[0] <= now - 1.0:
            self.recent.popleft()
        capped = bool(self.args.in_flight_cap) and len(self.running) >= self.args.in_flight_cap
        if capped or (self.args.rate_cap and len(self.recent) >= self.args.rate_cap):
            return True
        if self.args.rate_cap:
            self.recent.append(now)
        return False

    def look(self, task: str, now: float) -> tuple[int, bytes, dict[str, str]]:
        if task not in self.tasks:
            return 404, b'{"code":404,"message":"not found"}', {}
        counts = self.counts
        counts.looks += 1
        before = self.looked.get(task)
        start, end, _ = self.tasks[task]
        if before is not None:
            counts.least_gap = min(counts.least_gap, now - before)
        if now < end:
            self.looked[task] = now
            return self.answer(self.prediction(task, "processing" if now >= start else "created"))
        self.looked.pop(task, None)
        counts.last_seen = now
        return self.answer(self.prediction(task, "completed"))

    def prediction(self, task: str, status: str) -> dict[str, Any]:
        done = status == "completed"
        return {
            "id": task,
            "model": MODEL,
            "outputs": [f"{self.base}/image/{task}.png"] if done else [],
            "urls": {"get": f"{self.base}/api/v2/predictions/{task}/result"},
            "has_nsfw_contents": [False] if done else [],
            "status": status,
            "created_at": "2026-01-01T00:00:00.000Z",
            "error": "",
            "executionTime": round(self.tasks[task][2] * 1000) if done else 0,
        }

    def stats(self) -> bytes:
        data = dict(vars(self.counts))
        times = data.pop("service_times")
        free, ideal = [0.0] * max(1, self.args.slots), 0.0
        for took in times:
            done = heapq.heappop(free) + took
            heapq.heappush(free, done)
            ideal = max(ideal, done)
        data["ideal"] = ideal
        data["last_done"] = max((end for _, end, _ in self.tasks.values()), default=0.0)
        if data["least_gap"] == float("inf"):
            data["least_gap"] = None
        self.reset()
        return json.dumps(data).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as clients of this API use it: keep-alive, Content-Length."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self.service = service
        self.loop = loop
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.service.counts.connections += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end]
            length = 0
            mark = head.lower().find(b"\r\ncontent-length:")
            if mark >= 0:
                length = int(head[mark + 17 :].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            self.respond(method, path, body)

    def respond(self, method: str, path: str, body: bytes) -> None:
        args = self.service.args
        status, content, headers = self.service.handle(method, path, body)
        lines = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n"
        for name, value in {"Content-Type": "application/json", **headers}.items():
            lines += f"{name}: {value}\r\n"
        message = lines.encode() + b"\r\n" + content
        delay = args.download_delay if path.startswith("/image/") else args.latency
        if delay and path != "/stats":
            self.loop.call_later(delay, self.write, message)
        else:
            self.write(message)

    def write(self, message: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(message)


async def serve(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    service = Service(args)
    context = None
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.tls)
    server = await loop.create_server(lambda: Connection(service, loop), "127.0.0.1", 0, ssl=context)
    service.base = f"{'https' if args.tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(service.base, flush=True)
    stop = asyncio.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    await stop.wait()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service-time", nargs="+", type=float, default=[0.0], help="seconds, or a range of them")
    parser.add_argument("--slots", type=int, default=0, help="tasks at once; others queue; 0: no limit")
    parser.add_argument("--bytes", type=int, default=100_000, help="of an image")
    parser.add_argument("--download-delay", type=float, default=0.0, help="seconds")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds to any other answer")
    parser.add_argument("--rate-cap", type=int, default=0, help="submits a second; over it 429")
    parser.add_argument("--in-flight-cap", type=int, default=0, help="tasks in flight; over it 429")
    parser.add_argument("--retry-after", type=int, default=0, help="seconds that a 429 names; 0: none")
    parser.add_argument("--tls", help="PEM file with key and certificate")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    asyncio.run(serve(arguments().parse_args()))
