"""Starting things and measuring them: the stub, the real command line, the peers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end; seconds, bytes of peak memory."""

    wall: float
    cpu: float
    peak: int
    code: int
    out: str
    err: str
    started: float

    def must(self, code: int = 0) -> Run:
        """Itself, if it ended as it should."""
        if self.code != code:
            raise RuntimeError(f"exit {self.code} instead of {code}: {self.err[-2000:]}")
        return self


def environment(**extra: str) -> dict[str, str]:
    """A plain environment: no settings of the caller's; bytecode may be written, or start-up would be unfair."""
    keep = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
    values = {name: os.environ[name] for name in keep if name in os.environ}
    return {**values, "HOME": tempfile.gettempdir(), "WAVESPEED_API_KEY": "benchmark", **extra}


def run(command: Sequence[str | os.PathLike[str]], cwd: Path | None = None, **env: str) -> Run:
    """Run a command to its end and measure it alone (``wait4``)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=cwd or ROOT,
            env=environment(**env),
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    scale = 1 if sys.platform == "darwin" else 1024
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss * scale, process.returncode, texts[0], texts[1], started)


def ours() -> list[str]:
    """The command as users start it."""
    script = Path(sys.executable).parent / "flux-lora"
    return [str(script)] if script.exists() else [sys.executable, "-m", "flux_lora_cli"]


class Stub:
    """A running stub of the service."""

    def __init__(self, base: str, ca: Path | None) -> None:
        self.base = base
        self.ca = ca

    @property
    def env(self) -> dict[str, str]:
        """What a client needs to know to find and trust it."""
        trust = {"REQUESTS_CA_BUNDLE": str(self.ca), "SSL_CERT_FILE": str(self.ca)} if self.ca else {}
        return {"WAVESPEED_BASE_URL": self.base, **trust}

    def stats(self) -> dict[str, Any]:
        """What was counted since the last call; the stub forgets it."""
        address = urlsplit(self.base)
        with socket.create_connection((address.hostname or "", address.port or 0)) as plain:
            context = ssl.create_default_context(cafile=self.ca) if self.ca else None
            link = context.wrap_socket(plain, server_hostname=address.hostname) if context else plain
            link.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
            data = b""
            while b"\r\n\r\n" not in data or len(data) < self._whole(data):
                data += link.recv(65536)
        result = json.loads(data.split(b"\r\n\r\n", 1)[1])
        assert isinstance(result, dict)
        return result

    @staticmethod
    def _whole(data: bytes) -> int:
        head = data.split(b"\r\n\r\n", 1)[0]
        return len(head) + 4 + int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])


@contextmanager
def stub(folder: Path, tls: bool = False, **options: Any) -> Iterator[Stub]:
    """Start a stub; options as on its command line, with underscores."""
    command: list[str] = [sys.executable, str(HERE / "stub.py")]
    if tls:
        command += ["--tls", str(certificate(folder))]
    ca = trusted(folder) if tls else None
    for name, value in options.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        command += ["--" + name.replace("_", "-"), *map(str, values)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Stub(process.stdout.readline().strip(), ca)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def trusted(folder: Path) -> Path:
    """What clients load: the usual authorities, and the stub's. A file of one would flatter those who reload it."""
    import certifi

    file = folder / "trusted.pem"
    file.write_text(Path(certifi.where()).read_text() + (folder / "stub.crt").read_text())
    return file


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, that is its own authority."""
    file = folder / "stub.pem"
    if not file.exists():
        openssl = shutil.which("openssl")
        if openssl is None:
            raise RuntimeError("the measurement over TLS needs the openssl command")
        key, cert = folder / "stub.key", folder / "stub.crt"
        options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
        command = [openssl, *options.split(), "-keyout", str(key), "-out", str(cert)]
        subprocess.run(command, check=True, capture_output=True)
        file.write_bytes(key.read_bytes() + cert.read_bytes())
    return file


def jobs_file(folder: Path, count: int) -> Path:
    """A JSONL file of so many different jobs."""
    file = folder / f"jobs-{count}.jsonl"
    if not file.exists():
        with file.open("w") as out:
            for number in range(count):
                prompt = f"a red rocket, number {number}"
                out.write(json.dumps({"id": f"job-{number}", "prompt": prompt, "seed": number}) + "\n")
    return file


def batch(served: Stub, source: Path, output: Path, *options: str) -> Run:
    """``flux-lora batch`` against a stub, with nothing remembered from earlier runs."""
    state = output.with_name(output.name + "-state")
    command = [*ours(), "batch", str(source), "-o", str(output), "--yes", "--max-jobs", "1000000", *options]
    return run(command, **served.env, FLUX_LORA_STATE_DIR=str(state))


def peer(name: str, served: Stub, jobs: int, output: Path, threads: int = 8, poll: float = 0.01) -> Run:
    """One of ``peers.py``."""
    output.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, HERE / "peers.py", name, str(jobs), str(threads), str(poll), output]
    return run(command, **served.env)
