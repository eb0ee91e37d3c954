"""What every test stands on: no network but loopback, no real home folder, the command line in a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.event_lines import Overheard, check_output

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


def pytest_configure() -> None:
    """Give ignored signals their handlers back: a script's ``… &`` ignores SIGINT, nohup SIGHUP, and so would every
    command that a test starts, which rightly leaves ignored what its parent ignores. Runs in xdist's workers, too.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, _stay),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def _stay(*_: object) -> None:
    """Nothing, so that the session outlives its terminal as nohup promised; what it starts has the default."""


def require_tool(name: str) -> str:
    """The path of a system tool; skips the test without it, or fails where the run demands all tools."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed"
        if os.environ.get("FLUX_LORA_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


def require_module(name: str) -> Any:
    """An optional Python package; as ``require_tool``."""
    if os.environ.get("FLUX_LORA_REQUIRE_TOOLS") == "1":
        return import_module(name)
    return pytest.importorskip(name)


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to any other host than this one is a failure of the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOOPBACK):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and none of the caller's settings."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        ours = name.startswith(("WAVESPEED_", "FLUX_LORA_", "XDG_", "GITHUB_"))
        if (ours or name.lower().endswith("_proxy")) and name != "FLUX_LORA_REQUIRE_TOOLS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLUX_LORA_STATE_DIR", str(home / "state"))
    return home


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Standard output by lines."""
        return self.out.splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        """Standard output as NDJSON."""
        return [json.loads(line) for line in self.lines]


Cli = Callable[..., Finished]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run ``flux-lora`` in a process of its own, in the test's folder."""

    def run(
        *arguments: object,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 60,
        cwd: Path | None = None,
    ) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "flux_lora_cli", *map(str, arguments)],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            cwd=cwd or tmp_path,
            env={**os.environ, **(env or {})},
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        check_output(arguments, done.stdout, done.returncode)
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``flux-lora`` and go on; what still runs at the end is killed, and what it printed is checked."""
    running: list[subprocess.Popen[str]] = []
    overheard: list[Overheard] = []

    def start(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "flux_lora_cli", *map(str, arguments)],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            encoding="utf-8",
            cwd=options.pop("cwd", tmp_path),
            env={**os.environ, **(env or {})},
            **options,
        )
        running.append(process)
        if "--json" in arguments and process.stdout is not None:
            overheard.append(Overheard(process, arguments))
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
    for each in overheard:
        each.check()
