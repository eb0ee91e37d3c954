"""What a price is asked for, how often, and what is said where nobody tells it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.money.conftest import Money
from tests.support import truth


def test_a_throttled_price_is_asked_for_again(money: Callable[..., Money]) -> None:
    one = money(2)
    one.sandbox.faults.add("price:429:5:retry-after=2")
    done = one.run("--max-cost", "1")
    assert done.code == 0, done.err
    assert truth.manifest(one.folder)["summary"]["cost_usd"] == "0.03"
    one.all_done()


def test_a_price_that_is_throttled_for_ever_is_not_known_and_stops_nothing(money: Callable[..., Money]) -> None:
    one = money(2)
    one.sandbox.faults.add("price:429")
    done = one.run(speed=400)
    assert done.code == 0, done.err
    assert "price not known" in done.err
    limited = one.run("--max-cost", "1", folder=one.place / "other", speed=400)
    assert limited.code == 8
    assert "--price" in limited.err
    assert one.charged == 2


def test_what_nobody_told_the_price_of_has_none_in_the_manifest(money: Callable[..., Money]) -> None:
    one = money(2)
    one.sandbox.faults.add("price:404")
    assert one.run().code == 0
    manifest = truth.manifest(one.folder)
    assert manifest["summary"]["cost_usd"] is None
    assert [entry["cost_usd"] for entry in manifest["jobs"]] == [None, None]
    # What has a price counts.
    one.write(range(3))
    done = one.run("--price", "0.02")
    assert "charged $0.02" in done.err
    assert truth.manifest(one.folder)["summary"]["cost_usd"] == "0.02"


def test_a_price_is_asked_for_without_the_place_of_a_local_image(money: Callable[..., Money]) -> None:
    one = money(1)
    picture = Path(one.place / "in.png")
    Image.new("RGB", (64, 64), "red").save(picture)
    asked: list[bytes] = []
    _watch_prices(one, asked)
    done = one.run("--image", picture, "--allow-path", one.place, "--max-cost", "1")
    assert done.code == 0, done.err
    assert asked
    assert not [body for body in asked if b"inputs/" in body or b"in.png" in body]
    assert truth.manifest(one.folder)["jobs"][0]["request"]["input"]["image"].startswith("inputs/")


def _watch_prices(one: Money, asked: list[bytes]) -> None:
    serve = one.sandbox._serve_api

    def watched(wire: Any, request: Any, target: Any) -> bool:
        if target.endpoint in ("price", "pricing"):
            asked.append(request.body)
        return serve(wire, request, target)

    one.sandbox._serve_api = watched  # type: ignore[method-assign]
