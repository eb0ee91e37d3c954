"""The language of prompts: ``${name}``, ``{a|b}``, ``__name__``, ``<lora:PATH:SCALE>`` and their escapes.

A prompt is parsed once into text, variables and choices. Choices inside choices are flattened: a choice is a list of
texts, each a string or a tuple of strings and variables. Every scan is linear in the length of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flux_lora_cli.presets.nodes import repeated
from flux_lora_cli.text import nearest, quoted

#: Nesting of choices and wildcards; a wildcard that names itself ends here.
MAX_NESTED = 20
#: Texts that the choices of one prompt may come to, long ones counting as several.
MAX_OPTIONS = 200_000
#: Messages about one text that are told; wildcards that name each other could double them at each level.
MAX_MESSAGES = 20

_SPECIAL = re.compile(r"[{$\\]|_{2,}")
_IN_CHOICE = re.compile(r"[{}|$\\]|_{2,}")
_ESCAPE = re.compile(r"\\([{}$_|<:-])")
_NAME = re.compile(r"\$\{([^{}$]{0,200})\}")
_DEFINITION = re.compile(r"\$\{\s*([\w-]{1,60})\s*[=:]")
_SHELL_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]{0,60})")
WILDCARD = re.compile(r"__([A-Za-z0-9](?:[A-Za-z0-9./-]|_(?!_)){0,99})__")
#: A name that begins as a path does, or climbs: never a wildcard, and hardly meant as text.
_OUTSIDE = re.compile(r"\.{0,2}/[^\s]*|[A-Za-z0-9._/-]*/\.\.(?:/[^\s]*)?")
_WEIGHT = re.compile(r"\s*(\d*\.?\d+)::")
_COUNT = re.compile(r"\s*(\d*-?\d*)\$\$")
#: A noncharacter that stands for an escaped ``<`` until LoRA tags are taken out.
HOLD = "\ufdd0"

#: A variable in a prompt: a string subclass, so that parts are told apart by their type.
Text = str | tuple[str, ...]


class Var(str):
    """The name of a variable where its value goes."""

    __slots__ = ()


class Choice:
    """``{a|b}``, or the lines of a wildcard (then ``name`` is its name): one of these texts."""

    __slots__ = ("name", "options")

    def __init__(self, options: Sequence[Text], name: str = "") -> None:
        self.options = options
        self.name = name


Part = str | Var | Choice


@dataclass
class Template:
    """A parsed prompt. ``marks``: (kind, detail) of what looks like another tool's language, for notes."""

    parts: list[Part]
    messages: list[str] = field(default_factory=list)
    marks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def choices(self) -> list[Choice]:
        return [part for part in self.parts if isinstance(part, Choice)]


class Wildcards(Protocol):
    """Where ``__name__`` finds its lines."""

    def options(self, name: str, depth: int, budget: Budget) -> tuple[Sequence[Text], list[str]]:
        """The lines of a wildcard as texts, and the messages about it."""

    def meant(self, name: str) -> str:
        """The wildcard that a misspelled name probably means; "" for none."""


class Budget:
    """How many more texts choices may come to."""

    def __init__(self, left: int = MAX_OPTIONS) -> None:
        self.left = left

    def spend(self, texts: int) -> None:
        self.left -= texts
        if self.left < 0:
            raise TooMany(f"the choices in one prompt come to more than {MAX_OPTIONS} texts")


class TooMany(ValueError):
    """Nesting or choices beyond the limits."""


def is_plain(text: str) -> bool:
    """Whether the text has nothing that the language could mean (LoRA tags aside)."""
    return _SPECIAL.search(text) is None and HOLD not in text


def parse(
    text: str, variables: Container[str], wildcards: Wildcards, escape: str = "\\", depth: int = 0,
    budget: Budget | None = None,
) -> Template:  # fmt: skip
    """What can be read of a prompt; ``messages`` tell everything that cannot, each with the nearest name or the escape.

    Args:
        escape: how a backslash is written where the prompt stands (``\\\\\\\\`` in double quotes), for messages.
    """
    if is_plain(text):
        return Template([text])
    parser = _Parser(text.replace(HOLD, HOLD + "0"), variables, wildcards, escape, depth, budget or Budget())
    parts: list[Part] = []
    try:
        parts, _ = parser.sequence(0, inside=False)
    except TooMany as error:
        parser.say(str(error))
    return Template(parts, list(parser.messages), list(dict.fromkeys(parser.marks)))


class _Parser:
    def __init__(
        self, text: str, variables: Container[str], wildcards: Wildcards, escape: str, depth: int, budget: Budget
    ) -> None:
        self.text = text
        self.variables = variables
        self.wildcards = wildcards
        self.escape = escape
        self.depth = depth
        self.budget = budget
        self.messages: dict[str, None] = {}
        self.marks: list[tuple[str, str]] = []

    def say(self, message: str) -> None:
        if len(self.messages) < MAX_MESSAGES:
            self.messages[message] = None

    def mark(self, kind: str, detail: str) -> None:
        if len(self.marks) < MAX_MESSAGES:
            self.marks.append((kind, detail))

    def sequence(self, at: int, inside: bool) -> tuple[list[Part], int]:
        """Parts from ``at`` to the end, or, inside a brace, to its next ``|`` or ``}``."""
        parts: list[Part] = []
        literal: list[str] = []
        pattern = _IN_CHOICE if inside else _SPECIAL
        while True:
            found = pattern.search(self.text, at)
            if found is None:
                literal.append(self.text[at:])
                at = len(self.text)
                break
            literal.append(self.text[at : found.start()])
            at = found.start()
            if found[0] in ("|", "}"):
                break
            new, at = self.special(found[0], at)
            for part in new:
                if type(part) is str:
                    literal.append(part)
                else:
                    _flush(parts, literal)
                    parts.append(part)
        _flush(parts, literal)
        return parts, at

    def special(self, mark: str, at: int) -> tuple[list[Part], int]:
        if mark == "\\":
            escaped = _ESCAPE.match(self.text, at)
            if escaped is None:
                return ["\\"], at + 1
            return [HOLD + "1" if escaped[1] == "<" else escaped[1]], escaped.end()
        if mark == "$":
            return self.variable(at)
        return self.braces(at) if mark == "{" else self.wildcard(mark, at)

    def variable(self, at: int) -> tuple[list[Part], int]:
        if not self.text.startswith("${", at):
            shell = _SHELL_NAME.match(self.text, at)
            if shell and shell[1] in self.variables:
                self.mark("placeholder", f"${shell[1]} is sent as it is; a variable is written ${{{shell[1]}}}")
            return ["$"], at + 1
        found = _NAME.match(self.text, at)
        defined = _DEFINITION.match(self.text, at)
        if defined:
            self.say(f"${{{defined[1]} … is another tool's way to set a variable; set it under vars")
            return [], found.end() if found else at + 2
        if found is None:
            self.say(f"${{ is never closed; write ${{name}}, or {self.escape}${{ for a literal one")
            return ["${"], at + 2
        name = found[1].strip()
        if name not in self.variables:
            self.unknown_variable(name)
            return [], found.end()
        return [Var(name)], found.end()

    def unknown_variable(self, name: str) -> None:
        known = list(self.variables) if isinstance(self.variables, Iterable) else []
        near = nearest(name, known)
        hint = f"; did you mean '${{{near}}}'?" if near else f"; known: {', '.join(known[:20])}" if known else ""
        self.say(f"no variable {quoted(name)} in vars{hint}; a literal one is {self.escape}${{")

    def wildcard(self, run: str, at: int) -> tuple[list[Part], int]:
        found = WILDCARD.match(self.text, at)
        if found is not None and not {".", ".."} & set(found[1].split("/")):
            self.enter()
            options, messages = self.wildcards.options(found[1], self.depth + 1, self.budget)
            for message in messages:
                self.say(f"{message}; a literal one is {self.escape}__{found[1]}__")
            return [Choice(options, found[1])] if options else [], found.end()
        start = at + len(run)
        end = self.text.find("__", start, start + 102)
        name = self.text[start:end] if end > 0 else ""
        if _OUTSIDE.fullmatch(name):
            literal = f"for literal underscores write {self.escape}__{name[:60]}__"
            self.say(f"the wildcard {quoted(name)} leaves the folder wildcards; {literal}")
            return [], end + 2
        meant = self.wildcards.meant(name) if name.strip() and not set(name) & set("{}|$\n") else ""
        if meant:
            literal = f"literal underscores are written {self.escape}__"
            self.say(f"no wildcard {quoted(name)}; did you mean '__{meant}__'? {literal}")
        return [run], start

    def braces(self, at: int) -> tuple[list[Part], int]:
        self.enter()
        self.depth += 1
        alternatives: list[list[Part]] = []
        end = at
        while True:
            self.foreign_marks(end + 1)
            parts, end = self.sequence(end + 1, inside=True)
            alternatives.append(parts)
            if end >= len(self.text):
                self.say(f"the brace {{ is never closed; write {{a|b}}, or {self.escape}{{ for a literal one")
                self.depth -= 1
                return [], end
            if self.text[end] == "}":
                break
        self.depth -= 1
        if len(alternatives) == 1:
            self.placeholder(self.text[at + 1 : end])
            return ["{", *parts, "}"], end + 1
        options = [option for parts in alternatives for option in flatten(parts, self.budget)]
        if len(set(options)) < len(options):
            twice = as_text(repeated(options) or "")
            self.mark("equal-choices", f"the choice {quoted(twice)} is there twice")
        return [Choice(options)], end + 1

    def foreign_marks(self, at: int) -> None:
        weight = _WEIGHT.match(self.text, at, at + 40)
        if weight:
            what = f'"{weight[0].strip()}" is not read as a weight: it is sent as text, and each choice is made once'
            self.mark("weight", f"{what}; a literal one is {weight[1]}{self.escape}::")
        if _COUNT.match(self.text, at, at + 40):
            self.mark("count", f'"$$" is not read as a count: one choice is made; a literal one is {self.escape}$$')

    def placeholder(self, inside: str) -> None:
        name = inside.strip()
        if name and name in self.variables:
            literal = f"a literal one is {self.escape}{{"
            self.mark("placeholder", f"{{{name}}} is sent as it is; a variable is written ${{{name}}}; {literal}")

    def enter(self) -> None:
        if self.depth >= MAX_NESTED:
            raise TooMany(f"choices nested more than {MAX_NESTED} deep (does a wildcard name itself?)")


def _flush(parts: list[Part], literal: list[str]) -> None:
    text = "".join(literal)
    literal.clear()
    if text:
        parts.append(text)


def flatten(parts: Sequence[Part], budget: Budget) -> list[Text]:
    """Every text that these parts can be, their choices made; the last choice varies fastest."""
    texts: list[tuple[str, ...]] = [()]
    for part in parts:
        options: Sequence[Text] = part.options if isinstance(part, Choice) else [(part,)]
        budget.spend(len(texts) * len(options) if len(options) > 1 else 0)
        texts = [(*text, *(option if isinstance(option, tuple) else (option,))) for text in texts for option in options]
    budget.spend(len(texts) + sum(map(len, texts)) // 4)
    return [_compact(text, budget) for text in texts]


def _compact(text: tuple[str, ...], budget: Budget) -> Text:
    if not any(isinstance(piece, Var) for piece in text):
        joined = "".join(text)
        budget.spend(len(joined) // 256)
        return joined
    return text


def needs(text: Text) -> frozenset[str]:
    """The variables in a text."""
    return frozenset() if isinstance(text, str) else frozenset(p for p in text if isinstance(p, Var))


def render(text: Text, values: Mapping[str, str]) -> str:
    """A text with the values of its variables."""
    if isinstance(text, str):
        return text
    return "".join(values[piece] if isinstance(piece, Var) else piece for piece in text)


def as_text(text: Text) -> str:
    """A text as somebody wrote it, for messages."""
    return text if isinstance(text, str) else "".join(f"${{{p}}}" if isinstance(p, Var) else p for p in text)


def line_marks(text: str, escape: str = "\\") -> list[tuple[str, str]]:
    """(kind, detail) of a weight at the beginning of a wildcard's line."""
    weight = _WEIGHT.match(text, 0, 40)
    if weight is None:
        return []
    what = f'"{weight[0].strip()}" is not read as a weight: it is sent as text, and each line is one choice'
    return [("weight", f"{what}; a literal one is {weight[1]}{escape}::")]
