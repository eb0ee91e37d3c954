"""``vars`` and wildcards: the names that prompts use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..job import Where
from ..suggest import nearest
from .files import PresetFiles
from .labels import MOST_LABEL, distinct, slug
from .nodes import Scalar
from .problems import FileRefused, Problems
from .template import MOST_NESTED, Joined, Part, Template, TemplateError, Text, is_plain, parse, parse_all
from .text_readers import decode, prompt_lines


@dataclass(frozen=True, slots=True)
class VarDef:
    """A variable as written. ``many``: a list, which multiplies the jobs that use it."""

    texts: tuple[str, ...]
    many: bool
    where: Where
    key: str


class Lines:
    """The lines of a wildcard that have no choices of their own; a million of them stay small."""

    __slots__ = ("count", "lines")

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.count = len(lines)

    def render(self, index: int, values: Mapping[str, str]) -> str:
        return self.lines[index]


class WildcardFolder:
    """``wildcards/NAME.txt`` beside one preset file."""

    def __init__(self, files: PresetFiles, folder: str, root: str, problems: Problems, seen: dict[str, str]) -> None:
        self._files = files
        self._folder = folder
        self._root = root
        self._problems = problems
        self._seen = seen
        self._cache: dict[str, Sequence[Part] | TemplateError] = {}

    def options(self, name: str, depth: int) -> Sequence[Part]:
        """The lines of a wildcard as parts. Raises TemplateError."""
        found = self._cache.get(name)
        if found is None:
            circle = f'wildcards nested more than {MOST_NESTED} deep: "{name}" names itself'
            self._cache[name] = TemplateError(circle)
            try:
                found = self._read(name, depth)
            except TemplateError as error:
                found = error
            self._cache[name] = found
        if isinstance(found, TemplateError):
            raise TemplateError(*found.messages)
        return found

    def _read(self, name: str, depth: int) -> Sequence[Part]:
        try:
            source = self._files.beside(f"wildcards/{name}.txt", self._folder, self._root)
        except FileRefused as error:
            near = nearest(name, self._files.names(f"{self._folder}/wildcards", ".txt"))
            hint = f'; did you mean "__{near}__"?' if near and near != name else ""
            raise TemplateError(f'no wildcard "{name[:60]}": {error}{hint}') from None
        text = decode(source.data, source.path, self._problems)
        lines = list(prompt_lines(text)) if text is not None else []
        if not lines:
            raise TemplateError(f"the wildcard file {source.path} has no lines")
        self._seen[source.path] = source.sha256
        if all(is_plain(line.text) for line in lines):
            return [Lines([line.text for line in lines])]
        found: list[str] = []
        parts = [self._line(line, source.path, depth, found) for line in lines]
        if found:
            raise TemplateError(*found)
        return parts

    def _line(self, line: Scalar, path: str, depth: int, found: list[str]) -> Part:
        template, messages = parse_all(line.text, {}, self, depth)
        found.extend(f"{path}:{line.line}: {message}" for message in messages)
        return Joined(template.parts) if len(template.parts) != 1 else template.parts[0]


class Compiled:
    """A variable, parsed: all its texts, whose choices add up."""

    __slots__ = ("count", "labelled", "needs", "templates")

    def __init__(self, templates: Sequence[Template], labelled: bool) -> None:
        self.templates = tuple(templates)
        self.count = sum(template.count for template in templates)
        self.labelled = labelled or self.count > 1
        self.needs = tuple(dict.fromkeys(name for template in templates for name in template.names))

    def render(self, index: int, values: Mapping[str, str]) -> str:
        for template in self.templates:
            if index < template.count:
                return template.render_index(index, values)
            index -= template.count
        raise IndexError(index)


_PLAIN_LABELS_UP_TO = 10_000


class Scope:
    """The variables that a job sees, and the wildcards of its file."""

    def __init__(self, defs: Mapping[str, VarDef], wildcards: WildcardFolder) -> None:
        self.defs = defs
        self.wildcards = wildcards
        self._compiled: dict[str, Compiled] = {}
        self._labels: dict[str, list[str]] = {}
        self._order = {name: place for place, name in enumerate(defs)}

    def parse(self, text: str) -> Template:
        """A prompt's template. Raises TemplateError."""
        return parse(text, self.defs, self.wildcards)

    def read(self, text: str) -> tuple[Template, list[str]]:
        """A prompt's template and all its variables. Raises TemplateError with all that is wrong in any of them."""
        template, messages = parse_all(text, self.defs, self.wildcards)
        names: list[str] = []
        try:
            names = self.closure(template.names)
        except TemplateError as error:
            messages.extend(error.messages)
        if messages:
            raise TemplateError(*messages)
        return template, names

    def closure(self, names: Sequence[str]) -> list[str]:
        """These variables and all that they use, in the order of ``vars``. Raises TemplateError."""
        found: set[str] = set()
        messages: list[str] = []
        for name in names:
            try:
                self._visit(name, found, ())
            except TemplateError as error:  # noqa: PERF203  # each name's problem is told
                messages.extend(error.messages)
        if messages:
            raise TemplateError(*messages)
        return sorted(found, key=self._order.__getitem__)

    def _visit(self, name: str, found: set[str], path: tuple[str, ...]) -> None:
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            raise TemplateError(f"variables that use each other in a circle: {circle}")
        if name in found:
            return
        for need in self.compiled(name).needs:
            self._visit(need, found, (*path, name))
        found.add(name)

    def compiled(self, name: str) -> Compiled:
        """A variable, parsed once. Raises TemplateError that names it."""
        done = self._compiled.get(name)
        if done is None:
            var = self.defs[name]
            templates: list[Template] = []
            messages: list[str] = []
            for text in var.texts:
                try:
                    templates.append(self._template(text))
                except TemplateError as error:  # noqa: PERF203  # each text's problem is told
                    messages.extend(f"in {var.key} (line {var.where.line}): {message}" for message in error.messages)
            if messages:
                raise TemplateError(*messages)
            done = self._compiled[name] = Compiled(templates, var.many)
        return done

    def _template(self, text: str) -> Template:
        return Template([Text(text)], ()) if is_plain(text) else self.parse(text)

    def label(self, name: str, index: int, rendered: str) -> str:
        """A readable piece of an id for the index-th value of a variable."""
        compiled = self._compiled[name]
        texts = self.defs[name].texts
        if compiled.count == len(texts) and not compiled.needs and compiled.count <= _PLAIN_LABELS_UP_TO:
            labels = self._labels.get(name)
            if labels is None:
                shown = [template.render_index(0, {}) for template in compiled.templates]
                labels = self._labels[name] = distinct([slug(one, MOST_LABEL) for one in shown], shown)
            return labels[index]
        return slug(rendered, MOST_LABEL)
