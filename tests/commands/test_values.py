"""What the texts of options mean."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import pytest
import typer

from flux_lora_cli.commands.values import (
    count,
    duration,
    money,
    parser_of,
    price,
    rate,
    setting,
    share,
    yes_or_no,
)  # fmt: skip

_MODE = parser_of(Literal["keep", "skip"])
Parse = Callable[[Any], Any]

MEANT: list[tuple[Parse, Any, Any]] = [
    (duration, "90", 90.0), (duration, "90s", 90.0), (duration, " 30m ", 1800.0), (duration, "2h", 7200.0),
    (duration, ".5m", 30.0), (duration, 2.0, 2.0), (duration, "8784h", 8784 * 3600.0),
    (rate, "10", 10 / 60), (rate, "10/min", 10 / 60), (rate, "2/s", 2.0),
    (money, "1.50", Decimal("1.50")), (money, "$3", Decimal(3)), (money, "0", Decimal(0)),
    (price, "0.015", Decimal("0.015")), (count(16), "16", 16), (count(16), 1, 1), (count(16, least=0), "0", 0),
    *((share, text, float(text)) for text in ("0", "1", "0.25", ".5")), (_MODE, "skip", "skip"),
    (yes_or_no, "TRUE", True), (yes_or_no, "off", False),
]  # fmt: skip
#: And what the message must have.
WRONG: list[tuple[Parse, str, str]] = [
    *((duration, text, "30m") for text in ("", "5 minutes", "-1", "1d", "nan", "1e3", "١٠")),
    (duration, "1,5", "'1.5'"), (duration, "0", "above 0"), (duration, "9000h", "8784h"),
    (rate, "0", "above 0"), (rate, "10/hour", "10/min"), (rate, "1,5/s", "'1.5/s'"), (rate, "1,2,3", "10/min"),
    *((money, text, "1.50") for text in ("free", "-1", "NaN", "Infinity", "1e99", "1,50", "a,b")),
    (price, "0", "more than 0"),
    *((count(16), text, "1 to 16") for text in ("17", "0", "-1", "1.5", "1,5", "9" * 5000)),
    *((share, text, "0 to 1") for text in ("2", "-1", "nan", "half")), (share, "0,5", "'0.5'"),
    (setting, "strength=0,5", "strength: \"0,5\" is not a number; did you mean '0.5'?"),
    (_MODE, "skp", "did you mean 'skip'?"), (_MODE, "KEEP", "did you mean 'keep'?"), (_MODE, "zzz", "keep, skip"),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "text", "value"), MEANT)
def test_values_that_are_meant(parse: Parse, text: Any, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text", "hint"), WRONG)
def test_values_that_cannot_be_meant(parse: Parse, text: str, hint: str) -> None:
    with pytest.raises(typer.BadParameter) as error:
        parse(text)
    assert hint in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_what_is_set_keeps_its_spaces() -> None:
    assert dict(map(setting, [" prompt = a cat ", "stack= nasa ", "seed= 4"])) == {
        "prompt": " a cat ",
        "stack": "nasa",
        "seed": 4,
    }
