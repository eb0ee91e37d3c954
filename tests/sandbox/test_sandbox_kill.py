"""The server kills its client at a chosen moment."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.conftest import DEV, Make

CLIENT = f"""
import http.client, sys, time
connection = http.client.HTTPConnection(sys.argv[1])
connection.request("POST", "{DEV}", b"{{}}", {{"Authorization": "Bearer k"}})
response = connection.getresponse()
print("status", flush=True)
response.read()
print("body", flush=True)
time.sleep(30)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the client is found through /proc")


@pytest.mark.parametrize(
    ("stage", "said", "charged"),
    [("received", "", 0), ("accepted", "", 1), ("half", "status\n", 1), ("answered", None, 1)],
)
def test_the_client_dies_at_the_stage(make: Make, stage: str, said: str | None, charged: int) -> None:
    call = make(faults=[f"submit:kill={stage}"])
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, call.sandbox.base_url[7:]], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == -signal.SIGKILL
    # How far a client gets with a whole answer is a race; half an answer is never a body.
    assert said is None or done.stdout in ("", said)
    assert call.sandbox.stats()["charged_tasks"] == charged


def test_a_process_can_be_named(make: Make) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    call = make(faults=[f"look:kill=received:pid={victim.pid}"])
    with pytest.raises(http.client.RemoteDisconnected):
        call.look("0" * 32)
    assert victim.wait(10) == -signal.SIGKILL
