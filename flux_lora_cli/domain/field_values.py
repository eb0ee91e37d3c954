"""The fields of a record as a dictionary of those that differ from their defaults."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import MISSING, Field, fields
from operator import attrgetter
from typing import Any


class FieldValues:
    """Fields of one kind of record, all read by one call: a job's row is written some five times.

    Args:
        but: names of fields that are left out.
    """

    def __init__(self, kind: type[Any], but: Set[str] = frozenset()) -> None:
        defaults = {f.name: _default(f) for f in fields(kind) if f.name not in but}
        self._values = attrgetter(*defaults)
        self._defaults = tuple(defaults.items())

    def differing(self, record: object) -> dict[str, Any]:
        """Those that differ from their defaults."""
        return {
            name: value
            for (name, default), value in zip(self._defaults, self._values(record), strict=True)
            if value is not default and value != default
        }


def _default(field: Field[Any]) -> Any:
    return field.default if field.default is not MISSING else None
