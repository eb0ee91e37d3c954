"""One source of jobs: a preset in YAML, or a plain list of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ...errors import NotFoundError, UsageError
from ..job import Where
from ..parameters import DEFAULT_MODEL, MODELS, find_model
from ..suggest import nearest, show
from .checker import Checker
from .expansion import make_plans
from .files import PresetFiles, SourceFile
from .nodes import Map, Scalar, Seq
from .one_preset import OnePreset, name_jobs
from .overrides import Overrides
from .problems import FileRefused, Problems
from .spec import JobSpec, Loras, PromptText
from .text_readers import decode, prompt_lines, read_csv, read_text
from .values import BAD, Origin, ParameterReader, text_of
from .variables import Scope, WildcardFolder

if TYPE_CHECKING:
    from .layers import Layer
    from .loading import LoadOptions


def read_source(
    path: str, files: PresetFiles, options: LoadOptions, overrides: Overrides, problems: Problems
) -> OnePreset:
    """Read and check one source. Raises NotFoundError, UsageError; all else is among the problems."""
    if path == "-":
        source = _stdin(options.stdin)
        kind = "jsonl"
    else:
        source = files.source(path)
        kind = path.rpartition(".")[2].lower() if "." in path else "yaml"
    reading = _Reading(source, files, options, overrides, problems)
    if kind in ("txt", "csv", "tsv", "jsonl", "ndjson"):
        return reading.plain_list("jsonl" if kind == "ndjson" else kind)
    return reading.yaml()


def _stdin(data: str | bytes | None) -> SourceFile:
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data or b""
    if not raw.strip():
        raise NotFoundError(
            "standard input has no line: no job was named", hint="the command before the | probably failed"
        )
    return SourceFile("stdin", "", "", raw, sha256(raw).hexdigest())


class _Reading:
    """The reading of one source."""

    def __init__(
        self,
        source: SourceFile,
        files: PresetFiles,
        options: LoadOptions,
        overrides: Overrides,
        problems: Problems,
    ) -> None:
        self.source = source
        self.files = files
        self.options = options
        self.overrides = overrides
        self.problems = problems
        stem = source.path.replace("\\", "/").rpartition("/")[2]
        stem = stem.rpartition(".")[0] or stem
        self.preset = OnePreset(source.path, source.sha256, stem, DEFAULT_MODEL)

    # ---- the model ---------------------------------------------------------------------------

    def _model(self, name: str | None, origin: Origin | None = None, node: Scalar | None = None) -> None:
        """Settle on a model: the command line's, the preset's, the default."""
        wanted = self.overrides.model or (DEFAULT_MODEL if name is None else name)
        self.preset.model = find_model(wanted)
        if self.preset.model is not None:
            self.preset.model_id = self.preset.model.id
        elif self.options.allow_unknown_model:
            self.preset.model_id = wanted
        else:
            self._unknown_model(wanted, origin, node)

    def _unknown_model(self, wanted: str, origin: Origin | None, node: Scalar | None) -> None:
        shorts = [model.short for model in MODELS.values()]
        near = nearest(wanted.rpartition("/")[2], shorts)
        hint = f'did you mean "{near}"?' if near else "known: " + ", ".join(shorts)
        message = f"no model {show(wanted)}; {hint} (--allow-unknown-model takes any)"
        if self.overrides.model or origin is None or node is None:
            raise UsageError(f"--model: {message}")
        origin.bad(node, "model", message)
        self.preset.model = MODELS[DEFAULT_MODEL]

    def _checker(self, literal: bool = False) -> Checker:
        self.overrides.check(self.preset.model, self.options.api_version)
        reader = ParameterReader(self.preset.model, self.options.api_version)
        checker = Checker(reader, literal=literal)
        checker.find_prompts = partial(self._prompts_file, literal)
        return checker

    def _origin(self, source: SourceFile) -> Origin:
        root = self.source.folder
        return Origin(source.path, self.problems, lambda p: self.files.image(p, source.folder, root))

    def _wildcards(self, folder: str) -> WildcardFolder:
        return WildcardFolder(self.files, folder, self.source.folder, self.problems, self.preset.read)

    def _prompts_file(self, literal: bool, origin: Origin, node: Scalar, key: str) -> list[PromptText] | None:
        folder = self._folders.get(origin.file, self.source.folder)
        try:
            source = self.files.beside(node.value, folder, self.source.folder)
        except FileRefused as error:
            origin.bad(node, key, f"{show(node.value)}: {error}")
            return None
        text = decode(source.data, source.path, self.problems)
        if text is None:
            return None
        self.preset.read[source.path] = source.sha256
        lines = list(prompt_lines(text))
        if not lines:
            origin.bad(node, key, f"{show(node.value)} has no prompts")
        return [PromptText(s.text, Where(source.path, s.line, s.column), literal) for s in lines]

    # ---- sources -----------------------------------------------------------------------------

    def plain_list(self, kind: str) -> OnePreset:
        """A .txt, .csv or .jsonl: a job a line."""
        self._folders = {self.source.path: self.source.folder}
        self._model(None)
        checker = self._checker(literal=not self.options.expand)
        text = decode(self.source.data, self.source.path, self.problems)
        if text is None:
            return self.preset
        origin = self._origin(self.source)
        wildcards = self._wildcards(self.source.folder)
        scope = Scope({}, wildcards)
        empty = True
        for node in self._nodes(kind, text):
            empty = False
            self._take(checker.job(origin, node, f"line {node.line}", scope, wildcards))
            if self.problems.full(origin.file):
                break
        if empty and not self.problems.of(self.source.path):
            self.problems.add(self.source.path, 1, 1, "", "no jobs in this file")
        return self._finish(checker)

    def _nodes(self, kind: str, text: str) -> Iterable[Map]:
        if kind == "txt":
            return read_text(text)
        if kind == "csv":
            return read_csv(text, self.source.path, self.problems)
        if kind == "tsv":
            self.problems.add(self.source.path, 1, 1, "", "tabs between columns are not read; save it as CSV")
            return []
        from .json_lines import read_json_lines

        return read_json_lines(text, self.source.path, self.problems)

    def yaml(self) -> OnePreset:
        """A preset file with all that it extends."""
        from .layers import LayerReader

        layers = LayerReader(self.files, self.problems).layers(self.source)
        self._folders = {layer.source.path: layer.source.folder for layer in layers}
        for layer in layers:
            self.preset.read[layer.source.path] = layer.source.sha256
        if not layers:
            return self.preset
        self._names(layers[-1])
        self._yaml_model(layers)
        checker = self._checker()
        self._sections(checker, layers)
        with_jobs = [layer for layer in layers if "jobs" in layer.root.entries]
        if with_jobs:
            self._yaml_jobs(checker, with_jobs[-1])
        elif self.options.require_jobs and not self.problems:
            last = layers[-1]
            last.origin.bad(last.root, "jobs", "there are none; a preset to run has jobs, each - prompt: …")
        return self._finish(checker)

    def prompts(self, nodes: Sequence[Map]) -> OnePreset:
        """Prompts under the defaults (and variables, where they are expanded) of this preset."""
        layers: list[Layer] = []
        if self.source.data:
            from .layers import LayerReader

            layers = LayerReader(self.files, self.problems).layers(self.source)
        self._folders = {layer.source.path: layer.source.folder for layer in layers}
        if layers:
            self._names(layers[-1])
        self._yaml_model(layers)
        checker = self._checker(literal=not self.options.expand)
        self._sections(checker, layers)
        checker.shared.matrix.clear()
        wildcards = self._wildcards(self.source.folder)
        scope = Scope(checker.shared.vars, wildcards)
        origin = self._origin(self.source)
        for node in nodes:
            self._take(checker.job(origin, node, "prompt", scope, wildcards))
        return self._finish(checker)

    def _names(self, layer: Layer) -> None:
        for name in ("name", "description"):
            entry = layer.root.entries.get(name)
            if entry is not None and isinstance(entry[2], Scalar) and isinstance(entry[2].value, str):
                setattr(self.preset, name, entry[2].value)

    def _yaml_model(self, layers: Sequence[Layer]) -> None:
        for layer in reversed(layers):
            entry = layer.root.entries.get("model")
            if entry is not None:
                name = text_of(layer.origin, entry[2], "model")
                if name is not BAD and isinstance(entry[2], Scalar):
                    return self._model(name, layer.origin, entry[2])
        return self._model(None)

    def _sections(self, checker: Checker, layers: Sequence[Layer]) -> None:
        shared = checker.shared
        readers = (
            ("stacks", checker.stacks),
            ("vars", lambda o, n: shared.vars.update(checker.vars(o, n))),
            ("defaults", checker.defaults),
            ("matrix", lambda o, n: shared.matrix.update(checker.matrix(o, n))),
        )
        for name, read in readers:
            for layer in layers:
                entry = layer.root.entries.get(name)
                if entry is not None:
                    read(layer.origin, entry[2])
        if not self.options.keep_ids:
            for name in self.overrides.values:
                shared.matrix.pop(name, None)

    def _yaml_jobs(self, checker: Checker, layer: Layer) -> None:
        node = layer.root.entries["jobs"][2]
        if not isinstance(node, Seq):
            return
        self.preset.line = node.line if layer.source.path == self.preset.file else 1
        wildcards = self._wildcards(layer.source.folder)
        scope = Scope(checker.shared.vars, wildcards)
        for number, item in enumerate(node.items):
            if self.problems.full(layer.origin.file):
                break
            self._take(checker.job(layer.origin, item, f"jobs[{number}]", scope, wildcards))

    # ---- jobs --------------------------------------------------------------------------------

    def _take(self, spec: JobSpec | None) -> None:
        if spec is not None:
            make_plans(spec, self.problems)
            self.preset.specs.append(spec)

    def _finish(self, checker: Checker) -> OnePreset:
        preset = self.preset
        preset.stacks = checker.shared.stacks
        values = self.overrides.values
        stack = values.pop("stack", None)
        if stack is not None:
            preset.stack = self._given_stack(checker, stack)
        preset.overrides = values
        preset.stack_replaces = self.options.keep_ids
        if not self.options.keep_ids:
            self._drop_axes(values, stack is not None)
        name_jobs(preset.specs, self.problems)
        preset.skipped_specs = [spec for spec in preset.specs if spec.skip]
        preset.skipped = [spec.id for spec in preset.skipped_specs]
        preset.specs = [spec for spec in preset.specs if not spec.skip]
        return preset

    def _given_stack(self, checker: Checker, wanted: str | Sequence[str]) -> Loras:
        joined: list[Mapping[str, Any]] = []
        for name in [wanted] if isinstance(wanted, str) else wanted:
            if name not in checker.shared.stacks:
                raise NotFoundError(f"{self.preset.file}: {checker.unknown_stack(name)}")
            joined.extend(checker.shared.stacks[name])
        return tuple(joined)

    def _drop_axes(self, values: Mapping[str, Any], stack: bool) -> None:
        """Axes that the command line replaces by a value; ``--lora`` replaces stacks, too."""
        dropped = {*values, *(("stack",) if stack or "loras" in values else ())}
        if not dropped:
            return
        for spec in self.preset.specs:
            if any(axis.name in dropped for axis in spec.axes):
                spec.axes = tuple(axis for axis in spec.axes if axis.name not in dropped)
                spec.plans = []
                make_plans(spec, self.problems)


def prompt_preset(
    nodes: Sequence[Map],
    preset: str | None,
    files: PresetFiles,
    options: LoadOptions,
    problems: Problems,
) -> OnePreset:
    """Jobs of prompts on the command line, under the defaults of a preset where one is named."""
    source = files.source(preset) if preset is not None else SourceFile("prompt", "", "", b"", "")
    reading = _Reading(source, files, options, Overrides.of(options, files), problems)
    return reading.prompts(nodes)
