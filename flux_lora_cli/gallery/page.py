"""The gallery: one HTML page, self-contained, that asks no host for anything.

The page of a run stands beside its images, and links them where they lie; that of a comparison has copies in a folder
of its own. Styles and the script are allowed by their hashes alone, so that no text of a prompt can become either.
Python prepares everything that is shown; the script filters, arranges and compares what stands there already, so that
images and captions show without it, too.
"""

from __future__ import annotations

import base64
import filecmp
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple
from urllib.parse import quote

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import UsageError
from flux_lora_cli.folder.entries import decimal_text
from flux_lora_cli.folder.files import explained, read_pieces
from flux_lora_cli.folder.records import PastTask
from flux_lora_cli.gallery.pictures import (
    LABELS,
    OTHER_FOLDER,
    Picture,
    caption_of,
    check_apart,
    check_ours,
    choose_axes,
    facet,
    facets_of,
    name_of,
    place_for,
    read_pictures,
    shape_of,
    shown,
    write_file,
)
from flux_lora_cli.presets.job import job_as_yaml
from flux_lora_cli.text import counted, json_line, printable

PAGE = "index.html"
#: By this the program knows a page of its own, which it may replace.
MARK = '<meta name="generator" content="flux-lora gallery'
#: Where the images of either side lie in the folder of a comparison.
SIDES = ("before", "after")


class Entry(NamedTuple):
    """A card of the wall: one picture, or the two sides of a comparison, None where a side does not have it.

    Attributes:
        change: how the sides compare; "" where there is one.
        links: from the page to the image of each side; None for a gap.
    """

    sides: tuple[Picture | None, ...]
    change: str = ""
    links: tuple[str | None, ...] = ()

    @property
    def picture(self) -> Picture:
        """The side that speaks for both: the later one, unless only the earlier has an image."""
        there = [side for side in self.sides if side]
        return next((side for side in reversed(there) if side.file), there[-1])

    @property
    def flagged(self) -> bool:
        return any(side is not None and side.flagged for side in self.sides)

    @property
    def same(self) -> bool:
        return self.change == "Unchanged"


def build_gallery(folders: Sequence[Path], pictures: Sequence[Picture], target: Path) -> Path:
    """Write ``index.html`` with the folders' pictures into ``target``, replacing an earlier one of ours.

    Raises:
        FolderError: the page cannot be written.
        UsageError: an ``index.html`` stands there that this program did not write.
    """
    check_ours(target / PAGE, MARK)
    states = Counter(picture.state[0] for picture in pictures)
    gaps = [f"{number:,} {state.lower()}" for state, number in states.items() if state != "Saved"]
    costs = [record.cost for record in {id(p.record): p.record for p in pictures}.values()]
    total = None if None in costs else sum(filter(None, costs), Decimal(0))
    summary = " · ".join([counted(states["Saved"], "image"), *gaps, _usd(total)])
    entries = [
        Entry((p,), links=(quote(_place(target, p), errors="surrogatepass") if p.file else None,)) for p in pictures
    ]
    return _write_page(target, ", ".join(map(name_of, folders)), summary, entries)


# ---- before and after ---------------------------------------------------------------------


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
    return [Entry(pair, _change(*pair)) for pair in pairs]


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
    entries = []
    for pair in pairs:
        old, new = pair.sides
        links = [_copy(new, output, SIDES[1])]  # of what is the same on both sides, one copy serves both
        links.insert(0, links[0] if pair.same else _copy(old, output, SIDES[0]))
        entries.append(pair._replace(links=tuple(links)))
    changes = [f"{number:,} {change.lower()}" for change, number in count_changes(pairs).items()]
    titles = [name_of(before), name_of(after)]
    labels = [f"{side.capitalize()}: {title}" for side, title in zip(SIDES, titles, strict=True)]
    return _write_page(output, " → ".join(titles), " · ".join(changes) or "no images", entries, labels)


def _copy(picture: Picture | None, output: Path, side: str) -> str | None:
    """Copy an image into the folder of a comparison; returns its link from there."""
    if picture is None or picture.path is None:
        return None
    name, source = f"{side}/{picture.file}", picture.path
    write_file(place_for(output, name), lambda file: file.writelines(read_pieces(source)))
    return quote(name, errors="surrogatepass")


# ---- the page -----------------------------------------------------------------------------


def _write_page(folder: Path, title: str, summary: str, entries: Sequence[Entry], labels: Sequence[str] = ()) -> Path:
    """Write the page of these entries. ``labels``: names of the two sides of pairs. Raises FolderError."""
    pictures = [entry.picture for entry in entries]
    facets = facets_of(pictures)
    if labels:
        facets.pop("Folder", None)
    axes = choose_axes(facets)
    if labels:
        facets = {"Change": facet(entry.change for entry in entries), **facets}
    else:
        facets["State"] = facet("Replaced" if p.replaced else "Flagged" if p.flagged else p.state[0] for p in pictures)
    data = {
        "items": [_item(folder, entry, anchor) for entry, anchor in zip(entries, _anchors(pictures), strict=True)],
        "facets": [(label, *each) for label, each in facets.items() if len(each.values) > 1],
        "axes": axes,
        "labels": labels or None,
        "store": hashlib.sha256(f"{title}\n{folder.resolve()}".encode("utf-8", "replace")).hexdigest()[:16],
    }
    style, script, template = (
        (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js", "page.html")
    )
    shape = shape_of(pictures)
    text = Template(template).substitute(
        policy=(
            "default-src 'none'; base-uri 'none'; form-action 'none'; "
            "img-src 'self' file: data:; "  # 'self' does not cover file: pages in every browser
            f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        ),
        version=__version__,
        style=style,
        script=script,
        title=escape(title),
        summary=escape(summary),
        badge='<span class="badge">sandbox</span>' if any(p.manifest.sandbox for p in pictures) else "",
        shape="tall" if shape > 1.15 else "wide" if shape < 0.87 else "square",
        cards="\n".join(_card(i, entry, caption_of(entry.picture, facets, i)) for i, entry in enumerate(entries)),
        # Cannot end a <script> element, nor open a comment in one.
        data=json_line(data).translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&"}),
    )
    write_file(folder / PAGE, text.encode("utf-8", "replace"))
    return folder / PAGE


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _anchors(pictures: Sequence[Picture]) -> Iterator[str]:
    """A name for each image in links and picks: the job's ID, and ``#2`` for its second image."""
    seen: Counter[str] = Counter()
    for name in (picture.name for picture in pictures):
        seen[name] += 1
        yield f"{name}#{seen[name]}" if seen[name] > 1 else name


def _place(page_folder: Path, picture: Picture) -> str:
    """The picture's file, or for a gap its folder, as a path from the page's folder."""
    try:
        base = os.path.relpath(picture.folder.resolve(), page_folder.resolve()).replace(os.sep, "/")
    except ValueError as error:
        hint = "Write the page on the same drive as the images."
        raise UsageError(f"no relative link leads from {page_folder} to {picture.folder}", hint) from error
    return picture.file if picture.file and base == "." else f"{base}/{picture.file or ''}"


def _card(i: int, entry: Entry, caption: Sequence[tuple[str, str]]) -> str:
    """What a card says without the script."""
    picture = entry.picture
    name = escape(printable(f"{(picture.prompt or picture.name)[:120]}, {', '.join(text for _, text in caption)}"))
    marks = {"veiled": entry.flagged, "replaced": picture.replaced, "pair": len(entry.links) > 1}
    classes = " ".join(["shot", *(mark for mark, on in marks.items() if on)])
    inside = "".join(_image(link, entry) if link else _gap(picture) for link in entry.links)
    link = next((link for link in reversed(entry.links) if link), None)
    opens = f'<a class="{classes}" href="{escape(link or "")}" aria-label="Open: {name}">{inside}</a>'
    tells = f'<button type="button" class="{classes}" aria-label="{picture.state[0]}: {name}">{inside}</button>'
    badge = '<span class="badge">replaced</span> ' if picture.replaced else ""
    says = "".join(f'<span data-facet="{escape(label)}">{escape(text)}</span>' for label, text in caption)
    return (
        f'<li class="card" data-i="{i}"{" hidden" if entry.same else ""}>{opens if link else tells}'
        '<button type="button" class="pick" aria-pressed="false" aria-keyshortcuts="p" title="Pick (p)" '
        f'aria-label="Pick: {name}"></button>'
        f'<p class="prompt" dir="auto">{escape((picture.prompt or picture.name)[:400])}</p>'
        f'<p class="meta">{badge}{says}</p></li>'
    )


def _image(link: str, entry: Entry) -> str:
    output = entry.picture.output
    size = f' width="{output.width}" height="{output.height}"' if output.width and output.height else ""
    alt = "Flagged image, hidden" if entry.flagged else escape(entry.picture.prompt[:200])
    return f'<img src="{escape(link)}" alt="{alt}" loading="lazy" decoding="async" draggable="false"{size}>'


def _gap(picture: Picture) -> str:
    """In place of an image: why there is none, or that the other side alone has it."""
    words, why = ("Not here", "") if picture.file else picture.state
    bad = " bad" if words in ("Failed", "Missing") else ""
    return f'<span class="gap{bad}"><b>{words}</b><span dir="auto">{escape(why[:300])}</span></span>'


# ---- what the script knows of it ----------------------------------------------------------


def _item(page_folder: Path, entry: Entry, anchor: str) -> dict[str, Any]:
    picture = entry.picture
    job, sandbox = [] if picture.file else [picture.record.name], ["--sandbox"] if picture.manifest.sandbox else []
    return {
        "id": picture.name,
        "anchor": anchor,
        "yaml": _yaml(picture),
        "replay": [_place(page_folder, picture), *job, *sandbox],
        "saved": picture.output.saved_at or "",
        "problem": picture.state[1],
        "flagged": entry.flagged,
        "same": entry.same,
        "sides": [
            {"src": link, "facts": _facts(side) if side else [], "prompt": side.prompt if side else ""}
            for link, side in zip(entry.links, entry.sides, strict=True)
        ],
    }


def _yaml(picture: Picture) -> str:
    """A preset of this one job; "" where the request is not known, or is not one that a preset can ask for."""
    with suppress(TypeError, KeyError):  # LoRAs that are none
        if picture.record.model and picture.input:
            return job_as_yaml(picture.record.model, picture.input, job_id=picture.record.name)
    return ""


def _facts(picture: Picture) -> list[tuple[str, str]]:
    """What is known of an image, as (name, value) to show."""
    record, output, request = picture.record, picture.output, picture.input
    parameters = [key for key in {**dict.fromkeys(LABELS), **request} if key not in ("prompt", "loras")]
    facts: list[tuple[str, Any]] = [
        ("State", picture.state[0] + (", replaced by a later job of this ID" if picture.replaced else "")),
        *((shown(name), value) for name, value in record.axes.items() if name not in request),
        ("Model", record.model),
        *(("LoRA", f"{shown(path)} · {shown(scale)}") for path, scale in picture.loras),
        *((LABELS.get(key, shown(key)), request.get(key)) for key in parameters),
        ("Image", f"{output.width} × {output.height}" if output.width else ""),
        ("NSFW", {True: "flagged", False: "not flagged", None: ""}[output.nsfw]),
        ("File", f"{picture.file}, {(output.bytes or 0) / 1000:,.0f} kB" if picture.file else ""),
        ("SHA-256", output.sha256),
        ("Saved", output.saved_at),
        ("Cost", _usd(record.cost) + (" (sandbox)" if picture.manifest.sandbox else "")),
        ("Time", f"{record.execution_ms / 1000:.1f} s" if record.execution_ms is not None else ""),
        ("Task", record.task_id),
        *(("Earlier task", _past(past)) for past in record.history),
        ("Preset", record.preset),
        ("Also", ", ".join(record.aliases)),
        ("Fingerprint", record.fingerprint),
        ("Folder", name_of(picture.folder)),
    ]
    return [(name, shown(value)[:2000]) for name, value in facts if value not in (None, "")]


def _past(task: PastTask) -> str:
    cost = _usd(task.cost) + (f", {_usd(task.refunded)} refunded" if task.refunded else "")
    return " · ".join(filter(None, (task.task_id or "no ID", cost, task.error)))


def _usd(amount: Decimal | None) -> str:
    return "price not known" if amount is None else f"${decimal_text(amount)}"
