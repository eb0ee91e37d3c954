"""One source, checked, ready to expand; and the ids of its jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..job import Job, Where
from ..parameters import Model
from .expansion import Expander, job_count
from .labels import Names, distinct, slug
from .problems import Problems
from .spec import JobSpec, Loras
from .template import strip_markup


@dataclass
class OnePreset:
    """One source, checked, ready to expand."""

    file: str
    sha256: str
    name: str
    model_id: str
    model: Model | None = None
    line: int = 1
    description: str = ""
    stacks: Mapping[str, Loras] = field(default_factory=dict)
    specs: list[JobSpec] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    skipped_specs: list[JobSpec] = field(default_factory=list)
    read: dict[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    stack: Loras | None = None
    #: ``stack`` stands in for all LoRAs of a job, not for its stack alone.
    stack_replaces: bool = False

    def count(self) -> int:
        """Jobs after expansion."""
        return sum(job_count(spec) for spec in self.specs)

    def expand(self, problems: Problems) -> Iterator[Job]:
        """All jobs, in order."""
        yield from self._expand(self.specs, problems)

    def expand_skipped(self) -> Iterator[Job]:
        """The jobs that are left out; what is wrong with them is nobody's concern."""
        yield from self._expand(self.skipped_specs, Problems())

    def _expand(self, specs: Iterable[JobSpec], problems: Problems) -> Iterator[Job]:
        expander = Expander(self.name, self.model_id, self.model, self.overrides, self.stack, problems)
        expander.stack_replaces = self.stack_replaces
        for spec in specs:
            yield from expander.expand(spec)


def name_jobs(specs: Sequence[JobSpec], problems: Problems) -> None:
    """Check that explicit ids are unique, and make the others so, whatever stands elsewhere in the file."""
    first: dict[str, Where] = {}
    for spec in specs:
        if spec.explicit_id:
            _note_duplicate(spec, first, problems)
    names = Names(first)
    for spec in specs:
        if spec.from_file:
            _label_prompts(spec)
        if not spec.explicit_id and spec.id:
            content = f"{spec.prompts[0].text} {sorted(map(str, spec.params.items()))} {spec.seed}"
            spec.id = names.take(spec.id, content)


def _note_duplicate(spec: JobSpec, first: dict[str, Where], problems: Problems) -> None:
    where = spec.id_where
    if spec.id in first:
        message = f'the id "{spec.id}" is a duplicate; it already stands in line {first[spec.id].line}'
        problems.add(where.file, where.line, where.column, f"{spec.key}.id", message)
    first.setdefault(spec.id, where)


def _label_prompts(spec: JobSpec) -> None:
    """Several prompts in one job: each by its slug."""
    texts = [plan.prompt.text for plan in spec.plans]
    labels = distinct([slug(strip_markup(text)) for text in texts], texts)
    for plan, label in zip(spec.plans, labels, strict=True):
        plan.label = label
