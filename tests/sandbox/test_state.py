"""State in a file: shared by processes at once, outliving them, bounded, and begun anew where it is broken."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from flux_lora_cli.sandbox import Sandbox, StateError
from tests.sandbox.conftest import Caller, FakeClock, Make

ROOT = Path(__file__).parents[2]
SUBMITTER = """
import http.client, json, sys
from pathlib import Path
from decimal import Decimal
from flux_lora_cli.sandbox import Sandbox
with Sandbox(state=Path(sys.argv[1]), service_time=0, balance=Decimal("0.6")) as sandbox:
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
    """What submitters that begin at the same moment are answered: task IDs, or the code of a refusal."""
    command = [sys.executable, "-c", SUBMITTER, str(state)]
    running = [
        subprocess.Popen([*command, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
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
    (url,) = call.result(task)["outputs"]
    assert url == f"{call.sandbox.base_url}/outputs/{task}/1.png"
    assert call("GET", url, key=None).status == 200
    assert stat.S_IMODE(state.stat().st_mode) == 0o600 and stat.S_IMODE(state.parent.stat().st_mode) == 0o700


def test_processes_at_once_share_one_credit(tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite3"
    answers = _processes(state, [20, 20, 20])
    assert answers.count("400") == 20 and len(set(answers)) == 41
    with Sandbox(state=state, balance=Decimal("0.6")) as sandbox:
        assert len(sandbox.charges) == 40
        assert Caller(sandbox)("GET", "/api/v3/balance").data["balance"] == 0
    assert [item.name for item in tmp_path.iterdir()] == ["state.sqlite3"]


def test_a_tasks_clock_goes_on_in_the_next_process(clock: FakeClock, tmp_path: Path) -> None:
    with Sandbox.for_command(tmp_path, clock=clock, service_time=10) as first:
        task = Caller(first).submit()
    clock.now += 11
    with Sandbox.for_command(tmp_path, clock=clock, service_time=10) as second:
        assert Caller(second).result(task)["status"] == "completed"
        assert [charged for charged, _ in second.charges] == [task]


def _damaged(path: Path) -> None:
    with Sandbox(state=path, service_time=0) as sandbox:
        for _ in range(50):
            Caller(sandbox).submit(prompt="a cat " * 100)
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = b"\x55" * (len(data) // 2 - 4096)
    path.write_bytes(data)


def _trigger(path: Path) -> None:
    with Sandbox(state=path):
        pass
    with sqlite3.connect(path) as db:
        db.execute("CREATE TRIGGER t AFTER INSERT ON tasks BEGIN DELETE FROM bill; END")


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_text("not a database, but a long text " * 50), _damaged, _trigger],
    ids=["text", "damaged", "trigger"],
)
def test_a_broken_state_is_moved_aside_and_begun_anew(tmp_path: Path, spoil: object, make: Make) -> None:
    state = tmp_path / "sandbox.sqlite3"
    spoil(state)  # type: ignore[operator]
    before = state.read_bytes()
    call = make(state=state)
    assert call.submit() and len(call.sandbox.charges) == 1
    (aside,) = (path for path in tmp_path.iterdir() if path.name != state.name and "journal" not in path.name)
    assert aside.read_bytes() == before
    assert str(state) in call.sandbox.notice and aside.name in call.sandbox.notice
    assert stat.S_IMODE(state.stat().st_mode) == 0o600


def test_a_place_that_is_not_a_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path, tmp_path / "fifo", Path("/dev/null"), Path("/proc/nowhere/state")):
        with pytest.raises(StateError, match=str(place)):
            Sandbox(state=place)


def test_old_tasks_are_dropped(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flux_lora_cli.sandbox.store.MAX_TASKS", 10)
    monkeypatch.setattr("flux_lora_cli.sandbox.store._PRUNE_EVERY", 5)
    call = make()
    ids = [call.submit() for _ in range(40)]
    assert [task.id for task in call.sandbox.tasks] == ids[-10:]
    assert len(call.sandbox.charges) == 10


def test_large_inline_images_are_kept_once(make: Make, tmp_path: Path) -> None:
    state = tmp_path / "state"
    call = make(state=state)
    image = "data:image/png;base64," + "iVBORw0KGgo" + "A" * 1_000_001
    for seed in range(10):
        call.submit(image=image, seed=seed)
    call.submit("/api/v3/wavespeed-ai/flux-2-dev/edit-lora", images=[image, image])
    items = call.post("/api/v3/predictions", include_inputs=True)["items"]
    assert items[0]["inputs"]["images"] == [image, image]
    assert all(item["inputs"]["image"] == image for item in items[1:])
    call.sandbox.stop()
    assert state.stat().st_size < 2_500_000
