"""The language of prompts: ``${name}``, ``{a|b}``, ``__name__``, ``<lora:PATH:SCALE>`` and their escapes.

A prompt is parsed once into text, variables and choices. Choices inside choices are flattened: a choice is a list of
texts, each a string or a tuple of strings and variables. Every scan is linear in the length of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from flux_lora_cli.presets.nodes import repeated
from flux_lora_cli.text import nearest, quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.scope import WildcardFolder

#: Nesting of choices and wildcards; a wildcard that names itself ends here.
MAX_NESTED = 20
#: Texts that the choices of one prompt may come to, and those of all prompts of a file; long ones count as several.
MAX_OPTIONS, MAX_ALL_OPTIONS = 200_000, 1_000_000
#: Messages about one text that are told; wildcards that name each other could double them at each level.
MAX_MESSAGES = 20

_SPECIAL = re.compile(r"[{$\\]|_{2,}")
_IN_CHOICE = re.compile(r"[{}|$\\]|_{2,}")
_ESCAPE = re.compile(r"\\([{}$_|<:-])")
_NAME = re.compile(r"\$\{([^{}$]{0,200})\}")
_DEFINITION = re.compile(r"\$\{\s*([\w-]{1,60})\s*[=:]")
_SHELL_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]{0,60})")
_WILDCARD = re.compile(r"__([A-Za-z0-9](?:[A-Za-z0-9./-]|_(?!_)){0,99})__")
#: A name that begins as a path does, or climbs: never a wildcard, and hardly meant as text.
_OUTSIDE = re.compile(r"\.{0,2}/[^\s]*|[A-Za-z0-9._/-]*/\.\.(?:/[^\s]*)?")
_WEIGHT = re.compile(r"\s*(\d*\.?\d+)::")
_COUNT = re.compile(r"\s*(\d*-?\d*)\$\$")
_LORA_TAG = re.compile(r"<lora:([^<>]*)>")
#: What the language reads, in a prompt that is to be literal.
_EXPANDED = re.compile(r"\$(?=\{)|\{|_(?=_)|<(?=lora:)|(?<=\\)[}$_|<:-]")
_LOOKS_EXPANDED = re.compile(r"<lora:[^<>]+>|\{[^{}]*\|[^{}]*\}|\$\{[^{}]+\}")
_MARKUP = re.compile(r"<lora:[^<>]*>|[${}|\\]+")
#: A noncharacter that stands for an escaped ``<`` until LoRA tags are taken out.
_HOLD = "\ufdd0"


class Var(str):
    """The name of a variable where its value goes: parts are told apart by their type."""

    __slots__ = ()


Text = str | tuple[str, ...]


@dataclass(eq=False, slots=True)
class Choice:
    """``{a|b}``, or the lines of a wildcard (then ``name`` is its name): one of these texts."""

    options: Sequence[Text]
    name: str = ""


Part = str | Var | Choice


@dataclass
class Template:
    """A parsed prompt. ``marks``: (kind, detail) of what looks like another tool's language, for notes."""

    parts: list[Part]
    messages: list[str] = field(default_factory=list)
    marks: list[tuple[str, str]] = field(default_factory=list)


class TooMany(ValueError):
    """Nesting or choices beyond the limits."""


@dataclass(slots=True)
class Budget:
    """How many more texts choices may come to: those of one prompt, and, with ``whole``, those of its file."""

    left: int = MAX_OPTIONS
    whole: Budget | None = None

    def spend(self, texts: int) -> None:
        """Raises TooMany."""
        self.left -= texts
        if self.left < 0:
            where, most = ("one prompt", MAX_OPTIONS) if self.whole else ("this file", MAX_ALL_OPTIONS)
            raise TooMany(f"the choices in {where} come to more than {most} texts and combinations")
        if self.whole:
            self.whole.spend(texts)


def is_plain(text: str) -> bool:
    """Whether the text has nothing that the language could mean (LoRA tags aside)."""
    return _SPECIAL.search(text) is None and _HOLD not in text


def effort(text: str) -> int:
    """What reading a prompt once more costs: a variable or choice as much as 40 characters [measured]."""
    return len(text) // 4 + 10 * len(_SPECIAL.findall(text))


def parse(
    text: str, variables: Collection[str], wildcards: WildcardFolder, escape: str = "\\", depth: int = 0
) -> Template:
    """What can be read of a prompt; ``messages`` tell everything that cannot, each with the nearest name or the escape.

    Args:
        escape: how a backslash is written where the prompt stands (``\\\\\\\\`` in double quotes), for messages.
    """
    if is_plain(text):
        return Template([text])
    budget = Budget(whole=wildcards.budget)
    parser = _Parser(text.replace(_HOLD, _HOLD + "0"), variables, wildcards, escape, depth, budget)
    parts: list[Part] = []
    try:
        parts, _ = parser.sequence(0, _SPECIAL)
    except TooMany as error:
        parser.say(str(error))
    return Template(parts, list(parser.messages), list(dict.fromkeys(parser.marks)))


@dataclass
class _Parser:
    text: str
    variables: Collection[str]
    wildcards: WildcardFolder
    escape: str
    depth: int
    budget: Budget
    messages: dict[str, None] = field(default_factory=dict)
    marks: list[tuple[str, str]] = field(default_factory=list)

    def say(self, message: str) -> None:
        if len(self.messages) < MAX_MESSAGES:
            self.messages[message] = None

    def mark(self, kind: str, detail: str) -> None:
        if len(self.marks) < MAX_MESSAGES:
            self.marks.append((kind, detail))

    def sequence(self, at: int, pattern: re.Pattern[str]) -> tuple[list[Part], int]:
        """Parts from ``at`` to the end of the text, or to the next ``|`` or ``}`` if the pattern finds those."""
        parts: list[Part] = []
        while found := pattern.search(self.text, at):
            parts.append(self.text[at : found.start()])
            at = found.start()
            if found[0] in "|}":
                return _joined(parts), at
            new, at = self.special(found[0], at)
            parts += new
        return _joined([*parts, self.text[at:]]), len(self.text)

    def special(self, mark: str, at: int) -> tuple[list[Part], int]:
        if mark == "\\":
            escaped = _ESCAPE.match(self.text, at)
            if escaped is None:
                return ["\\"], at + 1
            return [_HOLD + "1" if escaped[1] == "<" else escaped[1]], escaped.end()
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
        if name in self.variables:
            return [Var(name)], found.end()
        near = nearest(name, self.variables)
        known = ", ".join(list(self.variables)[:20])
        hint = f"; did you mean '${{{near}}}'?" if near else f"; known: {known}" if known else ""
        self.say(f"no variable {quoted(name)} in vars{hint}; a literal one is {self.escape}${{")
        return [], found.end()

    def wildcard(self, run: str, at: int) -> tuple[list[Part], int]:
        found = _WILDCARD.match(self.text, at)
        if found is not None and not {".", ".."} & set(found[1].split("/")):
            self.enter()
            options, messages = self.wildcards.options(found[1], self.depth + 1)
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
        while end == at or self.text[end] == "|":
            self.foreign_marks(end + 1)
            parts, end = self.sequence(end + 1, _IN_CHOICE)
            alternatives.append(parts)
            if end == len(self.text):
                self.say(f"the brace {{ is never closed; write {{a|b}}, or {self.escape}{{ for a literal one")
                break
        self.depth -= 1
        if end == len(self.text):
            return [], end
        if len(alternatives) == 1:
            self.placeholder("" if self.text.endswith("\\$", 0, at) else self.text[at + 1 : end].strip())
            return ["{", *alternatives[0], "}"], end + 1
        options = [option for parts in alternatives for option in flatten(parts, self.budget)]
        twice = repeated(options)
        if twice is not None:
            self.mark("equal-choices", f"the choice {quoted(_as_text(twice))} is there twice")
        return [Choice(options)], end + 1

    def foreign_marks(self, at: int) -> None:
        for kind, detail in weight_marks(self.text, at, "each choice is made once", self.escape):
            self.mark(kind, detail)
        if _COUNT.match(self.text, at, at + 40):
            self.mark("count", f'"$$" is not read as a count: one choice is made; a literal one is {self.escape}$$')

    def placeholder(self, name: str) -> None:
        if name and (name in self.variables or name == "prompt"):
            literal = f"a literal one is {self.escape}{{"
            self.mark("placeholder", f"{{{name}}} is sent as it is; a variable is written ${{{name}}}; {literal}")

    def enter(self) -> None:
        if self.depth >= MAX_NESTED:
            raise TooMany(f"choices nested more than {MAX_NESTED} deep (does a wildcard name itself?)")


def _joined(parts: Iterable[Part]) -> list[Part]:
    """The parts with neighbouring strings made one."""
    joined: list[Part] = []
    for is_text, run in groupby(parts, lambda part: type(part) is str):
        same = list(run)
        text = "".join(map(str, same)) if is_text else ""
        joined += ([text] if text else []) if is_text else same
    return joined


def weight_marks(
    text: str, at: int = 0, what: str = "each line is one choice", escape: str = "\\"
) -> list[tuple[str, str]]:
    """(kind, detail) of a weight at a place, such as the beginning of a wildcard's line."""
    if not (weight := _WEIGHT.match(text, at, at + 40)):
        return []
    detail = f'"{weight[0].strip()}" is not read as a weight: it is sent as text, and {what}'
    return [("weight", f"{detail}; a literal one is {weight[1]}{escape}::")]


# ---- texts -------------------------------------------------------------------------------------


def flatten(parts: Sequence[Part], budget: Budget) -> list[Text]:
    """Every text that these parts can be, their choices made; the last choice varies fastest. Raises TooMany."""
    texts: list[tuple[str, ...]] = [()]
    same: list[str] = []  # what all texts have next
    for part in parts:
        options: Sequence[Text] = part.options if isinstance(part, Choice) else (part,)
        pieces = [option if isinstance(option, tuple) else (option,) for option in options]
        if len(pieces) == 1:
            same += pieces[0]
            continue
        count = len(texts) * len(pieces)
        budget.spend(max(count, count * (len(texts[0]) + len(same)) // 16))
        texts, same = [(*text, *same, *piece) for text in texts for piece in pieces], []
    texts = [(*text, *same) for text in texts]
    budget.spend(len(texts) + sum(map(len, texts)) // 4)
    return [_compact(text, budget) for text in texts]


def _compact(text: tuple[str, ...], budget: Budget) -> Text:
    if any(isinstance(piece, Var) for piece in text):
        return text
    joined = "".join(text)
    budget.spend(len(joined) // 256)
    return joined


def needs(text: Text) -> frozenset[str]:
    """The variables in a text."""
    return frozenset() if isinstance(text, str) else frozenset(p for p in text if isinstance(p, Var))


def render(text: Text, values: Mapping[str, str]) -> str:
    """A text with the values of its variables."""
    if isinstance(text, str):
        return text
    return "".join(values[piece] if isinstance(piece, Var) else piece for piece in text)


def _as_text(text: Text) -> str:
    """A text as somebody wrote it, for messages."""
    return text if isinstance(text, str) else "".join(f"${{{p}}}" if isinstance(p, Var) else p for p in text)


# ---- finished prompts ----------------------------------------------------------------------------


def take_tags(text: str) -> tuple[str, list[str]]:
    """Take ``<lora:PATH:SCALE>`` out of a finished prompt; what is left, and the insides of the tags."""
    tags: list[str] = []
    if "<lora:" in text:
        tags = _LORA_TAG.findall(text)
        text = _LORA_TAG.sub("", text)
        text = re.sub(r"[ \t]{2,}", " ", text)
        text = re.sub(r"(?<!\s)\s+([,.;])", r"\1", text)
        text = re.sub(r"([,;])(?:\s*[,;])+", r"\1", text).strip(" ,;\t")
    if "<lora:" in text:  # what is left of them is not closed; an escaped one is still held
        tags.append("")
    return text.replace(_HOLD + "1", "<").replace(_HOLD + "0", _HOLD), tags


def literal(prompt: str) -> str:
    """A prompt with everything escaped that the language would expand."""
    return _EXPANDED.sub(lambda match: "\\" + match[0], prompt)


def has_marks(text: str) -> bool:
    """Whether a literal prompt holds what the language would read."""
    return bool(_LOOKS_EXPANDED.search(text) or _WILDCARD.search(text))


def words_of(prompt: str) -> str:
    """The words of a prompt without marks, for its ID."""
    return _MARKUP.sub(" ", prompt[:2000])
