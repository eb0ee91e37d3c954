"""Documents into specs: defaults, axes and prompts put together, and what is checked of the whole."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, cast

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.expand import Plan
from flux_lora_cli.presets.language import JOB_KEYS, preset_language
from flux_lora_cli.presets.lists import looks_like_table, prompt_lines
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.prompts import Budget, Part, TooMany, words_of
from flux_lora_cli.presets.sections import Sections
from flux_lora_cli.presets.shapes import BAD, Context, Spot
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.presets.spec import (
    MAX_SLUG,
    Axis,
    Column,
    Names,
    Placed,
    Prompt,
    Spec,
    Variable,
    digest,
    distinct,
    label,
    shown,
)
from flux_lora_cli.presets.templates import Templates
from flux_lora_cli.service.models import Model
from flux_lora_cli.text import nearest, quoted

#: How much may be read again that jobs share, for each job of a file that may be read.
_AGAIN = 40
#: What a job sets besides parameters, stack and LoRAs.
_NO_PARAMETERS = {*JOB_KEYS, "prompt", "model"} - {"stack"}


class Builder:
    """Makes the specs of one source, by the tables of its model.

    Args:
        literal: prompts are taken as they stand.
        dropped: keys that the command line sets, so that no axis of theirs multiplies.
        most: prompts that are read of one file.

    Attributes:
        shared: what every job starts from: the defaults, variables and axes.
        read: the SHA-256 of each further file that was read, by name.
    """

    def __init__(
        self, model: Model, files: Files, problems: Problems, literal: bool, dropped: Iterable[str],
        most: int,
    ) -> None:  # fmt: skip
        self.model = model
        self.files = files
        self.problems = problems
        self.literal = literal
        self.dropped = {*dropped, *(["stack"] if "loras" in dropped else [])}
        self.most = most
        self.language = preset_language(model)
        self.context = Context(problems, model, files)
        self.sections = Sections(self.context)
        self.stacks, self.unknown_stack = self.sections.stacks, self.sections.unknown_stack
        self.shared = Spec(Node({}, Source(""), 1, 1), "defaults")
        self.read: dict[str, str] = {}
        self._templates = Templates(files, problems, self._told)
        self._again = Budget(most * _AGAIN, "what the jobs share")
        self._files_of_prompts: dict[tuple[str, str], list[Prompt] | str] = {}
        self._prompts_of_axis: dict[Axis, list[Prompt]] = {}
        self._parts: dict[Prompt, list[Part]] = {}
        self._used_axes: set[Axis] = set()
        self._has_images = False

    def _told(self, source: Source) -> None:
        self.read[source.name] = source.sha256

    def share(self, document: Node) -> list[Any]:
        """Check a whole document, and keep what its jobs share; the jobs, typed."""
        typed = self.language.check(Spot(document, "", self.context))
        sections = {} if typed is BAD else {name: value for name, (value, _) in typed.items()}
        shared = self.shared
        for name, (loras, place) in sections.get("stacks", {}).items():
            self.stacks[name] = tuple(loras)
            shared.stacks[name] = place
            self.sections.note_loras(loras, place)
        shared.values |= self.sections.values(sections.get("defaults", {}), "defaults")
        if "prompt" in shared.values:
            shared.prompts = [Prompt(*shared.values["prompt"])]
        shared.vars = self.sections.variables(sections.get("vars", {}), "vars", {})
        shared.axes = self.sections.axes({} if typed is BAD else typed, "")
        jobs: list[Any] = sections.get("jobs", [])
        return jobs

    def job(self, node: Node, key: str, typed: Any) -> Spec | None:
        """One of these jobs, its prompts parsed; None where it is refused whole."""
        if typed is BAD or self._again.spent:
            return None
        shared, own = self.shared, self.sections.values(typed, key)
        spec = Spec(node, key, {**shared.values, **own}, shared.vars, shared.stacks, literal=self.literal)
        if "vars" in typed:
            own_vars = self.sections.variables(typed["vars"][0], f"{key}.vars", shared.vars)
            spec.vars = ChainMap(own_vars, cast(dict[str, Variable], shared.vars))
        spec.params = {name: value for name, (value, _) in spec.values.items() if name not in _NO_PARAMETERS}
        spec.axes = self._axes_of(spec, typed)
        spec.prompts = self._prompts(spec, own)
        self._check_effects(spec)
        if "id" in node.entries:
            spec.id = spec.get("id") or digest(key)
        elif spec.prompts and spec.prompts[0].axis is None:
            spec.id = label(words_of(spec.prompts[0].text or ""), MAX_SLUG)
        try:
            spec.plans = [self._plan(spec, prompt) for prompt in spec.prompts]
        except TooMany:
            why = "too much to read: what the jobs share (prompts, variables, axes) is read again for each of them"
            self.problems.add(node, key, f"{why}; a higher --max-jobs allows more")
        return spec

    def _axes_of(self, spec: Spec, typed: Placed) -> list[Axis]:
        """The axes that multiply a job: those of the file, but for keys that it sets itself, and its own."""
        entries = spec.node.entries
        own = self.sections.axes(typed, f"{spec.key}.")
        set_here = {*entries, *(["prompt"] if "prompts_file" in entries else [])}
        for axis in own:
            for name in set_here.intersection(axis.names):
                self.problems.add(axis.place, axis.key, f"the job sets {name} itself, too; leave one out")
        set_here.update(name for axis in own for name in axis.names)
        own_zip = any(axis.tied for axis in own)
        used = [
            axis for axis in self.shared.axes if not (own_zip and axis.tied) and not set_here.issuperset(axis.names)
        ]
        self._used_axes.update(used)
        order = [axis.name for axis in self.shared.axes]
        own.sort(key=lambda axis: (axis.tied, order.index(axis.name) if axis.name in order else len(order)))
        left = [axis.without(set_here) for axis in used] + own
        gone = {name for axis in left if axis for name in axis.names if self._is_dropped(name)}
        return [kept for axis in left if axis and (kept := axis.without(gone))]

    def _is_dropped(self, name: str) -> bool:
        return name in self.dropped or (name.startswith("scale") and "loras" in self.dropped)

    # ---- prompts -------------------------------------------------------------------------------

    def _prompts(self, spec: Spec, own: Placed) -> Sequence[Prompt]:
        """The prompts of a job; none where they are refused."""
        node, entries = spec.node, spec.node.entries
        if "prompts_file" in entries:
            if "prompt" in entries:
                message = "a job takes prompt or prompts_file, not both"
                self.problems.add(node.key("prompts_file"), f"{spec.key}.prompts_file", message)
            return self._prompts_file(own["prompts_file"][1], spec.key) if "prompts_file" in own else ()
        if "prompt" in entries:
            return [Prompt(*own["prompt"])] if "prompt" in own else ()
        for axis in spec.axes:
            if "prompt" in axis.names:
                spec.axes.remove(axis)
                return self._prompts_of(axis)
        if self.shared.prompts:
            return self.shared.prompts
        if "prompt" not in self.model.parameters or not self.model.checked:
            return [Prompt(None, node)]
        if not nearest("prompt", (name for name in entries if name not in own)):  # else misspelled, which is told
            message = 'no prompt; a job has prompt or prompts_file (for none at all write prompt: "")'
            self.problems.add(node, spec.key, message)
        return ()

    def _prompts_of(self, axis: Axis) -> list[Prompt]:
        """The prompts of an axis; each row of a zip has its own."""
        if axis not in self._prompts_of_axis:
            column = next(column for column in axis.columns if column.name == "prompt")
            rows = axis if len(axis.columns) > 1 else None
            self._prompts_of_axis[axis] = _listed(column.nodes, axis.key, axis.place, rows)
        return self._prompts_of_axis[axis]

    def _prompts_file(self, node: Node, key: str) -> list[Prompt]:
        """The prompts of a file, which is read once for all jobs."""
        file = (node.source.folder, node.value)
        if file not in self._files_of_prompts:
            self._files_of_prompts[file] = self._read_prompts(node)
        found = self._files_of_prompts[file]
        if isinstance(found, str):
            self.problems.add(node, f"{key}.prompts_file", found)
        return [] if isinstance(found, str) else found

    def _read_prompts(self, node: Node) -> list[Prompt] | str:
        """The prompts of a file; none where its problems were noted; or why it is refused."""
        try:
            source, text = self.files.text(node.value, node.source, self.problems)
        except Refused as error:
            return f"{quoted(node.value)}: {error}"
        if text is None:
            return []
        if why := looks_like_table(text):
            return f"{quoted(node.value)}: is {why}"
        lines = list(islice(prompt_lines(text, source), self.most + 1))
        if not lines or len(lines) > self.most:
            many = f"more than {self.most} prompts (--max-jobs)" if lines else "no prompts"
            return f"{quoted(node.value)} has {many}"
        self._told(source)
        notes.note_list("txt", lines, self.literal, self.problems)
        return _listed(lines, "prompts_file", node)

    def _plan(self, spec: Spec, prompt: Prompt) -> Plan:
        """Raises TooMany: too much is read again."""
        key = f"{spec.key}.prompt".removeprefix(".")
        text, source = prompt.text or "", spec.node.source
        own_vars = spec.vars is not self.shared.vars
        budget = self._templates.budget()
        if prompt not in self._parts or own_vars:
            notes.note_prompt(text, prompt.node, self.problems, spec.vars, literal=self.literal)
        if prompt not in self._parts:
            parts = [] if self.literal else self._templates.parts(prompt.node, key, source, budget)
            self._parts[prompt] = parts or [text]
        else:
            self._again.spend(len(self._parts[prompt]) + 4 + len(text) // 40)
        parts = self._parts[prompt]
        variables = {} if self.literal else self._templates.variables(parts, spec.vars, prompt.node, key)
        try:
            if variables is not None:
                return Plan(prompt, parts, variables, spec.axes, budget)
        except TooMany as error:
            self.problems.add(prompt.node, key, str(error))
        return Plan(prompt, [text], {}, spec.axes, budget)

    # ---- the whole -------------------------------------------------------------------------------

    def _check_effects(self, spec: Spec) -> None:
        """Note parameters without effect; refuse a request that lacks what its model requires."""
        node, rows = spec.node, self.model.parameters
        along = {column.name: column.nodes[0] for axis in spec.axes for column in axis.columns}
        given = {*along, *self.dropped, *(name for name, value in spec.params.items() if value)}
        given |= {name for name, (_, _, item) in node.entries.items() if item.value}  # what is refused was given, too
        has_image = bool(given & {"image", "images"})
        self._has_images |= has_image
        for name in ("strength", "mask_image"):
            place = node.get(name) or along.get(name)
            if place is not None and not has_image and name in rows:
                self.problems.note(place.where, "no-effect", f"{name} has no effect without an image")
        if "sample_seed" in node.entries and "sample" not in node.entries:
            self.problems.note(node.key("sample_seed").where, "no-effect", "sample_seed has no effect without sample")
        for name, row in rows.items():
            if row.required and name not in ("prompt", "seed", "loras") and name not in given:
                self.problems.add(node, spec.key, f"{self.model.short} needs {name}: {row.allowed}")
        if "prompt" not in rows or "prompt" in self.dropped:
            return
        for prompt in spec.prompts:
            if prompt.text is None or prompt.text.strip():
                continue
            if rows["prompt"].required:
                self.problems.add(prompt.node, f"{spec.key}.prompt", f"{self.model.short} needs a prompt")
            elif not has_image:
                why = "an empty prompt without an image shows nothing asked for"
                self.problems.note(prompt.node.where, "no-effect", why)

    def note_unused(self, main: Source) -> None:
        """After the last job: note what nothing in the main file uses: variables, stacks, axes, a strength."""
        shared, used = self.shared, self.sections.used_stacks
        idle = [variable for variable in shared.vars.values() if variable.options is None]
        unused = [(each.node, f"the variable {quoted(each.name)} is not used by any prompt") for each in idle]
        left = {name: node for name, node in shared.stacks.items() if name not in used}
        unused += [(node, f"the stack {quoted(name)} is not used by any job") for name, node in left.items()]
        own = [(place, "unused", message) for place, message in unused if place.source is main]
        found = [] if own and main.real and self.files.is_extended(main) else own
        if "strength" in shared.values and not self._has_images:
            found.append((shared.place("strength"), "no-effect", "strength has no effect: no job has an image"))
        for axis in shared.axes:
            why = "" if axis in self._used_axes else f"multiplies nothing: every job sets {axis.name} itself"
            if self.dropped.intersection(axis.names):
                why = "is replaced by what the command line sets"
            if why:
                found.append((axis.place, "axis", f"{axis.key} {why}"))
        for place, kind, message in found:
            if place.source is main:
                self.problems.note(place.where, kind, message)


def _listed(nodes: Sequence[Node], key: str, place: Node, axis: Axis | None = None) -> list[Prompt]:
    """Prompts that go with the rows of an axis: this one, or one of their own, called by their words."""
    if axis is None:
        texts = [node.text for node in nodes]
        labels = distinct([label(words_of(text), MAX_SLUG) for text in texts], texts)
        axis = Axis([Column("prompt", texts, nodes, labels, list(map(shown, texts)))], key, place)
    return [Prompt(node.text, node, axis, number) for number, node in enumerate(nodes)]


def name_jobs(specs: Sequence[Spec], problems: Problems) -> None:
    """Check that the IDs of the file are unique, and make the others so, whatever stands elsewhere in it."""
    first: dict[str, Node] = {}
    for spec in specs:
        if "id" in spec.values:
            if spec.id in first:
                message = f"the ID {quoted(spec.id)} is a duplicate; it is already in line {first[spec.id].line}"
                problems.add(spec.place("id"), f"{spec.key}.id", message)
            first.setdefault(spec.id, spec.place("id"))
    names = Names(first)
    for spec in specs:
        if "id" not in spec.values and spec.id and spec.prompts:
            params = [str(item) for item in spec.params.items() if item[0] not in ("stack", "loras", "seed")]
            content = f"{spec.prompts[0].text} {sorted(params)} {spec.get('seed')}"
            spec.id = names.take(spec.id, content)
