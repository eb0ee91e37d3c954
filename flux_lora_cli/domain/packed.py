"""A mapping kept as its JSON text: what is seldom read takes half the memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class Packed(Mapping[str, Any]):
    """A read-only mapping of plain JSON values.

    Of 100,000 jobs few are on their way; the requests of all others are read for the manifest alone.
    """

    __slots__ = ("_text",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._text: str = values._text if isinstance(values, Packed) else _encode(dict(values))

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self._text)
        return values

    def __getitem__(self, key: str) -> Any:
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __repr__(self) -> str:
        return repr(self._values())

    def keys(self) -> Any:
        """Its names."""
        return self._values().keys()

    def values(self) -> Any:
        """Its values."""
        return self._values().values()

    def items(self) -> Any:
        """Both."""
        return self._values().items()


def plain_dict(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Any mapping as a dictionary; ``dict()`` would unpack a packed one for each of its keys."""
    if values is None:
        return None
    return values._values() if isinstance(values, Packed) else dict(values)
