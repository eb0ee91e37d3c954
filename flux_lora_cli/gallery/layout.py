"""Which picture goes where on a sheet: sections, rows and cells, without a pixel drawn."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flux_lora_cli.gallery.arrange import Axes, choose_axes
from flux_lora_cli.gallery.facets import ANY, Facet, Row, facets_of, short_lora
from flux_lora_cli.gallery.run import Run


@dataclass(frozen=True, slots=True)
class Cell:
    """One tile: ``path`` of its image, or ``why`` there is none; what stands below it on a contact sheet."""

    path: Path | None
    why: str
    nsfw: bool
    caption: str
    detail: str


@dataclass(frozen=True, slots=True)
class Section:
    """One grid: column headings, and rows of (heading, cells); None where no job has these values."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole sheet. ``aspect`` is width over height of its tiles."""

    title: str
    subtitle: str
    aspect: float
    is_grid: bool
    sections: tuple[Section, ...]


def lay_out(runs: Sequence[Run]) -> Layout:
    """Arrange all pictures of the runs: as a grid where they are a matrix, else one after another."""
    rows: list[Row] = [(run, job, picture) for run in runs for job, picture in run.pictures()]
    facets = facets_of(rows)
    axes = choose_axes(facets)
    is_grid = axes.rows is not None
    aspect = _aspect(rows)
    sections = _grids(rows, facets, axes) if is_grid else _contact(rows, facets, aspect)
    return Layout(
        title=", ".join(run.folder.resolve().name for run in runs[:4]) + (" …" if len(runs) > 4 else ""),
        subtitle=_subtitle(runs, rows, facets, axes),
        aspect=aspect,
        is_grid=is_grid,
        sections=tuple(sections),
    )


def _aspect(rows: Sequence[Row]) -> float:
    shapes = Counter(p.width / p.height for _, _, p in rows if p.width and p.height)
    return min(3.0, max(1 / 3, shapes.most_common(1)[0][0])) if shapes else 1.0


def _subtitle(runs: Sequence[Run], rows: Sequence[Row], facets: Sequence[Facet], axes: Axes) -> str:
    images = sum(picture.file is not None for _, _, picture in rows)
    parts = [f"{images} image{'' if images == 1 else 's'}"]
    if axes.columns is not None and axes.rows is not None:
        parts.append(f"{facets[axes.columns].label.lower()} across, {facets[axes.rows].label.lower()} down")
    models = {job.model.rsplit("/", 1)[-1] for _, job, _ in rows}
    if len(models) == 1:
        parts.append(models.pop())
    if any(run.sandbox for run in runs):
        parts.append("sandbox")
    return " · ".join(part for part in parts if part)


def _grids(rows: Sequence[Row], facets: Sequence[Facet], axes: Axes) -> list[Section]:
    """A section for each page."""
    assert axes.columns is not None and axes.rows is not None
    across, down = facets[axes.columns], facets[axes.rows]
    split = [] if axes.pages is None else [axes.pages]
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i in range(len(rows)):
        groups[tuple(facets[f].codes[i] for f in split)].append(i)
    sections = []
    for codes, members in sorted(groups.items()):
        named = [f"{facets[f].label}: {facets[f].values[c]}" for f, c in zip(split, codes, strict=True) if c != ANY]
        cells: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i in members:
            for c in range(len(across.values)) if across.codes[i] == ANY else [across.codes[i]]:
                for r in range(len(down.values)) if down.codes[i] == ANY else [down.codes[i]]:
                    cells[r, c].append(i)
        # Several pictures in one cell are laid one below the other: nothing is left out.
        lines: list[tuple[str, tuple[Cell | None, ...]]] = []
        for r, heading in enumerate(down.values):
            depth = max((len(cells[r, c]) for c in range(len(across.values))), default=0)
            for layer in range(depth):
                found = [cells[r, c] for c in range(len(across.values))]
                line = tuple(_cell(rows[f[layer]], facets) if layer < len(f) else None for f in found)
                lines.append((heading if layer == 0 else "", line))
        sections.append(Section(" · ".join(named), across.values, tuple(lines)))
    return sections


def _contact(rows: Sequence[Row], facets: Sequence[Facet], aspect: float) -> list[Section]:
    if not rows:
        return []
    cells = [_cell(row, facets) for row in rows]
    # About 3 wide to 2 high, captions included.
    across = max(1, min(len(cells), math.ceil(math.sqrt(len(cells) * 1.7 / aspect))))
    lines = []
    for start in range(0, len(cells), across):
        line: list[Cell | None] = [*cells[start : start + across]]
        lines.append(("", tuple(line)))
    return [Section("", (), tuple(lines))]


def _cell(row: Row, facets: Sequence[Facet]) -> Cell:
    run, job, picture = row
    loras = [short_lora(str(x.get("path", ""))) for x in job.input.get("loras") or [] if isinstance(x, dict)]
    seed = job.input.get("seed")
    detail = [*loras[:2], *([f"seed {seed}"] if seed is not None else [])]
    return Cell(
        path=None if picture.file is None else run.folder / picture.file,
        why=picture.why,
        nsfw=picture.nsfw is True,
        caption=str(job.input.get("prompt") or job.id),
        detail=" · ".join(detail),
    )
