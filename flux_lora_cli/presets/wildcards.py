"""``__name__``: the lines of ``wildcards/NAME.txt`` beside the file that uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch

from flux_lora_cli.presets.lists import prompt_lines
from flux_lora_cli.presets.nodes import Problems, Source, repeated
from flux_lora_cli.presets.prompts import MAX_NESTED, Budget, Text, TooMany, flatten, is_plain, line_marks, parse
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.text import nearest, quoted


class WildcardFolder:
    """``wildcards/NAME.txt`` beside one file; each is read and parsed once."""

    def __init__(self, files: Files, source: Source, problems: Problems, read: Callable[[Source], None]) -> None:
        self._files = files
        self._source = source
        self._problems = problems
        self._told = read
        self._cache: dict[str, tuple[Sequence[Text], list[str]]] = {}
        self._names: list[str] | None = None

    @property
    def names(self) -> list[str]:
        if self._names is None:
            self._names = self._files.wildcard_names(self._source)
        return self._names

    def options(self, name: str, depth: int, budget: Budget) -> tuple[Sequence[Text], list[str]]:
        """The lines of a wildcard as texts, and the messages about it."""
        found = self._cache.get(name)
        if found is None:
            circle = f'wildcards nested more than {MAX_NESTED} deep: "{name}" names itself'
            self._cache[name] = ((), [circle])
            found = self._cache[name] = self._load(name, depth, budget)
        return found

    def meant(self, name: str) -> str:
        """The wildcard that a name in another spelling means: ``wood\\tree``, ``@tree``, ``my tree``, ``tree*``."""
        folded = _fold(name)
        for known in self.names:
            if folded and folded in (_fold(known), _fold(known.rpartition("/")[2])):
                return known
            if set(name) & set("*?") and fnmatch(known, name.strip()):
                return known
        return ""

    def _load(self, name: str, depth: int, budget: Budget) -> tuple[Sequence[Text], list[str]]:
        try:
            source, text = self._files.text(f"wildcards/{name}.txt", self._source, self._problems)
        except Refused as error:
            near = nearest(name, self.names)
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
        options: list[Text] = []
        messages: list[str] = []
        for line in lines:
            for kind, detail in line_marks(line.text):
                self._problems.note(line.where, kind, detail)
            if is_plain(line.text):
                options.append(line.text)
                continue
            template = parse(line.text, (), self, depth=depth, budget=budget)
            messages += [f"{source.name}:{line.line}: {message}" for message in template.messages]
            for kind, detail in template.marks:
                self._problems.note(line.where, kind, detail)
            try:
                options += flatten(template.parts, budget)
            except TooMany as error:
                return (), [*messages, f"{source.name}:{line.line}: {error}"]
        return ((), messages) if messages else (options, [])


def _fold(name: str) -> str:
    """A wildcard's name as one compares it: slashes alike, marks of other tools gone."""
    return name.replace("\\", "/").strip(" @~!/*.").casefold().replace(" ", "-").replace("_", "-")
