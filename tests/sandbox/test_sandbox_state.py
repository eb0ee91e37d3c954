"""State in a file: shared by processes at once, and outliving them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from flux_lora_cli.sandbox.server import Sandbox, SandboxOptions
from flux_lora_cli.sandbox.store import StateError
from tests.sandbox.conftest import DEV, Make

SUBMITTER = """
import http.client, json, sys
from pathlib import Path
from decimal import Decimal
from flux_lora_cli.sandbox.server import Sandbox, SandboxOptions
options = SandboxOptions(state=Path(sys.argv[1]), service_time=(0, 0), balance=Decimal("0.6"))
with Sandbox(options) as sandbox:
    print("ready", flush=True)
    sys.stdin.readline()
    connection = http.client.HTTPConnection(sandbox.base_url[7:])
    for seed in range(int(sys.argv[2])):
        connection.request("POST", "/api/v2/wavespeed-ai/flux-dev-lora", json.dumps({"seed": seed}),
                           {"Authorization": "Bearer k"})
        answer = json.load(connection.getresponse())
        print(answer.get("data", {}).get("id", answer["code"]))
"""


def _processes(state: Path, counts: list[int]) -> list[str]:
    """What submitters that begin at the same moment are answered: task ids, or the code of a refusal."""
    command = [sys.executable, "-c", SUBMITTER, str(state)]
    running = [
        subprocess.Popen([*command, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for count in counts
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [line for process in running for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in running] == [0] * len(running)
    return answers


def test_another_process_finds_the_task_and_its_output_at_its_own_address(make: Make, tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state.sqlite3"
    (task,) = _processes(state, [1])
    call = make(state=state)
    data = call.look(task)
    assert data["outputs"] == [f"{call.sandbox.base_url}/outputs/{task}/1.png"]
    assert call("GET", data["outputs"][0], key=None).status == 200


def test_processes_at_once_share_one_credit(tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite3"
    answers = _processes(state, [20, 20, 20])
    assert answers.count("400") == 20
    assert len(set(answers)) == 41
    with Sandbox(SandboxOptions(state=state, balance=Decimal("0.6"))) as sandbox:
        assert sandbox.stats()["charged_tasks"] == 40
        assert sandbox.stats()["balance_usd"] == "0"
    assert [item.name for item in tmp_path.iterdir()] == ["state.sqlite3"]


def test_threads_at_once_lose_nothing(make: Make) -> None:
    call = make()
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda seed: call.submit(seed=seed)["id"], range(64)))
    assert len(set(ids)) == call.sandbox.stats()["charged_tasks"] == 64


def test_output_urls_follow_the_host_that_was_asked(make: Make) -> None:
    call = make()
    task = call.submit()["id"]
    port = call.sandbox.base_url.rpartition(":")[2]
    path = f"/api/v2/predictions/{task}/result"
    assert (
        call("GET", path, headers={"Host": f"localhost:{port}"})
        .data["outputs"][0]
        .startswith(f"http://localhost:{port}/outputs/")
    )
    assert "evil" not in call("GET", path, headers={"Host": "a@evil/x"}).data["outputs"][0]


def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("not a database, but long enough to be mistaken for one by its size alone " * 20)
    before = other.read_bytes()
    with pytest.raises(StateError, match=r"notes\.txt"):
        Sandbox(SandboxOptions(state=other))
    assert other.read_bytes() == before


def test_a_hundred_thousand_tasks_need_little_memory() -> None:
    code = f"""
import json, re, pathlib
from flux_lora_cli.sandbox.messages import Request
from flux_lora_cli.sandbox.routes import route
from flux_lora_cli.sandbox.service import Service
from flux_lora_cli.sandbox.options import SandboxOptions
service = Service(SandboxOptions())
body = json.dumps({{"prompt": "a cat on a roof at night, travel poster", "size": "1024*1024", "seed": 12345,
                   "loras": [{{"path": "owner/name-of-a-lora", "scale": 0.8}}]}}).encode()
request = Request("POST", "{DEV}", headers={{"authorization": "Bearer k"}}, body=body)
target = route(request)
def memory():
    return int(re.search(r"VmRSS:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

for number in range(5000):
    assert service.reply(target, request).status == 200
    if number == 999:
        before = memory()
print((memory() - before) * 1024 // 4000)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1200  # bytes a task: 120 MB for all
