"""A deadline that cuts a submit off."""

from __future__ import annotations

from collections.abc import Callable

from tests.money.conftest import Money


def test_a_submit_that_a_deadline_cut_off_is_counted_as_held(money: Callable[..., Money]) -> None:
    one = money(1)
    one.sandbox.faults.add("submit:stall-after=60")
    done = one.run("--timeout", "1s", speed=1)
    assert done.code == 13
    assert "1 submit of unknown outcome was held" in done.err
    one.sandbox.faults.clear()
    one.finish()
