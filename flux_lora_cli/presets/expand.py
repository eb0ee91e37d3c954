"""From a checked job to its expanded jobs: a job is the digits of an index, one digit for each axis.

Variables, matrix keys, choices and repeats are all axes. A variable that only some choices use is tied to them in one
axis, whose rows are what can really come together: a branch that is not taken multiplies nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from flux_lora_cli.presets.nodes import Problems, Source
from flux_lora_cli.presets.prompts import (
    MAX_OPTIONS,
    Budget,
    Choice,
    Template,
    Text,
    TooMany,
    Var,
    Wildcards,
    flatten,
    needs,
    parse,
    render,
)
from flux_lora_cli.presets.spec import MAX_SHOWN, Axis, Prompt, Spec, VarDef, distinct, label

#: Characters of one prompt that expansion makes; nobody reads more, and variables can double.
MAX_PROMPT = 1_000_000
#: Texts of one variable that get labels that differ; of more, equal labels are told apart job by job.
_MAX_LABELS = 10_000


class Variable:
    """A variable, parsed: one of these texts."""

    __slots__ = ("_labels", "definition", "labelled", "messages", "options", "plain")

    def __init__(self, definition: VarDef, templates: list[Template]) -> None:
        budget = Budget()
        self.definition = definition
        self.messages = [m for template in templates for m in template.messages]
        self.options: list[Text] = []
        try:
            self.options = [text for template in templates for text in flatten(template.parts, budget)]
        except TooMany as error:
            self.messages.append(str(error))
        self.labelled = definition.many or len(self.options) > 1
        strings = all(isinstance(option, str) for option in self.options)
        self.plain = strings and len(self.options) == len(definition.texts) <= _MAX_LABELS
        self._labels: list[str] | None = None

    def label(self, pick: int, value: str) -> str:
        """A piece of an ID for one of its texts, finished."""
        if not self.plain:
            return label(value)
        if self._labels is None:
            texts = [str(option) for option in self.options]
            self._labels = distinct([label(text) for text in texts], texts)
        return self._labels[pick]


class Scope:
    """The variables that a job sees, and the wildcards of its file."""

    def __init__(
        self, defs: Mapping[str, VarDef], wildcards: Callable[[Source], Wildcards], problems: Problems
    ) -> None:
        self.defs = defs
        self.wildcards = wildcards
        self._problems = problems
        self._variables: dict[str, Variable] = {}

    def variable(self, name: str) -> Variable:
        """A variable, parsed once; its problems and notes are told where it is defined."""
        found = self._variables.get(name)
        if found is None:
            definition = self.defs[name]
            definition.used = True
            templates = []
            for text, node in definition.texts:
                template = parse(text, self.defs, self.wildcards(node.source), node.escape(""))
                templates.append(template)
                for kind, detail in template.marks:
                    self._problems.note(node.where, kind, detail)
                for message in template.messages:
                    self._problems.add(node, definition.key, message)
            found = self._variables[name] = Variable(definition, templates)
            for message in found.messages[-1:]:
                self._problems.add(definition.node, definition.key, message)
        return found

    def closure(self, names: Sequence[str]) -> list[str]:
        """These variables and all that they use, those that are used before those that use them.

        Raises:
            ValueError: they use each other in a circle.
        """
        graph: dict[str, set[str]] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in graph:
                graph[name] = {need for option in self.variable(name).options for need in needs(option)}
                todo.extend(graph[name])
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " → ".join(reversed(error.args[1][-12:]))
            raise ValueError(f"variables that use each other in a circle: {circle}") from None


class Plan:
    """One prompt of a job, and the axes that multiply it, in the order variables, matrix, choices.

    A slot is (what is chosen along it, rows or None, count): without rows the digit is the pick itself, with rows
    the digit picks a row, which is a dict of picks.
    """

    def __init__(self, spec: Spec, prompt: Prompt, scope: Scope, problems: Problems) -> None:
        self.prompt = prompt
        self.parts: list[Any] = [prompt.text]
        self.variables: dict[str, Variable] = {}
        self.order: list[str] = []
        self.constants: dict[str, str] = {}
        self.slots: list[tuple[Any, list[dict[Any, int]] | None, int]] = []
        self.choices: list[Choice] = []
        key = f"{spec.key}.prompt" if spec.key else "prompt"
        if not prompt.literal:
            template = parse(prompt.text, scope.defs, scope.wildcards(spec.node.source), prompt.node.escape(""))
            for kind, detail in template.marks:
                problems.note(prompt.node.where, kind, detail)
            messages = list(template.messages)
            if not messages:
                self.parts, self.choices = template.parts, template.choices
                try:
                    self._tie(scope)
                except ValueError as error:
                    messages, self.parts, self.choices, self.slots = [str(error)], [""], [], []
            for message in messages:
                problems.add(prompt.node, key, message)
        variable_slots = [slot for slot in self.slots if isinstance(slot[0], str)]
        matrix = [(axis, None, len(axis.rows)) for axis in spec.axes if axis is not prompt.axis]
        self.slots = [*variable_slots, *matrix, *(slot for slot in self.slots if not isinstance(slot[0], str))]
        self.total = 1
        for _, _, count in self.slots:
            self.total *= count
        self.shown_order = [name for name in scope.defs if name in self.variables and self.variables[name].labelled]

    # ---- building ----------------------------------------------------------------------------

    def _tie(self, scope: Scope) -> None:
        """Make the slots of variables and choices. Raises ValueError: a circle, or beyond a limit."""
        direct = [part for part in self.parts if isinstance(part, Var)]
        branches = [need for choice in self.choices for option in choice.options for need in needs(option)]
        self.order = scope.closure([*direct, *branches])
        self.variables = {name: scope.variable(name) for name in self.order}
        self._check_length()
        for name in self.order:
            options = self.variables[name].options
            if len(options) == 1 and needs(options[0]) <= self.constants.keys():
                self.constants[name] = render(options[0], self.constants)
        users_first = [name for name in reversed(self.order) if name not in self.constants]
        certain: set[str] = {name for name in direct if name not in self.constants}
        for name in users_first:  # a variable that every text of a certain one uses is certain, too
            options = self.variables[name].options
            if name in certain and options:
                certain |= frozenset.intersection(*map(needs, options)) - set(self.constants)
        maybe = [name for name in users_first if name not in certain]
        heads: list[Any] = [name for name in scope.defs if name in certain]
        for group, shared in _groups([*heads, *self.choices], self._reach(maybe)):
            self.slots.append(self._slot(group, [name for name in maybe if name in shared]))

    def _reach(self, maybe: Sequence[str]) -> Any:
        """A function from a variable or choice to the uncertain variables that it may lead to."""
        leads: dict[str, frozenset[str]] = {}
        unsure = frozenset(maybe)

        def of(options: Sequence[Text]) -> frozenset[str]:
            if not unsure:
                return unsure
            found = frozenset().union(*(needs(option) & unsure for option in options))
            return found.union(*(leads[name] for name in found))

        for name in reversed(maybe):
            leads[name] = of(self.variables[name].options)
        return lambda head: of(self._options(head))

    def _options(self, head: Any) -> Sequence[Text]:
        options: Sequence[Text] = head.options if isinstance(head, Choice) else self.variables[head].options
        return options

    def _slot(self, group: list[Any], maybe: list[str]) -> tuple[Any, list[dict[Any, int]] | None, int]:
        if not maybe:
            return group[0], None, len(self._options(group[0]))
        unsure = frozenset(maybe)
        rows: list[tuple[tuple[tuple[Any, int], ...], frozenset[str]]] = [((), frozenset())]
        for depth, head in enumerate([*group, *maybe], 1):
            wider = []
            for picks, needed in rows:
                if isinstance(head, str) and head in unsure and head not in needed:
                    wider.append((picks, needed))
                    continue
                for pick, option in enumerate(self._options(head)):
                    wider.append(((*picks, (head, pick)), needed | (needs(option) & unsure)))
                if len(wider) * depth > MAX_OPTIONS:
                    raise ValueError("choices that share variables have too many combinations; use fewer in one prompt")
            rows = wider
        return group[0], [dict(picks) for picks, _ in rows], len(rows)

    def _check_length(self) -> None:
        longest: dict[str, int] = {}

        def length(text: Text) -> int:
            pieces = (text,) if isinstance(text, str) else text
            return min(sum(longest[p] if isinstance(p, Var) else len(p) for p in pieces), 10**12)

        for name in self.order:
            longest[name] = max(map(length, self.variables[name].options), default=0)
        total = sum(
            max(map(length, part.options)) if isinstance(part, Choice) else length((part,)) for part in self.parts
        )
        if self.order and total > MAX_PROMPT:
            raise ValueError(f"this makes a prompt of up to {total:,} characters; allowed: {MAX_PROMPT:,}")

    # ---- reading -----------------------------------------------------------------------------

    def factors(self) -> list[tuple[str, int]]:
        """What is multiplied, by name, without ones."""
        found: list[tuple[str, int]] = []
        for head, _, count in self.slots:
            name = (
                head.name if isinstance(head, Axis) else (head.name or "choice") if isinstance(head, Choice) else head
            )
            if count != 1:
                found.append((name, count))
        return found

    def picks(self, index: int) -> dict[Any, int]:
        """What the index-th combination chooses along each axis."""
        found: dict[Any, int] = {}
        for head, rows, count in reversed(self.slots):
            index, digit = divmod(index, count)
            if rows is None:
                found[head] = digit
            else:
                found.update(rows[digit])
        return found

    def values(self, picks: Mapping[Any, int]) -> dict[str, str]:
        """The variables' values."""
        values = dict(self.constants)
        for name in self.order:
            if name in picks:
                values[name] = render(self.variables[name].options[picks[name]], values)
        return values

    def text(self, picks: Mapping[Any, int], values: Mapping[str, str]) -> str:
        """The prompt."""
        if len(self.parts) == 1 and type(self.parts[0]) is str:
            return self.parts[0]
        return "".join(
            render(part.options[picks[part]], values) if isinstance(part, Choice) else render((part,), values)
            for part in self.parts
        )

    def labels(self, picks: Mapping[Any, int], values: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """The pieces of the ID, and what was chosen by the axis's name."""
        labels = [self.prompt.label] if self.prompt.label else []
        axes = {"prompt": self.prompt.text[:MAX_SHOWN]} if self.prompt.label else {}
        for name in self.shown_order:
            if name in values:
                labels.append(self.variables[name].label(picks.get(name, 0), values[name]))
                axes[name] = values[name][:MAX_SHOWN]
        for head, _, _ in self.slots:
            if isinstance(head, Axis):
                labels.append(head.labels[picks[head]])
                axes.update(zip(head.names, head.shown[picks[head]], strict=True))
        if self.prompt.axis is not None:
            axes.update(zip(self.prompt.axis.names, self.prompt.axis.shown[self.prompt.row], strict=True))
        for number, choice in enumerate(self.choices, 1):
            chosen = render(choice.options[picks[choice]], values)
            labels.append(label(chosen))
            name = choice.name or "choice"
            axes[name if name not in axes else f"{name} {number}"] = chosen[:MAX_SHOWN]
        return labels, axes


def _groups(heads: list[Any], reach: Any) -> Iterator[tuple[list[Any], frozenset[str]]]:
    """Heads that share uncertain variables, together; in the order of the first of each."""
    groups: list[tuple[list[Any], frozenset[str]]] = []
    for head in heads:
        leads = reach(head)
        group: tuple[list[Any], frozenset[str]] = ([head], leads)
        if leads:
            apart = []
            for heads_of, shared in groups:
                if shared & leads:
                    group = ([*heads_of, *group[0]], shared | group[1])
                else:
                    apart.append((heads_of, shared))
            groups = [*apart, group]
        else:
            groups.append(group)
    place = {id(head): number for number, head in enumerate(heads)}
    return iter(sorted(groups, key=lambda group: min(place[id(head)] for head in group[0])))
