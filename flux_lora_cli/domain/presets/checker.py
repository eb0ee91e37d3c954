"""The sections of a preset file, checked and typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..job import Where
from ..suggest import nearest, show
from .job_keys import SIMPLE_KEYS
from .labels import distinct, label, slug
from .nodes import CELL, Entry, Map, Node, Scalar, Seq, plain
from .scalars import BASE_60, DATE, OCTAL
from .spec import JOB_KEYS, Axis, JobSpec, Loras, PromptText
from .template import strip_markup
from .values import BAD, Origin, ParameterReader, text_of
from .variables import Scope, VarDef, WildcardFolder

#: Names of variables and stacks, and ids of jobs: nothing that a shell, a glob or a path takes for its own.
NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
STACK_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAME, _STACK_NAME = re.compile(NAME), re.compile(STACK_NAME)

#: Of one list in matrix or vars.
MOST_VALUES_OF_AXIS = 100_000


@dataclass(slots=True)
class Shared:
    """What all jobs of a preset share, merged from its files in order."""

    defaults: dict[str, Any] = field(default_factory=dict)
    default_stack: Loras | None = None
    stacks: dict[str, Loras] = field(default_factory=dict)
    vars: dict[str, VarDef] = field(default_factory=dict)
    matrix: dict[str, Axis] = field(default_factory=dict)


class Checker:
    """Reads sections and jobs of one preset, by the tables of its model."""

    def __init__(self, reader: ParameterReader, *, literal: bool = False) -> None:
        self.reader = reader
        self.shared = Shared()
        #: Prompts are taken as they stand.
        self.literal = literal
        self.find_prompts: Callable[[Origin, Scalar, str], list[PromptText] | None] = lambda *_: None
        self._known_job_keys = (*reader.rows, *JOB_KEYS)

    # ---- sections ----------------------------------------------------------------------------

    def stacks(self, origin: Origin, node: Node) -> None:
        """``stacks``: names to lists of LoRAs."""
        for name, entry in entries_of(origin, node, "stacks").items():
            key = f"stacks.{name}"
            if not _STACK_NAME.fullmatch(name):
                origin.bad_key(entry, key, "a name of letters, digits and . _ - is wanted")
            loras = self.reader.loras(origin, entry[2], key)
            self.shared.stacks[name] = () if loras is BAD else tuple(loras)

    def vars(self, origin: Origin, node: Node, prefix: str = "") -> dict[str, VarDef]:
        """``vars``: names to a text, or to a list of texts, one of which a job takes."""
        found = {}
        for name, entry in entries_of(origin, node, f"{prefix}vars").items():
            key = f"{prefix}vars.{name}"
            if not _NAME.fullmatch(name):
                origin.bad_key(entry, key, "a name of letters, digits and _ is wanted")
            var = self._var(origin, entry, key)
            if var is not None:
                found[name] = var
        return found

    def _var(self, origin: Origin, entry: Entry, key: str) -> VarDef | None:
        node = entry[2]
        where = Where(origin.file, node.line, node.column)
        if not isinstance(node, Seq):
            text = self._var_text(origin, node, key)
            return VarDef(() if text is BAD else (text,), False, where, key)
        if not 1 <= len(node.items) <= MOST_VALUES_OF_AXIS:
            words = "an empty list" if not node.items else f"a list of {len(node.items)}"
            origin.bad(node, key, f"{words} is not allowed; allowed: 1 to {MOST_VALUES_OF_AXIS} values")
            return VarDef((), True, where, key)
        texts = [self._var_text(origin, item, f"{key}[{n}]") for n, item in enumerate(node.items)]
        return VarDef(tuple(text for text in texts if text is not BAD), True, where, key)

    @staticmethod
    def _var_text(origin: Origin, node: Node, key: str) -> Any:
        """Text, or a number as it was written."""
        if isinstance(node, Scalar):
            number = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
            if number and node.trap not in (BASE_60, OCTAL, DATE):
                return node.text
        return text_of(origin, node, key)

    def defaults(self, origin: Origin, node: Node) -> None:
        """``defaults``: parameters (and a stack) for every job."""
        for name, entry in entries_of(origin, node, "defaults").items():
            if name == "stack":
                self.shared.default_stack = self._stack(origin, entry[2], "defaults.stack")
            elif name in self.reader.rows:
                value = self.reader.read(origin, name, entry, "defaults.")
                if value is not BAD:
                    self.shared.defaults[name] = value
            elif name in JOB_KEYS or name == "jobs":
                known = ", ".join((*self.reader.rows, "stack"))
                origin.bad_key(entry, f"defaults.{name}", f"stands in a job, not in defaults; known: {known}")
            else:
                value = self.reader.unknown(origin, entry, name, "defaults.", ("stack",))
                if value is not BAD:
                    self.shared.defaults[name] = value

    def matrix(self, origin: Origin, node: Node, prefix: str = "") -> dict[str, Axis]:
        """``matrix``: parameters, or ``stack``, to lists of values."""
        found = {}
        for name, entry in entries_of(origin, node, f"{prefix}matrix").items():
            key = f"{prefix}matrix.{name}"
            if name != "stack" and name not in self.reader.rows and self.reader.model is not None:
                self.reader.unknown(origin, entry, name, f"{prefix}matrix.", ("stack",))
                continue
            axis = self._axis(origin, name, entry, key)
            if axis is not None:
                found[name] = axis
        return found

    def _axis(self, origin: Origin, name: str, entry: Entry, key: str) -> Axis | None:
        node = entry[2]
        if not isinstance(node, Seq) or not 1 <= len(node.items) <= MOST_VALUES_OF_AXIS:
            shown = "an empty list" if isinstance(node, Seq) and not node.items else show(plain(node))
            origin.bad(node, key, f"{shown} is not allowed here; allowed: a list of one or more values")
            return None
        values: list[Any] = []
        labels = []
        for number, item in enumerate(node.items):
            path = f"{key}[{number}]"
            if name == "stack":
                value: Any = self._stack(origin, item, path)
                labels.append("+".join(stack_names(item)))
            elif name in self.reader.rows:
                value = self.reader.value(origin, self.reader.rows[name], item, path)
                labels.append("" if value is BAD else label(_file_name(item) if name == "image" else value))
            else:
                value = plain(item)
                labels.append(label(value if not isinstance(value, (list, dict)) else str(value)))
            values.append(value)
        if any(value is BAD or value is None for value in values):
            return None
        return Axis(name, values, distinct(labels, [str(value) for value in values]))

    def _stack(self, origin: Origin, node: Node, key: str) -> Loras | None:
        """The LoRAs of a stack, or of a list of stacks, joined; None where a name is not known."""
        joined: list[Any] = []
        good = True
        items = node.items if isinstance(node, Seq) else [node]
        for number, item in enumerate(items):
            path = f"{key}[{number}]" if isinstance(node, Seq) else key
            if isinstance(item, Scalar) and item.trap == CELL:
                names = re.split(r"[\s;+,]+", item.text.strip())
            else:
                text = text_of(origin, item, path)
                names = [] if text is BAD else [text]
                good = good and text is not BAD
            for name in names:
                if name in self.shared.stacks:
                    joined.extend(self.shared.stacks[name])
                else:
                    good = False
                    origin.bad(item, path, self.unknown_stack(name))
        return tuple(joined) if good else None

    def unknown_stack(self, name: str) -> str:
        """The message about a stack that does not exist."""
        near = nearest(name, self.shared.stacks)
        known = ", ".join(self.shared.stacks) or "none; a file's stacks stand under stacks"
        return f"no stack {show(name)}; " + (f'did you mean "{near}"?' if near else f"known: {known}")

    # ---- jobs --------------------------------------------------------------------------------

    def job(self, origin: Origin, node: Node, key: str, scope: Scope, wildcards: WildcardFolder) -> JobSpec | None:
        """One job; None where it is no mapping at all."""
        if not isinstance(node, Map):
            allowed = "allowed: a mapping of a job's keys; write - prompt: …"
            origin.bad(node, key, f"{show(plain(node))} is not allowed here; {allowed}")
            return None
        entries = node.entries
        prefix = f"{key}."
        spec = JobSpec(Where(origin.file, node.line, node.column), key, {}, [], scope)
        own: dict[str, Any] = {}
        rows = self.reader.rows
        for name, entry in entries.items():
            if name in rows:
                if name != "prompt":
                    value = self.reader.read(origin, name, entry, prefix)
                    if value is not BAD:
                        own[name] = value
            elif name in SIMPLE_KEYS:
                SIMPLE_KEYS[name](spec, origin, entry[2], prefix + name)
            elif name not in JOB_KEYS:
                value = self._unknown_job_key(origin, entry, name, prefix)
                if value is not BAD:
                    own[name] = value
        if "vars" in entries:
            more = self.vars(origin, entries["vars"][2], prefix)
            spec.scope = Scope({**scope.defs, **more}, wildcards)
        spec.stack = self.shared.default_stack
        if "stack" in entries:
            spec.stack = self._stack(origin, entries["stack"][2], prefix + "stack")
        self._axes(origin, spec, entries, prefix)
        self._prompts(origin, spec, entries, prefix)
        self._finish(origin, spec, own, entries, prefix)
        return spec

    def _unknown_job_key(self, origin: Origin, entry: Entry, name: str, prefix: str) -> Any:
        if name in ("model", "defaults", "stacks", "extends", "jobs", "version"):
            return origin.bad_key(entry, prefix + name, "stands at the top of the file, not in a job")
        return self.reader.unknown(origin, entry, name, prefix, JOB_KEYS)

    def _axes(self, origin: Origin, spec: JobSpec, entries: Mapping[str, Entry], prefix: str) -> None:
        axes = {name: axis for name, axis in self.shared.matrix.items() if name not in entries}
        if "prompts_file" in entries:
            axes.pop("prompt", None)
        if "matrix" in entries:
            own = self.matrix(origin, entries["matrix"][2], prefix)
            for name in own:
                if name in entries:
                    where = entries["matrix"][2]
                    origin.bad(where, f"{prefix}matrix.{name}", f"the job sets {name} itself, too; leave one out")
            axes.update(own)
        spec.axes = tuple(axes.values())

    def _prompts(self, origin: Origin, spec: JobSpec, entries: Mapping[str, Entry], prefix: str) -> None:
        axis = next((axis for axis in spec.axes if axis.name == "prompt"), None)
        if "prompts_file" in entries:
            entry = entries["prompts_file"]
            if "prompt" in entries:
                origin.bad_key(entry, prefix + "prompts_file", "a job takes prompt or prompts_file, not both")
            path = entry[2]
            if text_of(origin, path, prefix + "prompts_file") is not BAD and isinstance(path, Scalar):
                spec.prompts = self.find_prompts(origin, path, prefix + "prompts_file") or []
                spec.from_file = True
        elif "prompt" in entries:
            node = entries["prompt"][2]
            text = self._prompt_text(origin, node, prefix)
            if text is not BAD:
                spec.prompts = [PromptText(text, Where(origin.file, node.line, node.column), self.literal)]
        elif axis is not None:
            spec.axes = tuple(other for other in spec.axes if other is not axis)
            spec.prompts = [PromptText(text, spec.where, self.literal) for text in axis.values]
            spec.from_file = len(spec.prompts) > 1
        elif "prompt" in self.shared.defaults:
            spec.prompts = [PromptText(self.shared.defaults["prompt"], spec.where, self.literal)]
        else:
            message = 'no prompt; a job has prompt or prompts_file (for none at all write prompt: "")'
            self._problem(origin, spec, message)

    def _prompt_text(self, origin: Origin, node: Node, prefix: str) -> Any:
        if "prompt" in self.reader.rows:
            return self.reader.value(origin, self.reader.rows["prompt"], node, prefix + "prompt")
        return text_of(origin, node, prefix + "prompt")

    @staticmethod
    def _problem(origin: Origin, spec: JobSpec, message: str) -> None:
        origin.problems.add(origin.file, spec.where.line, spec.where.column, spec.key, message)

    def _finish(
        self, origin: Origin, spec: JobSpec, own: dict[str, Any], entries: Mapping[str, Entry], prefix: str
    ) -> None:
        params = {**self.shared.defaults, **own}
        params.pop("prompt", None)
        spec.seed = params.pop("seed", None)
        spec.params = params
        self._repeat_of_seeds(origin, spec, entries, prefix)
        if spec.id:
            spec.explicit_id = True
        elif spec.prompts:
            spec.id = "" if spec.from_file else slug(strip_markup(spec.prompts[0].text))

    def _repeat_of_seeds(self, origin: Origin, spec: JobSpec, entries: Mapping[str, Entry], prefix: str) -> None:
        row = self.reader.rows.get("seed")
        if spec.repeat == 1 or row is None or row.maximum is None:
            return
        seeds = [spec.seed, *(v for axis in spec.axes if axis.name == "seed" for v in axis.values)]
        top = max((seed for seed in seeds if seed is not None), default=-1)
        if top != -1 and top + spec.repeat - 1 > row.maximum:
            last = top + spec.repeat - 1
            message = f"the seeds count up from {top} to {last}; allowed: at most {int(row.maximum)}"
            origin.bad_key(entries["repeat"], prefix + "repeat", message)


def stack_names(node: Node) -> list[str]:
    """The names that a ``stack`` gives, for labels."""
    items: Iterable[Node] = node.items if isinstance(node, Seq) else [node]
    return [str(plain(item)) for item in items] or ["none"]


def _file_name(node: Node) -> str:
    """The name, without extension, at the end of a path or URL."""
    last = str(plain(node)).rstrip("/").replace("\\", "/").rpartition("/")[2]
    return last.rpartition(".")[0] or last


def entries_of(origin: Origin, node: Node, key: str) -> Mapping[str, Entry]:
    """The entries of a section, or none where it is no mapping (which is noted)."""
    if isinstance(node, Map):
        return node.entries
    shown = "nothing" if isinstance(node, Scalar) and node.value is None else show(plain(node))
    origin.bad(node, key, f"{shown} is not allowed here; allowed: a mapping (name: value)")
    return {}
