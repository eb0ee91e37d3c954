"""Presets as they were: at a revision, read from git alone, or in another folder.

What a revision needs is written out into a folder of its own and read from there like any preset. Nothing is fetched,
no hook runs, no file of the work tree is looked at (but for a text in Git LFS, which must have the hash that git says).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path, PurePosixPath

from flux_lora_cli.errors import FolderError, NotFoundError
from flux_lora_cli.folder.files import read_regular_file
from flux_lora_cli.presets.sources import lfs_digest
from flux_lora_cli.text import printable, quoted

SUFFIXES = (".yaml", ".yml")
_TEXTS = (*SUFFIXES, ".json", ".txt", ".text", ".md", ".prompt", ".prompts", ".csv", ".tsv", ".jsonl", ".ndjson")
#: Bytes: as presets and images are limited; and of all that is written out.
_MAX_TEXT, _MAX_IMAGE, _MAX_ALL = 32 << 20, 100_000_000, 512 << 20
_MAX_LINK = 4_096  # of Linux, a final NUL included
_AT_ONCE = 16 << 20  # held in memory
_SECONDS = 60
#: Variables of a hook or a caller that would make git look elsewhere.
_DROPPED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE",
            "GIT_COMMON_DIR", "GIT_ALTERNATE_OBJECT_DIRECTORIES")  # fmt: skip
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0",
          "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}  # fmt: skip
#: Names of files in presets and lists are made of these; and what stands for something else there.
_WORD = re.compile(rb"""[^\s/\\"'\[\]{},;:]+""")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U000([0-9a-fA-F]{5}))")
_QUOTE = re.compile(r"""\\(["\\/])|(["'])\2""")
_LINK = "120000"
_WHOLE = "Clone the whole repository, without --filter."
_OR_FOLDER = "To compare with a folder instead: --from DIR."


@dataclass
class OldSide:
    """A folder with the presets as they were. Its paths are relative to it, with ``/``.

    Attributes:
        label: what messages call it.
        top: the repository that it is a picture of; None for a folder that the user named.
    """

    folder: Path
    label: str
    top: Path | None = None

    def relative(self, path: Path) -> str:
        """A path of the new side as one of this side. Raises NotFoundError where it lies outside the repository."""
        if self.top is not None:
            return _inside(self.top, path)
        inner = os.path.relpath(path).replace(os.sep, "/")
        if not inner.startswith("..") and (self.folder / inner).exists():
            return inner
        return "." if path.is_dir() else path.name

    def presets(self, relative: str) -> list[str]:
        """The preset of this path, or those right in this folder; none where this side does not have it."""
        place = self.folder / relative
        names = sorted(p.name for p in place.iterdir() if is_preset(p.name)) if place.is_dir() else [""]
        return [name for name in (str(PurePosixPath(relative, name)) for name in names) if self.has(name)]

    def has(self, name: str) -> bool:
        """Whether a file is on this side; a folder that is a link out of the repository holds none."""
        place = self.folder / name
        there = self.top is None or Path(os.path.realpath(place.parent)).is_relative_to(self.folder)
        return there and place.is_file()

    def shown(self, text: str) -> str:
        """The name of a file, or a message with such names, as the user knows them."""
        if self.top is None:
            return text
        prefix = os.path.relpath(self.top)
        return text.replace(f"{self.folder}{os.sep}", "" if prefix == "." else f"{prefix}{os.sep}")

    def allowed(self, folders: Sequence[Path]) -> list[Path]:
        """What ``--allow-path`` means here: of a revision nothing outside the repository is read."""
        if self.top is None:
            return list(folders)
        real = [Path(os.path.realpath(folder)) for folder in folders]
        if any(self.top.is_relative_to(folder) for folder in real):
            return [self.folder]
        places = [self.folder / folder.relative_to(self.top) for folder in real if folder.is_relative_to(self.top)]
        return [place for place in places if place.exists()]


@contextmanager
def old_side(paths: Sequence[Path], origin: str) -> Iterator[OldSide]:
    """The side that ``--from`` names, a revision or else a folder, with what ``paths`` were there.

    Raises:
        NotFoundError: neither; no git, or no repository.
        FolderError: nothing can be written into the temporary folder.
    """
    folder, top, commit = Path(origin), Path(), ""
    if not (folder.is_dir() and (origin.startswith((".", os.sep)) or origin.endswith(("/", os.sep)))):
        try:
            top = _top(paths[0])
            commit = _commit(top, origin)
        except NotFoundError:
            if not origin or not folder.is_dir():
                raise
    if not commit:
        yield OldSide(folder, printable(origin))
        return
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="flux-lora-diff-"))
            picture = Path(os.path.realpath(temporary))
            _write_out(top, commit, [_inside(top, path) for path in paths], picture)
        except OSError as error:
            why = printable(str(error.strerror or error))
            message = f"the old side cannot be written into the temporary folder: {why}"
            raise FolderError(message, "Make room, or name another folder with TMPDIR.") from error
        yield OldSide(picture, printable(origin), top)


def is_preset(name: str) -> bool:
    """Whether a file of this name is a preset."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _is_text(name: str) -> bool:
    return name.lower().endswith(_TEXTS)


# ---- git ---------------------------------------------------------------------------------------

#: Mode, hash and size of a file of a commit.
_Entry = tuple[str, str, int]


def _git(folder: Path, *words: str, data: bytes = b"") -> bytes:
    """What a command of git prints. Raises NotFoundError with what it says."""
    env = {name: value for name, value in os.environ.items() if name not in _DROPPED} | _QUIET
    settings = ("protocol.allow=never", "core.fsmonitor=false", "safe.bareRepository=explicit")  # none among the files
    options = ("--no-pager", "--literal-pathspecs", *(word for each in settings for word in ("-c", each)))
    try:
        command = ["git", *options, "-C", str(folder), *words]
        done = subprocess.run(command, input=data, capture_output=True, env=env, timeout=_SECONDS, check=False)  # noqa: S603
    except FileNotFoundError:
        raise NotFoundError("git is not installed", "Install it, or compare with a folder: --from DIR.") from None
    except subprocess.TimeoutExpired:
        raise NotFoundError(f"git did not answer within {_SECONDS} s", _OR_FOLDER) from None
    if done.returncode:
        all_said = done.stderr.decode("utf-8", "replace").strip()
        said = all_said.rpartition("fatal: ")[2].partition("\n")[0]
        hint = _OR_FOLDER
        if owned := re.search("dubious ownership in repository at '(.+)'", said):
            hint = f"If you trust it: git config --global --add safe.directory {shlex.quote(owned[1])}"
        elif "promisor remote" in said:
            said, hint = "this partial clone does not have all files of that revision", _WHOLE
        raise NotFoundError(f"git: {printable(said[:300])}", hint)
    return done.stdout


def _top(place: Path) -> Path:
    """The repository that holds a path, whether that exists or not."""
    there = next(p for p in (place.absolute(), *place.absolute().parents) if p.is_dir())
    return Path(os.path.realpath(os.fsdecode(_git(there, "rev-parse", "--show-toplevel").removesuffix(b"\n"))))


def _inside(top: Path, path: Path) -> str:
    """A path relative to its repository; a preset that is a link is called as the link is."""
    real = Path(os.path.realpath(path)) if path.is_dir() else Path(os.path.realpath(path.parent), path.name)
    if not real.is_relative_to(top):
        raise NotFoundError(f"{printable(str(path))} is not in the repository {printable(str(top))}")
    return real.relative_to(top).as_posix()


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


def _listing(top: Path, commit: str) -> Iterator[tuple[str, _Entry]]:
    """Every file of a commit that is small enough for a preset, or for what one names."""
    for line in _git(top, "ls-tree", "-r", "-l", "-z", "--full-tree", commit).split(b"\0"):
        head, _, path = line.partition(b"\t")
        mode, kind, digest, size = head.decode().split() if head else [""] * 4
        name = os.fsdecode(path)
        largest = _MAX_TEXT if _is_text(name) else _MAX_IMAGE
        length = int(size) if size.isdigit() else 0  # BAD: it is not in this clone
        if kind == "blob" and length <= largest:
            yield name, (mode, digest, length)


def _read(top: Path, entries: Mapping[str, _Entry]) -> Iterator[tuple[str, bytes]]:
    """The content of files. Raises NotFoundError where one is missing, as in a partial clone."""
    ends = accumulate(length for _, _, length in entries.values())
    for _, group in groupby(zip(entries, ends, strict=True), key=lambda entry: entry[1] // _AT_ONCE):
        names = [name for name, _ in group]
        hashes = "".join(f"{entries[name][1]}\n" for name in names)
        data, at = _git(top, "cat-file", "--batch", data=hashes.encode()), 0
        for name in names:
            end = data.index(b"\n", at)
            head = data[at:end].split()
            at = end + 1
            if len(head) != 3:
                raise NotFoundError(f"git: {printable(name)} as it was is not in this clone", _WHOLE)
            size = int(head[2])
            yield name, data[at : at + size]
            at += size + 1


def _write_out(top: Path, commit: str, paths: Sequence[str], picture: Path) -> None:
    """Write out presets, whatever file their texts mention, and what these mention."""
    (picture / ".git").mkdir()  # the mark by which links are confined to the repository
    entries = dict(_listing(top, commit))
    by_name: dict[bytes, set[str]] = {}
    waiting, done = set[str](), set[str]()
    for name in entries:
        folder, _, last = name.rpartition("/")
        by_name.setdefault(os.fsencode(last), set()).add(name)
        if name in paths or ((folder or ".") in paths and is_preset(last)) or "/wildcards/" in f"/{folder}/":
            waiting.add(name)
    left = _MAX_ALL
    while waiting:
        texts = b""
        for name, data in _read(top, {name: entries[name] for name in sorted(waiting)}):
            left -= len(data)
            if left < 0:
                return
            place, is_link = _place(picture, name), entries[name][0] == _LINK
            if place is None:
                continue
            if is_link and 0 < len(data) < _MAX_LINK and b"\0" not in data:
                place.symlink_to(os.fsdecode(data))
            elif not is_link and _is_text(name):
                data = _lfs_text(top, name, data)
            if is_link or _is_text(name):
                texts += b"\n" + data
            if not is_link:
                place.write_bytes(data)
        done |= waiting
        texts += _spelled_out(texts)
        words = set(_WORD.findall(texts))  # looked at first: many names times a long text are slow
        named = (last for last in by_name if words.issuperset(_WORD.findall(last)) and last in texts)
        waiting = {name for last in named for name in by_name[last]} - done


def _place(picture: Path, name: str) -> Path | None:
    """Where a file is written; None where a tree that git would not have made leads elsewhere, or there twice."""
    place = picture / name
    if not Path(os.path.realpath(place.parent)).is_relative_to(picture) or os.path.lexists(place):
        return None
    with suppress(FileExistsError, NotADirectoryError):
        place.parent.mkdir(parents=True, exist_ok=True)
        return place
    return None


def _lfs_text(top: Path, name: str, data: bytes) -> bytes:
    """A text; of a Git LFS pointer the text that it stands for, where Git LFS or the work tree has that."""
    pointer = lfs_digest(data)
    if not pointer:
        return data
    common = os.path.realpath(Path(top, os.fsdecode(_git(top, "rev-parse", "--git-common-dir").removesuffix(b"\n"))))
    for path in (Path(common, "lfs/objects", pointer[:2], pointer[2:4], pointer), top / name):
        with suppress(OSError):
            if Path(os.path.realpath(path)) == path:  # reached through no link
                whole = read_regular_file(path, _MAX_TEXT, follow=False)
                if hashlib.sha256(whole).hexdigest() == pointer:
                    return whole
    return data


def _spelled_out(texts: bytes) -> bytes:
    """Texts once more with what YAML, JSON and CSV write in other ways: escapes, doubled quotes, folded lines."""
    text = _ESCAPE.sub(lambda match: chr(int(match[1] or match[2] or match[3], 16)), texts.decode("utf-8", "replace"))
    text = _QUOTE.sub(r"\1\2", text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return b"\n" + " ".join(text.split()).encode()
