"""What a gallery shows of an output folder: its images and gaps, in which ways they differ, and how to lay them out."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from flux_lora_cli.errors import FolderError, NotFoundError, UsageError
from flux_lora_cli.folder.files import explained, inside, make_folders, on_disk, write_atomically
from flux_lora_cli.folder.imagefile import IMAGE_ENDINGS
from flux_lora_cli.folder.manifest import Manifest, read_manifest
from flux_lora_cli.folder.records import JobRecord, OutputRecord, State, error_parts
from flux_lora_cli.text import mask_secrets, nearest, printable, quoted

if TYPE_CHECKING:
    from PIL import Image

#: A facet of more values is found by search, not offered as a list or an axis.
MAX_FACET_VALUES = 60
NO_VALUE = "–"
#: Facets that are axes only where there is nothing else to lay pictures out by.
_LAST = ("seed", "repeat", "Seed", "Image of job", "Preset", "Prompt", "Folder")
OTHER_FOLDER = "Name another folder with -o."
#: What people call request parameters.
LABELS = {
    "size": "Size", "num_inference_steps": "Steps", "guidance_scale": "Guidance", "strength": "Strength",
    "image": "Input image", "seed": "Seed", "num_images": "Images", "enable_safety_checker": "Safety checker",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a job, or the gap where it would be.

    Attributes:
        output: an empty one where the job has none yet.
        file: relative to ``folder``, checked to be an image inside it; None for a gap.
        replaced: a later job of the same preset took over this one's ID.
    """

    folder: Path
    manifest: Manifest
    record: JobRecord
    output: OutputRecord
    file: str | None
    replaced: bool

    @property
    def path(self) -> Path | None:
        return self.folder / on_disk(self.file) if self.file is not None else None

    @property
    def name(self) -> str:
        return printable(self.record.name)

    @property
    def flagged(self) -> bool:
        return self.output.nsfw is True

    @property
    def input(self) -> dict[str, Any]:
        return dict(self.record.input or {})

    @property
    def prompt(self) -> str:
        return shown(self.input.get("prompt", ""))

    @property
    def loras(self) -> list[tuple[str, Any]]:
        """The LoRA stack as (path, scale)."""
        loras = self.input.get("loras")
        entries = loras if isinstance(loras, list) else []
        return [(str(x.get("path", "")), x.get("scale", 1)) for x in entries if isinstance(x, dict)]

    @property
    def state(self) -> tuple[str, str]:
        """``Saved``, or what stands in the image's place, for people, and why."""
        output, completed = self.output, self.record.state is State.COMPLETED
        word = "Missing" if completed else self.record.state.value.capitalize()
        if self.file is not None:
            return "Saved", ""
        if output.file is not None:
            return word, "the file is gone"
        if output.left_out:
            return word, "not asked for"
        if error := output.error or self.record.error:
            return word, shown(error_parts(error)[1])
        return word, "not fetched yet" if completed else ""

    @property
    def traits(self) -> dict[str, Any]:
        """By what it may differ from others: the preset's own axes, then what its request and its place say."""
        stack = (f"{_last_part(path).removesuffix('.safetensors')} {shown(scale)}" for path, scale in self.loras)
        axes = {shown(name): value for name, value in self.record.axes.items()}
        others = {
            "LoRAs": " + ".join(stack) or "no LoRA",
            **{
                LABELS.get(key, shown(key)): value
                for key, value in self.input.items()
                if key not in ("prompt", "loras")
            },
            "Model": _last_part(self.record.model or ""),
            "Job": self.record.name.split("/")[0],
            "Prompt": self.prompt,
            "Image of job": self.output.index + 1,
            "Preset": self.record.preset,
            "Folder": name_of(self.folder),
        }
        return {**axes, **others, **axes}


def _last_part(path: str) -> str:
    return path.split("?")[0].rstrip("/").rpartition("/")[2] or path


def shown(value: object) -> str:
    """Any value of a request as text to show: secrets masked, control characters escaped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return printable(mask_secrets(str(value)), keep_newlines=True)


def name_of(folder: Path) -> str:
    """The folder's own name, whichever way a path leads to it."""
    return shown(folder.resolve().name)


def read_pictures(*folders: Path) -> list[Picture]:
    """Every image and gap of output folders, in their manifests' order.

    Raises:
        NotFoundError: there is no such folder.
        FolderError: it holds no manifest, or one that cannot be read.
    """
    pictures = []
    for folder in folders:
        with explained(folder):
            if not folder.is_dir():
                raise NotFoundError(f"{folder}: no such folder")
        manifest = read_manifest(folder)
        newest = {(record.preset, name): record for record in manifest.records for name in (record.id, *record.aliases)}
        for record in manifest.records:
            names = [name for name in (record.id, *record.aliases) if name is not None]
            replaced = bool(names) and all(newest[record.preset, name] is not record for name in names)
            for output in record.outputs or [OutputRecord(0)]:
                file = output.file if is_image(folder, output.file) else None
                pictures.append(Picture(folder, manifest, record, output, file, replaced))
    return pictures


def is_image(folder: Path, relative: str | None) -> bool:
    """Whether ``relative`` names an existing image of ``folder`` itself, not a link."""
    path = inside(folder, relative) if relative else None
    if path is None or path.is_symlink() or not path.is_file():
        return False
    return path.suffix[1:].lower() in IMAGE_ENDINGS


@contextmanager
def opened(source: str | Path | BinaryIO) -> Iterator[Image.Image]:
    """A PNG, JPEG or WebP file as Pillow reads it, without its remarks on what other programs wrote."""
    from PIL import Image  # not for the page alone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(source, formats=("PNG", "JPEG", "WEBP")) as image:
            yield image


def no_job(folder: Path, name: str, known: Iterable[str]) -> NotFoundError:
    """The error for a job that a folder does not have."""
    near = nearest(name, known)
    meant = f"; did you mean '{printable(near)}'?" if near else ""
    return NotFoundError(f"{folder} has no job {quoted(name, 200)}{meant}", "Its manifest.json names its jobs.")


# ---- what may be written ------------------------------------------------------------------


def check_apart(target: Path, folder: Path) -> None:
    """Raise UsageError where ``target`` is the output folder, or lies in it."""
    if target.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{target} lies in {folder}, which is never altered", OTHER_FOLDER)


def check_ours(path: Path, mark: str) -> None:
    """Raise UsageError where something stands that is not a file of this program's: its own hold ``mark``."""
    with explained(path):
        is_file = not path.is_symlink() and path.is_file()
        if os.path.lexists(path) and not (is_file and mark.encode() in path.read_bytes()):
            raise UsageError(f"{path} was not written by flux-lora, and is left alone", "Name another place.")


def place_for(target: Path, relative: str) -> Path:
    """The path of a copy inside ``target``. Raises FolderError where a link leads out of it."""
    path = inside(target, relative)
    if path is None:
        raise FolderError(f"a link in {target} leads out of it", OTHER_FOLDER)
    return path


def write_file(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Put a file that others may read in place, with the folders above it. Raises FolderError."""
    with explained(path):
        make_folders(path.parent)
        write_atomically(path, content, mode=0o644)


# ---- facets and axes ----------------------------------------------------------------------


def shape_of(pictures: Sequence[Picture]) -> float:
    """Height by width of most pictures, so that rows line up."""
    outputs = [picture.output for picture in pictures]
    return mode([output.height / output.width for output in outputs if output.width and output.height] or [1.0])


class Facet(NamedTuple):
    """One way in which pictures differ: ``codes[i]`` is picture i's place in ``values``."""

    values: list[str]
    codes: list[int]


def facet(values: Iterable[Any]) -> Facet:
    """The facet of a value for each picture; its values in the pictures' order, numbers by size."""
    texts = [NO_VALUE if x in (None, "") or isinstance(x, (dict, list)) else shown(x)[:300] for x in values]
    distinct = list(dict.fromkeys(texts))
    if all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) for text in distinct):
        distinct.sort(key=float)
    place = {text: code for code, text in enumerate(distinct)}
    return Facet(distinct, [place[text] for text in texts])


def facets_of(pictures: Sequence[Picture]) -> dict[str, Facet]:
    """Every way in which the pictures differ, by its label; of those that divide them alike, the first."""
    rows = [picture.traits for picture in pictures]
    found: dict[str, Facet] = {}
    for label in dict.fromkeys(label for row in rows for label in row):
        values, codes = each = facet(row.get(label) for row in rows)
        alike = (
            len(set(zip(codes, other.codes, strict=True))) == len(values) == len(other.values)
            for other in found.values()
        )
        if 2 <= len(values) <= MAX_FACET_VALUES and not any(alike):
            found[label] = each
    return found


def caption_of(picture: Picture, facets: Mapping[str, Facet], i: int) -> list[tuple[str, str]]:
    """In what picture i differs from the others, as (label, text): ``nasa``, ``seed 1``."""
    said = []
    for label, each in facets.items():
        value = each.values[each.codes[i]]
        if value == NO_VALUE or len(value) > 60 or label in ("Prompt", "Job", "Preset", "Input image", "State"):
            continue
        said.append((label, f"{label.lower()} {value}" if value.replace(".", "").isdigit() else value))
    # A caption is cut where it is long: what stands in the prompt above it already comes last.
    said = sorted(said[:5], key=lambda each: len(each[1]) > 20 and each[1] in picture.prompt)
    return said or [("Job", picture.name[:80])]


def choose_axes(facets: Mapping[str, Facet]) -> tuple[str | None, str | None]:
    """Columns and rows that span the pictures as a matrix, at least half of it filled; None where there are none.

    The preset's own axes come first, as among the facets; what only repeats a picture comes last.
    """
    ranked = sorted(facets, key=lambda label: _LAST.index(label) if label in _LAST else -1)
    if not ranked:
        return None, None
    columns = ranked[0]
    for rows in ranked[1:]:
        across, down = len(facets[columns].values), len(facets[rows].values)
        if len(set(zip(facets[columns].codes, facets[rows].codes, strict=True))) > max(across * down / 2, across):
            return (rows, columns) if across > 2 * down else (columns, rows)
    return columns, None
