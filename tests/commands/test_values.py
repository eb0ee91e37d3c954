"""What the texts of options mean."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import pytest
import typer

from flux_lora_cli.commands.values import count, decimal_point, duration, money, price, rate, word

_MODE = word(Literal["keep", "skip"])


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (duration, "90", 90.0),
        (duration, "90s", 90.0),
        (duration, " 30m ", 1800.0),
        (duration, "2h", 7200.0),
        (duration, "0.1", 0.1),
        (duration, ".5m", 30.0),
        (duration, 2.0, 2.0),  # a default
        (duration, "8784h", 8784 * 3600.0),
        (rate, "10", 10 / 60),
        (rate, "10/min", 10 / 60),
        (rate, "2/s", 2.0),
        (money, "1.50", Decimal("1.50")),
        (money, "$3", Decimal(3)),
        (money, "0", Decimal(0)),
        (price, "0.015", Decimal("0.015")),
        (count(16), "16", 16),
        (count(16), 1, 1),
        (_MODE, "skip", "skip"),
    ],
)
def test_values_that_are_meant(parse: Callable[[Any], Any], text: Any, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (duration, "", "30m"),
        (duration, "5 minutes", "30m"),
        (duration, "1,5", "'1.5'"),
        (duration, "0", "above 0"),
        (duration, "-1", "30m"),
        (duration, "1d", "30m"),
        (duration, "9000h", "8784h"),
        (duration, "nan", "30m"),
        (duration, "1e3", "30m"),
        (duration, "١٠", "30m"),  # digits of another script
        (rate, "0", "above 0"),
        (rate, "10/hour", "10/min"),
        (rate, "1,5/s", "'1.5/s'"),
        (money, "free", "1.50"),
        (money, "-1", "1.50"),
        (money, "NaN", "1.50"),
        (money, "Infinity", "1.50"),
        (money, "1e99", "1.50"),
        (money, "1,50", "'1.50'"),
        (price, "0", "more than 0"),
        (count(16), "17", "1 to 16"),
        (count(16), "0", "1 to 16"),
        (count(16), "1.5", "1 to 16"),
        (count(16), "1,5", "1 to 16"),
        (count(16), "9" * 5000, "1 to 16"),
        (_MODE, "skp", "did you mean 'skip'?"),
        (_MODE, "KEEP", "did you mean 'keep'?"),
        (_MODE, "zzz", "keep, skip"),
    ],
)
def test_values_that_cannot_be_meant(parse: Callable[[Any], Any], text: str, hint: str) -> None:
    with pytest.raises(typer.BadParameter) as error:
        parse(text)
    assert hint in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "meant"), [("1,5", "1.5"), ("10,5/s", "10.5/s"), ("1,2,3", ""), ("a,b", ""), ("1", "")]
)
def test_decimal_commas(text: str, meant: str) -> None:
    assert decimal_point(text) == meant
