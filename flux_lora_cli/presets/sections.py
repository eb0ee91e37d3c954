"""What the jobs of a preset share: defaults, stacks, variables, axes; and the same of a single job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.check import BAD, Checker
from flux_lora_cli.presets.language import JOB_KEYS, preset_language
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.presets.spec import Axis, Loras, Prompt, Spec, VarDef, axis_label, distinct, shown, tie
from flux_lora_cli.service.models import Model, Models
from flux_lora_cli.service.values import is_remote_image
from flux_lora_cli.text import nearest, quoted


class Sections:
    """Reads the sections of one preset, by the tables of its model.

    Args:
        literal: prompts are taken as they stand.

    Attributes:
        shared: what every job starts from: the defaults, variables and axes.
    """

    def __init__(self, model: Model, models: Models, files: Files, problems: Problems, literal: bool) -> None:
        self.model = model
        self.files = files
        self.problems = problems
        self.literal = literal
        self.language = preset_language(model, models)
        self.checker = Checker(problems, model, self._image)
        self.shared = Spec(Node({}, Source(""), 1, 1), "defaults")
        self.stacks: dict[str, Loras] = {}
        self.used_stacks: set[str] = set()

    def _image(self, node: Node, key: str) -> Any:
        if is_remote_image(node.value):
            notes.note_secrets(node.value, node, self.problems)
            return node.value
        try:
            return self.files.image(node.value, node.source)
        except Refused as error:
            return self.checker.bad(node, key, f"{quoted(node.value)}: {error}")

    def share(self, document: Node) -> list[Any]:
        """Check a whole document, and keep what its jobs share; the jobs, typed."""
        typed = self.checker.check(self.language, document, "")
        typed = {} if typed is BAD else typed
        self.stacks = {name: tuple(loras) for name, loras in typed.get("stacks", {}).items()}
        for name, loras, place in placed(document.get("stacks"), self.stacks):
            self.shared.places[f"stack {name}"] = place
            self._note_loras(loras, place)
        self.set(self.shared, document.get("defaults"), typed.get("defaults", {}))
        self.shared.vars = self._vars(document.get("vars"), typed.get("vars", {}), "vars")
        self.shared.axes = self.axes(document, typed, "")
        return typed.get("jobs") or []

    def set(self, spec: Spec, node: Node | None, typed: Mapping[str, Any]) -> None:
        """Set what a job, or the defaults, say."""
        for name, value, place in placed(node, typed):
            spec.places[name] = place
            if name == "seed":
                spec.seed = value
            elif name == "prompt":
                spec.prompts = [Prompt(value, place, self.literal)]
            elif name == "loras" and isinstance(value, list):
                spec.loras = tuple(value)
                self._note_loras(value, place)
            elif name in self.model.parameters or name not in JOB_KEYS:
                spec.params[name] = value
            elif name == "stack":
                spec.stack = self.stack(place, value, f"{spec.key}.stack")
            elif name == "vars":
                spec.vars = {**spec.vars, **self._vars(place, value, f"{spec.key}.vars")}
            elif name in ("id", "repeat", "sample", "sample_seed", "skip"):
                setattr(spec, name, value)

    def _note_loras(self, loras: Sequence[Any], node: Node) -> None:
        notes.note_loras(loras, node, self.problems)
        upload = "the service cannot read it; upload it, to Hugging Face say, and write owner/name/FILE or its URL"
        for path in filter(None, (item.get("path") for item in node.items)):
            name, folder = path.value, path.source.folder
            local = isinstance(name, str) and bool(folder) and len(name) <= 1000 and "://" not in name
            if local and Path(folder, name).is_file():
                self.problems.note(path.where, "lora-path", f"{quoted(name)} is a file here; {upload}")

    def _vars(self, node: Node | None, typed: Mapping[str, Any], key: str) -> dict[str, VarDef]:
        found = {}
        for name, texts, place in placed(node, typed):
            pairs = list(zip(texts, place.items, strict=False))
            found[name] = VarDef(name, pairs, isinstance(place.value, list), place, f"{key}.{name}")
            self._note_equal(texts, place.items, f"{key}.{name}")
            for text, item in pairs:
                notes.note_prompt(text, item, self.problems, {}, literal=False)
        return found

    def _note_equal(self, values: Sequence[Any], nodes: Sequence[Node], key: str) -> None:
        seen: set[str] = set()
        for value, node in zip(values, nodes, strict=False):
            if repr(value) in seen:
                random = key.endswith("seed") and value == -1
                again = f"several images of one job: repeat: {values.count(-1)}" if random else "delete one"
                return self.problems.note(node.where, "equal-choices", f"{key}: {shown(value)} is there twice; {again}")
            seen.add(repr(value))
        return None

    def stack(self, node: Node, names: Sequence[str], key: str) -> Loras | None:
        """The LoRAs of these stacks, joined; None where a name is not known."""
        self.used_stacks.update(names)
        items = node.items if isinstance(node.value, list) else [node] * len(names)
        unknown = [(item, name) for item, name in zip(items, names, strict=True) if name not in self.stacks]
        for item, name in unknown:
            self.problems.add(item, key, self.unknown_stack(name))
        if unknown:
            return None
        parts = [self.stacks[name] for name in names]
        notes.note_job_loras(parts, node, self.problems)
        return tuple(lora for part in parts for lora in part)

    def unknown_stack(self, name: str) -> str:
        """The message about a stack that does not exist."""
        near = nearest(name, self.stacks)
        known = ", ".join(self.stacks) or "none; a file's stacks stand under stacks"
        return f"no stack {quoted(name)}; " + (f"did you mean '{near}'?" if near else f"known: {known}")

    # ---- axes ----------------------------------------------------------------------------------

    def axes(self, node: Node, typed: Mapping[str, Any], prefix: str) -> list[Axis]:
        """The axes of ``matrix``, and the one of ``zip``."""
        matrix = self._section(node.get("matrix"), typed.get("matrix", {}), f"{prefix}matrix")
        place, key = node.get("zip"), f"{prefix}zip"
        tied = self._section(place, typed.get("zip", {}), key)
        if place is None or not tied:
            return matrix
        if len({len(axis.rows) for axis in tied}) > 1:
            told = ", ".join(f"{axis.name} {len(axis.rows)}" for axis in tied)
            self.problems.add(place, key, f"its lists go together, so they have one length; here: {told}")
            return matrix
        for name in {axis.name for axis in matrix} & {axis.name for axis in tied}:
            self.problems.add(place.key(name), f"{key}.{name}", f"{name} is in matrix, too; leave one out")
        return [*matrix, tie(tied, key, place)]

    def _section(self, node: Node | None, typed: Mapping[str, Any], key: str) -> list[Axis]:
        found = []
        for name, values, place in placed(node, typed):
            if name == "scale" and isinstance(values, dict):
                for path, scales, item in placed(place, values):
                    found.append(self._axis(f"scale {path}", scales, item, f"{key}.scale.{path}"))
            else:
                found.append(self._axis(name, values, place, f"{key}.{name}"))
        return [axis for axis in found if axis is not None]

    def _axis(self, name: str, values: Any, place: Node, key: str) -> Axis | None:
        if not isinstance(values, list):  # of a model that is not checked
            self.checker.refuse(place, key, "a list of one or more values")
        if not isinstance(values, list) or not values:  # refused
            return None
        nodes = place.items
        if name == "stack" and "stack" not in self.model.parameters:
            texts = labels = ["+".join(value) or "none" for value in values]
            values = [
                self.stack(node, names, f"{key}[{n}]")
                for n, (node, names) in enumerate(zip(nodes, values, strict=True))
            ]
            if None in values:
                return None
        else:
            texts = list(map(shown, values))
            labels = [axis_label(name, value) for value in values]
        for value, item in zip(values, nodes, strict=False) if name == "loras" else ():
            self._note_loras(value, item)
        self._note_equal(values, nodes, key)
        labels = distinct(labels, list(map(str, values)))
        rows = [(value,) for value in values]
        return Axis((name,), rows, labels, [(text,) for text in texts], [(node,) for node in nodes], key, place)


def placed(node: Node | None, typed: Mapping[str, Any]) -> Iterator[tuple[str, Any, Node]]:
    """Typed values with the nodes that they came from."""
    for name, value in typed.items():
        place = node.get(name) if node else None
        if place is not None:
            yield name, value, place
