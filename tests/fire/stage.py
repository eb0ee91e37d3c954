"""Where a row is played: a sandbox that misbehaves, the real command against it, and what is left afterwards."""

from __future__ import annotations

import atexit
import base64
import http.client
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, quote_plus, urlsplit

from flux_lora_cli.sandbox.server import Sandbox, SandboxOptions
from tests.event_lines import check_output
from tests.support import truth

KEY = "sk-canary-0123456789/abc+def=="
SERVER = Path(__file__).parents[1] / "support" / "fork_server.py"
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
#: What may steer a terminal: all control characters but line breaks and tabs, and the marks that reorder text.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass
class Ended:
    """A command that has ended. ``seconds`` of real time, ``megabytes`` at its peak."""

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Starter:
    """Starts commands by way of ``fork_server``; one for each process of pytest."""

    _one: ClassVar[Starter | None] = None

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            # Imports warn of what is not the program's doing, and nobody is there to read it.
            env={name: value for name, value in os.environ.items() if not name.startswith("COV_")},
        )
        atexit.register(self.close)

    @classmethod
    def get(cls) -> Starter:
        if cls._one is None or cls._one._process.poll() is not None:
            cls._one = cls()
        return cls._one

    def run(self, order: Mapping[str, Any], timeout: float) -> int:
        """The exit code. What takes longer than ``timeout`` seconds hangs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        if not ready:
            self.close()
            raise AssertionError(f"{order['arguments']} hangs: {Path(order['stderr']).read_text()}")
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it, with what it started."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for child in children.read_text().split() if children.exists() else ():
            with suppress(OSError):
                os.kill(int(child), signal.SIGKILL)
        self._process.kill()
        self._process.wait()


class Stage:
    """One folder, one service, one user."""

    def __init__(self, folder: Path, scale: float = 1.0, **options: Any) -> None:
        self.folder = folder
        self.scale = scale
        self.epoch = time.time()
        self.state = folder / "state"
        given = {"service_time": (0.0, 0.0), "pictures": "plain", **options}
        self.sandbox = Sandbox(SandboxOptions(**given), clock=self._clock)
        self.base_url = self.sandbox.start()
        self.out = folder / "out"
        self._made = 0

    def _clock(self) -> float:
        return self.epoch + (time.time() - self.epoch) * self.scale

    def close(self) -> None:
        self.sandbox.stop()

    # ---- what is there before ----

    def jobs(self, count: int, **params: Any) -> None:
        """Write ``jobs.jsonl``."""
        lines = [{"id": f"cat{n}", "prompt": f"a cat {n}", "size": "512*512", **params} for n in range(1, count + 1)]
        (self.folder / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def task(self, **params: Any) -> str:
        """A task of somebody else's making."""
        body = json.dumps({"prompt": "a dog", "size": "512*512", **params})
        task: str = call(self.base_url, "POST", "/api/v2/wavespeed-ai/flux-dev-lora", body)["data"]["id"]
        self._made += 1
        return task

    # ---- the command ----

    def run(
        self,
        command: str | Sequence[str],
        *,
        base_url: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 60.0,
        scale: float | None = None,
    ) -> Ended:
        """Run one command line to its end."""
        arguments = shlex.split(command) if isinstance(command, str) else list(command)
        peak = self.folder / ".peak"
        started = time.monotonic()
        streams = {name: self.folder / f".{name}" for name in ("stdin", "stdout", "stderr")}
        streams["stdin"].write_text(stdin, encoding="utf-8")
        order = {
            "arguments": [str(self.scale if scale is None else scale), *arguments],
            "cwd": str(self.folder),
            **{name: str(path) for name, path in streams.items()},
            "env": {
                **os.environ,
                "WAVESPEED_API_KEY": KEY,
                "WAVESPEED_BASE_URL": base_url or self.base_url,
                "FLUX_LORA_STATE_DIR": str(self.state),
                "FLUX_LORA_TEST_EPOCH": str(self.epoch),
                "FLUX_LORA_TEST_PEAK": str(peak),
                **(env or {}),
            },
        }
        code = Starter.get().run(order, timeout)
        megabytes = int(peak.read_text()) / 1024 if peak.exists() else 0.0
        out, err = (streams[name].read_bytes().decode("utf-8", "replace") for name in ("stdout", "stderr"))
        for path in (*streams.values(), peak):
            path.unlink(missing_ok=True)
        check_output(arguments, out, code)
        return Ended(code, out, err, time.monotonic() - started, megabytes)

    # ---- what is there afterwards ----

    def charges(self) -> int:
        """Tasks charged, less those that were there before."""
        return int(self.sandbox.stats()["charged_tasks"]) - self._made

    def requests(self) -> int:
        return int(self.sandbox.stats()["requests"]) - self._made

    def counts(self) -> dict[str, Any]:
        return self.sandbox.stats()

    def pictures(self) -> list[Path]:
        """Files under a final name that claim to be images."""
        found = sorted(self.out.rglob("*")) if self.out.is_dir() else []
        return [path for path in found if path.suffix in _PICTURES and not path.name.startswith(".")]

    def check_folder(self) -> None:
        """What the folder says is true, every image is whole, and nothing half-done is left."""
        if not (self.out / "manifest.json").exists():
            assert not self.pictures()
            return
        saved = set(truth.images(self.out))
        inputs = {path for path in self.pictures() if path.parent.name == "inputs"}
        for path in self.pictures():
            assert path in inputs or path.relative_to(self.out).as_posix() in saved, f"{path} is nobody's"
            assert whole(path), f"{path} is cut"
        assert truth.leftovers(self.out) == []

    def check_secret(self, ended: Ended) -> None:
        """The key is nowhere, in no form."""
        forms = key_forms()
        texts = {"standard output": ended.out.encode(), "standard error": ended.err.encode()}
        for path in self.folder.rglob("*"):
            if path.is_file():
                texts[str(path)] = path.read_bytes()
        for place, text in texts.items():
            assert not any(form in text for form in forms), f"the key is in {place}"


def key_forms() -> list[bytes]:
    """The key as it may turn up: raw, URL-encoded, JSON-escaped, and in base64 wherever it stands there."""
    forms = {KEY, quote(KEY), quote(KEY, safe=""), quote(KEY, safe="").lower(), quote_plus(KEY)}
    forms |= {KEY.replace("/", "\\/"), "".join(f"\\u{ord(c):04x}" for c in KEY)}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + KEY.encode()).decode()
        inner = text[4 if shift else 0 : -4]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return [form.encode() for form in forms]


def whole(path: Path) -> bool:
    """Whether Pillow can read an image to its last row."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True


def check_text(ended: Ended) -> None:
    """Nothing on the streams steers a terminal or a CI service, or is the inside of the program."""
    for text in (ended.out, ended.err):
        assert "Traceback" not in text, text
        assert "internal error" not in text, text
        assert not _STEERING.search(text), repr(text)
        for line in text.splitlines():
            assert not line.lstrip().startswith("::"), line
            assert "##[" not in line, line
            assert "##vso[" not in line, line


def call(base_url: str, method: str, path: str, body: str | bytes | None = None) -> Any:
    """One request of nobody in particular."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=20)
    try:
        connection.request(method, path, body, {"Authorization": "Bearer somebody"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


Wrong = Callable[[socket.socket, bytes], None]


class Front:
    """A server before the sandbox that hands requests on, but for those that it answers in its own wrong way.

    Args:
        wrong: what to do with a request, by what its request line contains: ``POST /api/v2/``.
        carried: whether the sandbox carries such a request out, before it is answered wrongly.
    """

    def __init__(self, behind: str, wrong: Mapping[str, Wrong], carried: bool = False) -> None:
        self._behind = urlsplit(behind).netloc
        self.wrong = dict(wrong)
        self.carried = carried
        self.seen: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                while request := read_request(connection):
                    self.seen.append(request)
                    line = request.split(b"\r\n", 1)[0].decode("latin-1")
                    script = next((s for part, s in self.wrong.items() if part in line), None)
                    if script is None:
                        connection.sendall(self._handed_on(request))
                        continue
                    if self.carried:
                        self._handed_on(request)
                    script(connection, request)
                    return
        except OSError:
            pass

    def _handed_on(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        behind = http.client.HTTPConnection(self._behind, timeout=30)
        try:
            behind.request(method, path, body or None, headers)
            response = behind.getresponse()
            data = response.read()
            named = "".join(f"{name}: {value}\r\n" for name, value in response.getheaders())
            return f"HTTP/1.1 {response.status} OK\r\n{named}\r\n".encode() + data
        finally:
            behind.close()


def read_request(connection: socket.socket) -> bytes:
    """One request, head and body; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def bytes_of(text: bytes, *, then: str = "close") -> Wrong:
    """Send these bytes, then ``close``, ``hold`` (silence) or ``reset``."""

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(text)
        if then == "hold":
            connection.recv(1)
        elif then == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return script


def endless(head: bytes, piece: bytes, pause: float = 0.0) -> Wrong:
    """Send a head, then one piece for ever."""

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            if pause:
                time.sleep(pause)

    return script
