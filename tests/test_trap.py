"""The traps under all tests, themselves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cli


def test_no_test_reaches_another_host() -> None:
    for call in (socket.socket.connect, socket.socket.connect_ex):
        with socket.socket() as other, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
            call(other, ("192.0.2.1", 80))


def test_no_process_of_a_test_reaches_another_host() -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "a test tried to reach ('192.0.2.1', 80)" in done.stderr


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_there_is_no_real_home(own_home: Path) -> None:
    assert Path.home() == own_home
    assert list(own_home.iterdir()) == []
    left = [n for n in os.environ if n.startswith(("WAVESPEED_", "XDG_", "GITHUB_")) or n.lower().endswith("_proxy")]
    assert left == []


def test_a_traceback_of_the_program_fails_its_test(cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Traceback"):
        cli(program=(sys.executable, "-c", "raise SystemError('x')"))
