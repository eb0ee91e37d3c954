"""What the texts of options mean: durations, rates, money, one of several words."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import typer

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})"
_DURATION = re.compile(_NUMBER + r"(s|m|h)?\Z")
_UNIT = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_RATE = re.compile(_NUMBER + r"(?:/(min|s))?\Z")
_PER = {None: 60.0, "min": 60.0, "s": 1.0}
#: Hours: a year. Longer is taken for a slip.
_LONGEST = 8784


def duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``30m`` or ``2h``. Raises typer.BadParameter."""
    match = _DURATION.match(str(text).strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no duration; write 90, 90s, 30m or 2h")
    seconds = float(match[1]) * _UNIT[match[2]]
    if not 0 < seconds <= _LONGEST * 3600:
        raise typer.BadParameter(f"{text!r} is out of range; it must be above 0 and at most {_LONGEST}h")
    return seconds


def interval(text: str) -> float:
    """Seconds of a poll interval: a duration, any value above 0. Raises typer.BadParameter."""
    return duration(text)


def rate(text: str) -> float:
    """Images per second of ``10``, ``10/min`` (the default unit) or ``2/s``. Raises typer.BadParameter."""
    match = _RATE.match(str(text).strip())
    if not match or not float(match[1]) > 0:
        raise typer.BadParameter(f"{text!r} is no rate; write 10/min or 2/s, above 0")
    return float(match[1]) / _PER[match[2]]


def money(text: str) -> Decimal:
    """US dollars of ``1.50`` or ``$1.50``. Raises typer.BadParameter."""
    try:
        value = Decimal(str(text).strip().removeprefix("$"))
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and Decimal(0) <= value < Decimal(10) ** 9):
        raise typer.BadParameter(f"{text!r} is no amount of US dollars; write 1.50, 0 or more")
    return value


def positive_money(text: str) -> Decimal:
    """As ``money``, for a price: more than nothing. Raises typer.BadParameter."""
    value = money(text)
    if value <= 0:
        raise typer.BadParameter(f"{text!r} is no price; an image costs more than 0")
    return value


def choice(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """``value`` if it is one of ``allowed``; raises errors.UsageError with the nearest right word."""
    if value in allowed:
        return value
    from difflib import get_close_matches

    from flux_lora_cli.errors import UsageError

    near = get_close_matches(value, allowed, 1)
    raise UsageError(
        f"{option}: {value!r} is none of {', '.join(allowed)}",
        f"Did you mean {near[0]}?" if near else "",
    )
