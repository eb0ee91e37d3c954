"""Two sides of presets, job by job: what was added, removed, renamed, changed, and what that will buy.

The old side is another folder, or a revision, read from git alone. Of a revision nothing is written out: what a preset
names is looked up in the commit's list of files, links included, and its content asked of git. Nothing is fetched, no
hook or filter runs, no file of the work tree is looked at (but for one in Git LFS, which must have the right hash).
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from flux_lora_cli.errors import NotFoundError, PresetError
from flux_lora_cli.folder.files import read_regular_file
from flux_lora_cli.presets.job import Job
from flux_lora_cli.presets.load import Loaded, LoadOptions, load_presets
from flux_lora_cli.presets.nodes import Source
from flux_lora_cli.presets.sources import MAX_IMAGE, MAX_SOURCE, Files, lfs_digest, shown
from flux_lora_cli.text import counted, masked, printable, quoted

#: Jobs of the old side that are expanded at most, whatever the limit of the new one.
_MAX_OLD_JOBS = 100_000
#: Links on the way to one file, and bytes of one, as Linux has it.
_MAX_LINKS, _MAX_LINK = 40, 4_096
#: Variables of a hook or a caller that would make git look elsewhere; and what keeps it from network and work tree.
_DROPPED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE",
            "GIT_COMMON_DIR", "GIT_ALTERNATE_OBJECT_DIRECTORIES")  # fmt: skip
_ADDED = {"GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}
_GIT = ("git", "-c", "protocol.allow=never", "-c", "safe.bareRepository=explicit")


@dataclass
class Change:
    """What happened to one job (of one that was removed, the old one).

    Attributes:
        old_id: on the old side, None where it was not there.
        parameters: that changed: from what, to what (None where a side does not set it), secrets masked; file and line
            of what set the new value, or the old.
        images: that it will buy.
        cost: USD of these, or, with ``is_floor``, at least; None where no price is known.
    """

    change: Literal["added", "removed", "renamed", "changed"]
    job: Job
    preset: str
    old_id: str | None
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: int = 0
    cost: Decimal | None = Decimal(0)
    is_floor: bool = False


@dataclass
class Difference:
    """All changes, in the order of the presets; how many jobs did not change; what is to be said of the old side."""

    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    notes: list[str] = field(default_factory=list)


class _Sided(NamedTuple):
    """A job of one side, what it was loaded with, its preset, and its fingerprint."""

    job: Job
    loaded: Loaded
    file: str
    fingerprint: str

    def values(self) -> dict[str, Any]:
        job = self.job
        drawn = "random" if job.repeat == 1 else f"random/{job.repeat}"
        params = {
            name: job.with_images(value, lambda image: f"{Path(image.path).name} ({image.sha256[:12]})")
            for name, value in job.params.items()
        }
        return {"model": job.model, **params, "seed": drawn if job.seed is None else job.seed}


#: The jobs of one side, by the place of their preset on the old side, and their ID.
_Jobs = dict[tuple[str, str], _Sided]


def compare(
    paths: Sequence[Path],
    origin: str,
    options: LoadOptions,
    allow: Sequence[Path],
    bought: Collection[str],
    price: Decimal | None,
) -> Difference:
    """Compare the presets of the work tree with those of the old side, a revision or folder.

    Args:
        paths: files, or folders: then the presets right in them, on both sides.
        bought: fingerprints that an output folder has.
        price: USD per image; else the documented one counts.

    Raises NotFoundError where a path is on neither side, or there is no such side; PresetError: the new one is invalid.
    """
    found = Difference()
    old = _old_side(paths, origin, allow)
    pairs = dict(pair for path in paths for pair in _pairs(path, old, origin))
    before, unlimited = _Jobs(), replace(options, max_jobs=_MAX_OLD_JOBS)
    for place in filter(old.presets, pairs):
        try:
            before |= _by_id(load_presets(place, options=unlimited, files=old), {place: shown(place)})
        except PresetError as error:
            what = f"{shown(place)} in {printable(origin)} is invalid, and its jobs count as none"
            found.notes.append(f"{what} ({counted(len(error.problems), 'problem')}: {error.problems[0]})")
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
        change = Change("added", each.job, each.file, None)
        if earlier is not None:
            change.change, change.old_id, change.parameters = "changed", each.job.id, dict(_changed(earlier, each))
        elif renamed:
            change.change, change.old_id = "renamed", renamed.pop(0).job.id
        if each.fingerprint not in paid:
            paid.add(each.fingerprint)
            _buy(change, each, price)
        found.changes.append(change)
    found.changes += [Change("removed", each.job, each.file, each.job.id) for left in gone.values() for each in left]
    return found


def _pairs(path: Path, old: OldFolder, origin: str) -> list[tuple[str, Path | None]]:
    """Where each preset is, or would be, on the old side, and its file on the new one, if it is there."""
    place = old.place(path)
    found: dict[str, Path | None] = dict.fromkeys(old.presets(place))
    if path.is_dir():
        found |= {str(Path(place, p.name)): p for p in path.iterdir() if is_preset(p.name) and not p.is_dir()}
    elif path.exists():
        found = {place: path}
    if not found:
        what = "no presets in it" if path.is_dir() else "no such file"
        raise NotFoundError(f"{printable(str(path))}: {what}, neither now nor in {printable(origin)}")
    return sorted(found.items())


def _by_id(loaded: Loaded, files: Mapping[str, str]) -> _Jobs:
    """The jobs of presets by their places, and by what each is called."""
    jobs, found = iter(loaded.jobs), {}
    for (place, file), preset in zip(files.items(), loaded.presets, strict=True):
        for job in islice(jobs, preset.jobs):
            found[place, job.id] = _Sided(job, loaded, file, job.fingerprint)
    return found


def _buy(change: Change, each: _Sided, price: Decimal | None) -> None:
    """Add what a job buys."""
    model = each.loaded.models[each.job.model]
    request = model.request(each.job.params, each.job.seed or 0)
    number = request.get("num_images", 1)
    change.images = number if isinstance(number, int) else 1
    change.cost = model.price_of(request) if price is None else price * change.images
    change.is_floor = model.price_is_floor and price is None


def _changed(earlier: _Sided, now: _Sided) -> Iterator[tuple[str, dict[str, Any]]]:
    """What differs, with the place of the new value, or of the part of it that is new; else that of the old value."""
    before, after = earlier.values(), now.values()
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


# ---- the old side --------------------------------------------------------------------------------


def is_preset(name: str) -> bool:
    """Whether a file of this name is a preset."""
    return name.lower().endswith((".yaml", ".yml")) and not name.startswith(".")


class OldFolder(Files):
    """A folder with the presets as they were."""

    takes_pointers = True

    def __init__(self, folder: Path, allow: Sequence[Path]) -> None:
        super().__init__(allow)
        self._folder = folder

    def place(self, path: Path) -> str:
        """Where a path of the new side is, or would be, on this one. Raises NotFoundError: outside the repository."""
        inner = Path(os.path.relpath(path))
        if ".." in inner.parts or not (self._folder / inner).exists():
            inner = Path() if path.is_dir() else Path(path.name)
        return str(self._folder / inner)

    def presets(self, place: str) -> list[str]:
        """The preset at a place, or those right in this folder; none where this side does not have it."""
        path = Path(place)
        inner = path.iterdir() if path.is_dir() else []
        return [str(each) for each in inner if is_preset(each.name) and each.is_file()] or [place] * path.is_file()


class Revision(OldFolder):
    """The files of a commit, under the paths that they have, or would have, in the work tree."""

    def __init__(self, top: Path, commit: str, allow: Sequence[Path]) -> None:
        super().__init__(top, allow)
        self._hashes: dict[Path, str] = {}
        self._links: dict[Path, str] = {}
        for line in filter(None, _git(top, "ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")):
            head, _, name = line.partition(b"\t")
            mode, kind, digest = head.decode().split()
            if kind == "blob":
                self._hashes[top / os.fsdecode(name)] = digest
            if mode == "120000":
                self._links[top / os.fsdecode(name)] = ""  # not read yet

    def real(self, path: str | Path) -> str:
        """An absolute path, links resolved as the commit has them."""
        left, found, links = [*reversed(Path(path).parts)], Path(), 0
        while left:
            part = left.pop()
            found = found.parent if part == ".." else found / part
            if found in self._links and links < _MAX_LINKS:
                links += 1
                with suppress(OSError):  # longer than any link: it leads nowhere
                    self._links[found] = self._links[found] or os.fsdecode(self._content(found, _MAX_LINK))
                left += reversed(Path(self._links[found]).parts)
                found = found.parent
        return str(found)

    def open(self, real: str) -> BinaryIO:
        """A file as it was; of a Git LFS pointer the whole, where Git LFS or the work tree has it. Raises OSError."""
        path = Path(real)
        if path not in self._hashes or path in self._links:
            raise FileNotFoundError(errno.ENOENT, "no such file", real)
        data = self._content(path, MAX_IMAGE)
        if digest := lfs_digest(data):
            common = os.fsdecode(_git(self._folder, "rev-parse", "--git-common-dir").removesuffix(b"\n"))
            kept = Path(self._folder, common, "lfs/objects", digest[:2], digest[2:4], digest)
            for place in (os.path.realpath(kept), real):
                with suppress(OSError):
                    whole = read_regular_file(place, MAX_SOURCE) if os.path.realpath(place) == place else b""
                    if hashlib.sha256(whole).hexdigest() == digest:
                        return io.BytesIO(whole)
        return io.BytesIO(data)

    def _content(self, path: Path, most: int) -> bytes:
        """A whole blob, which is held in memory. Raises OSError: it is larger than that."""
        try:
            if int(_git(self._folder, "cat-file", "-s", self._hashes[path])) > most:
                raise OSError(errno.EFBIG, f"is larger than {most:,} bytes")
            return _git(self._folder, "cat-file", "blob", self._hashes[path])
        except NotFoundError:
            message = f"git: {printable(shown(str(path)))} as it was is not in this clone"
            raise NotFoundError(message, "Clone the whole repository, without --filter.") from None

    def given(self, path: str) -> tuple[Source, bytes]:
        return self.main(path, self.called(path))

    def called(self, path: str) -> str:
        return shown(path)

    def place(self, path: Path) -> str:
        real = Path(os.path.realpath(path)) if path.is_dir() else Path(os.path.realpath(path.parent), path.name)
        if not real.is_relative_to(self._folder):
            raise NotFoundError(f"{printable(str(path))} is not in the repository {printable(str(self._folder))}")
        return str(real)

    def presets(self, place: str) -> list[str]:
        path = Path(place)
        if Path(self.real(path.parent), path.name) in self._hashes:
            return [place]
        folder = Path(self.real(path))
        return [str(path / each.name) for each in self._hashes if each.parent == folder and is_preset(each.name)]

    def wildcard_names(self, source: Source) -> list[str]:
        """None: they are for hints."""
        return []

    def is_extended(self, source: Source) -> bool:
        """No: it is for notes."""
        return False


def _old_side(paths: Sequence[Path], origin: str, allow: Sequence[Path]) -> OldFolder:
    """The side that ``--from`` names, a revision or else a folder. Raises NotFoundError."""
    folder = Path(origin)
    if not (folder.is_dir() and (origin.startswith((".", os.sep)) or origin.endswith(("/", os.sep)))):
        try:
            here = paths[0].absolute()
            there = next(each for each in (here, *here.parents) if each.is_dir())
            top = Path(os.path.realpath(os.fsdecode(_git(there, "rev-parse", "--show-toplevel").removesuffix(b"\n"))))
            return Revision(top, _commit(top, origin), allow)
        except NotFoundError:
            if not origin or not folder.is_dir():
                raise
    return OldFolder(folder, allow)


def _commit(top: Path, revision: str) -> str:
    """The commit of a revision; of ``A...`` its merge base with ``HEAD``. Raises NotFoundError."""
    name = revision.removesuffix("...")
    try:
        # With ^{commit} behind it, nothing that the user writes is an option.
        commit = _git(top, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
        return _git(top, "merge-base", commit, "HEAD").decode().strip() if name != revision else commit
    except NotFoundError:
        hint = "Name a commit, branch or tag that is here (git fetch gets those of the remote), or a folder."
        if _git(top, "rev-parse", "--is-shallow-repository").strip() == b"true":
            hint = "This clone is shallow: run git fetch --unshallow (actions/checkout: fetch-depth: 0)."
        what = "is not a revision of this repository, or has no merge base with HEAD"
        raise NotFoundError(f"--from {quoted(revision)} {what}", hint) from None


def _git(folder: Path, *words: str) -> bytes:
    """What a command of git prints. Raises NotFoundError with what it says."""
    env = {name: value for name, value in os.environ.items() if name not in _DROPPED} | _ADDED
    try:
        done = subprocess.run([*_GIT, "-C", str(folder), *words], capture_output=True, env=env, check=False)  # noqa: S603
    except FileNotFoundError:
        raise NotFoundError("git is not installed", "Install it, or compare with a folder: --from DIR.") from None
    if done.returncode:
        said, _, more = done.stderr.decode("utf-8", "replace").strip().rpartition("fatal: ")[2].partition("\n")
        hint = " ".join(more.split()) or "To compare with a folder instead: --from DIR."
        raise NotFoundError(f"git: {printable(said[:300])}", hint)
    return done.stdout
