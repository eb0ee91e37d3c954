"""Texts of the command line that a request would carry: they have to be Unicode."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from flux_lora_cli.errors import UsageError


def check_text(option: str, *texts: str) -> None:
    """Refuse bytes that the locale's encoding does not know, which Python hands over as halves of surrogate pairs.

    No request can carry them. Paths may have them: a file is called what it is called.

    Raises:
        UsageError: naming ``option``.
    """
    for text in texts:
        if not _is_unicode(text):
            raise UsageError(
                f"{option}: {text!r} has bytes that are no text in this locale's encoding"
                f" ({sys.getfilesystemencoding()})",
                "Write it in UTF-8, under a UTF-8 locale: LC_ALL=C.UTF-8 flux-lora …",
            )


def check_value(option: str, value: Any) -> None:
    """The same for what JSON in an option spelled out (``\\ud800``). Raises UsageError."""
    if isinstance(value, str):
        if not _is_unicode(value):
            raise UsageError(
                f"{option}: half of a surrogate pair (\\ud800 to \\udfff) is no text",
                "Write the character itself, or both halves.",
            )
    elif isinstance(value, Mapping):
        _check_all(option, (*value.keys(), *value.values()))
    elif isinstance(value, (list, tuple)):
        _check_all(option, value)


def _check_all(option: str, values: Iterable[Any]) -> None:
    for value in values:
        check_value(option, value)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
