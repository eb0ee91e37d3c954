"""The language of prompts: ``${name}``, ``{a|b}``, ``__name__``, ``<lora:PATH:SCALE>`` and their escapes.

A prompt is parsed once into text, variables and choices. Choices inside choices are flattened: a choice is a list of
texts, each a tuple of strings and variables. Every scan is linear in the length of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import chain, groupby, product
from typing import TYPE_CHECKING, Any

from flux_lora_cli.presets.lists import prompt_lines
from flux_lora_cli.presets.nodes import Node, Problems, Source, repeated
from flux_lora_cli.presets.notes import note_prompt
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.text import nearest, quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.spec import Variable

#: Nesting of choices and wildcards.
MAX_NESTED = 20
#: Texts that the choices of one file may come to; long ones count as several.
MAX_TEXTS = 300_000
#: Messages about one text that are told.
MAX_MESSAGES = 20
#: Characters of one prompt; nobody reads more, and variables can double.
MAX_PROMPT = 1_000_000

_SPECIAL = re.compile(r"[{$\\]|_{2,}")
_TOKEN = re.compile(
    r"\\(?P<escaped>[{}$_|<:-])|\$\{(?P<variable>[^{}$]{0,200})\}|(?P<unclosed>\$\{)"
    # A name that begins as a path does, or climbs, is one to refuse: hardly anybody means it as text.
    r"|__(?P<wildcard>(?:\.{0,2}/){0,20}[A-Za-z0-9](?:[A-Za-z0-9./-]|_(?!_)){0,99})__|(?P<run>_{2,})|[{|}]"
)
_MARKUP = re.compile(r"<lora:[^<>]*>|[${}|\\]+")
#: A noncharacter that stands for an escaped ``<`` until LoRA tags are taken out.
HOLD = "\ufdd0"


class Var(str):
    """The name of a variable where its value goes: parts are told apart by their type."""

    __slots__ = ()


Text = tuple[str, ...]


@dataclass(eq=False)
class Options:
    """The texts that one place can be: ``{a|b}``, or the lines of a wildcard, or the values of a variable."""

    texts: Sequence[Text]
    name: str = ""

    @cached_property
    def uses(self) -> Set[str]:
        """The variables in any of the texts, in their order."""
        return dict.fromkeys(chain.from_iterable(map(needs, self.texts))).keys()


Part = str | Var | Options


class TooMany(ValueError):
    """Nesting, choices or texts beyond the limits."""


class Budget:
    """How much more may be made of something."""

    def __init__(self, most: int, what: str) -> None:
        self._left = self._most = most
        self._what = what

    @property
    def spent(self) -> bool:
        return self._left < 0

    def spend(self, amount: int) -> None:
        """Raises TooMany."""
        self._left -= amount
        if self._left < 0:
            raise TooMany(f"{self._what} come to more than {self._most} texts and combinations")


class PromptReader:
    """Reads the prompts, variables and wildcards of one preset, each once; ``told`` takes every file that is read."""

    def __init__(self, files: Files, problems: Problems, told: Callable[[Source], None]) -> None:
        self._files = files
        self._problems = problems
        self._told = told
        self.budget = Budget(MAX_TEXTS, "the choices in this file")
        self._wildcards: dict[tuple[str, str], Options | str] = {}
        self._depth = 0  # of wildcards
        self._names: dict[str, dict[str, str]] = {}

    def parse(self, node: Node, key: str, source: Source) -> list[Part]:
        """The parts of a text; what cannot be read is among the problems, with the nearest name or the escape.

        Args:
            source: the file beside which its wildcards lie.

        Raises:
            TooMany: the choices come to more than the budget.
        """
        text, escape = node.text, node.escape("")
        if self._problems.full(node.source.name) or (_SPECIAL.search(text) is None and HOLD not in text):
            return [text]
        text = text.replace(HOLD, HOLD + "0")
        said: dict[str, None] = {}
        opened: list[list[list[Part]]] = [[[]]]  # the alternatives of each open brace; outermost the whole text
        at = 0
        for found in _TOKEN.finditer(text):
            here = opened[-1][-1]
            here.append(text[at : found.start()])
            at, mark, kind = found.end(), found[0], found.lastgroup
            if kind == "escaped":
                here.append(HOLD + "1" if mark[1] == "<" else mark[1])
            elif kind == "variable":
                here.append(Var(found["variable"].strip()))
            elif kind == "unclosed":
                told = "${ is never closed; write ${name}, and set it under vars"
                said[f"{told}; a literal one is {escape}${{"] = None
            elif kind == "wildcard":
                options = self._wildcard(found["wildcard"], source, len(opened))
                if isinstance(options, Options):
                    here.append(options)
                elif options:
                    said[f"{options}; a literal one is {escape}{mark}"] = None
            elif kind == "run":
                here.append(mark)
                name = text[at : max(text.find("__", at, at + 102), at)]
                if meant := self._names_beside(source).get(_fold(name)):
                    literal = f"literal underscores are written {escape}__"
                    said[f"no wildcard {quoted(name)}; did you mean '__{meant}__'? {literal}"] = None
            elif mark == "{":
                self._check_depth(len(opened))
                opened.append([[]])
            elif len(opened) == 1:
                here.append(mark)
            elif mark == "|":
                opened[-1].append([])
            else:
                first, *others = opened.pop()
                texts = [text for parts in (first, *others) for text in flatten(parts, self.budget)] if others else []
                opened[-1][-1] += [Options(texts)] if others else ["{", *first, "}"]
            if len(said) == MAX_MESSAGES:
                break
        if len(opened) > 1:
            said[f"the brace {{ is never closed; write {{a|b}}, or {escape}{{ for a literal one"] = None
        for message in said:
            self._problems.add(node, key, message)
        parts = [part for alternatives in opened for parts in alternatives for part in parts]
        for options in parts:
            again = repeated(options.texts) if isinstance(options, Options) and not options.name else None
            if again is not None:
                choice = "".join(f"${{{piece}}}" if isinstance(piece, Var) else piece for piece in again)
                self._problems.note(node.where, "equal-choices", f"the choice {quoted(choice)} is there twice")
        return _joined([*parts, text[at:]])

    def _check_depth(self, braces: int) -> None:
        """Raises TooMany."""
        if self._depth + braces > MAX_NESTED:
            raise TooMany(f"choices nested more than {MAX_NESTED} deep (does a wildcard name itself?)")

    def _texts(self, nodes: Iterable[Node], key: str, beside: Source | None) -> tuple[list[Text], dict[str, Node]]:
        """Every text that these come to, and the variables in them, each with its place."""
        texts: list[Text] = []
        uses: dict[str, Node] = {}
        try:
            for node in nodes:
                parts = self.parse(node, key, beside or node.source)
                for name in names_in(parts):
                    uses.setdefault(name, node)
                texts += flatten(parts, self.budget)
        except TooMany as error:
            self._problems.add(node, key, str(error))
        return texts, uses

    # ---- variables -----------------------------------------------------------------------------

    def variables(
        self, parts: list[Part], known: Mapping[str, Variable], node: Node, key: str
    ) -> dict[str, Variable] | None:
        """The variables of these parts and all that they use, those that are used before those that use them.

        None where that cannot be, which is among the problems.
        """
        places = dict.fromkeys(names_in(parts), (node, key))
        todo, graph = list(places), dict[str, list[str]]()
        for name in todo:  # which grows
            variable = known.get(name)
            if variable is not None:
                if variable.options is None:
                    texts, variable.uses = self._texts(variable.node.items, variable.key, None)
                    variable.options = Options(texts or [()], name)
                graph[name] = [other for other in variable.uses if other in known]
                for other, place in variable.uses.items():
                    if other not in places:
                        places[other] = place, variable.key
                        todo.append(other)
        unknown = [name for name in places if name not in known]
        for name in unknown[:MAX_MESSAGES]:
            self._problems.add(*places[name], _no_variable(name, known, places[name][0].escape("$")))
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " → ".join(reversed(error.args[1][-12:]))
            self._problems.add(node, key, f"variables that use each other in a circle: {circle}")
            return None
        return None if unknown else {name: known[name] for name in order}

    # ---- wildcards -----------------------------------------------------------------------------

    def _wildcard(self, name: str, beside: Source, braces: int) -> Options | str:
        """The lines of a wildcard beside a file; or why there are none, "" where that is told. Raises TooMany."""
        if {"", ".", ".."}.intersection(name.split("/")):
            return f"the wildcard {quoted(name)} leaves the folder wildcards"
        self._check_depth(braces)
        place = beside.folder, name
        if place not in self._wildcards:
            self._wildcards[place] = f"wildcards nested more than {MAX_NESTED} deep: {quoted(name)} names itself"
            self._depth += braces
            self._wildcards[place] = self._read_wildcard(name, beside)
            self._depth -= braces
        return self._wildcards[place]

    def _read_wildcard(self, name: str, beside: Source) -> Options | str:
        try:
            source, text = self._files.text(f"wildcards/{name}.txt", beside, self._problems)
        except Refused as error:
            near = nearest(name, self._names_beside(beside).values())
            hint = f"; did you mean '__{near}__'?" if near and near != name else ""
            return f"no wildcard {quoted(name)}: {error}{hint}"
        self._told(source)
        if text is None:
            return ""
        seen: set[str] = set()
        lines = list(prompt_lines(text, source))
        for line in lines:
            note_prompt(f"|{line.text}", line, self._problems, {}, literal=False)
            if line.text in seen:
                self._problems.note(line.where, "equal-choices", f"the line {quoted(line.text)} is there twice")
            seen.add(line.text)
        texts, uses = self._texts(lines, "", beside)
        for used, line in uses.items():
            self._problems.add(line, "", _no_variable(used, (), line.escape("$")))
        return Options(texts or [()], name) if lines else f"the wildcard file {source.name} has no lines"

    def _names_beside(self, source: Source) -> dict[str, str]:
        """The wildcards beside a file by their names, and without their folders, as one compares them."""
        if source.folder not in self._names:
            names = self._files.wildcard_names(source)
            short = {_fold(name.rpartition("/")[2]): name for name in names}
            self._names[source.folder] = short | {_fold(name): name for name in names}
        return self._names[source.folder]


def _fold(name: str) -> str:
    """A wildcard's name without what other tools write: ``wood\\tree``, ``@tree``, ``My tree``."""
    return name.replace("\\", "/").strip(" @~!/.").casefold().replace(" ", "-").replace("_", "-")


def _no_variable(name: str, known: Collection[str], literal: str) -> str:
    near = nearest(name, known)
    listed = ", ".join(list(known)[:20])
    hint = f"; did you mean '${{{near}}}'?" if near else f"; known: {listed}" if listed else ""
    return f"no variable {quoted(name)} in vars{hint}; a literal one is {literal}{{"


# ---- texts -------------------------------------------------------------------------------------


def _joined(parts: Iterable[Any]) -> list[Any]:
    """The parts with neighbouring strings made one."""
    joined: list[Any] = []
    for is_text, run in groupby(parts, lambda part: type(part) is str):
        if not is_text:
            joined += run
        elif text := "".join(run):
            joined.append(text)
    return joined


def flatten(parts: Iterable[Part], budget: Budget) -> list[Text]:
    """Every text that these parts can be, their choices made; the last choice varies fastest. Raises TooMany."""
    places = [part.texts if isinstance(part, Options) else ((part,),) for part in _joined(parts)]
    count = width = 1
    for texts in places:
        count *= len(texts)
        width += max(map(len, texts))
        if count > MAX_TEXTS:
            break
    budget.spend(count + count * width // 8)
    made: list[Text] = []
    for row in product(*places):
        made.append(tuple(_joined(chain.from_iterable(row))))
        budget.spend(sum(map(len, made[-1])) // 256)
    return made


def needs(text: Text) -> Set[str]:
    """The variables in a text, in their order."""
    return dict.fromkeys(piece for piece in text if isinstance(piece, Var)).keys()


def names_in(parts: Iterable[Part]) -> Set[str]:
    """The variables in the parts of a prompt, in their order."""
    used = (part.uses if isinstance(part, Options) else needs((part,)) for part in parts)
    return dict.fromkeys(chain.from_iterable(used)).keys()


def render(text: Iterable[str], values: Mapping[str, str]) -> str:
    """A text with the values of its variables. Raises TooMany."""
    pieces = [values[piece] if isinstance(piece, Var) else piece for piece in text]
    if sum(map(len, pieces)) > MAX_PROMPT:
        raise TooMany(f"this makes a prompt of more than {MAX_PROMPT:,} characters")
    return "".join(pieces)


def words_of(prompt: str) -> str:
    """The words of a prompt without marks, for its ID."""
    return _MARKUP.sub(" ", prompt[:2000])
