"""One source, read and checked: a preset with all that it extends, or a list of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.presets.build import Builder, name_jobs, note_unused
from flux_lora_cli.presets.job import LocalImage, Where
from flux_lora_cli.presets.layers import Layers, merge
from flux_lora_cli.presets.lists import decode, read_list, stdin_bytes
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.notes import note_list
from flux_lora_cli.presets.options import LoadOptions
from flux_lora_cli.presets.sources import Files
from flux_lora_cli.presets.spec import Loras, Spec
from flux_lora_cli.service.models import (
    DEFAULT_MODEL,
    Model,
    UnknownModel,
    check_value,
    is_remote_image,
    unknown_key,
)

#: What a parameter's option is called, for messages.
OPTION_NAMES = {
    "num_inference_steps": "--steps", "guidance_scale": "--guidance", "num_images": "--num-images", "loras": "--lora",
    "images": "--image", "enable_safety_checker": "--safety-checker",
    **{name: f"--{name}" for name in ("image", "strength", "size", "seed", "model", "stack")},
}  # fmt: skip
_LISTS = {".txt": "txt", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass
class Preset:
    """One source, checked, ready to expand."""

    source: Source
    name: str
    model: Model
    line: int = 1
    description: str = ""
    builder: Builder | None = None
    specs: list[Spec] = field(default_factory=list)
    read: dict[str, str] = field(default_factory=dict)
    stack: Loras | None = None

    @property
    def wanted(self) -> list[Spec]:
        return [spec for spec in self.specs if not spec.skip]


class Reader:
    """Reads sources under one set of options."""

    def __init__(self, options: LoadOptions, files: Files) -> None:
        self.options = options
        self.files = files
        self.problems = Problems()
        self.named, self.sets = dict(options.overrides), dict(options.set_overrides)
        given = (options.model, self.named.pop("model", None), self.sets.pop("model", None))
        self.model_name = next((name for name in given if name), None)
        for values in (self.named, self.sets):
            self._look_at_images(values)
        self.values = {**self.sets, **self.named}
        self.stack_names = self.values.pop("stack", None)

    def _look_at_images(self, values: dict[str, Any]) -> None:
        def local(value: Any) -> Any:
            is_file = isinstance(value, str) and not is_remote_image(value)
            return self.files.given_image(value) if is_file else value

        if "image" in values:
            values["image"] = local(values["image"])
        if isinstance(values.get("images"), (list, tuple)):
            values["images"] = [local(value) for value in values["images"]]

    def option(self, key: str) -> str:
        """What the option that sets a key is called."""
        name = key.partition("[")[0]
        return OPTION_NAMES.get(name, f"--set {name}") if name in self.named else f"--set {name}"

    def check_values(self, model: Model) -> None:
        """Raises UsageError with every value of the command line that the model does not take."""
        found = []
        for name, value in self.values.items():
            row = model.parameters.get(name)
            plain = _bare(value)
            problem = check_value(row, plain)[1] if row else unknown_key(model, name) if model.checked else None
            if problem is not None:
                found.append(f"{self.option(name)}: {problem.message}")
        if found:
            raise UsageError("; ".join(found), f"the model is {model.short}")

    # ---- one source ------------------------------------------------------------------------------

    def load(self, path: str) -> Preset:
        """Read and check one source. Raises NotFoundError, UsageError; all else is among the problems."""
        if path == "-":
            data = stdin_bytes(self.options.stdin)
            if not data.strip():
                hint = "the command before the | probably failed"
                raise NotFoundError("standard input is empty: no job was named", hint)
            return self._list(Source("stdin", sha256=sha256(data).hexdigest()), data, "jsonl")
        source, data = self.files.given(path)
        kind = _LISTS.get(Path(path).suffix.lower())
        return self._list(source, data, kind) if kind else self.preset(source, data)

    def _start(self, source: Source) -> Preset:
        model = self.options.models.find(DEFAULT_MODEL, None)
        return Preset(source, Path(source.name).stem or source.name, model)

    def _model(self, preset: Preset, node: Node | None) -> None:
        """Settle on a model: the command line's, the preset's, the default. Raises UsageError."""
        options = self.options
        named = node.value if node is not None and isinstance(node.value, str) else None
        name = self.model_name or (DEFAULT_MODEL if named is None else named)
        try:
            preset.model = options.models.find(name, options.api_version, allow_unknown=options.allow_unknown_model)
        except UnknownModel as error:
            if self.model_name or node is None or named is None or self._is_known(name):
                raise
            self.problems.add(
                node, "model", f"{error.message}; {error.hint}" if "did you mean" not in str(error) else str(error)
            )
        self.check_values(preset.model)

    def _is_known(self, name: str) -> bool:
        try:
            self.options.models.find(name)
        except UnknownModel:
            return False
        return True

    def _builder(self, preset: Preset, literal: bool) -> Builder:
        dropped = () if self.options.keep_ids else (*self.values, *(("stack",) if self.stack_names is not None else ()))
        preset.builder = Builder(
            preset.model,
            self.options.models,
            self.files,
            self.problems,
            literal=literal,
            dropped=dropped,
            told=lambda source: preset.read.update({source.name: source.sha256}),
        )
        return preset.builder

    def _list(self, source: Source, data: bytes, kind: str) -> Preset:
        """A .txt, .csv or .jsonl: a job per line."""
        preset = self._start(source)
        self._model(preset, None)
        builder = self._builder(preset, literal=not self.options.expand)
        text = decode(data, source, self.problems)
        if text is None:
            return preset
        prompts: list[Node] = []
        before = len(self.problems)
        for node in read_list(kind, text, source, self.problems):
            spec = builder.job(node, f"line {node.line}")
            if spec is not None:
                prompts += [prompt.node for prompt in spec.prompts]
                builder.plan(spec)
                preset.specs.append(spec)
            if self.problems.full(source.name):
                break
        if not preset.specs and len(self.problems) == before:
            self.problems.at(Where(source.name, 1, 1), "", "no jobs in this file")
        note_list(kind, prompts, not self.options.expand, self.problems)
        return self._finish(preset)

    def preset(self, source: Source, data: bytes, prompts: Sequence[str] | None = None) -> Preset:
        """A preset with all that it extends; with ``prompts`` those in place of its jobs."""
        preset = self._start(source)
        layers = Layers(self.files, self.problems).read(source, data) if data or prompts is None else []
        for layer in layers:
            preset.read.setdefault(layer.source.name, layer.source.sha256)
        if data and not layers:
            return preset
        named = [node for layer in layers if (node := layer.root.get("model")) is not None]
        self._model(preset, named[-1] if named else None)
        builder = self._builder(preset, literal=prompts is not None and not self.options.expand)
        document = Node({}, source, 1, 1)
        if layers:
            document = merge(layers, builder.sections.language, builder.on)
        jobs = document.get("jobs")
        if prompts is not None:
            document.entries.pop("jobs", None)
        typed = builder.sections.share(document)
        preset.name = _text(layers[-1].root.get("name") if layers else None) or preset.name
        preset.description = _text(layers[-1].root.get("description") if layers else None)
        if prompts is not None:
            builder.shared.matrix, builder.shared.zip = [], None
            nodes = [
                Node({"prompt": (n, 1, Node(text, source, n, 1, text, "line"))}, source, n, 1)
                for n, text in enumerate(prompts, 1)
            ]
            preset.specs = [spec for node in nodes if (spec := builder.job(node, "prompt")) is not None]
        elif jobs is not None and isinstance(jobs.value, list):
            preset.line = jobs.line if jobs.source is source else 1
            items = typed.get("jobs") or [None] * len(jobs.value)
            for index, (node, item) in enumerate(zip(jobs.items, items, strict=True)):
                spec = builder.job(node, f"jobs[{index}]", item) if item is not None else None
                preset.specs += [spec] if spec is not None else []
        elif self.options.require_jobs and jobs is None and not self.problems:
            self.problems.add(document, "jobs", "there are none; a preset to run has jobs, each - prompt: …")
        for spec in preset.specs:
            builder.plan(spec)
        if prompts is None and preset.specs:
            self._note_unused(builder, document, source)
        return self._finish(preset)

    def _note_unused(self, builder: Builder, document: Node, source: Source) -> None:
        unused = note_unused(builder, document, source, self.problems)
        if unused and not (source.real and self.files.is_extended(source)):
            for node, message in unused:
                self.problems.note(node.where, "unused", message)

    def _finish(self, preset: Preset) -> Preset:
        name_jobs(preset.specs, self.problems)
        if self.stack_names is not None and preset.builder is not None:
            joined: list[Any] = []
            for name in [self.stack_names] if isinstance(self.stack_names, str) else self.stack_names:
                if name not in preset.builder.shared.stacks:
                    raise NotFoundError(f"{preset.source.name}: {preset.builder.sections.unknown_stack(name)}")
                joined += preset.builder.shared.stacks[name]
            preset.stack = tuple(joined)
        return preset


def _bare(value: Any) -> Any:
    """A value as the model's table checks it: a local image as a path."""
    if isinstance(value, LocalImage):
        return "file.png"
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _text(node: Node | None) -> str:
    return node.value if node is not None and isinstance(node.value, str) else ""
