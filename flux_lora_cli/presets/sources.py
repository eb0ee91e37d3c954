"""The files of presets, and all that they extend, read under confinement: one may come from a stranger's pull request.

What a preset names must lie under the folder of the preset on the command line, links resolved; no part of its name
begins with a dot (``.git``, ``.env``); it must be of the kind that is asked for. Nothing is ever waited for.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.folder.files import on_disk, open_regular, read_regular_file, read_stream
from flux_lora_cli.folder.imagefile import input_format
from flux_lora_cli.presets.job import LocalImage
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.read import decode, read_yaml
from flux_lora_cli.text import nearest, quoted

#: Bytes. A preset of 100,000 jobs has about 10 MB; images as output images.
MAX_SOURCE, MAX_IMAGE = 32 << 20, 100_000_000
#: Files that one preset may extend, all told.
MAX_FILES = 100
#: How the names of files end that are opened as presets, and as text files that hold prompts; nothing else is.
FILE_ENDS = {"preset": (".yaml", ".yml", ".json"), "text": (".txt", ".text", ".md", ".prompt", ".prompts")}
# Wildcards that are looked at to find the nearest name, and presets, to find one that extends another.
_MAX_NAMES, _MAX_OTHERS = 2_000, 200
_LFS = b"version https://git-lfs.github.com/spec/v1"
_LFS_DIGEST = re.compile(re.escape(_LFS) + rb"\r?\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\r?\n")


class Refused(Exception):
    """A file that a preset names cannot be used; the text says why."""


class Files:
    """Reads what presets name: below their own folder, and those of ``--allow-path``. Raises NotFoundError of these."""

    takes_pointers = False  # whether an image that is a Git LFS pointer counts as the file that it stands for

    def __init__(self, allow: Sequence[str | Path] = ()) -> None:
        for folder in allow:
            if not Path(folder).exists():
                raise NotFoundError(f"--allow-path: {folder}: no such folder")
        self._allowed = [os.path.realpath(folder) for folder in allow]
        self._images: dict[str, LocalImage] = {}

    def real(self, path: str | Path) -> str:
        """An absolute path, links resolved."""
        return os.path.realpath(path)

    def open(self, real: str) -> BinaryIO:
        """A regular file. Raises OSError."""
        return open_regular(real)

    # ---- named on the command line -------------------------------------------------------------

    def called(self, path: str) -> str:
        """How messages call a file that is named there."""
        return path

    def given(self, path: str) -> tuple[Source, bytes]:
        """A file named on the command line; a FIFO or process substitution is read to its end.

        Raises NotFoundError, UsageError (a folder), Refused.
        """
        try:
            kind = Path(path).stat().st_mode
        except (OSError, ValueError):
            raise NotFoundError(f"{path}: no such file{_near(path)}") from None
        if stat.S_ISDIR(kind):
            raise UsageError(f"{path} is a folder, not a preset", f"Name its files: {Path(path, '*.yaml')}")
        is_descriptor = str(Path(path).absolute()).startswith(
            ("/dev/", "/proc/")
        )  # a link, though to no file of its own
        if stat.S_ISREG(kind) and not is_descriptor:
            return self.main(path, path)
        if Path(path).is_symlink() and not is_descriptor:
            raise Refused("is a link to what is not a file")
        with _explained():
            data = _whole(read_stream(path, MAX_SOURCE))
        here = os.path.realpath(os.curdir)
        return Source(path, here, here, "", hashlib.sha256(data).hexdigest()), data

    def main(self, path: str, name: str) -> tuple[Source, bytes]:
        """A preset by its path, and how messages call it; a link is confined like a file that it would name."""
        folder, real = Path(self.real(Path(path).parent)), self.real(path)
        if real != str(folder / Path(path).name):
            root = next((each for each in (folder, *folder.parents) if (each / ".git").exists()), folder)
            self._confine(real, (str(folder), str(root)), "is a link that leads out of its repository or folder")
        return self._read(real, name)

    def given_image(self, path: str) -> LocalImage:
        """An input image named on the command line. Raises NotFoundError, UsageError."""
        if not Path(path).exists():
            raise NotFoundError(f"--image: {path}: no such file", "Name a file, or an http(s) URL.")
        try:
            return self._image(os.path.realpath(path))
        except Refused as error:
            raise UsageError(f"--image: {path}: {error}") from None

    # ---- named by a preset -----------------------------------------------------------------------

    def beside(self, path: str, source: Source, kind: str) -> tuple[Source, bytes]:
        """A file that ``source`` names; ``kind`` is "text" or "preset". Raises Refused."""
        real = self._confined(path, source)
        if not real.lower().endswith(FILE_ENDS[kind]):
            raise Refused(f"is not a {kind} file; allowed: {', '.join(FILE_ENDS[kind])}")
        return self._read(real, shown(real), source.root)

    def image(self, path: str, source: Source) -> LocalImage:
        """An input image that ``source`` names. Raises Refused."""
        return self._image(self._confined(path, source))

    def text(self, path: str, source: Source, problems: Problems) -> tuple[Source, str | None]:
        """A text file; its text is None where a problem was noted. Raises Refused."""
        found, data = self.beside(path, source, "text")
        text = decode(data, found, problems)
        if text is not None and "-----BEGIN" in text:
            raise Refused("holds a key or certificate, not prompts")
        return found, text

    def wildcard_names(self, source: Source) -> list[str]:
        """The names that ``__name__`` can have beside a file, for the nearest one."""
        folder = Path(source.folder, "wildcards")
        if not source.folder or _inside(os.path.realpath(folder), (source.root, *self._allowed)) is None:
            return []
        names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.txt"))
        return sorted(name for name in islice(names, _MAX_NAMES) if "/." not in f"/{name}")

    def is_extended(self, source: Source) -> bool:
        """Whether a preset beside this one extends it, so that what it shares is theirs to use."""
        extends = re.compile(rb"^extends:[^#]{0,1000}" + re.escape(os.fsencode(Path(source.real).name)), re.MULTILINE)
        for path in islice(Path(source.folder).glob("*.y*ml"), _MAX_OTHERS):
            with suppress(OSError):
                if str(path) != source.real and extends.search(read_regular_file(path, 1_000_000, follow=False)):
                    return True
        return False

    def _confined(self, path: str, source: Source) -> str:
        """The real path of what a file names. Raises Refused."""
        if "\0" in path or not path.strip():
            raise Refused("not a path")
        path = on_disk(path)
        root = source.root or os.path.realpath(os.curdir)
        real = self.real(Path(source.folder or root, path))
        self._confine(real, (root,), "lies outside the preset's own folder (links resolved)", path)
        return real

    def _confine(self, real: str, folders: Sequence[str], why: str, written: str = "") -> None:
        """Raises Refused where a path leaves these folders and the allowed ones, or has a name with a dot before it."""
        inner = _inside(real, (*folders, *self._allowed))
        if inner is None:
            raise Refused(f"{why}; --allow-path DIR allows more")
        named = [part for part in Path(written).parts if part not in (".", "..")]
        if any(part.startswith(".") for part in (*named, *Path(inner).parts)):
            raise Refused("a name that begins with a dot is never read")

    def _read(self, real: str, name: str, root: str = "") -> tuple[Source, bytes]:
        """A text, whole. Raises Refused."""
        with _explained(), self.open(real) as file:
            data = _whole(file.read(MAX_SOURCE + 1))
        folder = str(Path(real).parent)
        return Source(name, folder, root or folder, real, hashlib.sha256(data).hexdigest()), data

    def _image(self, real: str) -> LocalImage:
        if real in self._images:
            return self._images[real]
        with _explained(), self.open(real) as file:
            head = file.read(1024)
            digest = lfs_digest(head) if self.takes_pointers else ""
            kind = ("", "") if digest else input_format(_whole(head))
            if kind is None:
                raise Refused("is not an image; allowed: PNG, JPEG, WebP")
            size = file.seek(0, os.SEEK_END)
            if size > MAX_IMAGE:
                raise Refused(f"is too large for an input image: {size:,} bytes; allowed: {MAX_IMAGE:,}")
            file.seek(0)
            sha256 = hashlib.sha256()
            while piece := file.read(1 << 20):
                sha256.update(piece)
        self._images[real] = LocalImage(real, digest or sha256.hexdigest(), size, *kind)
        return self._images[real]


def read_layers(source: Source, data: bytes, files: Files, problems: Problems) -> list[Node]:
    """The roots of a preset and of what it extends, each once, in the order in which they apply, its own last."""
    found: list[Node] = []
    seen: set[str] = set()

    def visit(source: Source, data: bytes, above: tuple[str, ...]) -> None:
        chain = (*above, source.real or source.name)
        if chain[-1] in seen:
            return
        seen.add(chain[-1])
        text = decode(data, source, problems)
        root = read_yaml(text, source, problems) if text is not None else None
        if root is None:
            return
        if not isinstance(root.value, dict):
            message = "a preset is a mapping: version, defaults, jobs, …; a list of prompts is a .txt file"
            problems.add(root, "", message)
            return
        extends = root.get("extends")
        for node in extends.items if extends is not None else ():
            if not (isinstance(node.value, str) and node.value.lower().endswith(FILE_ENDS["preset"])):
                continue  # the checker says so
            try:
                base, data = files.beside(node.value, source, "preset")
                if base.real in chain:
                    circle = (*chain[chain.index(base.real) :], base.real)
                    names = " → ".join(Path(real).name for real in circle)
                    raise Refused(f"presets that extend each other in a circle: {names}")
                if len(seen) >= MAX_FILES:
                    raise Refused(f"more than {MAX_FILES} files that extend each other")
            except Refused as error:
                problems.add(node, "extends", f"{quoted(node.value)}: {error}")
            else:
                visit(base, data, chain)
        found.append(root)

    visit(source, data, ())
    return found


def lfs_digest(data: bytes) -> str:
    """The SHA-256 of the file that a Git LFS pointer stands for; "" where the data is none."""
    pointer = _LFS_DIGEST.match(data[:1024])
    return pointer[1].decode() if pointer else ""


def shown(real: str) -> str:
    """A path as short as it can be named from here."""
    here = os.path.relpath(real)
    return real if here.startswith("..") else here.replace(os.sep, "/")


def _inside(real: str, folders: Sequence[str]) -> str | None:
    """The path within the first of the folders that holds it; None where none does."""
    for folder in folders:
        if real == folder or real.startswith(folder.rstrip(os.sep) + os.sep):
            return os.path.relpath(real, folder)
    return None


def _whole(data: bytes) -> bytes:
    """The content of a file, if it is that. Raises Refused."""
    if len(data) > MAX_SOURCE:
        raise Refused(f"is larger than {MAX_SOURCE:,} bytes")
    if data.startswith(_LFS):
        raise Refused("is a Git LFS pointer, not the file itself; run `git lfs pull`")
    return data


@contextmanager
def _explained() -> Iterator[None]:
    """Say in words why a file cannot be used. Raises Refused for OSError."""
    try:
        yield
    except FileNotFoundError:
        raise Refused("no such file") from None
    except OSError as error:
        reason = error.strerror or "cannot be read"
        is_none = isinstance(error, IsADirectoryError) or reason == "not a regular file"
        raise Refused("is not a file" if is_none else reason.lower()) from None


def _near(path: str) -> str:
    """The file beside it that was probably meant."""
    place = Path(path)
    with suppress(OSError, ValueError):
        if found := nearest(place.name, [each.name for each in place.parent.iterdir()]):
            return f"; did you mean '{place.with_name(found)}'?"
    return ""
