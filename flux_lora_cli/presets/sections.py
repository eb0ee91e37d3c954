"""What the sections of a document, and of a job, mean: values, LoRAs, variables, axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.nodes import Node
from flux_lora_cli.presets.shapes import Context, Spot
from flux_lora_cli.presets.spec import Axis, Column, Loras, Placed, Variable, axis_label, distinct, shown
from flux_lora_cli.text import nearest, quoted


class Sections:
    """Reads checked sections.

    Attributes:
        stacks: the LoRAs of each stack.
        used_stacks: the names of those that something names.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.problems = context.problems
        self.stacks: dict[str, Loras] = {}
        self.used_stacks: set[str] = set()

    # ---- values --------------------------------------------------------------------------------

    def values(self, typed: Placed, key: str) -> dict[str, tuple[Any, Node]]:
        """What a job, or the defaults, set; of ``stack`` the LoRAs."""
        found = dict(typed)
        if "loras" in typed:
            self.note_loras(*typed["loras"])
        if "stack" in typed:
            names, place = typed["stack"]
            found["stack"] = self._stack(place, names, f"{key}.stack"), place
        return found

    def variables(self, typed: Placed, key: str, shared: Mapping[str, Variable]) -> dict[str, Variable]:
        """The variables of a document, or, beside those that are ``shared``, of a job."""
        found = {}
        for number, (name, (texts, place)) in enumerate(typed.items(), len(shared)):
            order = shared[name].order if name in shared else number
            found[name] = Variable(name, place, f"{key}.{name}", order)
            self._note_equal(texts, place.items, f"{key}.{name}")
            for node in place.items if texts else ():
                notes.note_prompt(node.text, node, self.problems, typed, literal=False)
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

    # ---- LoRAs ---------------------------------------------------------------------------------

    def note_loras(self, loras: Sequence[Any], node: Node) -> None:
        """Say which LoRAs of a list cannot be loaded."""
        notes.note_loras(loras, node, self.problems)
        upload = "the service cannot read it; upload it, to Hugging Face say, and write owner/name/FILE or its URL"
        for path in filter(None, (item.get("path") for item in node.items)):
            name, folder = path.value, path.source.folder
            local = isinstance(name, str) and bool(folder) and len(name) <= 1000 and "://" not in name
            if local and Path(folder, name).is_file():
                self.problems.note(path.where, "lora-path", f"{quoted(name)} is a file here; {upload}")

    def _stack(self, node: Node, names: Sequence[str], key: str) -> Loras | None:
        """The LoRAs of these stacks, joined; None where a name is not known."""
        self.used_stacks.update(names)
        unknown = {name for name in names if name not in self.stacks}
        for item, name in zip(node.items * len(names), names, strict=False):
            if name in unknown:
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

    def axes(self, typed: Placed, prefix: str) -> list[Axis]:
        """The axes of ``matrix``, and the one of ``zip``."""
        axes = [Axis([column], key, place) for column, key, place in self._columns(typed, prefix, "matrix")]
        tied = [column for column, _, _ in self._columns(typed, prefix, "zip")]
        if not tied:
            return axes
        place, key = typed["zip"][1], f"{prefix}zip"
        if len({len(column.values) for column in tied}) > 1:
            told = ", ".join(f"{column.name} {len(column.values)}" for column in tied)
            self.problems.add(place, key, f"its lists go together, so they have one length; here: {told}")
            return axes
        for name in {axis.name for axis in axes} & {column.name for column in tied}:
            self.problems.add(place.key(name), f"{key}.{name}", f"{name} is in matrix, too; leave one out")
        return [*axes, Axis(tied, key, place, tied=True)]

    def _columns(self, typed: Placed, prefix: str, section: str) -> Iterator[tuple[Column, str, Node]]:
        """The keys of matrix or zip, each with its path and place."""
        for name, (values, place) in typed[section][0].items() if section in typed else ():
            key = f"{prefix}{section}.{name}"
            entries = [(name, values, place, key)]
            if name == "scale" and isinstance(values, dict):
                entries = [(f"scale {path}", *placed, f"{key}.{path}") for path, placed in values.items()]
            for full_name, listed, node, path in entries:
                column = self._column(full_name, listed, node, path)
                if column is not None:
                    yield column, path, node

    def _column(self, name: str, values: Any, place: Node, key: str) -> Column | None:
        if not isinstance(values, list):  # of a model that is not checked
            Spot(place, key, self.context).refuse("a list of one or more values")
        if not isinstance(values, list) or not values:  # refused
            return None
        nodes = place.items
        texts = list(map(shown, values))
        labels = [axis_label(name, value) for value in values]
        if name == "stack":
            texts = labels = ["+".join(value) or "none" for value in values]
            pairs = enumerate(zip(nodes, values, strict=True))
            values = [self._stack(node, names, f"{key}[{number}]") for number, (node, names) in pairs]
            if None in values:
                return None
        for value, item in zip(values, nodes, strict=False) if name == "loras" else ():
            self.note_loras(value, item)
        self._note_equal(values, nodes, key)
        return Column(name, values, nodes, distinct(labels, list(map(str, values))), texts)
