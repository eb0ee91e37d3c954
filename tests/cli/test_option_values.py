"""What the texts of options mean: the forms that the help names, and no others."""

from __future__ import annotations

import pytest
import typer

from flux_lora_cli.cli.option_values import duration, rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("0.5", 0.5), ("1.5h", 5400), (".1", 0.1)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "5 m", "2hours", "1h30m", "nan", "inf", "1e3", "٣", "9999h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)


@pytest.mark.parametrize(("text", "per_second"), [("60", 1), ("60/min", 1), ("2/s", 2), ("0.5/s", 0.5)])
def test_rates(text: str, per_second: float) -> None:
    assert rate(text) == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["", "0", "0/min", "-1/s", "10/h", "10/m", "10/sec", "10 / min", "x", "1/min/s"])
def test_no_rates(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        rate(text)
