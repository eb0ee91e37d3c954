"""One source, read and checked under the options of a command: a preset with all that it extends, or a list of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.presets.build import Preset
from flux_lora_cli.presets.job import Where
from flux_lora_cli.presets.language import MERGED, OF_ONE_FILE, SECTIONS
from flux_lora_cli.presets.lists import read_list
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.notes import note_list
from flux_lora_cli.presets.read import decode, read_yaml
from flux_lora_cli.presets.shapes import Spot
from flux_lora_cli.presets.sources import FILE_ENDS, Files, Refused
from flux_lora_cli.service.models import DEFAULT_MODEL, Model, Models, UnknownModel, Version, check_request
from flux_lora_cli.service.values import is_remote_image
from flux_lora_cli.text import quoted

#: Without ``--max-jobs``. [CONTRACT: command line]
MAX_JOBS = 1_000
#: Files that one preset may extend, all told.
MAX_FILES = 100

#: Options that are not called as their parameter is.
_OPTIONS = {
    "num_inference_steps": "--steps", "guidance_scale": "--guidance", "num_images": "--num-images", "loras": "--lora",
    "images": "--image", "enable_safety_checker": "--safety-checker",
}  # fmt: skip
_LISTS = {".txt": "txt", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class LoadOptions:
    """How to load."""

    overrides: Mapping[str, Any] = field(default_factory=dict)  # typed values of named options (also ``stack``)
    set_overrides: Mapping[str, Any] = field(default_factory=dict)  # of ``--set`` (also ``model``); those win over it
    max_jobs: int | None = MAX_JOBS  # more are an error; None: more than MAX_JOBS are counted, and not made
    expand: bool = False  # read variables and choices in the prompts of lists, too
    only: Sequence[str] = ()  # globs on whole job IDs; empty for all
    only_ids: Sequence[str] | None = None  # literal job IDs (``--only-file``); None for all
    api_version: Version | None = None
    models: Models = field(default_factory=Models.builtin)
    model: str | None = None  # ``--model``; wins over the presets' own
    allow_unknown_model: bool = False
    stdin: bytes = b""  # what there is for ``-``
    strict: bool = False  # notes are problems
    require_jobs: bool = True  # a preset without jobs is an error
    keep_ids: bool = False  # overrides replace values in the expanded jobs; axes, and so IDs, are the preset's


class Reader:
    """Reads sources under one set of options."""

    def __init__(self, options: LoadOptions, files: Files) -> None:
        self.options = options
        self.files = files
        self.problems = Problems()
        named = {name: _OPTIONS.get(name, f"--{name}") for name in options.overrides}
        named |= {"images": "--image"} if "image" in named else {}
        self.option = {name: f"--set {name}" for name in options.set_overrides} | named  # that set a parameter
        self._given = {**options.set_overrides, **options.overrides}
        set_model, self._stack = self._given.pop("model", None), self._given.pop("stack", None)
        self._model: str | None = options.model or set_model

    def _values(self, model: Model, alone: bool) -> dict[str, Any]:
        """What the command line sets in every job. Raises UsageError with every value that the model does not take.

        Args:
            alone: no preset says what is asked for: all that the model needs has to be there.
        """
        given = model.named_image(self._given) if "image" in self.options.overrides else self._given
        found = []
        for problem in check_request(model, given):
            name = problem.key.partition("[")[0]
            if name in given:
                several = self.option[name] == "--image" and problem.suggestion == "image"
                found.append(f"{self.option[name]}: {f'{model.short} takes one image' if several else problem.message}")
            elif alone and name not in ("prompt", "loras"):
                found.append(
                    f"{problem.message}. Add {'--image' if name in ('image', 'images') else f'--set {name}=…'}."
                )
        if found:
            raise UsageError("; ".join(found), f"To see what the model takes: flux-lora models {model.short}")
        return given | {name: self._images(given[name]) for name in given.keys() & {"image", "images"}}

    def _images(self, value: Any) -> Any:
        """The images of an option, with what is known of local files."""
        if isinstance(value, list):
            return list(map(self._images, value))
        return self.files.given_image(value) if isinstance(value, str) and not is_remote_image(value) else value

    # ---- one source ------------------------------------------------------------------------------

    def load(self, path: str) -> Preset:
        """Read and check one source. Raises NotFoundError, UsageError; all else is among the problems."""
        if path == "-":
            data = self.options.stdin
            if not data.strip():
                hint = "The command before the | probably failed: see what it said."
                raise NotFoundError("standard input is empty: no job was named", hint)
            return self._list(Source("stdin", sha256=sha256(data).hexdigest()), data, "jsonl")
        try:
            source, data = self.files.given(path)
        except Refused as error:
            name = self.files.called(path)
            self.problems.at(Where(name, 1, 1), "", str(error))
            return self._start(Source(name), None)
        kind = _LISTS.get(Path(path).suffix.lower())
        return self._list(source, data, kind) if kind else self.preset(source, data)

    def _start(self, source: Source, named: Node | None, *, literal: bool = False, alone: bool = False) -> Preset:
        """A preset without jobs yet, of the model that the command line names, else the preset. Raises UsageError."""
        options, known = self.options, self.options.allow_unknown_model
        name = self._model
        if name is None and named is not None and isinstance(named.value, str):
            try:
                name = options.models.find(named.value, allow_unknown=known).id
            except UnknownModel as error:
                hint = "" if "did you mean" in error.message else f"; {error.hint}"
                self.problems.add(named, "model", f"{error.message}{hint}")
        model = options.models.find(name or DEFAULT_MODEL, options.api_version, allow_unknown=known)
        values = self._values(model, alone)
        return Preset(source, model, values, self._stack, options, self.files, self.problems, literal)

    def _list(self, source: Source, data: bytes, kind: str) -> Preset:
        """A .txt, .csv or .jsonl: a job per line."""
        literal, before = not self.options.expand, len(self.problems)
        preset = self._start(source, None, literal=literal)
        text = decode(data, source, self.problems)
        nodes = iter(()) if text is None else read_list(kind, text, source, self.problems)
        jobs = list(islice(nodes, preset.most))
        if more := sum(1 for _ in nodes):
            preset.too_many(len(jobs) + more)
        elif jobs:
            preset.build(_document(jobs, source))
        elif len(self.problems) == before:
            self.problems.at(Where(source.name, 1, 1), "", "no jobs in this file")
        note_list(kind, [prompt.node for spec in preset.specs for prompt in spec.prompts], literal, self.problems)
        return preset

    def preset(self, source: Source, data: bytes, prompts: Sequence[str] | None = None) -> Preset:
        """A preset with all that it extends; with ``prompts`` those in place of its jobs and what multiplies these."""
        alone = prompts is not None and not data
        layers = [] if alone else _read_layers(source, data, self.files, self.problems)
        document, aside = _merge(layers) if layers else (Node({}, source, 1, 1), [])
        model = document.get("model")
        preset = self._start(source, model, literal=prompts is not None and not self.options.expand, alone=alone)
        if not layers and not alone:  # unreadable, which is among the problems
            return preset
        preset.name = _text(document, "name") or preset.name
        preset.description = _text(document, "description")
        if model is not None and self._model is None:
            preset.shared.values["model"] = model.value, model
        preset.read.update({root.source.name: root.source.sha256 for root in layers})
        for name, node in aside:
            preset.language.fields[name].check(Spot(node, name, preset.context))
        if prompts is not None:
            lines = [Node(text, source, line, 1, text, "line") for line, text in enumerate(prompts, 1)]
            jobs = _document([Node({"prompt": (node.line, 1, node)}, source, node.line, 1) for node in lines], source)
            kept = {name: entry for name, entry in document.entries.items() if name not in ("jobs", "matrix", "zip")}
            document.value = kept | jobs.value
        preset.build(document, is_prompts=prompts is not None)
        return preset


def _document(jobs: list[Node], source: Source) -> Node:
    return Node({"jobs": (1, 1, Node(jobs, source, 1, 1))}, source, 1, 1)


def _text(root: Node, key: str) -> str:
    node = root.get(key)
    return node.value if node is not None and isinstance(node.value, str) else ""


# ---- what a preset extends ---------------------------------------------------------------------


def _read_layers(source: Source, data: bytes, files: Files, problems: Problems) -> list[Node]:
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
        if not root.entries.keys() & set(SECTIONS):
            problems.add(root, "", "a preset without jobs, and with nothing for others to extend")
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


def _merge(roots: Sequence[Node]) -> tuple[Node, list[tuple[str, Node]]]:
    """One document of several, and what is not seen in it: what each file says of itself, sections that are replaced.

    Sections of names are merged key by key; of everything else the last stands.
    """
    merged: dict[str, tuple[int, int, Node]] = {}
    aside: list[tuple[str, Node]] = []
    for root in roots:
        for name, (line, column, node) in root.entries.items():
            before = merged[name][2] if name in merged else None
            if name in OF_ONE_FILE and root is not roots[-1]:
                aside.append((name, node))
                continue
            if (
                before is not None
                and name in MERGED
                and isinstance(before.value, dict)
                and isinstance(node.value, dict)
            ):
                node = Node({**before.value, **node.value}, node.source, node.line, node.column)
            elif before is not None and name in MERGED:
                aside.append((name, before))
            merged[name] = line, column, node
    return Node(merged, roots[-1].source, roots[-1].line, roots[-1].column), aside
