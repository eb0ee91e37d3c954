"""Checked documents into jobs before their expansion: defaults, stacks, axes and prompts put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flux_lora_cli.presets.expand import Plan, Scope
from flux_lora_cli.presets.keys import JOB_KEYS
from flux_lora_cli.presets.lists import looks_like_table, prompt_lines
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.notes import note_list, note_prompt
from flux_lora_cli.presets.sections import Sections
from flux_lora_cli.presets.shapes import BAD
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.presets.spec import MAX_SLUG, Axis, Names, Prompt, Spec, digest, distinct, label
from flux_lora_cli.presets.tags import words_of
from flux_lora_cli.presets.wildcards import WildcardFolder
from flux_lora_cli.service.models import Model, Models
from flux_lora_cli.text import quoted


class Builder:
    """Makes the specs of one source.

    Args:
        literal: prompts are taken as they stand.
        dropped: keys that the command line sets, so that no axis of theirs multiplies.
        told: takes every further file that was read.
    """

    def __init__(
        self,
        model: Model,
        models: Models,
        files: Files,
        problems: Problems,
        *,
        literal: bool = False,
        dropped: Sequence[str] = (),
        told: Callable[[Source], None] = lambda source: None,
    ) -> None:
        self.model = model
        self.files = files
        self.problems = problems
        self.literal = literal
        self.dropped = tuple(dropped)
        self.sections = Sections(model, models, files, problems)
        self.on = self.sections.on
        self.shared = self.sections.shared
        self.used_axes: set[int] = set()
        self.images = 0
        self._told = told
        self._wildcards: dict[str, WildcardFolder] = {}
        self._scopes: dict[int, Scope] = {}
        self._job = self.sections.language.fields["jobs"].item  # type: ignore[attr-defined]  # it is a list of jobs

    def wildcards(self, source: Source) -> WildcardFolder:
        """The wildcards beside a file."""
        found = self._wildcards.get(source.folder)
        if found is None:
            found = self._wildcards[source.folder] = WildcardFolder(self.files, source, self.problems, self._told)
        return found

    # ---- jobs ----------------------------------------------------------------------------------

    def job(self, node: Node, key: str, typed: Any = None) -> Spec | None:
        """One job; None where it is not a mapping at all."""
        if typed is None:
            typed = self._job.check(node, key, self.on)
        if typed is BAD or not isinstance(node.value, dict):
            return None
        shared = self.shared
        spec = Spec(node, key, dict(shared.params), dict(shared.places))
        spec.seed, spec.loras, spec.stack, spec.vars = shared.seed, shared.loras, shared.stack, shared.vars
        for name, value in typed.items():
            place = node.get(name)
            assert place is not None
            self._take(spec, name, value, place, f"{key}.{name}")
        self._job_axes(spec, node, typed)
        self._prompts(spec, node, typed)
        self._check_seeds(spec, node)
        self._check_effects(spec, node)
        if spec.id:
            spec.explicit_id = True
        elif "id" in node.entries:
            spec.id = digest(key)
        elif spec.prompts and not spec.many_prompts:
            spec.id = label(words_of(spec.prompts[0].text), MAX_SLUG)
        return spec

    def _take(self, spec: Spec, name: str, value: Any, place: Node, key: str) -> None:
        if name == "seed":
            spec.seed = value
        elif name == "loras":
            spec.loras = tuple(value) if isinstance(value, (list, tuple)) else None
            self.sections.note_loras(place if isinstance(place.value, list) else None)
        elif name in self.model.parameters or name not in JOB_KEYS:
            if name != "prompt":
                spec.params[name] = value
        elif name == "stack":
            spec.stack = self.sections.stack(place, value, key)
        elif name == "vars":
            spec.vars = {**spec.vars, **self.sections.vars(place, value, key)}
        elif name in ("id", "repeat", "sample", "sample_seed", "skip"):
            setattr(spec, name, value)
        spec.places[name] = place

    def _job_axes(self, spec: Spec, node: Node, typed: Mapping[str, Any]) -> None:
        sets = {*node.entries, *(("prompt",) if "prompts_file" in node.entries else ())}
        own = self.sections.axes(node.get("matrix"), typed.get("matrix", {}), f"{spec.key}.matrix")
        own_zip = self.sections.zip(node.get("zip"), typed.get("zip", {}), f"{spec.key}.zip")
        for axis in [*own, *([own_zip] if own_zip else [])]:
            for name in axis.names:
                if name in node.entries:
                    self.on.bad(axis.place, f"{axis.key}", f"the job sets {name} itself, too; leave one out")
        self.sections.refuse_both(own, own_zip, node.get("zip"), f"{spec.key}.zip")
        mine = {name for axis in [*own, *([own_zip] if own_zip else [])] for name in axis.names}
        inherited = [*self.shared.matrix, *([self.shared.zip] if self.shared.zip and own_zip is None else [])]
        axes: list[Axis] = []
        for axis in inherited:
            kept = axis.without(sets | mine)
            if kept is not None:
                self.used_axes.add(id(axis))
                axes.append(kept)
        names = [axis.names[0] for axis in self.shared.matrix]
        own.sort(key=lambda axis: names.index(axis.names[0]) if axis.names[0] in names else len(names))
        axes += own + ([own_zip] if own_zip else [])
        stacks = ("stack",) if "loras" in self.dropped else ()
        scales = [name for axis in axes for name in axis.names if name.startswith("scale") and "loras" in self.dropped]
        spec.axes = [kept for axis in axes if (kept := axis.without({*self.dropped, *stacks, *scales})) is not None]

    def _prompts(self, spec: Spec, node: Node, typed: Mapping[str, Any]) -> None:
        axis = next((axis for axis in spec.axes if "prompt" in axis.names), None)
        if "prompts_file" in node.entries:
            if "prompt" in node.entries:
                message = "a job takes prompt or prompts_file, not both"
                self.on.bad(node.key("prompts_file"), f"{spec.key}.prompts_file", message)
            if "prompts_file" in typed:
                spec.prompts = self._prompts_file(spec.places["prompts_file"], f"{spec.key}.prompts_file")
        elif "prompt" in node.entries:
            if "prompt" in typed:
                spec.prompts = [Prompt(typed["prompt"], spec.places["prompt"], self.literal)]
        elif axis is not None:
            column = axis.names.index("prompt")
            spec.axes = [other for other in spec.axes if other is not axis]
            tied = axis if len(axis.names) > 1 else None
            labels = axis.labels if tied else distinct(
                [label(words_of(row[column]), MAX_SLUG) for row in axis.rows], [row[column] for row in axis.rows]
            )  # fmt: skip
            spec.prompts = [
                Prompt(row[column], axis.nodes[n][column], self.literal, labels[n], tied, n)
                for n, row in enumerate(axis.rows)
            ]
        elif self.shared.prompt is not None:
            spec.prompts = [Prompt(*self.shared.prompt, self.literal)]
        elif "prompt" in self.model.parameters and self.model.checked:
            message = 'no prompt; a job has prompt or prompts_file (for none at all write prompt: "")'
            self.on.bad(node, spec.key, message)
        else:
            spec.prompts = [Prompt("", node, True, absent=True)]
        for prompt in spec.prompts:
            note_prompt(prompt.text, prompt.node, self.problems, {} if prompt.literal else spec.vars)

    def _prompts_file(self, node: Node, key: str) -> list[Prompt]:
        try:
            source, text = self.files.text(node.value, node.source, self.problems)
            why = looks_like_table(text) if text is not None else ""
            if why:
                raise Refused(f"is {why}")
        except Refused as error:
            self.on.bad(node, key, f"{quoted(node.value)}: {error}")
            return []
        if text is None:
            return []
        self._told(source)
        lines = list(prompt_lines(text, source))
        if not lines:
            self.on.bad(node, key, f"{quoted(node.value)} has no prompts")
        note_list("txt", lines, self.literal, self.problems)
        texts = [line.text for line in lines]
        labels = distinct([label(words_of(text), MAX_SLUG) for text in texts], texts)
        return [Prompt(t, line, self.literal, name) for t, line, name in zip(texts, lines, labels, strict=True)]

    def _check_seeds(self, spec: Spec, node: Node) -> None:
        row = self.model.parameters.get("seed")
        if spec.repeat == 1 or row is None or row.maximum is None:
            return
        seeds = [
            v for axis in spec.axes if "seed" in axis.names for v in (r[axis.names.index("seed")] for r in axis.rows)
        ]
        top = max((seed for seed in [spec.seed, *seeds] if isinstance(seed, int)), default=-1)
        if top != -1 and top + spec.repeat - 1 > row.maximum:
            last = top + spec.repeat - 1
            message = f"the seeds count up from {top} to {last}; allowed: at most {row.maximum}"
            self.on.bad(node.key("repeat"), f"{spec.key}.repeat", message)

    def _check_effects(self, spec: Spec, node: Node) -> None:
        """Note parameters without effect; refuse a request that lacks what its model requires."""
        axes = {name for axis in spec.axes for name in axis.names} | set(self.dropped)
        image = any(spec.params.get(name) or name in axes for name in ("image", "images"))
        self.images += image
        for name in ("strength", "mask_image"):
            place = node.get(name)
            matrix = node.get("matrix")
            place = place or (matrix.get(name) if matrix else None)
            if place is not None and not image and name in self.model.parameters:
                self.problems.note(place.where, "no-effect", f"{name} has no effect without an image")
        if "sample_seed" in node.entries and "sample" not in node.entries:
            self.problems.note(node.key("sample_seed").where, "no-effect", "sample_seed has no effect without sample")
        for name, row in self.model.parameters.items():
            if (
                row.required
                and name not in ("prompt", "seed", "loras")
                and name not in axes
                and not spec.params.get(name)
            ):
                self.on.bad(node, spec.key, f"{self.model.short} needs {name}: {row.allowed}")
        prompt = self.model.parameters.get("prompt")
        if prompt is None or image or "prompt" in self.dropped:
            return
        for empty in (one for one in spec.prompts if not (one.text.strip() or one.absent)):
            if prompt.required:
                self.on.bad(empty.node, f"{spec.key}.prompt", f"{self.model.short} needs a prompt")
            else:
                self.problems.note(
                    empty.node.where, "no-effect", "an empty prompt without an image shows nothing asked for"
                )

    # ---- plans -----------------------------------------------------------------------------------

    def plan(self, spec: Spec) -> None:
        """Parse the prompts of a job; why one cannot be read is among the problems."""
        scope = self._scopes.get(id(spec.vars))
        if scope is None:
            scope = Scope(spec.vars, self.wildcards, self.problems)
            self._scopes[id(spec.vars)] = scope
        spec.plans = [Plan(spec, prompt, scope, self.problems) for prompt in spec.prompts]


def name_jobs(specs: Sequence[Spec], problems: Problems) -> None:
    """Check that the IDs of the file are unique, and make the others so, whatever stands elsewhere in it."""
    first: dict[str, Node] = {}
    for spec in specs:
        if spec.explicit_id:
            place = spec.places.get("id", spec.node)
            if spec.id in first:
                message = f"the ID {quoted(spec.id)} is a duplicate; it is already in line {first[spec.id].line}"
                problems.add(place, f"{spec.key}.id", message)
            first.setdefault(spec.id, place)
    names = Names(first)
    for spec in specs:
        if not spec.explicit_id and spec.id and spec.prompts:
            content = f"{spec.prompts[0].text} {sorted(map(str, spec.params.items()))} {spec.seed}"
            spec.id = names.take(spec.id, content)


def note_unused(builder: Builder, document: Node, main: Source, problems: Problems) -> list[tuple[Node, str]]:
    """Variables and stacks of the main file that nothing uses: (place, message)."""
    found = []
    for name, var in builder.shared.vars.items():
        if not var.used and var.node.source is main:
            found.append((var.node, f"the variable {quoted(name)} is not used by any prompt"))
    stacks = document.get("stacks")
    for name in builder.shared.stacks:
        place = stacks.get(name) if stacks else None
        if place is not None and name not in builder.sections.used_stacks and place.source is main:
            found.append((place, f"the stack {quoted(name)} is not used by any job"))
    strength = builder.shared.places.get("strength")
    if strength is not None and not builder.images and strength.source is main:
        problems.note(strength.where, "no-effect", "strength has no effect: no job has an image")
    for axis in [*builder.shared.matrix, *([builder.shared.zip] if builder.shared.zip else [])]:
        given = [name for name in axis.names if name in builder.dropped]
        if given and axis.place.source is main:
            problems.note(axis.place.where, "axis", f"{axis.key} is replaced by what the command line sets")
        elif id(axis) not in builder.used_axes and axis.place.source is main:
            problems.note(axis.place.where, "axis", f"{axis.key} multiplies nothing: every job sets {axis.name} itself")
    return found
