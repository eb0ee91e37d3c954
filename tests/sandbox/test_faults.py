"""What goes wrong on demand: the language of --fault, and faults as callables."""

from __future__ import annotations

from decimal import Decimal

import pytest
import requests

from flux_lora_cli.sandbox import Sandbox
from tests.sandbox.conftest import DEV, Make


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("", "ENDPOINT:KIND"), ("look:503", "endpoint"), ("submit:200", "kind"), ("list:few", "few"),
        ("submit:503=5", "value"), ("submit:503:first=0", "at least 1"), ("submit:503:101%", "at most 100"),
        ("submit:503:first=2:every=2", "first=N"),
    ],
)  # fmt: skip
def test_what_is_not_a_fault_is_refused_with_what_is(spec: str, named: str) -> None:
    with pytest.raises(ValueError, match="not a valid fault") as caught:
        Sandbox(faults=[spec])
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("count", "met"), [("", "xxxxxx"), (":first=2", "xx...."), (":every=3", "..x..x"), (":100%", "xxxxxx")]
)
def test_a_count_says_which_requests_are_met(make: Make, count: str, met: str) -> None:
    call = make(faults=[f"submit:500{count}"])
    assert "".join(".x"[call("POST", DEV, {}).status == 500] for _ in met) == met
    assert len(call.sandbox.charges) == met.count(".")


@pytest.mark.parametrize("kind", ["reset", "cut", "stall=0.05"])
def test_an_answer_is_lost_of_a_request_that_was_carried_out(make: Make, kind: str) -> None:
    call = make(faults=[f"submit:{kind}:first=1"])
    with pytest.raises(requests.RequestException):
        call("POST", DEV, {})
    assert len(call.sandbox.charges) == 1
    assert call("POST", DEV, {}).status == 200


@pytest.mark.parametrize("endpoint", ["submit", "result"])
def test_a_task_fails_and_is_refunded(make: Make, endpoint: str) -> None:
    call = make(faults=[f"{endpoint}:failed=1405:first=1"])
    task = call.submit()
    for _ in range(2):  # and it stays failed
        data = call.result(task)
        assert (data["status"], data["code"], data["outputs"]) == ("failed", 1405, []) and data["error"]
    assert call.sandbox.refunds == call.sandbox.charges == [(task, Decimal("0.015"))]
    assert call.bill(billing_type="refund") == [(task, "refund", 0.015)]


def test_a_task_never_ends_or_seems_to_run_for_a_while(make: Make) -> None:
    ever, once = make(faults=["submit:stuck"]), make(faults=["result:stuck:first=2"])
    task = ever.submit()
    assert {ever.result(task)["status"] for _ in range(3)} == {"processing"}
    task = once.submit()
    assert [once.result(task)["status"] for _ in range(3)] == ["processing", "processing", "completed"]


@pytest.mark.parametrize("endpoint", ["submit", "result"])
def test_fewer_outputs_than_asked_for_are_charged_in_full(make: Make, endpoint: str) -> None:
    call = make(faults=[f"{endpoint}:few:first=1"])
    task = call.submit(num_images=3)
    assert [len(call.result(task)["outputs"]) for _ in range(2)] == [2, 2]
    assert call.sandbox.charges == [(task, Decimal("0.045"))]


def test_a_task_is_charged_twice(make: Make) -> None:
    call = make(faults=["submit:charged-twice:first=1"])
    one, two = call.submit(), call.submit()
    assert [task for task, _ in call.sandbox.charges] == [one, one, two]
    assert call.bill(prediction_uuids=[one]) == [(one, "deduct", 0.015)] * 2
