"""Tasks take time, wait in line, and are forgotten: all by the clock alone."""

from __future__ import annotations

from tests.sandbox.conftest import DEV, Caller, FakeClock, Make


def _states(call: Caller, ids: list[str]) -> list[str]:
    return [call.look(task)["status"] for task in ids]


def test_a_task_is_processed_and_then_completed(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=(2.0, 2.0))
    task = call.submit()["id"]
    assert _states(call, [task]) == ["processing"]
    clock.now += 1.9
    assert _states(call, [task]) == ["processing"]
    clock.now += 0.2
    assert _states(call, [task]) == ["completed"]


def test_more_than_the_service_takes_at_once_wait_in_line(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=(2.0, 2.0), concurrency=2)
    ids = [call.submit()["id"] for _ in range(5)]
    assert _states(call, ids) == ["processing"] * 2 + ["created"] * 3
    clock.now += 2
    assert _states(call, ids) == ["completed"] * 2 + ["processing"] * 2 + ["created"]
    clock.now += 2
    assert _states(call, ids) == ["completed"] * 4 + ["processing"]
    late = call.submit()["id"]
    assert _states(call, [late]) == ["processing"]
    clock.now += 2
    assert _states(call, [*ids, late]) == ["completed"] * 6


def test_time_in_line_is_not_execution_time(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=(2.0, 2.0), concurrency=1)
    call.submit()
    second = call.submit()["id"]
    clock.now += 10
    assert call.look(second)["executionTime"] == 2000


def test_service_times_spread_and_repeat_with_the_seed(make: Make) -> None:
    def times(seed: int) -> list[int]:
        clock = FakeClock()
        call = make(clock=clock, service_time=(1.0, 3.0), seed=seed)
        ids = [call.submit()["id"] for _ in range(20)]
        clock.now += 10
        return [call.look(task)["executionTime"] for task in ids]

    one = times(1)
    assert one == times(1) != times(2)
    assert 1000 <= min(one) < 1500 and 2500 < max(one) <= 3000


def test_the_rate_counts_images_and_says_when_to_come_back(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, rate=6.0)
    for _ in range(3):
        call.submit(num_images=2)
    refused = call("POST", DEV, {})
    assert refused.status == 429 and refused.json["code"] == 429
    assert refused.headers["Retry-After"] == "10"
    clock.now += 9
    assert call("POST", DEV, {}).status == 429
    clock.now += 1
    assert call("POST", DEV, {}).status == 200
    assert call("POST", DEV, {}).status == 429
    assert call.sandbox.stats()["charged_images"] == 7


def test_a_rate_below_one_request_still_lets_it_pass(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, rate=2.0)
    assert call.submit(num_images=4)["status"] == "created"


def test_after_seven_days_everything_is_gone(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock)
    task = call.submit()["id"]
    url = call.look(task)["outputs"][0]
    clock.now += 7 * 86400 + 1
    assert call("GET", f"/api/v2/predictions/{task}/result").status == 404
    assert call("GET", url, key=None).status == 404
    assert call("POST", "/api/v3/predictions", {"page": 1, "page_size": 10}).data["items"] == []
