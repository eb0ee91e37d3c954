"""Presets named on the command line, into jobs: every problem of every file in one go, or every job."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import NotFoundError, PresetError, UsageError
from flux_lora_cli.presets.build import Preset
from flux_lora_cli.presets.expand import job_count, multiplication, sums
from flux_lora_cli.presets.job import Job, Where
from flux_lora_cli.presets.jobs import Expander, Made, origins, parts
from flux_lora_cli.presets.language import SECTIONS, merge
from flux_lora_cli.presets.lists import LISTS, read_list
from flux_lora_cli.presets.nodes import Finding, Node, Problems, Source
from flux_lora_cli.presets.notes import note_list, note_requests
from flux_lora_cli.presets.shapes import Spot
from flux_lora_cli.presets.sources import Files, Refused, read_layers
from flux_lora_cli.presets.spec import Spec
from flux_lora_cli.service.models import DEFAULT_MODEL, Model, Models, UnknownModel, Version, check_request
from flux_lora_cli.service.values import is_remote_image
from flux_lora_cli.text import counted, nearest, quoted

#: Without ``--max-jobs``. [CONTRACT: command line]
MAX_JOBS = 1_000

#: Options that are not called as their parameter is.
_OPTIONS = {
    "num_inference_steps": "--steps", "guidance_scale": "--guidance", "num_images": "--num-images", "loras": "--lora",
    "images": "--image", "enable_safety_checker": "--safety-checker",
}  # fmt: skip


@dataclass(frozen=True)
class LoadOptions:
    """How to load."""

    overrides: Mapping[str, Any] = field(default_factory=dict)  # typed values of named options (also ``stack``)
    set_overrides: Mapping[str, Any] = field(default_factory=dict)  # of ``--set`` (also ``model``); those above win
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


@dataclass(frozen=True)
class Loaded:
    """Everything that the sources ask for."""

    jobs: list[Job]  # expanded, in the order of the sources, those that ``only`` leaves
    presets: Sequence[Preset]  # one per source
    sources: list[tuple[str, str]]  # (path, SHA-256) of every file that was read, those of the command line first
    total: int  # jobs before ``only``
    multiplication: str  # how the total comes about, ``2 × 40 × 12 = 960``
    skipped_jobs: list[Job]  # those with ``skip: true``, expanded as far as they are few: for the manifest
    notes: tuple[Finding, ...]  # what is valid and probably not meant
    _made: Mapping[int, Made] = field(repr=False)
    _options: Mapping[str, str] = field(repr=False)

    @property
    def models(self) -> dict[str, Model]:
        """The models of the jobs, by ID."""
        return {preset.model.id: preset.model for preset in self.presets}

    @property
    def how(self) -> str:
        """``multiplication`` in brackets, where anything multiplies."""
        return f" ({self.multiplication})" if "=" in self.multiplication else ""

    @property
    def sums(self) -> tuple[str, ...]:
        """How each job multiplies, with names."""
        return tuple(line for preset in self.presets for line in sums(preset.wanted))

    def provenance(self, job: Job) -> dict[str, Where]:
        """The place of each value of one of these jobs, through ``extends``; an option's ``file`` is its name."""
        return origins(self._made[id(job)], self._options)

    def parts(self, job: Job, name: str) -> list[tuple[object, Where]]:
        """What a value of one of these jobs was made of, each part with its place."""
        return list(parts(self._made[id(job)], name))


def load_presets(
    *paths: str | Path,
    options: LoadOptions | None = None,
    allow: Sequence[str | Path] = (),
    files: Files | None = None,
) -> Loaded:
    """Read, check and expand presets (.yaml) and lists of jobs (.txt, .csv, .jsonl, ``-``).

    Args:
        options: overrides, limits and filters.
        allow: folders besides a preset's own that it may read from.
        files: what reads them, where that is not the file system.

    Raises:
        NotFoundError: a path does not exist, ``-`` is empty, ``only`` matches nothing.
        UsageError: an override that the model does not take; a folder in place of a file.
        PresetError: with every problem of every file, or more than ``max_jobs`` jobs.
    """
    reader = Reader(options or LoadOptions(), files or Files(allow))
    return _expanded(reader, [reader.load(str(path)) for path in paths])


def build_prompt_jobs(
    prompts: Sequence[str],
    options: LoadOptions | None = None,
    *,
    preset: str | Path | None = None,
    stack: str | Sequence[str] | None = None,
    job: str | None = None,
    allow: Sequence[str | Path] = (),
) -> Loaded:
    """The jobs of ``submit``.

    Prompts are literal unless ``options.expand``. With a preset they take its defaults and the named stack; with
    ``job``, a glob on expanded IDs, the preset's own jobs are taken, and one prompt replaces theirs. The IDs are those
    of the preset without options: options and the LoRAs of ``stack`` are put into the jobs that were found.

    Raises:
        NotFoundError, PresetError: as ``load_presets``.
        UsageError: nothing to submit, or options that do not go together.
    """
    options = options or LoadOptions()
    if preset is None and (stack is not None or job is not None):
        option, noun = ("--stack", "stack") if stack is not None else ("--job", "job")
        raise UsageError(f"{option} names a {noun} of a preset", "Add --preset FILE.")
    if stack is not None:
        options = replace(options, overrides={**options.overrides, "stack": stack})
    if job is not None:
        if len(prompts) > 1:
            raise UsageError("--job takes at most one prompt", "Leave out --job to use only the defaults.")
        given = {**options.overrides, **({"prompt": prompts[0]} if prompts else {})}
        return _jobs_of_preset(str(preset), replace(options, overrides=given, only=(job,), keep_ids=True), allow)
    if not prompts:
        example = 'Write one in quotes: flux-lora submit "a cat"; or take jobs of a preset: --preset FILE --job ID.'
        raise UsageError("no prompt", example)
    reader = Reader(options, Files(allow))
    source, data = Source("prompt"), b""
    if preset is not None:
        whole = replace(options, overrides={}, set_overrides={}, model=None, max_jobs=None, require_jobs=False)
        load_presets(preset, options=whole, allow=allow)  # wrong anywhere: nothing of it is sent
        source, data = reader.files.given(str(preset))
    made = reader.preset(source, data, prompts)
    row = made.model.parameters.get("prompt")
    if row is not None and row.required and not all(map(str.strip, prompts)):
        raise UsageError(f"the prompt is empty, and {made.model.short} needs one", "Is a shell variable in it not set?")
    note_list("prompt", [p.node for spec in made.specs for p in spec.prompts], not options.expand, reader.problems)
    return _expanded(reader, [made], once=False)


def _jobs_of_preset(preset: str, options: LoadOptions, allow: Sequence[str | Path]) -> Loaded:
    reader = Reader(options, Files(allow))
    loaded = _expanded(reader, [reader.load(preset)], once=False)
    if not loaded.jobs:
        raise NotFoundError(f"{quoted(options.only[0])} matches only jobs with skip: true", "Remove skip from them.")
    seed = {**options.set_overrides, **options.overrides}.get("seed")
    if seed is not None and len(loaded.jobs) == 1:
        # Repeats count up from a fixed seed; one job alone takes the seed that was asked for.
        return replace(loaded, jobs=[replace(loaded.jobs[0], seed=None if seed == -1 else seed)])
    return loaded


def _expanded(reader: Reader, presets: Sequence[Preset], *, once: bool = True) -> Loaded:
    """Everything, or every problem. ``once``: equal jobs are made once, which is told."""
    options, problems = reader.options, reader.problems
    specs = [spec for preset in presets for spec in preset.wanted]
    total, most = sum(map(job_count, specs)), options.max_jobs or MAX_JOBS
    made: list[Made] = []
    if total <= most:
        made = [one for preset in presets for one in _expand(reader, preset, preset.wanted, problems)]
    elif options.max_jobs is not None:
        max(presets, key=lambda preset: preset.jobs).too_many(total, multiplication(specs))
    jobs = [one.job for one in made]
    if not problems:
        note_requests(jobs, {preset.model.id: preset.model for preset in presets}, problems, once)
    strict = problems.notes() if options.strict else ()
    found = problems.sorted() + tuple(replace(each, message=f"{each.message} (--strict)", kind="") for each in strict)
    if found:
        where = f" in {len(presets)} files" if len(presets) > 1 else ""
        raise PresetError(f"{counted(len(found), 'problem')}{where}; nothing was sent", problems=found)
    skipped: list[Job] = []
    for preset in presets:
        left_out = [spec for spec in preset.specs if spec.skip]
        if sum(map(job_count, left_out)) <= most:  # more are not worth a record
            skipped += [one.job for one in _expand(reader, preset, left_out, Problems())]
    given = {preset.file: preset.source.sha256 for preset in presets}
    read = {name: digest for preset in presets for name, digest in preset.read.items()}
    jobs, skipped = _select(jobs, skipped, options)
    sources, how, made_from = list({**given, **read}.items()), multiplication(specs), {id(one.job): one for one in made}
    option = reader.option | ({"model": "--model"} if options.model else {})
    return Loaded(jobs, presets, sources, total, how, skipped, problems.notes(), made_from, option)


def _expand(reader: Reader, preset: Preset, specs: Sequence[Spec], problems: Problems) -> list[Made]:
    expander = Expander(preset, problems, reader.options.keep_ids)
    return [made for spec in specs for made in expander.expand(spec)]


def _select(jobs: list[Job], skipped: list[Job], options: LoadOptions) -> tuple[list[Job], list[Job]]:
    """Those that any glob matches and the IDs name. Raises NotFoundError for one that matches none."""
    known = {job.id for job in (*jobs, *skipped)}
    for name in options.only_ids or ():
        if name not in known:
            raise _no_job(f"no job {quoted(name)}", name, jobs)
    for glob in options.only:
        if not any(map(re.compile(translate(glob)).match, known)):
            raise _no_job(f"no job matches {quoted(glob)}", glob, jobs)
    pattern = re.compile("|".join(map(translate, options.only)))
    names = known if options.only_ids is None else {*options.only_ids}
    wanted = {name for name in names if pattern.match(name)}
    return [job for job in jobs if job.id in wanted], [job for job in skipped if job.id in wanted]


def _no_job(message: str, glob: str, jobs: Sequence[Job]) -> NotFoundError:
    ids = [job.id for job in jobs[:2000]]
    hint = f"The job IDs are: {', '.join(ids[:5]) or 'none'}{', …' * (len(ids) > 5)}"
    if any(name.startswith(f"{glob}/") for name in ids):
        hint = f"The pattern is matched against the whole ID; try '{glob}/*'."
    return NotFoundError(message + (f"; did you mean '{near}'?" if (near := nearest(glob, ids)) else ""), hint)


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
        """What the command line sets in every job; ``alone``: and no preset says more.

        Raises UsageError with every value that the model does not take, or that it lacks.
        """
        given = model.named_image(self._given) if "image" in self.options.overrides else self._given
        found = []
        for problem in check_request(model, given):
            name = problem.key.partition("[")[0]
            if name in given:
                several = self.option[name] == "--image" and problem.suggestion == "image"
                found.append(f"{self.option[name]}: {f'{model.short} takes one image' if several else problem.message}")
            elif alone and name not in ("prompt", "loras"):
                add = "--image" if name in ("image", "images") else f"--set {name}=…"
                found.append(f"{problem.message}. Add {add}.")
        if found:
            raise UsageError("; ".join(found), f"To see what the model takes: flux-lora models {model.short}")
        return given | {name: self._images(given[name]) for name in given.keys() & {"image", "images"}}

    def _images(self, value: Any) -> Any:
        """The images of an option, with what is known of local files."""
        if isinstance(value, list):
            return list(map(self._images, value))
        return self.files.given_image(value) if isinstance(value, str) and not is_remote_image(value) else value

    def load(self, path: str) -> Preset:
        """Read and check one source. Raises NotFoundError, UsageError; all else is among the problems."""
        if path == "-":
            data = self.options.stdin
            if not data.strip():
                said = "The command before the | probably failed: see what it said."
                raise NotFoundError("standard input is empty: no job was named", said)
            return self._list(Source("stdin", sha256=sha256(data).hexdigest()), data, "jsonl")
        try:
            source, data = self.files.given(path)
        except Refused as error:
            name = self.files.called(path)
            self.problems.at(Where(name, 1, 1), "", str(error))
            return self._start(Source(name), None)
        kind = LISTS.get(Path(path).suffix.lower())
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
        nodes = read_list(kind, data, source, self.problems)
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
        layers = [] if alone else read_layers(source, data, self.files, self.problems)
        document, aside = merge(layers) if layers else (Node({}, source, 1, 1), [])
        if layers and not document.entries.keys() & set(SECTIONS):
            self.problems.add(document, "", "a preset without jobs, and with nothing for others to extend")
        model = document.get("model")
        preset = self._start(source, model, literal=prompts is not None and not self.options.expand, alone=alone)
        if not layers and not alone:  # unreadable, which is among the problems
            return preset
        if model is not None and self._model is None:
            preset.shared.values["model"] = model.value, model
        preset.read.update({root.source.name: root.source.sha256 for root in layers})
        for name, node in aside:
            preset.language.fields[name].check(Spot(node, name, preset.context))
        if prompts is not None:
            lines = [Node(text, source, line, 1, text, "line") for line, text in enumerate(prompts, 1)]
            jobs = _document([Node({"prompt": node}, source, node.line, 1) for node in lines], source)
            kept = {name: entry for name, entry in document.entries.items() if name not in ("jobs", "matrix", "zip")}
            document.value = kept | jobs.value
        preset.build(document, is_prompts=prompts is not None)
        return preset


def _document(jobs: list[Node], source: Source) -> Node:
    return Node({"jobs": Node(jobs, source, 1, 1)}, source, 1, 1)
