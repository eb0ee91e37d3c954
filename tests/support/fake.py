"""The service as far as tests of faults need it: raw sockets, real answers or wrong ones, and a count of its charges.

It shares no code with the sandbox or the client. What goes wrong is a callable on an ``Exchange`` (``Fake.on``), or a
text that ``tests.support.wrong`` understands.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

#: Endpoints by what their request line looks like.
ENDPOINTS = {
    "price": r"POST .*/model/(price|pricing)",
    "balance": r"GET .*/balance",
    "bill": r"POST .*/billings/search",
    "list": r"POST .*/v3/predictions$",
    "look": r"GET .*/predictions/[^/]+(/result)?$",
    "upload": r"POST .*/media/upload",
    "put": r"PUT ",
    "models": r"GET .*/v3/models",
    "image": r"GET .*/files/",
    "submit": r"POST .*/api/v\d/.+",
}


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(text: str = "x", size: int = 0, width: int = 8, height: int = 8) -> bytes:
    """A whole PNG that differs with ``text``, of at least ``size`` bytes."""
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    shade = zlib.crc32(text.encode()) & 255
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes([shade]) * width for _ in range(height))))
    words = chunk(b"tEXt", b"Comment\0" + text.encode("latin-1", "replace"))
    filler = chunk(b"tEXt", b"Filler\0" + b"." * max(0, size - len(head + words + pixels) - 31))
    return head + words + filler + pixels + chunk(b"IEND", b"")


@dataclass
class Request:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    endpoint: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """One answer of HTTP; ``length`` where it says of itself something else than is true."""

    status: int = 200
    body: bytes = b""
    headers: tuple[str, ...] = ()
    media_type: str = "application/json"

    def encoded(self, *more: str, length: int | None = None, date: float = 0.0) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} Whatever",
            f"Date: {formatdate(date or time.time(), usegmt=True)}",
            f"Content-Type: {self.media_type}",
            f"Content-Length: {len(self.body) if length is None else length}",
            *self.headers,
            *more,
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


@dataclass
class Task:
    """One task; ``fate`` is the status that it ends with, None for one that never ends."""

    id: str
    model: str
    inputs: dict[str, Any]
    at: float
    fate: str | None = "completed"
    error: str = ""
    nsfw: bool = False
    outputs: list[Any] | None = None


@dataclass
class Exchange:
    """One request that a fault answers in its own way; whatever it sends with ``send`` ends the connection."""

    fake: Fake
    request: Request
    connection: socket.socket
    open: bool = True

    def carried(self) -> Answer:
        """The right answer; the request is carried out, and charged for."""
        return self.fake.carry_out(self.request)

    def answer(self, answer: Answer, *more: str) -> None:
        """A whole answer, after which the connection goes on."""
        self.connection.sendall(answer.encoded(*more, date=time.time() + self.fake.skew))

    def send(self, raw: bytes) -> None:
        """These bytes as they stand."""
        self.open = False
        self.connection.sendall(raw)

    def reset(self) -> None:
        """End the connection with RST."""
        self.open = False
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def hold(self, seconds: float = 60.0) -> None:
        """Say nothing (more) until the client leaves, or the time is over."""
        self.open = False
        self.connection.settimeout(seconds)
        self.connection.recv(1)


Fault = Callable[[Exchange], object]


@dataclass
class Planned:
    """A fault at an endpoint, and which requests it meets: ``applies`` gets their number, from 1 on."""

    endpoint: str
    fault: Fault
    applies: Callable[[int], bool]
    seen: int = 0


@dataclass
class Fake:
    """A running service. Use as a context manager, or close it.

    Attributes:
        service_time: seconds from a submission to the end of its task.
        price: USD per image; None: the price is not known (404).
        echo: the name under which the list gives a task's inputs; None where it does not.
        skew: seconds by which the service's clock is ahead.
        picture_bytes: least size of an image.
        ranges: images can be fetched in part.
        always: answers everything in place of the service; ``context``: TLS.
        log: all requests.
    """

    service_time: float = 0.0
    price: str | None = "0.015"
    balance: str = "100"
    echo: str | None = "inputs"
    skew: float = 0.0
    picture_bytes: int = 0
    ranges: bool = True
    nsfw: bool = False
    always: Fault | None = None
    context: ssl.SSLContext | None = None
    connections: int = 0
    tasks: dict[str, Task] = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    planned: list[Planned] = field(default_factory=list)
    charges: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self.base_url = f"http{'s' * bool(self.context)}://127.0.0.1:{self.port}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        # Closed first, its number could become that of the next listener, whose connections this thread would take.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    # ---- what goes wrong, and what came of it ----

    def on(
        self, endpoint: str, fault: Fault, *, first: int = 10**9, nth: int = 0, after: int = 0, every: int = 1
    ) -> None:
        """Let ``fault`` answer at an endpoint: the first N requests, the N-th alone, those after N, every N-th."""

        def applies(number: int) -> bool:
            if nth:
                return number == nth
            return number > after and number - after <= first and (number - after) % every == 0

        self.planned.append(Planned(endpoint, fault, applies))

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self.planned = []

    def count(self, endpoint: str = "") -> int:
        """Requests that came, to one endpoint or to all."""
        return sum(not endpoint or request.endpoint == endpoint for request in self.log)

    @property
    def raw(self) -> list[bytes]:
        """All requests as they came."""
        return [request.raw for request in self.log]

    @property
    def counts(self) -> Counter[str]:
        return Counter(request.endpoint for request in self.log)

    @property
    def charged(self) -> int:
        """Tasks that were charged."""
        return len(self.charges)

    def charged_prompts(self) -> Counter[str]:
        """How often each prompt was charged."""
        return Counter(str(self.tasks[task].inputs.get("prompt")) for task in self.charges)

    # ---- the service ----

    def carry_out(self, request: Request) -> Answer:
        """The right answer to a request."""
        with self._lock:
            answer = getattr(self, f"_{request.endpoint}")(request)
        return answer if isinstance(answer, Answer) else self.data(answer)

    @staticmethod
    def data(data: Any) -> Answer:
        """The envelope around ``data``."""
        return Answer(200, json.dumps({"code": 200, "message": "success", "data": data}).encode())

    @staticmethod
    def refusal(status: int, message: str = "no", **more: Any) -> Answer:
        return Answer(status, json.dumps({"code": status, "message": message, **more}).encode())

    def make(self, model: str, inputs: dict[str, Any], charge: bool = True) -> Task:
        """A new task; charged, unless it is somebody else's."""
        with self._lock:
            task = Task(f"t{len(self.tasks):05d}{zlib.crc32(str(time.time_ns()).encode()):08x}", model, inputs,
                        time.time() + self.skew, nsfw=self.nsfw)  # fmt: skip
            self.tasks[task.id] = task
            if charge:
                self.charges.append(task.id)
            return task

    def view(self, task: Task, echo: bool = False) -> dict[str, Any]:
        """A task as the service shows it now."""
        ended = task.fate is not None and time.time() + self.skew >= task.at + self.service_time
        status = task.fate if ended else "processing"
        outputs = task.outputs
        if outputs is None:
            number = int(task.inputs.get("num_images") or 1)
            outputs = [f"{self.base_url}/files/{task.id}-{index}.png" for index in range(number)]
        outputs = outputs if status in ("completed", "succeeded") else []
        view = {"id": task.id, "model": task.model, "status": status, "outputs": outputs, "error": task.error,
                "has_nsfw_contents": [task.nsfw] * len(outputs), "urls": {"get": f"{self.base_url}/elsewhere"},
                "created_at": datetime.fromtimestamp(task.at, UTC).isoformat(), "executionTime": 2000}  # fmt: skip
        if echo and self.echo:
            view[self.echo] = task.inputs
        return view

    def _submit(self, request: Request) -> Any:
        match = re.search(r"/api/v\d/(.+?)(\?|$)", request.path)
        if match is None or not isinstance(request.json, dict):
            return self.refusal(404, "not found")
        return {**self.view(self.make(match[1], request.json)), "status": "created", "outputs": []}

    def _look(self, request: Request) -> Any:
        match = re.search(r"/predictions/([^/?]+)", request.path)
        task = self.tasks.get(match[1] if match else "")
        return self.refusal(404, "no such prediction") if task is None else self.view(task)

    def _list(self, request: Request) -> Any:
        page, size = int(request.json.get("page", 1)), int(request.json.get("page_size", 100))
        newest = sorted(self.tasks.values(), key=lambda task: -task.at)[(page - 1) * size : page * size]
        return {"page": page, "items": [self.view(task, echo=True) for task in newest]}

    def _price(self, request: Request) -> Any:
        if self.price is None:
            return self.refusal(404, "not found")
        images = (request.json.get("inputs") or {}).get("num_images") or 1
        return {"price": round(float(self.price) * int(images), 6), "currency": "USD"}

    def _balance(self, request: Request) -> Any:
        return {"balance": float(self.balance)}

    def _bill(self, request: Request) -> Any:
        asked = request.json.get("prediction_uuids")
        items = []
        for task in (self.tasks[name] for name in self.charges if asked is None or name in asked):
            kinds = ["deduct", "refund"] if task.fate not in ("completed", None) else ["deduct"]
            items += [
                {"uuid": f"{kind}-{task.id}", "billing_type": kind, "price": float(self.price or 0),
                 "created_at": datetime.fromtimestamp(task.at, UTC).isoformat(),
                 "prediction": {"uuid": task.id, "model_uuid": task.model, "status": task.fate}}
                for kind in kinds
            ]  # fmt: skip
        return {"page": 1, "has_more": False, "items": items}

    def _upload(self, request: Request) -> Any:
        name = f"{self.base_url}/files/upload.png"
        return {"upload": {"method": "PUT", "url": name, "headers": {}}, "download_url": name}

    def _put(self, request: Request) -> Any:
        return {}

    def _models(self, request: Request) -> Any:
        return []

    def _image(self, request: Request) -> Answer:
        data = png(request.path, self.picture_bytes)
        first = re.match(r"bytes=(\d+)-", request.headers.get("range", ""))
        if first and self.ranges and int(first[1]) < len(data):
            place = f"Content-Range: bytes {first[1]}-{len(data) - 1}/{len(data)}"
            return Answer(206, data[int(first[1]) :], (place,), "image/png")
        return Answer(200, data, (), "image/png")

    # ---- connections ----

    def _accept(self) -> None:
        with suppress(OSError):  # until the listener is closed
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self.connections += 1
        try:
            connection = self.context.wrap_socket(connection, server_side=True) if self.context else connection
            with connection, connection.makefile("rb") as file:
                while request := read_request(file):
                    exchange = Exchange(self, request, connection)
                    with self._lock:
                        self.log.append(request)
                        fault = self.always or self._fault_for(request.endpoint)
                    if fault is None:
                        exchange.answer(self.carry_out(request))
                    else:
                        fault(exchange)
                    if not exchange.open:
                        return
        except (OSError, ValueError):
            pass  # the client left, or was killed

    def _fault_for(self, endpoint: str) -> Fault | None:
        found = None
        for planned in self.planned:
            if planned.endpoint == endpoint:
                planned.seen += 1
                if planned.applies(planned.seen):
                    found = found or planned.fault
        return found


def read_request(file: Any) -> Request | None:
    """One request, head and body; None at the end of the connection."""
    line = file.readline()
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    raw, headers = line, {}
    while (text := file.readline()) not in (b"\r\n", b"\n", b""):
        raw += text
        name, _, value = text.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = file.read(int(headers.get("content-length") or 0))
    parts = urlsplit(target)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    asked = f"{method} {parts.path}"
    endpoint = next((name for name, pattern in ENDPOINTS.items() if re.match(pattern, asked)), "other")
    return Request(path, headers, body, endpoint, raw + b"\r\n" + body)
