"""Before and after: two folders paired by job, as a page that stands alone in a folder of its own."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flux_lora_cli.errors import UsageError
from flux_lora_cli.folder.files import explained, read_pieces
from flux_lora_cli.gallery.page import MARK, PAGE, Entry, url, write_page
from flux_lora_cli.gallery.pictures import (
    OTHER_FOLDER,
    Picture,
    check_apart,
    check_ours,
    name_of,
    place_for,
    read_pictures,
    write_file,
)

#: Where the images of either side lie in the review folder.
SIDES = ("before", "after")


def pair_folders(before: Path, after: Path) -> list[Entry]:
    """The images of two folders side by side, in the order of ``after``, then what only ``before`` has.

    Replaced jobs are left out: each job is what its preset said last. A job's ID pairs; where a folder has one ID
    in several presets, with the preset.

    Raises:
        NotFoundError, FolderError: a folder cannot be read.
    """
    folders = [[p for p in read_pictures(folder) if not p.replaced] for folder in (before, after)]
    several = {key for pictures in folders for key, number in Counter(map(_key, pictures)).items() if number > 1}
    old, new = ({(_key(p), p.record.preset if _key(p) in several else ""): p for p in pictures} for pictures in folders)
    pairs = [(old.get(key), new.get(key)) for key in {**new, **old}]
    return [Entry(pair, change=_change(*pair)) for pair in pairs]


def _key(picture: Picture) -> tuple[str, int]:
    return picture.record.name, picture.output.index


def _change(before: Picture | None, after: Picture | None) -> str:
    """How the very bytes compare, whatever a manifest says of them."""
    old, new = (side.path if side else None for side in (before, after))
    if old and new:
        with explained(new):
            return "Unchanged" if filecmp.cmp(old, new, shallow=False) else "Changed"
    return "Only before" if old else "Only after" if new else "Unchanged"


def count_changes(pairs: Sequence[Entry]) -> dict[str, int]:
    """How many images are ``Changed``, ``Only before``, ``Only after``, ``Unchanged``."""
    return dict(sorted(Counter(pair.change for pair in pairs).items()))


def build_review(before: Path, after: Path, pairs: Sequence[Entry], output: Path) -> Path:
    """Write ``index.html`` with the pairs of two folders, and the images that it shows, into ``output``.

    Raises:
        FolderError: a folder cannot be read, or ``output`` not be written.
        UsageError: ``output`` is one of the two, or lies in one of them, or holds files of another program.
    """
    for folder in (before, after):
        check_apart(output, folder)
    check_ours(output / PAGE, MARK)
    if not (output / PAGE).exists() and any((output / name).exists() for name in SIDES):
        raise UsageError(f"{output} holds other files named {' or '.join(SIDES)}", OTHER_FOLDER)
    entries = [replace(pair, links=_links(pair, output)) for pair in pairs]
    changes = [f"{number:,} {change.lower()}" for change, number in count_changes(pairs).items()]
    old, new = name_of(before), name_of(after)
    labels = [f"Before: {old}", f"After: {new}"]
    return write_page(output, f"{old} → {new}", " · ".join(changes) or "no images", entries, labels)


def _links(pair: Entry, output: Path) -> tuple[str | None, ...]:
    """Copy the pair's images into the review folder; what is the same on both sides, once."""
    if pair.same:
        return (_copy(pair.sides[1], output, SIDES[1]),) * 2
    return tuple(_copy(side, output, name) for side, name in zip(pair.sides, SIDES, strict=True))


def _copy(picture: Picture | None, output: Path, side: str) -> str | None:
    """Copy an image into the review folder; returns its link from there."""
    if picture is None or picture.path is None:
        return None
    name, source = f"{side}/{picture.file}", picture.path
    write_file(place_for(output, name), lambda file: file.writelines(read_pieces(source)))
    return url(name)
