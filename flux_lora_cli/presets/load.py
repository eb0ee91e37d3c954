"""Presets named on the command line, into jobs: every problem of every file in one go, or every job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flux_lora_cli.errors import NotFoundError, PresetError, UsageError
from flux_lora_cli.presets.expand import job_count, multiplication, sums
from flux_lora_cli.presets.job import Job, Where
from flux_lora_cli.presets.jobs import Expander, Made, origins, parts
from flux_lora_cli.presets.nodes import Finding, Problems, Source
from flux_lora_cli.presets.notes import note_list, note_requests
from flux_lora_cli.presets.reading import MAX_JOBS, LoadOptions, Preset, Reader, matching, select
from flux_lora_cli.presets.sources import Files
from flux_lora_cli.presets.spec import Spec
from flux_lora_cli.service.models import Model
from flux_lora_cli.text import counted, quoted

__all__ = ["MAX_JOBS", "LoadOptions", "Loaded", "PresetInfo", "build_prompt_jobs", "load_presets"]


@dataclass(frozen=True)
class PresetInfo:
    """What ``preset list`` tells of one file. ``sums``: how each job multiplies."""

    file: str
    name: str
    description: str
    model: str
    stacks: tuple[str, ...]
    jobs: int
    sums: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """Everything that the sources ask for.

    Attributes:
        jobs: expanded, in the order of the sources, those that ``only`` leaves.
        sources: (path, SHA-256) of every file that was read, those of the command line first.
        names: the presets' names, in order.
        total: jobs before ``only``.
        multiplication: how the total comes about, ``2 × 40 × 12 = 960``; ``sums``: of each job, with names.
        skipped_jobs: those with ``skip: true``, expanded as far as they are few: for the manifest.
        presets: one entry per source.
        notes: what is valid and probably not meant.
    """

    jobs: list[Job]
    sources: list[tuple[str, str]]
    names: tuple[str, ...]
    total: int
    multiplication: str
    sums: tuple[str, ...] = ()
    skipped_jobs: list[Job] = field(default_factory=list)
    presets: tuple[PresetInfo, ...] = ()
    notes: tuple[Finding, ...] = ()
    _made: Mapping[int, Made] = field(default_factory=dict, repr=False)
    _options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def provenance(self, job: Job) -> dict[str, Where]:
        """The place of each value of one of these jobs, through ``extends``; an option's ``file`` is its name."""
        made = self._made.get(id(job))
        return origins(made, self._options) if made else {}

    def parts(self, job: Job, name: str) -> list[tuple[object, Where]]:
        """What a value of one of these jobs was made of, each part with its place."""
        made = self._made.get(id(job))
        return list(parts(made, name)) if made else []


class Loader(Reader):
    """All sources of a command."""

    def finish(self, presets: Sequence[Preset], *, once: bool = True) -> Loaded:
        """Everything, or every problem. ``once``: equal jobs are made once, which is told."""
        options, problems = self.options, self.problems
        specs = [spec for preset in presets for spec in preset.wanted]
        total = sum(map(job_count, specs))
        limit = MAX_JOBS if options.max_jobs is None and options.inspect else options.max_jobs
        made: list[Made] = []
        if options.max_jobs is not None and total > options.max_jobs:
            largest = max(presets, key=lambda preset: sum(map(job_count, preset.wanted)))
            self.too_many(largest.source, largest.line, total, multiplication(specs))
        elif limit is None or total <= limit:
            made = [one for preset in presets for one in self._expand(preset, preset.wanted, problems)]
        jobs = [one.job for one in made]
        if not problems:
            note_requests(jobs, self._table, problems, once)
        self._raise_problems(len(presets))
        skipped = [] if options.inspect else self._skipped(presets)
        infos = tuple(map(_info, presets))
        given = {preset.source.name: preset.source.sha256 for preset in presets}
        read = {name: digest for preset in presets for name, digest in preset.builder.read.items()}
        return Loaded(
            [] if options.inspect else select(jobs, options, skipped),
            list({**given, **read}.items()),
            tuple(preset.name for preset in presets),
            total,
            multiplication(specs),
            tuple(line for info in infos for line in info.sums),
            matching(skipped, options),
            infos,
            problems.notes(),
            {id(one.job): one for one in made},
            {name: self.option(name) for preset in presets for name in self.named(self.values, preset.model)}
            | ({"model": "--model"} if self.options.model else {}),
        )

    def _expand(self, preset: Preset, specs: Sequence[Spec], problems: Problems) -> list[Made]:
        values = self.named(self.values, preset.model)
        expander = Expander(preset.name, preset.model, problems, values, preset.stack, self.options.keep_ids)
        return [made for spec in specs for made in expander.expand(spec)]

    def _table(self, model: str) -> Model:
        options = self.options
        return options.models.find(model, options.api_version, allow_unknown=options.allow_unknown_model)

    def _raise_problems(self, files: int) -> None:
        """Raises PresetError if there is any problem."""
        found = self.problems.sorted()
        notes = self.problems.notes() if self.options.strict else ()
        found += tuple(replace(note, message=f"{note.message} (--strict)", kind="") for note in notes)
        if found:
            where = f" in {files} files" if files > 1 else ""
            raise PresetError(f"{counted(len(found), 'problem')}{where}; nothing was sent", problems=found)

    def _skipped(self, presets: Sequence[Preset]) -> list[Job]:
        """Jobs with ``skip: true``, for the record; so many that ``max_jobs`` would refuse them are not worth one."""
        jobs: list[Job] = []
        for preset in presets:
            specs = [spec for spec in preset.specs if spec.skip]
            if sum(map(job_count, specs)) <= (self.options.max_jobs or MAX_JOBS):
                jobs += [made.job for made in self._expand(preset, specs, Problems())]
        return jobs


def _info(preset: Preset) -> PresetInfo:
    return PresetInfo(
        preset.source.name,
        preset.name,
        preset.description,
        preset.model.id,
        tuple(preset.builder.stacks),
        sum(map(job_count, preset.wanted)),
        tuple(sums(preset.wanted)),
    )


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
    options = options or LoadOptions()
    loader = Loader(options, files or Files(allow))
    return loader.finish([loader.load(str(path)) for path in paths])


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
        return _jobs_of_preset(prompts, options, str(preset), job, allow)
    if not prompts:
        raise UsageError(
            "no prompt",
            'Write one in quotes: flux-lora submit "a cat"; or take jobs of a preset: --preset FILE --job ID.',
        )
    loader = Loader(replace(options, only=(), only_ids=None), Files(allow))
    source, data = Source("prompt"), b""
    if preset is not None:
        whole = LoadOptions(
            models=options.models, api_version=options.api_version, allow_unknown_model=options.allow_unknown_model,
            max_jobs=None, require_jobs=False, inspect=True,
        )  # fmt: skip
        load_presets(preset, options=whole, allow=allow)  # wrong anywhere: nothing of it is sent
        source, data = loader.files.given(str(preset))
    made = loader.preset(source, data, prompts)
    row = made.model.parameters.get("prompt")
    if row is not None and row.required and not all(map(str.strip, prompts)):
        raise UsageError(f"the prompt is empty, and {made.model.short} needs one", "Is a shell variable in it not set?")
    if preset is None:
        loader.check_required(made.model)
    note_list("prompt", [p.node for spec in made.specs for p in spec.prompts], not options.expand, loader.problems)
    return loader.finish([made], once=False)


def _jobs_of_preset(
    prompts: Sequence[str], options: LoadOptions, preset: str, job: str, allow: Sequence[str | Path]
) -> Loaded:
    if len(prompts) > 1:
        raise UsageError("--job takes at most one prompt", "Leave out --job to use only the defaults.")
    given = {**options.overrides, **({"prompt": prompts[0]} if prompts else {})}
    options = replace(options, overrides=given, only=(job,), only_ids=None, keep_ids=True)
    loader = Loader(options, Files(allow))
    loaded = loader.finish([loader.load(preset)], once=False)
    if not loaded.jobs:
        raise NotFoundError(f"{quoted(job)} matches only jobs with skip: true", "Take skip out of the preset.")
    seed = given.get("seed", options.set_overrides.get("seed"))
    if seed is not None and len(loaded.jobs) == 1:
        # Repeats count up from a fixed seed; one job alone takes the seed that was asked for.
        return replace(loaded, jobs=[replace(loaded.jobs[0], seed=None if seed == -1 else seed)])
    return loaded
