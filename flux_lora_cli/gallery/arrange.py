"""Recognise a matrix among facets, and choose its columns, rows and pages.

``chooseAxes`` in ``resources/gallery/3-views.js`` is the twin, run anew on what the reader's filters leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flux_lora_cli.gallery.facets import ANY, Facet

#: An axis longer than this is a list, not an axis, unless nothing else spans the pictures.
LONGEST_AXIS = 60
#: Facets that make good columns and rows, the best first; the others only split further.
_PREFERENCE = (
    "stack", "scale", "lora", "guidance", "steps", "strength", "size", "model", "image",
    "variant", "job", "repeat", "seed", "output", "preset", "prompt", "folder", "safety",
)  # fmt: skip
#: More than this share of a grid's cells must hold something; four jobs with seeds of their own are no grid.
_LEAST_FILLED = 0.5


@dataclass(frozen=True, slots=True)
class Axes:
    """Indices into the facets; None where there is no such axis."""

    columns: int | None = None
    rows: int | None = None
    pages: int | None = None


def choose_axes(facets: Sequence[Facet]) -> Axes:
    """The axes that span the pictures as a matrix; all None where they are none."""
    chosen: list[int] = []
    spanned = 1
    candidates = [i for i, facet in enumerate(facets) if 2 <= len(facet.values) <= LONGEST_AXIS]
    both = [i for i in candidates if facets[i].key in ("lora", "scale")]
    if len(both) == 2 and _combinations(facets, both) > _cells(facets, both) * _LEAST_FILLED:
        candidates = [i for i in candidates if facets[i].key != "stack"]  # two axes say it better than one
    for i in sorted(candidates, key=lambda i: _rank(facets[i].key)):
        combined = _combinations(facets, [*chosen, i])
        cells = _cells(facets, [*chosen, i])
        if combined > spanned and combined > cells * _LEAST_FILLED:
            chosen.append(i)
            spanned = combined
    if len(chosen) < 2:
        return Axes(columns=chosen[0]) if chosen else Axes()
    columns, rows, *rest = chosen
    if len(facets[columns].values) > 3 * len(facets[rows].values):
        columns, rows = rows, columns
    return Axes(columns, rows, rest[0] if rest else None)


def _rank(key: str) -> int:
    return _PREFERENCE.index(key.rstrip("0123456789"))


def _combinations(facets: Sequence[Facet], chosen: Sequence[int]) -> int:
    columns = zip(*(facets[i].codes for i in chosen), strict=True)
    return len({codes for codes in columns if ANY not in codes})


def _cells(facets: Sequence[Facet], chosen: Sequence[int]) -> int:
    cells = 1
    for i in chosen:
        cells *= len(facets[i].values)
    return cells
