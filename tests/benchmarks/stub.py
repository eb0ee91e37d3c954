"""A stub of the service for measurements: cheap, in a process of its own, and it keeps count.

Prints its base URL, then serves until its standard input closes. Tasks need no timers: a task's start and end follow
from those before it the moment it is submitted (first come, first served, on so many slots).
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
from typing import Any

MODEL = "wavespeed-ai/flux-dev-lora"


def png(size: int) -> bytes:
    """A PNG of about so many bytes whose chunks and checksums are right; its pixels are noise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1024, 1024, 8, 2, 0, 0, 0))
    left = max(13, size - len(head) - 12)
    body = b"".join(chunk(b"IDAT", os.urandom(min(65536, left - at))) for at in range(0, left, 65536))
    return head + body + chunk(b"IEND", b"")


class Service:
    """The tasks, and the answers about them. ``counts`` are of CLOCK_MONOTONIC, which all processes share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.base, self.image = args, "", png(args.bytes)
        self.reset()

    def reset(self) -> None:
        """As new: the next client finds nothing of the last one."""
        self.random = random.Random(self.args.seed)
        self.counts: dict[str, Any] = {"requests": 0, "polls": 0, "refused": 0, "accepted": 0, "least_gap": None}
        self.free = [0.0] * (self.args.slots or 1)
        self.tasks: dict[str, tuple[float, float]] = {}  # id: start, end
        self.polled: dict[str, float] = {}
        self.times: list[float] = []
        self.running: list[float] = []  # ends of the tasks in flight, for the cap
        self.recent: deque[float] = deque()  # submissions of the last second, for the cap

    def handle(self, method: str, path: str) -> tuple[int, bytes, str]:
        now = time.monotonic()
        if path == "/stats":
            return 200, self.stats(), ""
        self.counts["requests"] += 1
        self.counts.setdefault("first_request", now)
        if path.startswith("/image/"):
            self.counts["last_download"] = now + self.args.download_delay
            return 200, self.image, ""
        if path.endswith("/result"):
            return self.poll(path.split("/")[-2], now)
        if path.endswith("/balance"):
            return self.answer({"balance": 1000000.0})
        if "/model/pric" in path:
            return self.answer({"price": 0.015, "currency": "USD"})
        if path.endswith("/v3/predictions"):
            return self.answer({"page": 1, "items": []})
        return self.submit(now)

    def answer(self, data: Any) -> tuple[int, bytes, str]:
        return 200, json.dumps({"code": 200, "message": "success", "data": data}).encode(), ""

    def submit(self, now: float) -> tuple[int, bytes, str]:
        self.counts.setdefault("first_submit", now)
        self.counts["last_submit"] = now
        if self.too_many(now):
            self.counts["refused"] += 1
            return 429, b'{"code":429,"message":"Too many requests"}', f"Retry-After: {self.args.retry_after}\r\n"
        took = self.random.uniform(self.args.service_time[0], self.args.service_time[-1])
        start = max(now, heapq.heappop(self.free)) if self.args.slots else now
        if self.args.slots:
            heapq.heappush(self.free, start + took)
            self.times.append(took)
        if self.args.in_flight_cap:
            heapq.heappush(self.running, start + took)
        task = f"t{self.counts['accepted']:08x}"
        self.counts["accepted"] += 1
        self.tasks[task] = (start, start + took)
        return self.answer(self.prediction(task, "created"))

    def too_many(self, now: float) -> bool:
        while self.running and self.running[0] <= now:
            heapq.heappop(self.running)
        while self.recent and self.recent[0] <= now - 1.0:
            self.recent.popleft()
        args = self.args
        if 0 < args.in_flight_cap <= len(self.running) or 0 < args.rate_cap <= len(self.recent):
            return True
        self.recent.append(now)
        return False

    def poll(self, task: str, now: float) -> tuple[int, bytes, str]:
        if task not in self.tasks:
            return 404, b'{"code":404,"message":"not found"}', ""
        self.counts["polls"] += 1
        before = self.polled.get(task)
        if before is not None:
            self.counts["least_gap"] = min(self.counts["least_gap"] or 9e9, now - before)
        start, end = self.tasks[task]
        if now >= end:
            self.polled.pop(task, None)
            return self.answer(self.prediction(task, "completed"))
        self.polled[task] = now
        return self.answer(self.prediction(task, "processing" if now >= start else "created"))

    def prediction(self, task: str, status: str) -> dict[str, Any]:
        done = status == "completed"
        start, end = self.tasks[task]
        return {"id": task, "model": MODEL, "status": status, "error": "", "created_at": "2026-01-01T00:00:00.000Z",
                "outputs": [f"{self.base}/image/{task}.png"] if done else [], "has_nsfw_contents": [False] * done,
                "executionTime": round((end - start) * 1000) if done else 0}  # fmt: skip

    def stats(self) -> bytes:
        free, ideal = [0.0] * max(1, self.args.slots), 0.0
        for took in self.times:
            done = heapq.heappop(free) + took
            heapq.heappush(free, done)
            ideal = max(ideal, done)
        data = {**self.counts, "ideal": ideal}
        self.reset()
        return json.dumps(data).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as clients of this API use it: keep-alive, Content-Length."""

    def __init__(self, service: Service) -> None:
        self.service, self.buffer = service, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            mark = head.lower().find(b"\r\ncontent-length:")
            length = int(head[mark + 17 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            status, content, headers = self.service.handle(method, path)
            kind = "image/png" if path.startswith("/image/") else "application/json"
            lines = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\nContent-Type: {kind}\r\n{headers}\r\n"
            delay = self.service.args.download_delay if path.startswith("/image/") else 0.0
            asyncio.get_running_loop().call_later(delay, self.write, lines.encode() + content)

    def write(self, message: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(message)


async def serve(args: argparse.Namespace) -> None:
    loop, service, context = asyncio.get_running_loop(), Service(args), None
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.tls)
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0, ssl=context)
    service.base = f"{'https' if args.tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(service.base, flush=True)
    stop = asyncio.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service-time", nargs="+", type=float, default=[0.0], help="seconds, or a range of them")
    for name in ("slots", "rate-cap", "in-flight-cap", "retry-after", "seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--bytes", type=int, default=100_000, help="of an image")
    parser.add_argument("--download-delay", type=float, default=0.0, help="seconds")
    parser.add_argument("--tls", help="PEM file with key and certificate")
    asyncio.run(serve(parser.parse_args()))
