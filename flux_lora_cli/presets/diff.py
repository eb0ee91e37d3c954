"""Two sides of presets, job by job: what was added, removed, renamed, changed, and what that will buy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flux_lora_cli.errors import NotFoundError, PresetError
from flux_lora_cli.presets.job import Job, LocalImage, Where
from flux_lora_cli.presets.load import Loaded, LoadOptions, load_presets
from flux_lora_cli.presets.oldside import OldFolder, is_preset, old_side
from flux_lora_cli.presets.sources import shown
from flux_lora_cli.text import counted, masked, printable

Kind = Literal["added", "removed", "renamed", "changed"]
#: Jobs of the old side that are expanded at most: whatever the limit of the new side is.
_MAX_OLD_JOBS = 100_000


@dataclass
class Change:
    """What happened to one job.

    Attributes:
        id: of the job; ``old_id``: on the old side, None where it was not there.
        preset: the file, as the new side (or, of a removed job, the old one) names it.
        parameters: that changed: from what, to what (None where a side does not set it), secrets masked; file and line
            of what set the new value, or the old.
        images: that it will buy.
        cost: USD of these; None where no price is known.
        is_floor: they may cost more.
    """

    change: Kind
    id: str
    old_id: str | None
    preset: str
    prompt: str
    where: Where
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: int = 0
    cost: Decimal | None = Decimal(0)
    is_floor: bool = False


@dataclass
class Difference:
    """All changes, in the order of the presets.

    Attributes:
        unchanged: jobs that are the same on both sides.
        notes: what the user should know of the old side.
    """

    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    notes: list[str] = field(default_factory=list)


class _Sided(NamedTuple):
    """A job of one side, what it was loaded with, and its fingerprint."""

    job: Job
    loaded: Loaded
    file: str
    fingerprint: str

    def change(self, kind: Kind, old_id: str | None, where: Where) -> Change:
        return Change(kind, self.job.id, old_id, self.file, str(self.job.params.get("prompt", "")), where)

    @property
    def values(self) -> dict[str, Any]:
        job = self.job
        seed = job.seed if job.seed is not None else "random" if job.repeat == 1 else f"random/{job.repeat}"
        params = {name: job.with_images(value, _called) for name, value in job.params.items()}
        return {"model": job.model, **params, "seed": seed}


#: The jobs of one side, by the place of their preset on the old side, and their ID.
_Jobs = dict[tuple[str, str], _Sided]


def compare(
    paths: Sequence[Path],
    origin: str,
    options: LoadOptions,
    *,
    allow: Sequence[Path] = (),
    bought: Collection[str] = frozenset(),
    price: Decimal | None = None,
) -> Difference:
    """Compare the presets of the work tree with those of the old side, a revision or folder.

    Args:
        paths: files, or folders: then the presets right in them, on both sides.
        bought: fingerprints that an output folder has.
        price: USD per image; else the documented one counts.

    Raises:
        NotFoundError: a path is on neither side.
        PresetError: the new side is invalid.
    """
    found = Difference()
    old = old_side(paths, origin, allow)
    pairs = _pairs(paths, old, origin)
    before = _old_jobs(pairs, old, origin, replace(options, max_jobs=_MAX_OLD_JOBS), found.notes)
    files = {place: str(path) for place, path in pairs.items() if path is not None}
    after = _by_id(load_presets(*files.values(), options=options, allow=allow), files) if files else {}
    paid = {*bought, *(each.fingerprint for each in before.values())}
    gone: dict[str, list[_Sided]] = {}
    for key, each in before.items():
        if key not in after:
            gone.setdefault(each.fingerprint, []).append(each)
    for key, each in after.items():
        earlier, renamed = before.get(key), gone.get(each.fingerprint)
        if earlier is not None and earlier.fingerprint == each.fingerprint:
            found.unchanged += 1
            continue
        if earlier is not None:
            change = each.change("changed", each.job.id, each.job.where)
            change.parameters = dict(_changed(earlier, each))
        elif renamed:
            change = each.change("renamed", renamed.pop(0).job.id, each.job.where)
        else:
            change = each.change("added", None, each.job.where)
        if each.fingerprint not in paid:
            paid.add(each.fingerprint)
            _price(change, each, price)
        found.changes.append(change)
    for each in (each for left in gone.values() for each in left):
        found.changes.append(each.change("removed", each.job.id, Where(each.file, each.job.where.line)))
    return found


def _price(change: Change, each: _Sided, price: Decimal | None) -> None:
    """Add what a job buys."""
    model = each.loaded.models[each.job.model]
    request = model.request(each.job.params, each.job.seed or 0)
    number = request.get("num_images", 1)
    change.images = number if isinstance(number, int) else 1
    change.cost = model.price_of(request) if price is None else price * change.images
    change.is_floor = model.price_is_floor and price is None


def _changed(earlier: _Sided, now: _Sided) -> Iterator[tuple[str, dict[str, Any]]]:
    """What differs, with the place of the new value, or of the part of it that is new; else that of the old value."""
    before, after = earlier.values, now.values
    ours, theirs = now.loaded.provenance(now.job), earlier.loaded.provenance(earlier.job)
    for name in dict.fromkeys([*after, *before]):
        if before.get(name) == after.get(name):
            continue
        where = ours.get(name) or theirs.get(name, now.job.where)
        if name in ours:
            then = {part for part, _ in earlier.loaded.parts(earlier.job, name)}
            where = next((place for part, place in now.loaded.parts(now.job, name) if part not in then), where)
        values = {"from": masked(before.get(name)), "to": masked(after.get(name))}
        yield name, values | {"file": where.file, "line": where.line}


def _called(image: LocalImage) -> str:
    return f"{Path(image.path).name} ({image.sha256[:12]})"


# ---- sides ---------------------------------------------------------------------------------------


def _pairs(paths: Sequence[Path], old: OldFolder, origin: str) -> dict[str, Path | None]:
    """Where each preset is, or would be, on the old side, and its file on the new one, if it is there."""
    pairs: dict[str, Path | None] = {}
    for path in paths:
        place = old.place(path)
        found: dict[str, Path | None] = dict.fromkeys(old.presets(place))
        if path.is_dir():
            found |= {str(Path(place, p.name)): p for p in path.iterdir() if is_preset(p.name) and not p.is_dir()}
        elif path.exists():
            found = {place: path}
        if not found:
            what = "no presets in it" if path.is_dir() else "no such file"
            raise NotFoundError(f"{printable(str(path))}: {what}, neither now nor in {printable(origin)}")
        pairs.update(sorted(found.items()))
    return pairs


def _old_jobs(places: Iterable[str], old: OldFolder, origin: str, options: LoadOptions, notes: list[str]) -> _Jobs:
    """Those of an invalid preset count as none, which is noted."""
    jobs: _Jobs = {}
    for place in filter(old.presets, places):
        try:
            jobs |= _by_id(load_presets(place, options=options, files=old), {place: shown(place)})
        except PresetError as error:
            what = f"{shown(place)} in {printable(origin)} is invalid, and its jobs count as none"
            notes.append(f"{what} ({counted(len(error.problems), 'problem')}: {error.problems[0]})")
    return jobs


def _by_id(loaded: Loaded, files: Mapping[str, str]) -> _Jobs:
    """The jobs of presets by their places, and by what each is called."""
    jobs, found = iter(loaded.jobs), {}
    for (place, file), preset in zip(files.items(), loaded.presets, strict=True):
        for job in islice(jobs, preset.jobs):
            found[place, job.id] = _Sided(job, loaded, file, job.fingerprint)
    return found
