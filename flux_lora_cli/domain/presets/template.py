"""The language of prompts: ``${name}``, ``{a|b}``, ``__name__`` and their escapes.

A template is parsed once. Its free choices are numbered, so that any of its texts is
made from an index, without making the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..suggest import nearest

#: Nesting of choices and wildcards; a wildcard that names itself ends here.
MOST_NESTED = 20

_SPECIAL = re.compile(r"[{$\\]|__")
_ESCAPE = re.compile(r"\\([{}$_|])")
_NAME = re.compile(r"\$\{([^{}$]*)\}")
_WILD = re.compile(r"__([A-Za-z0-9](?:[A-Za-z0-9./-]|_(?!_))*)__")
#: A name that begins as a path does, or climbs: never a wildcard, and hardly meant as text.
_OUTSIDE = re.compile(r"__(\.{0,2}/[^\s{}|$\\]*?|[A-Za-z0-9._/-]*?/\.\.(?:/[^\s{}|$\\]*?)?)__")
_IN_CHOICE = re.compile(r"[{}|$\\]|__")


#: So many problems of one text are told; wildcards that name each other could double them at each level.
MOST_MESSAGES = 20


class TemplateError(ValueError):
    """A template cannot be read; ``messages`` tells each reason once."""

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages = tuple(dict.fromkeys(messages))[:MOST_MESSAGES]


class Part(Protocol):
    """A piece of a template."""

    @property
    def count(self) -> int:
        """In how many ways its own choices can be made (variables aside)."""

    def render(self, index: int, values: Mapping[str, str]) -> str:
        """Its text, with the index-th of its choices and these values of the variables."""


class Text:
    """Literal text."""

    __slots__ = ("text",)
    count = 1

    def __init__(self, text: str) -> None:
        self.text = text

    def render(self, index: int, values: Mapping[str, str]) -> str:
        return self.text


class Variable:
    """``${name}``."""

    __slots__ = ("name",)
    count = 1

    def __init__(self, name: str) -> None:
        self.name = name

    def render(self, index: int, values: Mapping[str, str]) -> str:
        return values[self.name]


class Joined:
    """Parts one after the other: their choices multiply, the last varies fastest."""

    __slots__ = ("count", "parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.count = 1
        for part in parts:
            self.count *= part.count

    def render(self, index: int, values: Mapping[str, str]) -> str:
        out = []
        for part in reversed(self.parts):
            index, own = divmod(index, part.count)
            out.append(part.render(own, values))
        return "".join(reversed(out))


class Choice:
    """``{a|b}`` or the lines of a wildcard: one of its options, whose own choices add up."""

    __slots__ = ("count", "options")

    def __init__(self, options: Sequence[Part]) -> None:
        self.options = tuple(options)
        self.count = sum(option.count for option in options)

    def render(self, index: int, values: Mapping[str, str]) -> str:
        for option in self.options:
            if index < option.count:
                return option.render(index, values)
            index -= option.count
        raise IndexError(index)


class Template:
    """A parsed prompt: ``axes`` are its top-level choices, ``names`` the variables in it, in order of use."""

    __slots__ = ("axes", "names", "parts")

    def __init__(self, parts: Sequence[Part], names: Sequence[str]) -> None:
        self.parts = tuple(parts)
        self.names = tuple(dict.fromkeys(names))
        self.axes = tuple(part for part in parts if isinstance(part, Choice))

    @property
    def count(self) -> int:
        """In how many ways the choices can be made."""
        total = 1
        for axis in self.axes:
            total *= axis.count
        return total

    def render(self, picks: Sequence[int], values: Mapping[str, str]) -> str:
        """The text with these choices (one index an axis) and values."""
        chosen = iter(picks)
        return "".join(part.render(next(chosen) if isinstance(part, Choice) else 0, values) for part in self.parts)

    def render_index(self, index: int, values: Mapping[str, str]) -> str:
        """The index-th of the ``count`` texts."""
        return Joined(self.parts).render(index, values)


class Wildcards(Protocol):
    """Where ``__name__`` finds its lines."""

    def options(self, name: str, depth: int) -> Sequence[Part]:
        """The lines as parsed parts. Raises TemplateError with the reasons where there are none."""


def is_plain(text: str) -> bool:
    """Whether the text has nothing that the language could mean."""
    return _SPECIAL.search(text) is None


def parse(text: str, variables: Mapping[str, object], wildcards: Wildcards, depth: int = 0) -> Template:
    """Parse a prompt.

    Raises:
        TemplateError: unknown names, braces never closed; each message names the nearest name or the escape.
    """
    template, messages = parse_all(text, variables, wildcards, depth)
    if messages:
        raise TemplateError(*messages)
    return template


def parse_all(
    text: str, variables: Mapping[str, object], wildcards: Wildcards, depth: int = 0
) -> tuple[Template, list[str]]:
    """What can be read of a prompt, and everything that cannot."""
    parser = _Parser(text, variables, wildcards, depth)
    parts: list[Part] = []
    try:
        parts, _ = parser.sequence(0, inside=False)
    except TemplateError as error:
        parser.messages.extend(error.messages)
    return Template(parts, parser.names), parser.messages


class _Parser:
    def __init__(self, text: str, variables: Mapping[str, object], wildcards: Wildcards, depth: int) -> None:
        self.text = text
        self.variables = variables
        self.wildcards = wildcards
        self.depth = depth
        self.names: list[str] = []
        self.messages: list[str] = []

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
            new, end = self.special(found[0], at)
            if all(isinstance(part, Text) for part in new):
                literal.extend(part.text for part in new if isinstance(part, Text))
            else:
                _flush(parts, literal)
                parts.extend(new)
            at = end
        _flush(parts, literal)
        return parts, at

    def special(self, mark: str, at: int) -> tuple[list[Part], int]:
        if mark == "\\":
            escape = _ESCAPE.match(self.text, at)
            return ([Text(escape[1])], escape.end()) if escape else ([Text("\\")], at + 1)
        if mark == "$":
            return self.variable(at)
        if mark == "__":
            return self.wildcard(at)
        return self.braces(at)

    def variable(self, at: int) -> tuple[list[Part], int]:
        if not self.text.startswith("${", at):
            return [Text("$")], at + 1
        found = _NAME.match(self.text, at)
        if found is None:
            self.messages.append("${ is never closed; write ${name}, or \\${ for a literal one")
            return [Text("${")], at + 2
        name = found[1].strip()
        if name not in self.variables:
            near = nearest(name, self.variables)
            hint = f'; did you mean "${{{near}}}"?' if near else ""
            known = ", ".join(list(self.variables)[:20])
            listed = f"; known: {known}" if known and not near else ""
            self.messages.append(f'no variable "{name[:60]}" in vars{hint}{listed}; a literal one is \\${{')
            return [], found.end()
        self.names.append(name)
        return [Variable(name)], found.end()

    def wildcard(self, at: int) -> tuple[list[Part], int]:
        outside = _OUTSIDE.match(self.text, at)
        if outside is not None:
            name = outside[1]
            escape = f"for literal underscores write \\__{name[:60]}__"
            self.messages.append(f'the wildcard "{name[:60]}" leaves the folder wildcards; {escape}')
            return [], outside.end()
        found = _WILD.match(self.text, at)
        if found is None:
            end = at
            while self.text.startswith("_", end):
                end += 1
            return [Text(self.text[at:end])], end
        self._check_depth()
        try:
            options = self.wildcards.options(found[1], self.depth + 1)
        except TemplateError as error:
            self.messages.extend(f"{message}; a literal one is \\__{found[1]}__" for message in error.messages)
            return [], found.end()
        return [Choice(options)], found.end()

    def braces(self, at: int) -> tuple[list[Part], int]:
        self._check_depth()
        self.depth += 1
        options: list[Part] = []
        end = at
        while True:
            parts, end = self.sequence(end + 1, inside=True)
            options.append(Joined(parts) if len(parts) != 1 else parts[0])
            if end >= len(self.text):
                self.messages.append("the brace { is never closed; write {a|b}, or \\{ for a literal one")
                self.depth -= 1
                return [], end
            if self.text[end] == "}":
                break
        self.depth -= 1
        if len(options) == 1:
            return [Text("{"), *parts, Text("}")], end + 1
        return [Choice(options)], end + 1

    def _check_depth(self) -> None:
        if self.depth >= MOST_NESTED:
            raise TemplateError(f"choices nested more than {MOST_NESTED} deep (does a wildcard name itself?)")


def _flush(parts: list[Part], literal: list[str]) -> None:
    text = "".join(literal)
    literal.clear()
    if text:
        parts.append(Text(text))


_LORA_TAG = re.compile(r"<lora:([^<>]*)>")


def split_lora_tags(text: str) -> tuple[str, list[str]]:
    """Take ``<lora:PATH:SCALE>`` out of a prompt; return what is left, and the insides of the tags."""
    if "<lora:" not in text:
        return text, []
    tags = _LORA_TAG.findall(text)
    rest = _LORA_TAG.sub("", text)
    rest = re.sub(r"[ \t]{2,}", " ", rest)
    rest = re.sub(r"\s+([,.;])", r"\1", rest)
    return re.sub(r"([,;])(\s*[,;])+", r"\1", rest).strip(" ,;\t"), tags


_PLAIN_TAG = re.compile(r"<lora:[^<>{}|$\\]*>")


def plain_lora_tags(text: str) -> str:
    """The tags alone that stand in a prompt as they are, and one that is never closed."""
    rest = _LORA_TAG.sub("", text)
    return " ".join([*_PLAIN_TAG.findall(text), *(["<lora:"] if "<lora:" in rest else [])])


_MARKUP = re.compile(r"<lora:[^<>]*>|[${}|\\]+")


def strip_markup(text: str) -> str:
    """A prompt's words, for its id."""
    return _MARKUP.sub(" ", text)
