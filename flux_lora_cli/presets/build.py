"""Checked jobs into specs: defaults, axes and prompts put together, and what is checked of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.check import BAD
from flux_lora_cli.presets.expand import Plan
from flux_lora_cli.presets.lists import looks_like_table, prompt_lines
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.prompts import effort, words_of
from flux_lora_cli.presets.scope import Facts, Scope, WildcardFolder
from flux_lora_cli.presets.sections import Sections, placed
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.presets.spec import MAX_SLUG, Axis, Names, Prompt, Spec, VarDef, digest, distinct, label
from flux_lora_cli.service.models import Model, Models
from flux_lora_cli.text import nearest, quoted

#: How much may be read again that jobs share, for each job of a file that may be read.
_EFFORT = 400


class Builder(Sections):
    """Makes the specs of one source.

    Args:
        dropped: keys that the command line sets, so that no axis of theirs multiplies.
        most: prompts that are read of one file.

    Attributes:
        read: the SHA-256 of each further file that was read, by name.
    """

    def __init__(
        self, model: Model, models: Models, files: Files, problems: Problems, literal: bool, dropped: Iterable[str],
        most: int,
    ) -> None:  # fmt: skip
        super().__init__(model, models, files, problems, literal)
        self.dropped = set(dropped)
        self.most = most
        self._left = most * _EFFORT
        if "loras" in self.dropped:
            self.dropped.add("stack")
        self.read: dict[str, str] = {}
        self._wildcards: dict[str, WildcardFolder] = {}
        self._scopes: dict[int, Scope] = {}
        self._parsed: dict[VarDef, Facts] = {}
        self._prompts: dict[Axis | tuple[str, str], list[Prompt] | str] = {}
        self._seen: set[Node] = set()
        self._used_axes: set[int] = set()
        self._images = 0

    def _told(self, source: Source) -> None:
        self.read[source.name] = source.sha256

    def _wildcards_of(self, source: Source) -> WildcardFolder:
        found = self._wildcards.get(source.folder)
        if found is None:
            found = self._wildcards[source.folder] = WildcardFolder(self.files, source, self.problems, self._told)
        return found

    def job(self, node: Node, key: str, typed: Any = None) -> Spec | None:
        """One job, its prompts parsed; None where it is not a mapping at all."""
        if typed is None:
            jobs: Any = self.language.fields["jobs"]
            typed = self.checker.check(jobs.item, node, key)
        if typed is BAD:
            return None
        shared = self.shared
        spec = Spec(node, key, dict(shared.params), dict(shared.places), seed=shared.seed)
        spec.loras, spec.stack, spec.vars = shared.loras, shared.stack, shared.vars
        self.set(spec, node, typed)
        self._set_axes(spec, typed)
        again = 10 * len(spec.vars) if spec.vars is not shared.vars else 0
        again += sum(len(axis.rows) for axis in spec.axes) if spec.repeat > 1 else 0
        if not self._affords(again, spec):
            return None
        self._set_prompts(spec, typed)
        self._check_seeds(spec)
        self._check_effects(spec)
        spec.explicit_id = bool(spec.id)
        if "id" in node.entries:
            spec.id = spec.id or digest(key)
        elif spec.prompts and not spec.many_prompts:
            spec.id = label(words_of(spec.prompts[0].text), MAX_SLUG)
        scope = self._scopes.get(id(spec.vars))
        if scope is None:
            scope = Scope(spec.vars, self._wildcards_of, self.problems, self._parsed)
            self._scopes[id(spec.vars)] = scope
        spec.plans = [Plan(spec, prompt, scope, self.problems) for prompt in spec.prompts]
        return spec

    def _affords(self, work: int, spec: Spec) -> bool:
        """Whether so much may be read again; the first that may not is told."""
        if self._left >= 0 > self._left - work:
            why = "too much to read: what the jobs share (prompts, variables, axes) is read again for each of them"
            self.problems.add(spec.node, spec.key, f"{why}; a higher --max-jobs allows more")
        self._left -= work
        return self._left >= 0

    def _set_axes(self, spec: Spec, typed: Mapping[str, Any]) -> None:
        entries = spec.node.entries
        own = self.axes(spec.node, typed, f"{spec.key}.")
        for axis in own:
            for name in axis.names:
                if name in entries:
                    self.problems.add(axis.place, axis.key, f"the job sets {name} itself, too; leave one out")
        zips = any(axis.parts for axis in own)
        set_here = {*entries, *(name for axis in own for name in axis.names)}
        set_here |= {"prompt"} if "prompts_file" in entries else set()
        axes = []
        for axis in self.shared.axes:
            kept = None if zips and axis.parts else axis.without(set_here)
            if kept is not None:
                self._used_axes.add(id(axis))
                axes.append(kept)
        order = [axis.name for axis in self.shared.axes]
        own.sort(key=lambda axis: order.index(axis.name) if axis.name in order else len(order))
        axes += sorted(own, key=lambda axis: bool(axis.parts))
        scales = {name for axis in axes for name in axis.names if name.startswith("scale") and "loras" in self.dropped}
        spec.axes = [kept for axis in axes if (kept := axis.without(self.dropped | scales)) is not None]

    def _set_prompts(self, spec: Spec, typed: Mapping[str, Any]) -> None:
        node, entries = spec.node, spec.node.entries
        axis = next((axis for axis in spec.axes if "prompt" in axis.names), None)
        if "prompts_file" in entries:
            if "prompt" in entries:
                message = "a job takes prompt or prompts_file, not both"
                self.problems.add(node.key("prompts_file"), f"{spec.key}.prompts_file", message)
            if "prompts_file" in typed:
                place = spec.places["prompts_file"]
                file = (place.source.folder, place.value)
                spec.prompts = self._shared_prompts(file, spec, lambda: self._prompts_file(place))
        elif "prompt" in entries:
            pass  # set already, or refused
        elif axis is not None:
            spec.axes.remove(axis)
            spec.prompts = self._shared_prompts(axis, spec, lambda: self._prompts_of(axis))
        elif self.shared.prompts:
            spec.prompts = self.shared.prompts
        elif "prompt" in self.model.parameters and self.model.checked:
            if nearest("prompt", (name for name in entries if name not in typed)):  # misspelled, which is told
                return
            message = 'no prompt; a job has prompt or prompts_file (for none at all write prompt: "")'
            self.problems.add(node, spec.key, message)
        else:
            spec.prompts = [Prompt("", node, True, absent=True)]
        own = spec.vars is not self.shared.vars
        again = [prompt.text for prompt in spec.prompts if prompt.node in self._seen]
        if not self._affords(sum(effort(text) + (len(text) if own else 0) for text in again), spec):
            spec.prompts = []
        for prompt in spec.prompts:
            if own or prompt.node not in self._seen:
                notes.note_prompt(prompt.text, prompt.node, self.problems, spec.vars, literal=prompt.literal)
        self._seen.update(prompt.node for prompt in spec.prompts)

    def _shared_prompts(
        self, origin: Axis | tuple[str, str], spec: Spec, read: Callable[[], list[Prompt] | str]
    ) -> list[Prompt]:
        """The prompts of an axis or a file, read once for all jobs; none where that cannot be, which is told."""
        if origin not in self._prompts:
            self._prompts[origin] = read()
        found = self._prompts[origin]
        if isinstance(found, list):
            return found if self._affords(50 * len(found), spec) else []
        self.problems.add(spec.places["prompts_file"], f"{spec.key}.prompts_file", found)
        return []

    def _prompts_of(self, axis: Axis) -> list[Prompt]:
        """The prompts of an axis; each row of a zip has its own."""
        column = axis.names.index("prompt")
        texts = axis.column("prompt")
        tied = axis if len(axis.names) > 1 else None
        labels = axis.labels if tied else _labels(texts)
        return [Prompt(text, axis.nodes[n][column], self.literal, labels[n], tied, n) for n, text in enumerate(texts)]

    def _prompts_file(self, node: Node) -> list[Prompt] | str:
        """The prompts of a file; none where its problems were noted; or why it is refused."""
        try:
            source, text = self.files.text(node.value, node.source, self.problems)
            if text is not None and (why := looks_like_table(text)):
                raise Refused(f"is {why}")
        except Refused as error:
            return f"{quoted(node.value)}: {error}"
        if text is None:
            return []
        count = sum(1 for _ in prompt_lines(text, source))
        if not count or count > self.most:
            many = f"{count} prompts; allowed: at most {self.most} (--max-jobs)" if count else "no prompts"
            return f"{quoted(node.value)} has {many}"
        self._told(source)
        lines = list(prompt_lines(text, source))
        notes.note_list("txt", lines, self.literal, self.problems)
        labels = _labels([line.text for line in lines])
        return [Prompt(line.text, line, self.literal, name) for line, name in zip(lines, labels, strict=True)]

    def _check_seeds(self, spec: Spec) -> None:
        row = self.model.parameters.get("seed")
        if spec.repeat == 1 or row is None or row.maximum is None:
            return
        seeds = [seed for axis in spec.axes for seed in axis.column("seed")]
        top = max((seed for seed in [spec.seed, *seeds] if isinstance(seed, int)), default=-1)
        last = top + spec.repeat - 1
        if top != -1 and last > row.maximum:
            message = f"the seeds count up from {top} to {last}; allowed: at most {row.maximum}"
            self.problems.add(spec.node.key("repeat"), f"{spec.key}.repeat", message)

    def _check_effects(self, spec: Spec) -> None:
        """Note parameters without effect; refuse a request that lacks what its model requires."""
        node, rows = spec.node, self.model.parameters
        given = {name for axis in spec.axes for name in axis.names} | self.dropped
        given |= {name for name, value in spec.params.items() if value}
        given |= {name for name, (_, _, item) in node.entries.items() if item.value}  # what is refused was given, too
        image = bool(given & {"image", "images"})
        self._images += image
        along = {name: axis.nodes[0][n] for axis in spec.axes for n, name in enumerate(axis.names)}
        for name in ("strength", "mask_image"):
            place = node.get(name) or along.get(name)
            if place is not None and not image and name in rows:
                self.problems.note(place.where, "no-effect", f"{name} has no effect without an image")
        if "sample_seed" in node.entries and "sample" not in node.entries:
            self.problems.note(node.key("sample_seed").where, "no-effect", "sample_seed has no effect without sample")
        for name, row in rows.items():
            if row.required and name not in ("prompt", "seed", "loras") and name not in given:
                self.problems.add(node, spec.key, f"{self.model.short} needs {name}: {row.allowed}")
        if "prompt" not in rows or "prompt" in self.dropped:
            return
        for prompt in spec.prompts:
            if prompt.text.strip() or prompt.absent:
                continue
            if rows["prompt"].required:
                self.problems.add(prompt.node, f"{spec.key}.prompt", f"{self.model.short} needs a prompt")
            elif not image:
                why = "an empty prompt without an image shows nothing asked for"
                self.problems.note(prompt.node.where, "no-effect", why)

    # ---- after the last job ----------------------------------------------------------------------

    def note_unused(self, document: Node, main: Source) -> None:
        """Note what nothing in the main file uses: variables, stacks, axes, a strength."""
        shared = self.shared
        found = [
            (var.node, "unused", f"the variable {quoted(name)} is not used by any prompt")
            for name, var in shared.vars.items()
            if not var.used
        ]
        for name, _, place in placed(document.get("stacks"), self.stacks):
            if name not in self.used_stacks:
                found.append((place, "unused", f"the stack {quoted(name)} is not used by any job"))
        if "strength" in shared.places and not self._images:
            found.append((shared.places["strength"], "no-effect", "strength has no effect: no job has an image"))
        for axis in shared.axes:
            if self.dropped & {*axis.names}:
                found.append((axis.place, "axis", f"{axis.key} is replaced by what the command line sets"))
            elif id(axis) not in self._used_axes:
                why = f"every job sets {axis.name} itself"
                found.append((axis.place, "axis", f"{axis.key} multiplies nothing: {why}"))
        found = [(place, kind, message) for place, kind, message in found if place.source is main]
        extended = any(kind == "unused" for _, kind, _ in found) and bool(main.real) and self.files.is_extended(main)
        for place, kind, message in found:
            if kind != "unused" or not extended:
                self.problems.note(place.where, kind, message)


def _labels(texts: Sequence[str]) -> list[str]:
    """Labels of prompts, each different."""
    return distinct([label(words_of(text), MAX_SLUG) for text in texts], texts)


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
