"""What the jobs of a preset share: defaults, stacks, variables, axes; and the axes of a single job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.keys import preset_language
from flux_lora_cli.presets.nodes import Node, Problems
from flux_lora_cli.presets.shapes import BAD, Checking
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.presets.spec import MAX_SLUG, Axis, Loras, VarDef, axis_label, distinct, label, shown
from flux_lora_cli.service.models import Model, Models, is_remote_image
from flux_lora_cli.text import nearest, quoted


@dataclass
class Shared:
    """What all jobs of a preset share."""

    params: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Node] = field(default_factory=dict)
    prompt: tuple[str, Node] | None = None
    seed: int | None = None
    loras: Loras | None = None
    stack: Loras | None = None
    stacks: dict[str, Loras] = field(default_factory=dict)
    vars: dict[str, VarDef] = field(default_factory=dict)
    matrix: list[Axis] = field(default_factory=list)
    zip: Axis | None = None


class Sections:
    """Reads the sections of one preset, by the tables of its model."""

    def __init__(self, model: Model, models: Models, files: Files, problems: Problems) -> None:
        self.model = model
        self.files = files
        self.problems = problems
        self.language = preset_language(model, models)
        self.on = Checking(problems, model, self._image)
        self.shared = Shared()
        self.used_stacks: set[str] = set()

    def _image(self, node: Node, key: str) -> Any:
        value = node.value if isinstance(node.value, str) else node.text
        if is_remote_image(value):
            notes.note_url(Node(value, node.source, node.line, node.column), self.problems)
            return value
        try:
            return self.files.image(value, node.source)
        except Refused as error:
            return self.on.bad(node, key, f"{quoted(value)}: {error}")

    def share(self, document: Node) -> dict[str, Any]:
        """Check a whole document, and keep what its jobs share; the typed document."""
        typed: dict[str, Any] = self.language.check(document, "", self.on)
        if typed is BAD:
            typed = {}
        shared = self.shared
        shared.stacks = {name: tuple(loras) for name, loras in typed.get("stacks", {}).items()}
        stacks = document.get("stacks")
        for name in shared.stacks:
            self.note_loras(stacks.get(name) if stacks else None)
        defaults, node = typed.get("defaults", {}), document.get("defaults")
        for name, value in defaults.items():
            place = node.get(name) if node else None
            if place is None:
                continue
            shared.places[name] = place
            if name == "prompt":
                shared.prompt = (value, place)
            elif name == "seed":
                shared.seed = value
            elif name == "loras":
                shared.loras = tuple(value)
                self.note_loras(place)
            elif name == "stack" and "stack" not in self.model.parameters:
                shared.stack = self.stack(place, value, "defaults.stack")
            else:
                shared.params[name] = value
        shared.vars = self.vars(document.get("vars"), typed.get("vars", {}), "vars")
        shared.matrix = self.axes(document.get("matrix"), typed.get("matrix", {}), "matrix")
        shared.zip = self.zip(document.get("zip"), typed.get("zip", {}), "zip")
        self.refuse_both(shared.matrix, shared.zip, document.get("zip"), "zip")
        return typed

    def note_loras(self, node: Node | None) -> None:
        if node is None:
            return
        notes.note_loras(node, self.problems)
        for item in node.items:
            path = item.get("path")
            if path is not None and isinstance(path.value, str) and path.source.folder and "://" not in path.value:
                local = Path(path.source.folder, path.value)
                if len(path.value) < 1000 and local.is_file():
                    message = (
                        f"{quoted(path.value)} is a file here; the service reads owner/name on Hugging Face, or a URL"
                    )
                    self.problems.note(path.where, "lora-path", message)

    def vars(self, node: Node | None, typed: Mapping[str, Any], key: str) -> dict[str, VarDef]:
        found = {}
        for name, texts in typed.items():
            place = node.get(name) if node else None
            if place is None:
                continue
            items = place.items
            pairs = list(zip(texts, items, strict=False))
            found[name] = VarDef(name, pairs, isinstance(place.value, list), place, f"{key}.{name}")
            if len(set(texts)) < len(texts):
                self._note_equal(texts, items, f"{key}.{name}")
            for text, item in pairs:
                notes.note_prompt(text, item, self.problems, {})
        return found

    def _note_equal(self, values: Sequence[Any], nodes: Sequence[Node], key: str) -> None:
        seen: set[str] = set()
        for value, node in zip(values, nodes, strict=False):
            text = repr(value)
            if text in seen:
                again = "several images of one job: repeat" if key.endswith("seed") and value == -1 else "delete one"
                message = f"{key}: {shown(value)} is there twice; {again}"
                if key.endswith("seed") and value == -1:
                    message += f": {sum(1 for other in values if other == -1)}"
                return self.problems.note(node.where, "equal-choices", message)
            seen.add(text)
        return None

    # ---- axes ----------------------------------------------------------------------------------

    def axes(self, node: Node | None, typed: Mapping[str, Any], key: str) -> list[Axis]:
        axes = []
        for name, values in typed.items():
            place = node.get(name) if node else None
            if place is None:
                continue
            if name == "scale" and isinstance(values, dict):
                for path, scales in values.items():
                    item = place.get(path)
                    axes.append(self._axis(f"scale {path}", scales, item or place, f"{key}.scale.{path}"))
            else:
                axes.append(self._axis(name, values, place, f"{key}.{name}"))
        return [axis for axis in axes if axis is not None]

    def _axis(self, name: str, values: Any, place: Node, key: str) -> Axis | None:
        if not isinstance(values, list):  # of a model that is not checked
            self.on.refuse(place, key, "a list of one or more values")
            return None
        nodes = place.items
        if name == "stack" and "stack" not in self.model.parameters:
            names = ["+".join(value) or "none" for value in values]
            values = [
                self.stack(n, value, f"{key}[{i}]") for i, (n, value) in enumerate(zip(nodes, values, strict=True))
            ]
            if None in values:
                return None
            labels = names
        else:
            names = list(map(shown, values))
            labels = [axis_label(name, value) for value in values]
        if name == "loras":
            for item in nodes:
                self.note_loras(item)
        if len(set(map(repr, values))) < len(values):
            self._note_equal(values, nodes, key)
        labels = distinct(labels, list(map(str, values)))
        rows = [(value,) for value in values]
        places: list[tuple[Node, ...]] = [(item,) for item in nodes]
        return Axis((name,), rows, labels, [(text,) for text in names], places, key, place)

    def zip(self, node: Node | None, typed: Mapping[str, Any], key: str) -> Axis | None:
        axes = self.axes(node, typed, key)
        if not axes or node is None:
            return None
        lengths = {len(axis.rows) for axis in axes}
        if len(lengths) > 1:
            told = ", ".join(f"{axis.name} {len(axis.rows)}" for axis in axes)
            return self.on.bad(node, key, f"its lists go together, so they have one length; here: {told}") and None
        labels = ["+".join(axis.labels[n] for axis in axes) for n in range(lengths.pop())]
        whole = [range(len(labels))]
        pick = [tuple(axis.rows[n][0] for axis in axes) for n in whole[0]]
        text = [tuple(axis.shown[n][0] for axis in axes) for n in whole[0]]
        nodes = [tuple(axis.nodes[n][0] for axis in axes) for n in whole[0]]
        names = tuple(axis.names[0] for axis in axes)
        labels = distinct([label(one, MAX_SLUG) for one in labels], list(map(str, pick)))
        return Axis(names, pick, labels, text, nodes, key, node)

    def refuse_both(self, axes: Sequence[Axis], zipped: Axis | None, node: Node | None, key: str) -> None:
        names = {name for axis in axes for name in axis.names}
        for name in zipped.names if zipped else ():
            if name in names and node is not None:
                self.on.bad(node.key(name), f"{key}.{name}", f"{name} is in matrix, too; leave one out")

    def stack(self, node: Node, names: Sequence[str], key: str) -> Loras | None:
        """The LoRAs of these stacks, joined; None where a name is not known."""
        joined: list[Any] = []
        good = True
        for number, name in enumerate(names):
            self.used_stacks.add(name)
            if name in self.shared.stacks:
                joined.extend(self.shared.stacks[name])
                continue
            item = node.items[number] if isinstance(node.value, list) else node
            self.on.bad(item, key, self.unknown_stack(name))
            good = False
        return tuple(joined) if good else None

    def unknown_stack(self, name: str) -> str:
        """The message about a stack that does not exist."""
        near = nearest(name, self.shared.stacks)
        known = ", ".join(self.shared.stacks) or "none; a file's stacks stand under stacks"
        return f"no stack {quoted(name)}; " + (f"did you mean '{near}'?" if near else f"known: {known}")
