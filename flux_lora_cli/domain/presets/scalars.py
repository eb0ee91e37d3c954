"""Plain YAML scalars: what YAML 1.1 takes them for, and the traps in that.

PyYAML and most editors disagree on some of them (YAML 1.1 against 1.2). Each of
these is read as YAML 1.1 does, and marked, so that the checker can name the trap.
"""

from __future__ import annotations

import math
import re
from typing import Any

# Names of traps, as Scalar.trap holds them.
BOOL_WORD = "boolean word"
BASE_60 = "base-60 number"
OCTAL = "octal number"
EXPONENT = "number without a point"
DATE = "date"
NOT_FINITE = "not a finite number"
HUGE = "huge number"
OTHER_BASE = "number in another base"

#: More digits than any parameter has; longer numbers are not even converted.
MOST_DIGITS = 25

_WORDS: dict[str, tuple[Any, str]] = {"": (None, ""), "~": (None, "")}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    for _form in (_word, _word.capitalize(), _word.upper()):
        _WORDS[_form] = (_value, "")
for _word, _value in (("yes", True), ("on", True), ("no", False), ("off", False)):
    for _form in (_word, _word.capitalize(), _word.upper()):
        _WORDS[_form] = (_value, BOOL_WORD)

_STARTS = frozenset("0123456789+-.")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*([eE][-+][0-9]+)?|\.[0-9]+([eE][-+][0-9]+)?)")
_UNDERSCORED = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?")
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F_]+")
_BINARY = re.compile(r"[-+]?0b[01_]+")
_SIXTY = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+|[-+]?\.[0-9]+[eE][0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def resolve(text: str) -> tuple[Any, str]:
    """Return (value, trap) of a plain scalar."""
    word = _WORDS.get(text)
    if word is not None:
        return word
    if text[0] not in _STARTS:
        return text, ""
    if _INT.fullmatch(text):
        return (int(text), "") if len(text) <= MOST_DIGITS else (text, HUGE)
    if _FLOAT.fullmatch(text):
        return _float(text)
    return _odd(text)


def _float(text: str) -> tuple[Any, str]:
    if len(text) > 2 * MOST_DIGITS:
        return text, HUGE
    value = float(text)
    return (value, "") if math.isfinite(value) else (text, HUGE)


def _odd(text: str) -> tuple[Any, str]:
    if len(text) > 4 * MOST_DIGITS:
        return text, HUGE if text.strip("0123456789+-_:.eExb") == "" else ""
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "").lower()), NOT_FINITE
    if _SIXTY.fullmatch(text):
        return _sixty(text), BASE_60
    if _OCTAL.fullmatch(text):
        return int(text.replace("_", ""), 8), OCTAL
    if _HEX.fullmatch(text) or _BINARY.fullmatch(text):
        return int(text.replace("_", ""), 0), OTHER_BASE
    if _UNDERSCORED.fullmatch(text) and "_" in text:
        bare = text.replace("_", "")
        return (float(bare) if "." in bare else int(bare)), OTHER_BASE
    if _EXPONENT.fullmatch(text):
        return text, EXPONENT
    if _DATE.fullmatch(text):
        return text, DATE
    return text, ""


def _sixty(text: str) -> float:
    sign = -1 if text.startswith("-") else 1
    total: float = 0
    for part in text.lstrip("+-").replace("_", "").split(":"):
        total = total * 60 + (float(part) if "." in part else int(part))
    return sign * total


def why_not_text(value: Any, text: str, trap: str) -> str:
    """Why a plain scalar is no text, naming the trap, and what to write instead."""
    quoted = f'put it in quotes: "{text}"'
    if trap == BASE_60:
        return f"{text} is a base-60 number in YAML ({value:g}); {quoted}"
    if trap == OCTAL:
        return f"{text} is an octal number in YAML ({value}); {quoted}"
    if trap == DATE:
        return f"{text} is a date in YAML; {quoted}"
    if value is None:
        return 'there is nothing here (YAML null); for an empty text write ""'
    if isinstance(value, bool):
        return f"{text} without quotes is a boolean in YAML ({str(value).lower()}); for text {quoted}"
    return f"{text[:40]} is a number; for text {quoted}" if len(text) <= 40 else "a number; put it in quotes"


def why_not_number(value: Any, text: str, trap: str) -> str:
    """Why a marked scalar is no number that may stand here; "" where it is fine."""
    if trap == BASE_60:
        return f"{text} is a base-60 number in YAML ({value:g}); write {value:g}"
    if trap == OCTAL:
        meant = text.lstrip("+-").lstrip("0") or "0"
        return f"{text} is an octal number in YAML ({value}); write {meant} or {value}"
    if trap == EXPONENT:
        number = float(text)
        if math.isinf(number):
            return f"{text} is a huge number"
        shown = f"{number:.0f}" if number.is_integer() and abs(number) < 1e16 else repr(number)
        return f"{text} is text in YAML 1.1 (no point, or no sign after the e); write {shown}"
    if trap == NOT_FINITE:
        return f"{text} is not a finite number"
    if trap == HUGE:
        return f"{text[:20]}… is a huge number of {len(text)} characters"
    if trap == BOOL_WORD:
        return f"{text} is a boolean in YAML ({str(value).lower()})"
    if trap == DATE:
        return f"{text} is a date in YAML"
    return ""
