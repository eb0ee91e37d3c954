"""What a prompt refers to: its variables, and the lines of ``wildcards/NAME.txt`` beside its file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter

from flux_lora_cli.presets import notes
from flux_lora_cli.presets.lists import prompt_lines
from flux_lora_cli.presets.nodes import Node, Problems, Source, repeated
from flux_lora_cli.presets.prompts import (
    MAX_MESSAGES,
    MAX_NESTED,
    MAX_OPTIONS,
    Budget,
    Options,
    Part,
    Text,
    TooMany,
    as_text,
    check_depth,
    flatten,
    names_in,
    parse,
)
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.presets.spec import Variable
from flux_lora_cli.text import nearest, quoted

#: As MAX_OPTIONS, for all prompts of a file.
_MAX_ALL_OPTIONS = 1_000_000
#: Names in another spelling that are looked for among those of the wildcards.
_MAX_LOOKS = 100


class Templates:
    """Reads the prompts and variables of one source, and their wildcards, each once.

    Args:
        read: takes every file that was read.
    """

    def __init__(self, files: Files, problems: Problems, read: Callable[[Source], None]) -> None:
        self._files = files
        self._problems = problems
        self._told = read
        self._whole = Budget(_MAX_ALL_OPTIONS, "the choices in this file")
        self._wildcards: dict[tuple[str, str], Options | str] = {}
        self._names: dict[str, list[str]] = {}
        self._meant: dict[tuple[str, str], str] = {}

    def budget(self) -> Budget:
        """What the choices of one prompt may come to."""
        return Budget(MAX_OPTIONS, "the choices in one prompt", self._whole)

    def parts(self, node: Node, key: str, source: Source, budget: Budget, depth: int = 0) -> list[Part]:
        """The parts of a text, as far as it can be read; what cannot is among the problems.

        Args:
            source: the file beside which its wildcards lie.
        """
        if self._problems.full(node.source.name):
            return []
        try:
            parts, messages = parse(node.text, source, self, budget, node.escape(""), depth)
        except TooMany as error:
            parts, messages = [], [str(error)]
        for message in messages:
            self._problems.add(node, key, message)
        for options in parts:
            again = repeated(options.texts) if isinstance(options, Options) and not options.name else None
            if again is not None:
                self._problems.note(node.where, "equal-choices", f"the choice {quoted(as_text(again))} is there twice")
        return parts

    # ---- variables -----------------------------------------------------------------------------

    def variables(
        self, parts: list[Part], known: Mapping[str, Variable], node: Node, key: str
    ) -> dict[str, Variable] | None:
        """The variables of these parts and all that they use, those that are used before those that use them.

        None where that cannot be, which is among the problems.
        """
        graph: dict[str, list[str]] = {}
        where = dict.fromkeys(names_in(parts), (node, key))
        todo = _in_order(where, known)
        while todo:
            name = todo.pop()
            if name not in graph:
                variable = known[name]
                used = self._options(variable).uses
                for other in used:
                    where.setdefault(other, (variable.uses[other], variable.key))
                graph[name] = _in_order(used, known)
                todo += graph[name]
        unknown = [name for name in where if name not in known]
        for name in sorted(unknown)[:MAX_MESSAGES]:
            self._problems.add(*where[name], _no_variable(name, known, where[name][0].escape("$")))
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " → ".join(reversed(error.args[1][-12:]))
            self._problems.add(node, key, f"variables that use each other in a circle: {circle}")
            return None
        return None if unknown else {name: known[name] for name in order}

    def _options(self, variable: Variable) -> Options:
        """What a variable can be; its problems and notes are told once, where it is defined."""
        if variable.options is None:
            texts: list[Text] = []
            budget = self.budget()
            try:
                for node in variable.node.items:
                    parts = self.parts(node, variable.key, node.source, budget)
                    for used in names_in(parts):
                        variable.uses.setdefault(used, node)
                    texts += flatten(parts, budget)
            except TooMany as error:
                self._problems.add(variable.node, variable.key, str(error))
            variable.options = Options(texts or [""], variable.name)
        return variable.options

    # ---- wildcards -----------------------------------------------------------------------------

    def wildcard(self, name: str, source: Source, depth: int) -> Options | str:
        """The lines of a wildcard beside a file; or why there are none, "" where that is told already."""
        if {"", ".", ".."}.intersection(name.split("/")):
            return f"the wildcard {quoted(name)} leaves the folder wildcards"
        check_depth(depth)
        place = source.folder, name
        if place not in self._wildcards:
            self._wildcards[place] = f'wildcards nested more than {MAX_NESTED} deep: "{name}" names itself'
            self._wildcards[place] = self._read_wildcard(name, source, depth)
        return self._wildcards[place]

    def _read_wildcard(self, name: str, beside: Source, depth: int) -> Options | str:
        try:
            source, text = self._files.text(f"wildcards/{name}.txt", beside, self._problems)
        except Refused as error:
            near = nearest(name, self._names_beside(beside))
            hint = f"; did you mean '__{near}__'?" if near and near != name else ""
            return f"no wildcard {quoted(name)}: {error}{hint}"
        self._told(source)
        if text is None:
            return ""
        lines = list(prompt_lines(text, source))
        again = repeated(line.text for line in lines)
        if again is not None:
            twice = [line for line in lines if line.text == again][1]
            self._problems.note(twice.where, "equal-choices", f"the line {quoted(again)} is there twice")
        texts: list[Text] = []
        budget = self.budget()
        try:
            for line in lines:
                notes.note_prompt(f"|{line.text}", line, self._problems, {}, literal=False)
                parts = self.parts(line, "", beside, budget, depth)
                for used in names_in(parts):
                    self._problems.add(line, "", _no_variable(used, (), line.escape("$")))
                texts += flatten(parts, budget)
        except TooMany as error:
            self._problems.add(line, "", str(error))
        return Options(texts, name) if lines else f"the wildcard file {source.name} has no lines"

    def _names_beside(self, source: Source) -> list[str]:
        if source.folder not in self._names:
            self._names[source.folder] = self._files.wildcard_names(source)
        return self._names[source.folder]

    def meant(self, name: str, source: Source) -> str:
        """The wildcard that a name in another spelling means: ``wood\\tree``, ``@tree``, ``my tree``, ``tree*``."""
        place, wanted = (source.folder, name), _fold(name)
        if place not in self._meant and len(self._meant) < _MAX_LOOKS:
            names = {known: _fold(known) for known in self._names_beside(source)}
            fits = (n for n, fold in names.items() if fnmatchcase(fold, wanted) or fnmatchcase(fold, f"*/{wanted}"))
            self._meant[place] = next(fits, "")
        return self._meant.get(place, "")


def _fold(name: str) -> str:
    """A wildcard's name as one compares it: slashes alike, marks of other tools gone."""
    return name.replace("\\", "/").strip(" @~!/.").casefold().replace(" ", "-").replace("_", "-")


def _in_order(names: Iterable[str], known: Mapping[str, Variable]) -> list[str]:
    """Those of the names that are known, in the order in which they are defined."""
    return sorted((name for name in names if name in known), key=lambda name: known[name].order)


def _no_variable(name: str, known: Collection[str], literal: str) -> str:
    near = nearest(name, known)
    listed = ", ".join(list(known)[:20])
    hint = f"; did you mean '${{{near}}}'?" if near else f"; known: {listed}" if listed else ""
    return f"no variable {quoted(name)} in vars{hint}; a literal one is {literal}{{"
