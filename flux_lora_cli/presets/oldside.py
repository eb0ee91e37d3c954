"""Presets as they were: in another folder, or at a revision, read from git alone.

Of a revision nothing is written out: what a preset names is looked up in the commit's list of files, links included,
and its content asked of git. Nothing is fetched, no hook or filter runs, no file of the work tree is looked at (but for
one in Git LFS, which must have the hash that git says).
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from flux_lora_cli.errors import NotFoundError
from flux_lora_cli.folder.files import read_regular_file
from flux_lora_cli.presets.nodes import Source
from flux_lora_cli.presets.sources import MAX_IMAGE, MAX_SOURCE, Files, lfs_digest, shown
from flux_lora_cli.text import printable, quoted

_LINK = "120000"
#: Links on the way to one file, and bytes of one, as Linux has it.
_MAX_LINKS, _MAX_LINK = 40, 4_096
#: Variables of a hook or a caller that would make git look elsewhere; and what keeps it from the network.
_DROPPED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE",
            "GIT_COMMON_DIR", "GIT_ALTERNATE_OBJECT_DIRECTORIES")  # fmt: skip
_QUIET = {"GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}
_GIT = (
    "git",
    "--no-pager",
    "--literal-pathspecs",
    "-c",
    "protocol.allow=never",
    "-c",
    "safe.bareRepository=explicit",
)  # fmt: skip - none among the files


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
            if mode == _LINK:
                self._links[top / os.fsdecode(name)] = ""  # not read yet

    def real(self, path: str | Path) -> str:
        """An absolute path, links resolved as the commit has them."""
        left, found, links = list(reversed(Path(path).parts)), Path(), 0
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
        data = self._content(path)
        if digest := lfs_digest(data):
            common = os.fsdecode(_git(self._folder, "rev-parse", "--git-common-dir").removesuffix(b"\n"))
            kept = Path(self._folder, common, "lfs/objects", digest[:2], digest[2:4], digest)
            for place in (os.path.realpath(kept), real):
                with suppress(OSError):
                    whole = read_regular_file(place, MAX_SOURCE) if os.path.realpath(place) == place else b""
                    if hashlib.sha256(whole).hexdigest() == digest:
                        return io.BytesIO(whole)
        return io.BytesIO(data)

    def _content(self, path: Path, most: int = MAX_IMAGE) -> bytes:
        """A whole blob, which is held in memory. Raises OSError: it is larger than that."""
        try:
            if int(_git(self._folder, "cat-file", "-s", self._hashes[path])) > most:
                raise OSError(errno.EFBIG, f"is larger than {most:,} bytes")
            return _git(self._folder, "cat-file", "blob", self._hashes[path])
        except NotFoundError:
            message = f"git: {printable(shown(str(path)))} as it was is not in this clone"
            raise NotFoundError(message, "Clone the whole repository, without --filter.") from None

    def given(self, path: str) -> tuple[Source, bytes]:
        """A preset of the commit. Raises Refused."""
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


def old_side(paths: Sequence[Path], origin: str, allow: Sequence[Path]) -> OldFolder:
    """The side that ``--from`` names, a revision or else a folder. Raises NotFoundError: neither, no git, …"""
    folder = Path(origin)
    if not (folder.is_dir() and (origin.startswith((".", os.sep)) or origin.endswith(("/", os.sep)))):
        try:
            top = _top(paths[0])
            return Revision(top, _commit(top, origin), allow)
        except NotFoundError:
            if not origin or not folder.is_dir():
                raise
    return OldFolder(folder, allow)


# ---- git ---------------------------------------------------------------------------------------


def _git(folder: Path, *words: str) -> bytes:
    """What a command of git prints. Raises NotFoundError with what it says."""
    env = {name: value for name, value in os.environ.items() if name not in _DROPPED} | _QUIET
    try:
        done = subprocess.run([*_GIT, "-C", str(folder), *words], capture_output=True, env=env, check=False)  # noqa: S603
    except FileNotFoundError:
        raise NotFoundError("git is not installed", "Install it, or compare with a folder: --from DIR.") from None
    if done.returncode:
        said, _, more = done.stderr.decode("utf-8", "replace").strip().rpartition("fatal: ")[2].partition("\n")
        hint = " ".join(more.split()) or "To compare with a folder instead: --from DIR."
        raise NotFoundError(f"git: {printable(said[:300])}", hint)
    return done.stdout


def _top(place: Path) -> Path:
    """The repository that holds a path, whether that exists or not."""
    there = next(p for p in (place.absolute(), *place.absolute().parents) if p.is_dir())
    return Path(os.path.realpath(os.fsdecode(_git(there, "rev-parse", "--show-toplevel").removesuffix(b"\n"))))


def _commit(top: Path, revision: str) -> str:
    """The commit of a revision; of ``A...`` its merge base with ``HEAD``."""
    name, what = revision.removesuffix("..."), "is not a revision of this repository"
    try:
        # With ^{commit} behind it, nothing that the user writes is an option.
        commit = _git(top, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
        what = "has no merge base with HEAD"
        return _git(top, "merge-base", commit, "HEAD").decode().strip() if name != revision else commit
    except NotFoundError:
        hint = "Name a commit, branch or tag that is here (git fetch gets those of the remote), or a folder."
        if _git(top, "rev-parse", "--is-shallow-repository").strip() == b"true":
            hint = "This clone is shallow: run git fetch --unshallow (actions/checkout: fetch-depth: 0)."
        raise NotFoundError(f"--from {quoted(revision)} {what}", hint) from None
