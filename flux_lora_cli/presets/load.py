"""Presets named on the command line, into jobs: every problem of every file in one go, or every job."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from pathlib import Path

from flux_lora_cli.errors import NotFoundError, PresetError, UsageError
from flux_lora_cli.presets.build import Preset
from flux_lora_cli.presets.expand import job_count, multiplication
from flux_lora_cli.presets.job import Job, Where
from flux_lora_cli.presets.jobs import Expander, Made, origins, parts
from flux_lora_cli.presets.nodes import Finding, Problems, Source
from flux_lora_cli.presets.notes import note_list, note_requests
from flux_lora_cli.presets.reading import MAX_JOBS, LoadOptions, Reader
from flux_lora_cli.presets.sources import Files
from flux_lora_cli.presets.spec import Spec
from flux_lora_cli.service.models import Model
from flux_lora_cli.text import counted, nearest, quoted

__all__ = ["MAX_JOBS", "LoadOptions", "Loaded", "build_prompt_jobs", "load_presets"]


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
        return tuple(line for preset in self.presets for line in preset.sums)

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
        return _jobs_of_preset(prompts, options, str(preset), job, allow)
    if not prompts:
        raise UsageError(
            "no prompt",
            'Write one in quotes: flux-lora submit "a cat"; or take jobs of a preset: --preset FILE --job ID.',
        )
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


def _jobs_of_preset(
    prompts: Sequence[str], options: LoadOptions, preset: str, job: str, allow: Sequence[str | Path]
) -> Loaded:
    if len(prompts) > 1:
        raise UsageError("--job takes at most one prompt", "Leave out --job to use only the defaults.")
    given = {**options.overrides, **({"prompt": prompts[0]} if prompts else {})}
    reader = Reader(replace(options, overrides=given, only=(job,), keep_ids=True), Files(allow))
    loaded = _expanded(reader, [reader.load(preset)], once=False)
    if not loaded.jobs:
        raise NotFoundError(f"{quoted(job)} matches only jobs with skip: true", "Take skip out of the preset.")
    seed = given.get("seed", options.set_overrides.get("seed"))
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
        largest = max(presets, key=lambda preset: preset.jobs)
        largest.too_many(total, multiplication(specs))
    jobs = [one.job for one in made]
    if not problems:
        tables = {preset.model.id: preset.model for preset in presets}
        note_requests(jobs, tables, problems, once)
    _raise_problems(problems, options.strict, len(presets))
    skipped: list[Job] = []
    for preset in presets:
        left_out = [spec for spec in preset.specs if spec.skip]
        if sum(map(job_count, left_out)) <= most:  # more are not worth a record
            skipped += [one.job for one in _expand(reader, preset, left_out, Problems())]
    given = {preset.file: preset.source.sha256 for preset in presets}
    read = {name: digest for preset in presets for name, digest in preset.read.items()}
    jobs, skipped = _select(jobs, skipped, options)
    return Loaded(
        jobs,
        presets,
        list({**given, **read}.items()),
        total,
        multiplication(specs),
        skipped,
        problems.notes(),
        {id(one.job): one for one in made},
        reader.option | ({"model": "--model"} if options.model else {}),
    )


def _expand(reader: Reader, preset: Preset, specs: Sequence[Spec], problems: Problems) -> list[Made]:
    keep_ids = reader.options.keep_ids
    expander = Expander(preset.name, preset.model, problems, preset.values, preset.stack, keep_ids)
    return [made for spec in specs for made in expander.expand(spec)]


def _raise_problems(problems: Problems, strict: bool, files: int) -> None:
    """Raises PresetError if there is any problem."""
    found = problems.sorted()
    notes = problems.notes() if strict else ()
    found += tuple(replace(note, message=f"{note.message} (--strict)", kind="") for note in notes)
    if found:
        where = f" in {files} files" if files > 1 else ""
        raise PresetError(f"{counted(len(found), 'problem')}{where}; nothing was sent", problems=found)


def _select(jobs: list[Job], skipped: list[Job], options: LoadOptions) -> tuple[list[Job], list[Job]]:
    """Those that any glob matches and the IDs name; all where there are neither.

    Raises NotFoundError for a glob or ID that matches none, and no skipped job either.
    """
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
    near = nearest(glob, ids)
    hint = f"The job IDs are: {', '.join(ids[:5]) or 'none'}{', …' * (len(ids) > 5)}"
    if any(name.startswith(f"{glob}/") for name in ids):
        hint = f"The pattern is matched against the whole ID; try '{glob}/*'."
    return NotFoundError(message + (f"; did you mean '{near}'?" if near else ""), hint)
