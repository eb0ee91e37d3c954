"""The language of prompts: ``${name}``, ``{a|b}``, ``__name__``, ``<lora:PATH:SCALE>`` and their escapes.

A prompt is parsed once into text, variables and choices. Choices inside choices are flattened: a choice is a list of
texts, each a string or a tuple of strings and variables. Every scan is linear in the length of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, product
from typing import TYPE_CHECKING

from flux_lora_cli.text import quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.nodes import Source
    from flux_lora_cli.presets.templates import Templates

#: Nesting of choices and wildcards; a wildcard that names itself ends here.
MAX_NESTED = 20
#: Texts that the choices of one prompt may come to; long ones count as several.
MAX_OPTIONS = 200_000
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
_LORA_TAG = re.compile(r"<lora:([^<>]*)>")
_WILDCARD = re.compile(r"__[A-Za-z0-9](?:[A-Za-z0-9./-]|_(?!_)){0,99}__")
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


@dataclass(eq=False)
class Options:
    """The texts that one place can be: ``{a|b}``, or the lines of a wildcard, or the values of a variable."""

    texts: Sequence[Text]
    name: str = ""

    @cached_property
    def uses(self) -> frozenset[str]:
        """The variables in any of the texts."""
        return frozenset().union(*map(needs, self.texts))

    @cached_property
    def common(self) -> frozenset[str]:
        """The variables in all of the texts."""
        return self.uses.intersection(*map(needs, self.texts))


Part = str | Var | Options


class TooMany(ValueError):
    """Nesting, choices or texts beyond the limits."""


class Budget:
    """How much more may be made of something; with ``whole``, of that, too."""

    def __init__(self, most: int, what: str, whole: Budget | None = None) -> None:
        self._left = self._most = most
        self._what = what
        self._whole = whole

    @property
    def spent(self) -> bool:
        return self._left < 0

    def spend(self, amount: int) -> None:
        """Raises TooMany."""
        self._left -= amount
        if self._left < 0:
            raise TooMany(f"{self._what} come to more than {self._most} texts and combinations")
        if self._whole:
            self._whole.spend(amount)


def parse(
    text: str, source: Source, templates: Templates, budget: Budget, escape: str = "\\", depth: int = 0
) -> tuple[list[Part], list[str]]:
    """The parts of a prompt, and messages about what cannot be read, each with the nearest name or the escape.

    Args:
        source: the file that the prompt stands in, for its wildcards.
        escape: how a backslash is written there (``\\\\\\\\`` in double quotes), for messages.
        depth: how deep it stands in wildcards.

    Raises:
        TooMany: the choices come to more than the budget.
    """
    if _SPECIAL.search(text) is None and _HOLD not in text:
        return [text], []
    text = text.replace(_HOLD, _HOLD + "0")
    said: dict[str, None] = {}
    opened: list[list[list[Part]]] = [[[]]]  # the alternatives of each brace that is open; outermost the whole text
    at = 0
    for found in _TOKEN.finditer(text):
        here = opened[-1][-1]
        here.append(text[at : found.start()])
        at, mark, kind = found.end(), found[0], found.lastgroup
        if kind == "escaped":
            here.append(_HOLD + "1" if mark[1] == "<" else mark[1])
        elif kind == "variable":
            here.append(Var(found["variable"].strip()))
        elif kind == "unclosed":
            said[f"${{ is never closed; write ${{name}}, and set it under vars; a literal one is {escape}${{"] = None
        elif kind == "wildcard":
            options = templates.wildcard(found["wildcard"], source, depth + len(opened))
            if isinstance(options, Options):
                here.append(options)
            elif options:
                said[f"{options}; a literal one is {escape}{mark}"] = None
        elif kind == "run":
            here.append(mark)
            name = text[at : max(text.find("__", at, at + 102), at)]
            meant = templates.meant(name, source) if name.strip() and not set(name) & set("{}|$\n") else ""
            if meant:
                literal = f"literal underscores are written {escape}__"
                said[f"no wildcard {quoted(name)}; did you mean '__{meant}__'? {literal}"] = None
        elif mark == "{":
            check_depth(depth + len(opened))
            opened.append([[]])
        elif len(opened) == 1:
            here.append(mark)
        elif mark == "|":
            opened[-1].append([])
        else:
            alternatives = opened.pop()
            texts = [each for parts in alternatives for each in flatten(parts, budget)] if alternatives[1:] else []
            opened[-1][-1] += [Options(texts)] if texts else ["{", *alternatives[0], "}"]
        if len(said) == MAX_MESSAGES:
            break
    if len(opened) > 1:
        said[f"the brace {{ is never closed; write {{a|b}}, or {escape}{{ for a literal one"] = None
    parts = [part for alternatives in opened for parts in alternatives for part in parts]
    return _joined([*parts, text[at:]]), list(said)


def check_depth(depth: int) -> None:
    """Raises TooMany."""
    if depth > MAX_NESTED:
        raise TooMany(f"choices nested more than {MAX_NESTED} deep (does a wildcard name itself?)")


def _joined(parts: Iterable[Part]) -> list[Part]:
    """The parts with neighbouring strings made one."""
    joined: list[Part] = []
    for is_text, run in groupby(parts, lambda part: type(part) is str):
        if not is_text:
            joined += run
        elif text := "".join(map(str, run)):
            joined.append(text)
    return joined


# ---- texts -------------------------------------------------------------------------------------


def flatten(parts: Iterable[Part], budget: Budget) -> list[Text]:
    """Every text that these parts can be, their choices made; the last choice varies fastest. Raises TooMany."""
    places = [part.texts if isinstance(part, Options) else (part,) for part in _joined(parts)]
    count = width = 1
    for texts in places:
        count *= len(texts)
        width += max(1 if isinstance(text, str) else len(text) for text in texts)
        if count > MAX_OPTIONS:
            break
    budget.spend(count + count * width // 8)
    return [_compact(row, budget) for row in product(*places)]


def _compact(row: Iterable[Text], budget: Budget) -> Text:
    pieces = [piece for text in row for piece in ((text,) if isinstance(text, str) else text)]
    if any(isinstance(piece, Var) for piece in pieces):
        return tuple(pieces)
    joined = "".join(pieces)
    budget.spend(len(joined) // 256)
    return joined


def needs(text: Text) -> frozenset[str]:
    """The variables in a text."""
    return frozenset() if isinstance(text, str) else frozenset(p for p in text if isinstance(p, Var))


def names_in(parts: Iterable[Part]) -> frozenset[str]:
    """The variables in the parts of a prompt."""
    used = (part.uses if isinstance(part, Options) else needs((part,)) for part in parts if type(part) is not str)
    return frozenset().union(*used)


def render(text: Text, values: Mapping[str, str]) -> str:
    """A text with the values of its variables. Raises TooMany."""
    if isinstance(text, str):
        return text
    pieces = [values[piece] if isinstance(piece, Var) else piece for piece in text]
    if sum(map(len, pieces)) > MAX_PROMPT:
        raise TooMany(f"this makes a prompt of more than {MAX_PROMPT:,} characters")
    return "".join(pieces)


def as_text(text: Text) -> str:
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
