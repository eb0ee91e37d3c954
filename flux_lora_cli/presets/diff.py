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
from flux_lora_cli.text import counted, printable

Kind = Literal["added", "removed", "renamed", "changed"]
#: Jobs of the old side that are expanded at most: whatever the limit of the new side is.
_MAX_OLD_JOBS = 100_000


class Value(NamedTuple):
    """A parameter that changed; None where a side does not set it. ``where``: what set the new value, or the old."""

    old: Any
    new: Any
    where: Where


@dataclass
class Change:
    """What happened to one job.

    Attributes:
        preset: the file, as the new side (or, of a removed job, the old one) names it.
        id: of the job; ``old_id``: on the old side, None where it was not there.
        images: that it will buy.
        cost: USD of these; None where no price is known.
        is_floor: they may cost more.
    """

    kind: Kind
    preset: str
    id: str
    old_id: str | None
    prompt: str
    where: Where
    parameters: Mapping[str, Value] = field(default_factory=dict)
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

    @property
    def images(self) -> int:
        """Images to buy."""
        return sum(change.images for change in self.changes)

    @property
    def cost(self) -> Decimal | None:
        """USD of all; None where a price is not known."""
        known = [change.cost for change in self.changes if change.cost is not None]
        return sum(known, Decimal(0)) if len(known) == len(self.changes) else None


class _Sided(NamedTuple):
    """A job of one side, what it was loaded with, and its fingerprint."""

    job: Job
    loaded: Loaded
    file: str
    fingerprint: str

    def change(self, kind: Kind, old_id: str | None, where: Where, **more: Any) -> Change:
        return Change(kind, self.file, self.job.id, old_id, str(self.job.params.get("prompt", "")), where, **more)

    @property
    def values(self) -> dict[str, Any]:
        job = self.job
        seed = job.seed if job.seed is not None else "random" if job.repeat == 1 else f"random/{job.repeat}"
        params = {name: job.with_images(value, _called) for name, value in job.params.items()}
        return {"model": job.model, **params, "seed": seed}


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
    with old_side(paths, origin, allow) as old:
        pairs = _pairs(paths, old, origin)
        then = replace(options, max_jobs=_MAX_OLD_JOBS)
        before = dict(_old_jobs(pairs, old, origin, then, found.notes))
    after = dict(_new_jobs({name: path for name, path in pairs.items() if path is not None}, options, allow))
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
            values = dict(_changed(earlier, each))
            change = each.change("changed", each.job.id, each.job.where, parameters=values)
        elif renamed:
            change = each.change("renamed", renamed.pop(0).job.id, each.job.where)
        else:
            change = each.change("added", None, each.job.where)
        if each.fingerprint not in paid:
            paid.add(each.fingerprint)
            change.images, change.cost, change.is_floor = _purchase(each.job, options, price)
        found.changes.append(change)
    for each in (each for left in gone.values() for each in left):
        found.changes.append(each.change("removed", each.job.id, Where(each.file, each.job.where.line)))
    return found


def _purchase(job: Job, options: LoadOptions, price: Decimal | None) -> tuple[int, Decimal | None, bool]:
    """Images to buy for a job, what they cost in USD, and whether they may cost more."""
    model = options.models.find(job.model, options.api_version, allow_unknown=options.allow_unknown_model)
    request = model.request(job.params, job.seed or 0)
    number = request.get("num_images", 1)
    images = number if isinstance(number, int) else 1
    return (images, model.price_of(request), model.price_is_floor) if price is None else (images, price * images, False)


def _changed(earlier: _Sided, now: _Sided) -> Iterator[tuple[str, Value]]:
    """What differs, with the place of the new value, or of the part of it that is new; else that of the old value."""
    before, after = earlier.values, now.values
    ours = now.loaded.provenance(now.job)
    for name in dict.fromkeys([*after, *before]):
        if before.get(name) == after.get(name):
            continue
        where = ours.get(name)
        if where is None:
            theirs = earlier.loaded.provenance(earlier.job).get(name)
            where = theirs or now.job.where
        else:
            then = {part for part, _ in earlier.loaded.parts(earlier.job, name)}
            where = next((place for part, place in now.loaded.parts(now.job, name) if part not in then), where)
        yield name, Value(before.get(name), after.get(name), where)


def _called(image: LocalImage) -> str:
    return f"{Path(image.path).name} ({image.sha256[:12]})"


# ---- sides ---------------------------------------------------------------------------------------

_Jobs = Iterator[tuple[tuple[str, str], _Sided]]


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
    """By preset and ID; those of an invalid preset count as none."""
    for place in places:
        if not old.presets(place):
            continue
        try:
            loaded = load_presets(place, options=options, files=old)
        except PresetError as error:
            first = f": {error.problems[0]}" if error.problems else ""
            problems = counted(len(error.problems), "problem")
            name, side = shown(place), printable(origin)
            notes.append(f"{name} in {side} is invalid, and its jobs count as none ({problems}{first})")
            continue
        for job in loaded.jobs:
            yield (place, job.id), _Sided(job, loaded, shown(place), job.fingerprint)


def _new_jobs(files: Mapping[str, Path], options: LoadOptions, allow: Sequence[Path]) -> _Jobs:
    if not files:
        return
    loaded = load_presets(*files.values(), options=options, allow=allow)
    jobs = iter(loaded.jobs)
    for (place, path), preset in zip(files.items(), loaded.presets, strict=True):
        for job in islice(jobs, preset.jobs):
            yield (place, job.id), _Sided(job, loaded, str(path), job.fingerprint)
