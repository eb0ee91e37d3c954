"""One source, read and checked under the options of a command: a preset with all that it extends, or a list of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.presets.build import Builder, name_jobs
from flux_lora_cli.presets.expand import job_count, number, sums
from flux_lora_cli.presets.job import Where
from flux_lora_cli.presets.language import MERGED, OF_ONE_FILE, SECTIONS
from flux_lora_cli.presets.lists import read_list
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.notes import note_list
from flux_lora_cli.presets.read import decode, read_yaml
from flux_lora_cli.presets.shapes import Spot
from flux_lora_cli.presets.sources import FILE_ENDS, Files, Refused
from flux_lora_cli.presets.spec import Loras, Spec
from flux_lora_cli.service.models import DEFAULT_MODEL, Model, Models, UnknownModel, Version, unknown_key
from flux_lora_cli.service.values import check_value, is_remote_image
from flux_lora_cli.text import quoted

#: Without ``--max-jobs``. [CONTRACT: command line]
MAX_JOBS = 1_000
#: With ``--max-jobs``, at most.
MOST_JOBS = 10_000_000
#: Jobs, and prompts, that are read of one file where ``--max-jobs`` is lower; each costs 2 KB and 50 µs [measured].
MAX_READ = 20_000
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
    set_overrides: Mapping[str, Any] = field(
        default_factory=dict
    )  # of ``--set`` (also ``model``); below the named ones
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


@dataclass
class Preset:
    """One source, checked, ready to expand.

    Attributes:
        values: what the command line sets in every job, a local image as ``LocalImage``.
        stack: the LoRAs of ``--stack``.
        line: where its jobs begin.
    """

    source: Source
    name: str
    builder: Builder
    values: Mapping[str, Any]
    line: int = 1
    description: str = ""
    specs: list[Spec] = field(default_factory=list)
    stack: Loras | None = None

    @property
    def file(self) -> str:
        return self.source.name

    @property
    def model(self) -> Model:
        return self.builder.model

    @property
    def wanted(self) -> list[Spec]:
        return [spec for spec in self.specs if not spec.skip]

    @property
    def jobs(self) -> int:
        """How many there will be."""
        return sum(map(job_count, self.wanted))

    @property
    def sums(self) -> list[str]:
        """How each job multiplies."""
        return sums(self.wanted)


class Reader:
    """Reads sources under one set of options.

    Attributes:
        option: the option that set a parameter.
    """

    def __init__(self, options: LoadOptions, files: Files) -> None:
        self.options = options
        self.files = files
        self.problems = Problems()
        named = {name: _OPTIONS.get(name, f"--{name}") for name in options.overrides}
        named |= {"images": "--image"} if "image" in named else {}
        self.option = {name: f"--set {name}" for name in options.set_overrides} | named
        self._given = {**options.set_overrides, **options.overrides}
        set_model, self._stacks = self._given.pop("model", None), self._given.pop("stack", None)
        self._model: str | None = options.model or set_model

    def _values(self, model: Model, alone: bool) -> dict[str, Any]:
        """What the command line sets in every job. Raises UsageError with every value that the model does not take.

        Args:
            alone: no preset says what is asked for: all that the model needs has to be there.
        """
        given = model.named_image(self._given) if "image" in self.options.overrides else self._given
        found = []
        for name, value in given.items():
            row, option = model.parameters.get(name), self.option[name]
            problem = check_value(row, value)[1] if row else unknown_key(model, name) if model.checked else None
            if problem is not None:
                several = option == "--image" and problem.suggestion == "image"
                found.append(f"{option}: {f'{model.short} takes one image' if several else problem.message}")
        for name, row in model.parameters.items():
            if row.required and given.get(name, not alone or name in ("prompt", "seed", "loras")) in ("", [], False):
                add = "--image" if name in ("image", "images") else f"--set {name}=…"
                found.append(f"{model.short} needs {name}: {row.allowed}. Add {add}.")
        if found:
            raise UsageError("; ".join(found), f"To see what the model takes: flux-lora models {model.short}")
        return given | {name: self._images(given[name]) for name in given.keys() & {"image", "images"}}

    def _images(self, value: Any) -> Any:
        """The images of an option, with what is known of local files."""
        if isinstance(value, list):
            return list(map(self._images, value))
        return self.files.given_image(value) if isinstance(value, str) and not is_remote_image(value) else value

    def too_many(self, source: Source, line: int, total: int, how: str = "") -> None:
        """Refuse so many jobs; ``how`` they come about."""
        more = f"preset check and batch --max-jobs {number(total)} allow them"
        message = f"expands to {how or total} jobs, more than the limit of {self.options.max_jobs}; {more}"
        self.problems.at(Where(source.name, line, 1), "jobs", message)

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
            return self._start(Source(name), None, literal=True)
        kind = _LISTS.get(Path(path).suffix.lower())
        return self._list(source, data, kind) if kind else self.preset(source, data)

    def _start(self, source: Source, named: Node | None, literal: bool, alone: bool = False) -> Preset:
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
        dropped = [] if options.keep_ids else [*values, *([] if self._stacks is None else ["stack"])]
        most = min(max(options.max_jobs or MOST_JOBS, MAX_READ), MOST_JOBS)
        builder = Builder(model, self.files, self.problems, literal, dropped, most)
        return Preset(source, Path(source.name).stem or source.name, builder, values)

    def _list(self, source: Source, data: bytes, kind: str) -> Preset:
        """A .txt, .csv or .jsonl: a job per line."""
        literal = not self.options.expand
        preset, before = self._start(source, None, literal), len(self.problems)
        text = decode(data, source, self.problems)
        nodes = iter(()) if text is None else read_list(kind, text, source, self.problems)
        jobs = list(islice(nodes, preset.builder.most))
        if more := sum(1 for _ in nodes):
            self.too_many(source, 1, len(jobs) + more)
        elif jobs:
            document = Node({"jobs": (1, 1, Node(jobs, source, 1, 1))}, source, 1, 1)
            self._build(preset, document)
        elif len(self.problems) == before:
            self.problems.at(Where(source.name, 1, 1), "", "no jobs in this file")
        note_list(kind, [prompt.node for spec in preset.specs for prompt in spec.prompts], literal, self.problems)
        return preset

    def preset(self, source: Source, data: bytes, prompts: Sequence[str] | None = None) -> Preset:
        """A preset with all that it extends; with ``prompts`` those in place of its jobs and what multiplies these."""
        alone = prompts is not None and not data
        layers = [] if alone else _read_layers(source, data, self.files, self.problems)
        document, aside = _merge(layers) if layers else (Node({}, source, 1, 1), [])
        named = document.get("model")
        literal = prompts is not None and not self.options.expand
        preset = self._start(source, named, literal, alone)
        builder = preset.builder
        if not layers and not alone:  # unreadable, which is among the problems
            return preset
        preset.name = _text(document, "name") or preset.name
        preset.description = _text(document, "description")
        if named is not None and self._model is None:
            builder.shared.values["model"] = named.value, named
        builder.read.update({root.source.name: root.source.sha256 for root in layers})
        for name, node in aside:
            builder.language.fields[name].check(Spot(node, name, builder.context))
        if prompts is None:
            return self._build(preset, document)
        jobs = [_prompt_job(text, line, source) for line, text in enumerate(prompts, 1)]
        kept = {name: entry for name, entry in document.entries.items() if name not in ("jobs", "matrix", "zip")}
        document.value = kept | {"jobs": (1, 1, Node(jobs, source, 1, 1))}
        return self._build(preset, document, is_prompts=True)

    def _build(self, preset: Preset, document: Node, *, is_prompts: bool = False) -> Preset:
        """Add the jobs of a document."""
        builder, jobs = preset.builder, document.get("jobs")
        typed = builder.share(document)
        if jobs is None and self.options.require_jobs and not self.problems:
            self.problems.add(document, "jobs", "there are none; a preset to run has jobs, each - prompt: …")
        if jobs is not None and isinstance(jobs.value, list):
            preset.line = jobs.line if jobs.source is preset.source else 1
            if len(jobs.items) > builder.most:
                self.too_many(preset.source, preset.line, len(jobs.items))
            else:
                for number, (node, job) in enumerate(zip(jobs.items, typed, strict=False)):
                    spec = builder.job(node, "" if is_prompts else f"jobs[{number}]", job)
                    preset.specs += [spec] if spec is not None else []
        if preset.specs and not is_prompts:
            builder.note_unused(preset.source)
        name_jobs(preset.specs, self.problems)
        names = [self._stacks] if isinstance(self._stacks, str) else self._stacks
        for name in names or ():
            if name not in builder.stacks:
                raise NotFoundError(f"{preset.file}: {builder.unknown_stack(name)}")
        if names is not None:
            preset.stack = tuple(lora for name in names for lora in builder.stacks[name])
        return preset


def _prompt_job(text: str, line: int, source: Source) -> Node:
    """A job for a prompt of the command line."""
    return Node({"prompt": (line, 1, Node(text, source, line, 1, text, "line"))}, source, line, 1)


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
