"""What a prompt may refer to: its variables, and the lines of ``wildcards/NAME.txt`` beside its file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from flux_lora_cli.presets import prompts
from flux_lora_cli.presets.lists import prompt_lines
from flux_lora_cli.presets.nodes import Node, Problems, Source, repeated
from flux_lora_cli.presets.prompts import Budget, Part, Text, TooMany, flatten, needs, parse
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.presets.spec import VarDef
from flux_lora_cli.text import nearest, quoted

#: Names like ``tre*`` that are looked for among all.
_MAX_GLOBS = 100


class WildcardFolder:
    """``wildcards/NAME.txt`` beside one file; each is read and parsed once.

    Args:
        read: takes every file that was read.
    """

    def __init__(self, files: Files, source: Source, problems: Problems, read: Callable[[Source], None]) -> None:
        self.budget = Budget(prompts.MAX_ALL_OPTIONS)
        self._files = files
        self._source = source
        self._problems = problems
        self._told = read
        self._cache: dict[str, tuple[Sequence[Text], list[str]]] = {}
        self._globs = 0

    @cached_property
    def _names(self) -> list[str]:
        return self._files.wildcard_names(self._source)

    def options(self, name: str, depth: int) -> tuple[Sequence[Text], list[str]]:
        """The lines of a wildcard as texts, and the messages about it."""
        if name not in self._cache:
            self._cache[name] = (), [f'wildcards nested more than {prompts.MAX_NESTED} deep: "{name}" names itself']
            self._cache[name] = self._load(name, depth)
        return self._cache[name]

    @cached_property
    def _folded(self) -> dict[str, str]:
        """The names as one compares them, whole or without their folder."""
        last = {_fold(name.rpartition("/")[2]): name for name in reversed(self._names)}
        return last | {_fold(name): name for name in reversed(self._names)}

    def meant(self, name: str) -> str:
        """The wildcard that a name in another spelling means: ``wood\\tree``, ``@tree``, ``my tree``, ``tree*``."""
        if ("*" in name or "?" in name) and self._globs < _MAX_GLOBS:
            self._globs += 1
            found = next((known for known in self._names if fnmatch(known, name.strip())), "")
            return found or self._folded.get(_fold(name), "")
        return self._folded.get(_fold(name), "")

    def _load(self, name: str, depth: int) -> tuple[Sequence[Text], list[str]]:
        try:
            source, text = self._files.text(f"wildcards/{name}.txt", self._source, self._problems)
        except Refused as error:
            near = nearest(name, self._names)
            hint = f"; did you mean '__{near}__'?" if near and near != name else ""
            return (), [f"no wildcard {quoted(name)}: {error}{hint}"]
        self._told(source)
        if text is None:
            return (), []
        lines = list(prompt_lines(text, source))
        if not lines:
            return (), [f"the wildcard file {source.name} has no lines"]
        again = repeated(line.text for line in lines)
        if again is not None:
            twice = [line for line in lines if line.text == again][1]
            self._problems.note(twice.where, "equal-choices", f"the line {quoted(twice.text)} is there twice")
        budget = Budget(whole=self.budget)
        options: list[Text] = []
        messages: list[str] = []
        for line in lines:
            try:
                options += self._texts(line, depth, budget, messages)
            except TooMany as error:
                messages.append(f"{source.name}:{line.line}: {error}")
                break
        return ((), messages) if messages else (options, [])

    def _texts(self, line: Node, depth: int, budget: Budget, messages: list[str]) -> list[Text]:
        """What one line can be. Raises TooMany."""
        marks = prompts.weight_marks(line.text)
        texts: list[Text] = [line.text]
        if not prompts.is_plain(line.text):
            template = parse(line.text, (), self, depth=depth)
            messages += [f"{line.source.name}:{line.line}: {message}" for message in template.messages]
            marks += template.marks
            texts = flatten(template.parts, budget)
        for kind, detail in marks:
            self._problems.note(line.where, kind, detail)
        return texts


@dataclass(slots=True)
class Facts:
    """What holds for a list of texts: the variables of any, and of each of them; and the longest, once it is known."""

    options: Sequence[Text]
    uses: frozenset[str]
    common: frozenset[str]
    longest: int = -1


class Scope:
    """The variables that a job sees, and the wildcards of its file.

    Args:
        parsed: of the variables of all scopes of a file that use no other, for these are the same in each.
    """

    def __init__(
        self,
        defs: Mapping[str, VarDef],
        wildcards: Callable[[Source], WildcardFolder],
        problems: Problems,
        parsed: dict[VarDef, Facts],
    ) -> None:
        self.defs = defs
        self._places = {name: number for number, name in enumerate(defs)}
        self._wildcards = wildcards
        self._problems = problems
        self._parsed = parsed
        self._options: dict[str, Sequence[Text]] = {}
        self._facts: dict[int, Facts] = {}

    def facts(self, options: Sequence[Text]) -> Facts:
        """Found once for texts that many prompts use, such as the lines of a wildcard."""
        found = self._facts.get(id(options))
        if found is None:
            each = list(map(needs, options))
            found = Facts(options, frozenset().union(*each), frozenset.intersection(*each))
            self._facts[id(options)] = found
        return found

    def parts(self, text: str, node: Node, source: Source, key: str) -> list[Part]:
        """The parts of a text; none where it cannot be read, which is among the problems."""
        if self._problems.full(node.source.name):
            return []
        template = parse(text, self.defs, self._wildcards(source), node.escape(""))
        for kind, detail in template.marks:
            self._problems.note(node.where, kind, detail)
        for message in template.messages:
            self._problems.add(node, key, message)
        return [] if template.messages else template.parts

    def budget(self, source: Source) -> Budget:
        """What the choices of one prompt may come to."""
        return Budget(whole=self._wildcards(source).budget)

    def options(self, name: str) -> Sequence[Text]:
        """The texts that a variable can be; its problems and notes are told once, where it is defined."""
        if name not in self._options:
            found = self.defs[name]
            facts = self._parsed.get(found) or self.facts(self._read(found))
            if not facts.uses:
                self._parsed[found] = facts
            self._facts[id(facts.options)] = facts
            self._options[name] = facts.options
        return self._options[name]

    def _read(self, found: VarDef) -> list[Text]:
        found.used = True
        budget = self.budget(found.node.source)
        options: list[Text] = []
        try:
            for text, node in found.texts:
                options += flatten(self.parts(text, node, node.source, found.key), budget)
        except TooMany as error:
            self._problems.add(found.node, found.key, str(error))
        return options or [""]

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Variables in the order in which they are defined."""
        return sorted(names, key=self._places.__getitem__)

    def closure(self, names: Iterable[str]) -> list[str]:
        """These variables and all that they use, those that are used before those that use them.

        Raises:
            ValueError: they use each other in a circle.
        """
        graph: dict[str, list[str]] = {}
        todo = self.in_order(names)
        while todo:
            name = todo.pop()
            if name not in graph:
                graph[name] = self.in_order(self.facts(self.options(name)).uses)
                todo.extend(graph[name])
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " → ".join(reversed(error.args[1][-12:]))
            raise ValueError(f"variables that use each other in a circle: {circle}") from None


def _fold(name: str) -> str:
    """A wildcard's name as one compares it: slashes alike, marks of other tools gone."""
    return name.replace("\\", "/").strip(" @~!/*.").casefold().replace(" ", "-").replace("_", "-")
