"""The traps under all tests, themselves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def test_neither_a_test_nor_its_processes_reach_another_host() -> None:
    for call in (socket.socket.connect, socket.socket.connect_ex):
        with socket.socket() as other, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
            call(other, ("192.0.2.1", 80))
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "a test tried to reach ('192.0.2.1', 80)" in done.stderr


def test_there_is_no_real_home(own_home: Path) -> None:
    assert (Path.home(), list(own_home.iterdir())) == (own_home, [])
    ours = ("WAVESPEED_", "XDG_", "GITHUB_")
    assert not [name for name in os.environ if name.startswith(ours) or name.lower().endswith("_proxy")]
