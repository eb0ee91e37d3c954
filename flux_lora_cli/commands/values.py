"""What the texts of options mean: durations, rates, money, counts, words, paths."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args, get_origin

import typer

from flux_lora_cli.text import nearest, quoted

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})"
_DURATION = re.compile(_NUMBER + r"(s|m|h)?")
_UNIT = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_RATE = re.compile(_NUMBER + r"(?:/(min|s))?")
_PER = {None: 60.0, "min": 60.0, "s": 1.0}
_COMMA = re.compile(r"([^,]*[0-9]),([0-9][^,]*)")
#: Hours: a year. Longer is taken for a slip.
MAX_HOURS = 8784
MAX_MONEY = Decimal(10) ** 9
_YES, _NO = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")


def bad(text: object, what: str, how: str) -> typer.BadParameter:
    """The error of a value that is not ``what``; ``how`` says what to write."""
    meant = decimal_point(str(text))
    hint = f"did you mean '{meant}'?" if meant and "whole" not in what else how
    return typer.BadParameter(f"{quoted(str(text))} is not {what}; {hint}")


def decimal_point(text: str) -> str:
    """``text`` with the decimal comma that it has as a point; "" where it has none."""
    comma = _COMMA.fullmatch(text)
    return f"{comma[1]}.{comma[2]}" if comma else ""


def duration(text: Any) -> float:
    """Seconds of ``90``, ``90s``, ``30m`` or ``2h``."""
    match = _DURATION.fullmatch(str(text).strip())
    if not match:
        raise bad(text, "a valid duration", "write 90, 90s, 30m or 2h")
    seconds = float(match[1]) * _UNIT[match[2]]
    if not 0 < seconds <= MAX_HOURS * 3600:
        raise bad(text, "in range", f"allowed: above 0, at most {MAX_HOURS}h")
    return seconds


def rate(text: Any) -> float:
    """Images per second of ``10``, ``10/min`` (the default unit) or ``2/s``."""
    match = _RATE.fullmatch(str(text).strip())
    if not match or not float(match[1]) > 0:
        raise bad(text, "a valid rate", "write 10/min or 2/s, above 0")
    return float(match[1]) / _PER[match[2]]


def money(text: Any) -> Decimal:
    """US dollars of ``1.50`` or ``$1.50``."""
    try:
        value = Decimal(str(text).strip().removeprefix("$"))
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and 0 <= value < MAX_MONEY):
        raise bad(text, "a valid amount of US dollars", "write 1.50, 0 or more")
    return value


def price(text: Any) -> Decimal:
    """As ``money``, and more than nothing."""
    value = money(text)
    if value <= 0:
        raise bad(text, "a valid price", "an image costs more than 0")
    return value


def count(most: int, least: int = 1) -> Callable[[Any], int]:
    """A whole number from ``least``, which is not negative, to ``most``."""

    def parse(text: Any) -> int:
        word, allowed = str(text).strip(), f"allowed: {least} to {most:,}"
        if not (word.isascii() and word.isdigit()):
            raise bad(text, "a whole number", allowed)
        if not least <= int(word[:20]) <= most:
            raise bad(text, "in range", allowed)
        return int(word)

    return parse


def share(text: Any) -> float:
    """A part of a whole, from 0 to 1."""
    match = re.fullmatch(_NUMBER, str(text).strip())
    if not match or float(match[1]) > 1:
        raise bad(text, "a valid share", "write 0.1; allowed: 0 to 1")
    return float(match[1])


def yes_or_no(text: Any) -> bool:
    """What a variable says that stands in for a flag."""
    word = str(text).strip().lower()
    if word in _YES + _NO:
        return word in _YES
    raise bad(text, "a yes or no", "write 1 or 0")


def parser_of(annotation: Any) -> Callable[[Any], Any]:
    """How the text of a parameter of this type is read: text, a path, a flag, a word of a ``Literal``, or many."""
    if get_origin(annotation) is list:
        return parser_of(get_args(annotation)[0])
    if get_origin(annotation) is not Literal:
        return yes_or_no if annotation is bool else annotation
    words = get_args(annotation)

    def parse(text: Any) -> Any:
        if text in words:
            return text
        near = nearest(str(text), words)
        hint = f"did you mean '{near}'?" if near else ""
        raise typer.BadParameter(f"{quoted(str(text))} is not one of {', '.join(words)}; {hint}".rstrip("; "))

    return parse
