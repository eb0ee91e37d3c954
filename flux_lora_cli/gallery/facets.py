"""Facets: in what the pictures of a gallery differ. They are its filters, and the axes of its grids.

A matrix leaves two traces in a manifest: the requests, and the suffixes of the job ids
(``dawn/a-lunar-base/nasa/1``). The requests say what differs; the ids lend the names.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flux_lora_cli.gallery.run import Picture, Run, RunJob

Row = tuple[Run, RunJob, Picture]
#: The code of a picture that has no place on a facet, and so belongs to all of them:
#: a failed job of four images is missing in the column of each.
ANY = -1
NONE_LABEL = "–"


@dataclass(frozen=True, slots=True)
class Facet:
    """One way in which pictures differ: ``codes[i]`` is picture i's place in ``values``, or ``ANY``."""

    key: str
    label: str
    values: tuple[str, ...]
    codes: tuple[int, ...]


def short_lora(path: str) -> str:
    """The last part of a LoRA's path, without a weight file's suffix."""
    tail = path.rstrip("/").split("?")[0].split("/")[-1] or path
    return re.sub(r"\.safetensors$", "", tail)


def number(value: object) -> str:
    """A number as people write it: ``1`` for 1.0, no exponents."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def loras_of(job: RunJob) -> list[tuple[str, Any]]:
    """The LoRA stack of a request as (path, scale), in order."""
    loras = job.input.get("loras")
    if not isinstance(loras, list):
        return []
    return [(str(x.get("path", "")), x.get("scale", 1)) for x in loras if isinstance(x, dict)]


def _param(key: str) -> Callable[[RunJob], str]:
    def read(job: RunJob) -> str:
        value = job.input.get(key)
        if value is None or isinstance(value, (dict, list)):
            return NONE_LABEL
        return str(value).lower() if isinstance(value, bool) else number(value)

    return read


def _lora_names(job: RunJob) -> str:
    return " + ".join(short_lora(path) for path, _ in loras_of(job)) or "no LoRA"


def _scales(job: RunJob) -> str:
    return " + ".join(number(scale) for _, scale in loras_of(job)) or NONE_LABEL


def _stack_key(job: RunJob) -> str:
    return json.dumps(loras_of(job))


def _size(job: RunJob) -> str:
    return _param("size")(job).replace("*", " × ")


#: Key, label, reader; in the order in which people ask for them, which is that of the page.
_PARAMETERS: tuple[tuple[str, str, Callable[[RunJob], str]], ...] = (
    ("preset", "Preset", lambda job: job.preset or NONE_LABEL),
    ("model", "Model", lambda job: job.model.rsplit("/", 1)[-1] or NONE_LABEL),
    ("lora", "LoRAs", _lora_names),
    ("scale", "LoRA scale", _scales),
    ("steps", "Steps", _param("num_inference_steps")),
    ("guidance", "Guidance", _param("guidance_scale")),
    ("strength", "Strength", _param("strength")),
    ("size", "Size", _size),
    ("image", "Input image", _param("image")),
    ("safety", "Safety checker", _param("enable_safety_checker")),
    ("seed", "Seed", _param("seed")),
)
_DETERMINED = ("loras", "seed", "num_inference_steps", "guidance_scale", "strength", "size", "image")


def facets_of(rows: Sequence[Row]) -> list[Facet]:
    """Every facet with at least two values, in the order in which the page offers them."""
    words = _IdWords([job for _, job, _ in rows])
    found = [_facet("folder", "Folder", [run.folder.name for run, _, _ in rows])]
    for key, label, read in _PARAMETERS:
        if key == "lora":
            stacks = [words.stack_name(job) for _, job, _ in rows]
            found.append(_facet("stack", "Stack", stacks, keep_order=True))
        found.append(_facet(key, label, [read(job) for _, job, _ in rows]))
    for key, label, texts in words.variants():
        found.append(_facet(key, label, texts, keep_order=True))
    if any("/" in job.id for _, job, _ in rows):
        bases = [job.id.split("/")[0] or NONE_LABEL for _, job, _ in rows]
        found.append(_facet("job", "Job", bases, keep_order=True))
    prompts = [str(job.input.get("prompt", "")) for _, job, _ in rows]
    found.append(_facet("prompt", "Prompt", prompts, keep_order=True))
    numbers = [None if picture.index is None else str(picture.index + 1) for _, _, picture in rows]
    found.append(_facet("output", "Image of job", numbers))
    return _distinct([facet for facet in found if len(facet.values) > 1])


def _facet(key: str, label: str, texts: Sequence[str | None], keep_order: bool = False) -> Facet:
    values = list(dict.fromkeys(text for text in texts if text is not None))
    if not keep_order:
        values.sort(key=_natural)
    place = {value: code for code, value in enumerate(values)}
    return Facet(key, label, tuple(values), tuple(ANY if t is None else place[t] for t in texts))


def _natural(text: str) -> tuple[tuple[int, float, str], ...]:
    """Sort key in which 9 comes before 28, and nothing comes first."""
    if text == NONE_LABEL:
        return ((-1, 0.0, ""),)
    pieces = re.findall(r"\d{1,15}(?:\.\d{1,15})?|\D+|\d", text[:200])
    return tuple((0, float(p), "") if p[0].isdigit() and p.isascii() else (1, 0.0, p) for p in pieces)


def _distinct(facets: list[Facet]) -> list[Facet]:
    """Without facets that split the pictures exactly as an earlier one does."""
    seen: set[tuple[int, ...]] = set()
    kept = []
    # The scale says more than the stack where only scales differ, and less where the LoRAs do.
    if not any(facet.key == "lora" for facet in facets) and any(f.key == "scale" for f in facets):
        facets = [facet for facet in facets if facet.key != "stack"]
    for facet in facets:
        first: dict[int, int] = {}
        shape = tuple(code if code == ANY else first.setdefault(code, len(first)) for code in facet.codes)
        if shape not in seen:
            seen.add(shape)
            kept.append(facet)
    return kept


class _IdWords:
    """What the suffixes of job ids say: names of stacks, variables in prompts, numbers of repeats."""

    def __init__(self, jobs: Sequence[RunJob]) -> None:
        self._jobs = jobs
        self._parts = [job.id.split("/") for job in jobs]
        self._names: dict[tuple[str, str], str] = {}
        self._variants: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        for i, (job, parts) in enumerate(zip(jobs, self._parts, strict=True)):
            groups[job.preset, len(parts)].append(i)
        for (_, depth), members in groups.items():
            for place in range(1, depth):
                self._read_place(place, members)

    def stack_name(self, job: RunJob) -> str:
        """The preset's name for the job's stack, or the LoRAs themselves."""
        known = self._names.get((job.preset, _stack_key(job)))
        if known:
            return known
        loras = loras_of(job)
        return " + ".join(f"{short_lora(p)} {number(s)}" for p, s in loras) or "no LoRA"

    def variants(self) -> list[tuple[str, str, list[str]]]:
        """(key, label, one text a job) for each place in the ids that no parameter explains."""
        found = []
        count = sum(1 for kind, _ in self._variants if kind == "variant")
        by_place = sorted(self._variants.items(), key=lambda entry: entry[0][1])
        for nth, ((kind, place), texts) in enumerate(by_place, 1):
            label = "Repeat" if kind == "repeat" else "Variant" if count == 1 else f"Variant {nth}"
            column = [texts.get(i, NONE_LABEL) for i in range(len(self._jobs))]
            found.append((f"{kind}{place}", label, column))
        return found

    def _read_place(self, place: int, members: list[int]) -> None:
        words = {self._parts[i][place] for i in members}
        if len(words) < 2:
            return
        for parameter in _DETERMINED:
            if self._explains(place, members, parameter):
                return
        kind = "variant" if self._changes_prompt(place, members) else "repeat"
        if kind == "repeat" and not all(word.isdigit() for word in words):
            return
        for i in members:
            self._variants[kind, place][i] = self._parts[i][place]

    def _explains(self, place: int, members: list[int], parameter: str) -> bool:
        """Whether each word stands for one value of ``parameter``. Names of stacks are kept."""
        value_of: dict[str, str] = {}
        for i in members:
            value = json.dumps(self._jobs[i].input.get(parameter), sort_keys=True)
            if value_of.setdefault(self._parts[i][place], value) != value:
                return False
        if len(set(value_of.values())) < len(value_of):
            return False
        if parameter == "loras":
            for i in members:
                job = self._jobs[i]
                self._names[job.preset, _stack_key(job)] = self._parts[i][place]
        return True

    def _changes_prompt(self, place: int, members: list[int]) -> bool:
        prompts: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for i in members:
            parts = self._parts[i]
            others = tuple(parts[:place] + parts[place + 1 :])
            prompts[others].add(str(self._jobs[i].input.get("prompt")))
        return any(len(found) > 1 for found in prompts.values())
