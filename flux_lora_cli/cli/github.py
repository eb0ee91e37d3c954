"""GitHub Actions: annotations as its workflow commands."""

from __future__ import annotations


def annotation(level: str, text: str, file: str = "", line: int = 0, column: int = 0) -> str:
    """One ``::error …::text`` line. [GitHub documentation: workflow commands]"""
    places = [("file", file), ("line", line), ("col", column)]
    properties = ",".join(f"{name}={_property(str(value))}" for name, value in places if value)
    return f"::{level}{' ' if properties else ''}{properties}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
