"""What a gallery shows of an output folder: its images and gaps, in which ways they differ, and how to lay them out."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING, Any, BinaryIO

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
    def status(self) -> str:
        """``Saved``, or what stands in the image's place: ``Missing``, or the job's state (``Failed``)."""
        if self.file is not None:
            return "Saved"
        return "Missing" if self.record.state is State.COMPLETED else self.record.state.value.capitalize()

    @property
    def why(self) -> str:
        """The reason for a gap, for people; "" where there is an image, or nothing to say."""
        if self.file is not None:
            return ""
        if self.output.file is not None:
            return "the file is gone"
        if self.output.left_out:
            return "not asked for"
        if error := self.output.error or self.record.error:
            return shown(error_parts(error)[1])
        return "not fetched yet" if self.record.state is State.COMPLETED else ""


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


@dataclass(frozen=True, slots=True)
class Facet:
    """One way in which pictures differ: ``codes[i]`` is picture i's place in ``values``."""

    key: str
    label: str
    values: tuple[str, ...]
    codes: tuple[int, ...]


def facet(key: str, label: str, texts: Iterable[Any]) -> Facet:
    """The facet of a value for each picture; its values in the pictures' order, numbers by size."""
    filled = [NO_VALUE if x in (None, "") or isinstance(x, (dict, list)) else shown(x)[:300] for x in texts]
    values = list(dict.fromkeys(filled))
    if all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) for value in values):
        values.sort(key=float)
    place = {value: code for code, value in enumerate(values)}
    return Facet(key, label, tuple(values), tuple(place[text] for text in filled))


def facets_of(pictures: Sequence[Picture]) -> list[Facet]:
    """Every way in which the pictures differ: the preset's own axes first, then parameters that no axis explains."""
    axes = dict.fromkeys(name for p in pictures for name in p.record.axes)
    others = {key for p in pictures for key in p.input} - {"prompt", "loras", *LABELS}
    found = [
        *(facet(f"axis-{shown(name)}", shown(name), [p.record.axes.get(name) for p in pictures]) for name in axes),
        facet("loras", "LoRAs", map(_stack, pictures)),
        *(
            facet(key, LABELS.get(key, shown(key)), [p.input.get(key) for p in pictures])
            for key in [*LABELS, *sorted(others)]
        ),
        facet("model", "Model", [_last_part(p.record.model or "") for p in pictures]),
        facet("job", "Job", [p.record.name.split("/")[0] for p in pictures]),
        facet("prompt", "Prompt", [p.prompt for p in pictures]),
        facet("output", "Image of job", [p.output.index + 1 for p in pictures]),
        facet("preset", "Preset", [p.record.preset for p in pictures]),
        facet("folder", "Folder", [name_of(p.folder) for p in pictures]),
    ]
    kept: dict[tuple[int, ...], Facet] = {}  # of those that divide the pictures alike, the first
    for each in found:
        if 2 <= len(each.values) <= MAX_FACET_VALUES:
            first: dict[int, int] = {}
            kept.setdefault(tuple(first.setdefault(code, len(first)) for code in each.codes), each)
    return list(kept.values())


def _stack(picture: Picture) -> str:
    names = (f"{_last_part(path).removesuffix('.safetensors')} {shown(scale)}" for path, scale in picture.loras)
    return " + ".join(names) or "no LoRA"


def _last_part(path: str) -> str:
    return path.split("?")[0].rstrip("/").rpartition("/")[2] or path


def caption_of(picture: Picture, facets: Sequence[Facet], i: int) -> list[tuple[str, str]]:
    """In what picture i differs from the others, as (facet, text): ``nasa``, ``seed 1``."""
    said = []
    for each in facets:
        value = each.values[each.codes[i]]
        if value == NO_VALUE or len(value) > 60 or each.key in ("prompt", "job", "preset", "image", "status"):
            continue
        said.append((each.key, f"{each.label.lower()} {value}" if value.replace(".", "").isdigit() else value))
    # A caption is cut where it is long: what stands in the prompt above it already comes last.
    said = sorted(said[:5], key=lambda each: len(each[1]) > 20 and each[1] in picture.prompt)
    return said or [("id", picture.name[:80])]


def choose_axes(facets: Sequence[Facet]) -> tuple[Facet | None, Facet | None]:
    """Columns and rows that span the pictures as a matrix, at least half of it filled; None where there are none."""
    ranked = sorted(facets, key=_rank)
    if not ranked:
        return None, None
    columns = ranked[0]
    for rows in ranked[1:]:
        across, down = len(columns.values), len(rows.values)
        if len(set(zip(columns.codes, rows.codes, strict=True))) > max(across * down / 2, across):
            return (rows, columns) if across > 2 * down else (columns, rows)
    return columns, None


def _rank(each: Facet) -> int:
    """The preset's own axes come first; what only repeats a picture comes last."""
    late = ("axis-seed", "axis-repeat", "seed", "output", "preset", "prompt", "folder")
    if each.key in late:
        return 20 + late.index(each.key)
    return 0 if each.key.startswith("axis-") else 10
