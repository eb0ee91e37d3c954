"""What the texts of options mean: durations, rates, money, counts, words, request parameters."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args, get_origin

import typer

from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import nearest, quoted

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})"
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_PER = {"": 60.0, "/min": 60.0, "/s": 1.0}
_COMMA = re.compile(r"([^,]*[0-9]),([0-9][^,]*)")
#: Hours: a year. Longer is taken for a slip.
_MAX_HOURS = 8784
_MAX_MONEY = Decimal(10) ** 9
YES, _NO = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")


def bad(text: object, what: str, how: str, label: str = "") -> typer.BadParameter:
    """The error of a value that is not ``what``; ``how`` says what to write, ``label`` whose value it is."""
    meant = _decimal_point(str(text))
    hint = f"did you mean '{meant}'?" if meant and "whole" not in what else how
    return typer.BadParameter(f"{label}{quoted(str(text))} is not {what}; {hint}".rstrip("; "))


def _decimal_point(text: str) -> str:
    """``text`` with the decimal comma that it has as a point; "" where it has none."""
    comma = _COMMA.fullmatch(text)
    return f"{comma[1]}.{comma[2]}" if comma else ""


def _number(text: Any, unit: str = "") -> tuple[float, str] | None:
    """A number that is not negative, and the unit behind it; None for anything else."""
    match = re.fullmatch(f"{_NUMBER}({unit})", str(text).strip())
    return (float(match[1]), match[2]) if match else None


def duration(text: Any) -> float:
    """Seconds of ``90``, ``90s``, ``30m`` or ``2h``."""
    found = _number(text, "[smh]?")
    if found is None:
        raise bad(text, "a valid duration", "write 90, 90s, 30m or 2h")
    seconds = found[0] * _SECONDS[found[1]]
    if not 0 < seconds <= _MAX_HOURS * 3600:
        raise bad(text, "in range", f"allowed: above 0, at most {_MAX_HOURS}h")
    return seconds


def rate(text: Any) -> float:
    """Images per second of ``10``, ``10/min`` (the default unit) or ``2/s``."""
    found = _number(text, "(?:/min|/s)?")
    if found is None or found[0] == 0:
        raise bad(text, "a valid rate", "write 10/min or 2/s, above 0")
    return found[0] / _PER[found[1]]


def share(text: Any) -> float:
    """A part of a whole, from 0 to 1."""
    found = _number(text)
    if found is None or found[0] > 1:
        raise bad(text, "a valid share", "write 0.1; allowed: 0 to 1")
    return found[0]


def money(text: Any) -> Decimal:
    """US dollars of ``1.50`` or ``$1.50``."""
    try:
        value = Decimal(str(text).strip().removeprefix("$"))
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and 0 <= value < _MAX_MONEY):
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


def yes_or_no(text: Any) -> bool:
    """What a variable says that stands in for a flag."""
    word = str(text).strip().lower()
    if word in YES + _NO:
        return word in YES
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
        raise bad(text, f"one of {', '.join(words)}", f"did you mean '{near}'?" if near else "")

    return parse


# ---- request parameters ----------------------------------------------------------------------


def unicode(text: str) -> str:
    """Refuse bytes that are not text, which Python hands over as halves of surrogate pairs: no request carries them.

    Paths may have them: a file is called what it is called. Raises UsageError.
    """
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(
            f"{quoted(text)} is not text in this locale's encoding ({sys.getfilesystemencoding()})",
            "Write it in UTF-8, under a UTF-8 locale: LC_ALL=C.UTF-8 flux-lora …",
        )
    return text


def parameter(name: str, text: str, label: str = "") -> Any:
    """The value of a request parameter; its range is checked once the model is known."""
    from flux_lora_cli.service.models import value_of_text

    if name in ("strength", "guidance_scale") and _decimal_point(text):
        raise bad(text, "a number", "", label)
    value, problem = value_of_text(name, unicode(text))
    if problem is not None:
        raise typer.BadParameter(f"{label}{problem.message}")
    return value


def setting(text: str) -> tuple[str, Any]:
    """Parameter and value of ``--set KEY=VALUE``."""
    key, equals, value = text.partition("=")
    key = unicode(key.strip())
    if not equals or not key:
        raise bad(text, "KEY=VALUE", "for example: num_inference_steps=12")
    if key in ("stack", "model", "image"):
        return key, value.strip() if key != "image" else value
    return key, parameter(key, value, f"{key}: ")


def image(text: str) -> str:
    """An address, or the path of a file."""
    from flux_lora_cli.service.values import is_remote_image

    return unicode(text) if is_remote_image(text) else text


def lora(text: str) -> dict[str, Any]:
    """Path and scale of ``PATH[:SCALE]``."""
    from flux_lora_cli.service.values import lora_path_problem, parse_lora

    found = parse_lora(unicode(text))
    if meant := _decimal_point(text.rpartition(":")[2]):
        raise typer.BadParameter(f"{quoted(text)}: did you mean ':{meant}'?")
    if problem := lora_path_problem(found["path"]):
        raise typer.BadParameter(problem)
    return found
