"""From a checked job to its expanded jobs, each made from its index alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..job import Job, LocalImage
from ..loras import parse_lora
from ..parameters import Model
from .labels import MOST_LABEL, Names, slug
from .problems import Problems
from .sampling import sample
from .spec import Axis, JobSpec, Loras, PromptText
from .template import Template, TemplateError, is_plain, plain_lora_tags, split_lora_tags


class Plan:
    """One prompt of a job and everything that multiplies it, in the order variables, matrix, choices."""

    __slots__ = ("axes", "counts", "label", "names", "prompt", "scope", "template", "total")

    def __init__(self, spec: JobSpec, prompt: PromptText) -> None:
        self.prompt = prompt
        self.scope = spec.scope
        self.axes = spec.axes
        self.template: Template | None = None
        self.names: Sequence[str] = ()
        self.label = ""
        counts: list[int] = []
        if not (prompt.literal or is_plain(prompt.text)):
            self.template, self.names = spec.scope.read(prompt.text)
            counts.extend(spec.scope.compiled(name).count for name in self.names)
        counts.extend(len(axis.values) for axis in spec.axes)
        if self.template is not None:
            counts.extend(choice.count for choice in self.template.axes)
        self.counts = counts
        self.total = 1
        for count in counts:
            self.total *= count

    def factors(self) -> tuple[int, ...]:
        """What is multiplied, without ones."""
        return tuple(count for count in self.counts if count != 1)

    def combination(self, index: int) -> tuple[str, list[tuple[Axis, Any]], list[str]]:
        """The prompt, the values of the matrix axes, and the labels of the index-th combination."""
        if not self.counts:
            return self.prompt_text((), {}), [], []
        digits = []
        for count in reversed(self.counts):
            index, digit = divmod(index, count)
            digits.append(digit)
        digits.reverse()
        first_axis = len(self.names)
        first_choice = first_axis + len(self.axes)
        values = self._values(digits[:first_axis])
        labels = [
            self.scope.label(name, digit, values[name])
            for name, digit in zip(self.names, digits, strict=False)
            if self.scope.compiled(name).labelled
        ]
        chosen = []
        for axis, digit in zip(self.axes, digits[first_axis:first_choice], strict=True):
            chosen.append((axis, axis.values[digit]))
            labels.append(axis.labels[digit])
        picks = digits[first_choice:]
        if self.template is not None:
            for choice, pick in zip(self.template.axes, picks, strict=True):
                labels.append(slug(choice.render(pick, values), MOST_LABEL))
        return self.prompt_text(picks, values), chosen, labels

    def prompt_text(self, picks: Sequence[int], values: Mapping[str, str]) -> str:
        """The prompt with these choices."""
        return self.prompt.text if self.template is None else self.template.render(picks, values)

    def _values(self, digits: Sequence[int]) -> dict[str, str]:
        """Values of the variables; one that uses others is made after them."""
        values: dict[str, str] = {}
        todo = dict(zip(self.names, digits, strict=True))
        while todo:
            for name, digit in list(todo.items()):
                compiled = self.scope.compiled(name)
                if all(need in values for need in compiled.needs):
                    values[name] = compiled.render(digit, values)
                    del todo[name]
        return values


def make_plans(spec: JobSpec, problems: Problems) -> None:
    """Parse the job's prompts; why one cannot be read is among the problems."""
    spec.plans = [_plan(spec, prompt, problems) for prompt in spec.prompts]


def _plan(spec: JobSpec, prompt: PromptText, problems: Problems) -> Plan:
    try:
        return Plan(spec, prompt)
    except TemplateError as error:
        where = prompt.where
        for message in error.messages:
            problems.add(where.file, where.line, where.column, f"{spec.key}.prompt", message)
        # No job comes of it, but what its LoRAs have wrong is told in the same run.
        plan = Plan(spec, PromptText("", where))
        plan.prompt = PromptText(plain_lora_tags(prompt.text), where)
        return plan


def combinations(spec: JobSpec) -> int:
    """How many combinations a job has, before ``sample`` and ``repeat``."""
    return sum(plan.total for plan in spec.plans)


def job_count(spec: JobSpec) -> int:
    """How many jobs a job becomes."""
    drawn = combinations(spec)
    return (drawn if spec.sample is None else min(spec.sample, drawn)) * spec.repeat


def _drawn(spec: JobSpec) -> Iterator[tuple[Plan, int]]:
    """The combinations that are asked for."""
    total = combinations(spec)
    if spec.sample is None or spec.sample >= total:
        for plan in spec.plans:
            for index in range(plan.total):
                yield plan, index
        return
    plans = iter(spec.plans)
    plan, start = next(plans), 0
    for index in sample(total, spec.sample, spec.sample_seed):
        while index - start >= plan.total:
            start += plan.total
            plan = next(plans)
        yield plan, index - start


class Expander:
    """Makes the jobs of one preset; ids are unique in it."""

    def __init__(
        self,
        preset: str,
        model_id: str,
        model: Model | None,
        overrides: Mapping[str, Any],
        stack: Loras | None,
        problems: Problems,
    ) -> None:
        self._preset = preset
        self._model_id = model_id
        self._max_loras = model.max_loras if model is not None else None
        self._overrides = dict(overrides)
        self._fixed_seed = self._overrides.pop("seed", None)
        self._stack = stack
        self.stack_replaces = False
        self._problems = problems
        self._ids = Names()
        self._joined: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
        self._keep: list[Any] = []

    def expand(self, spec: JobSpec) -> Iterator[Job]:
        """The jobs of one spec, in order."""
        for plan, index in _drawn(spec):
            prompt, chosen, labels = plan.combination(index)
            params = dict(spec.params)
            seed, stack = spec.seed, spec.stack
            for axis, value in chosen:
                if axis.name == "seed":
                    seed = value
                elif axis.name == "stack":
                    stack = value
                else:
                    params[axis.name] = value
            if plan.label:
                labels.insert(0, plan.label)
            base = "/".join((spec.id, *labels) if spec.id else labels)
            tags: list[str] = []
            if not plan.prompt.literal:
                prompt, tags = split_lora_tags(prompt)
                if "<lora:" in prompt:
                    self._unclosed(spec, plan.prompt)
            key = str(params.get("prompt", prompt))
            if self._stack is not None and self.stack_replaces:
                params.pop("loras", None)
            if self._overrides:
                if "loras" in self._overrides:
                    stack = None
                params.update(self._overrides)
            params.setdefault("prompt", prompt)
            self._loras(params, self._stack if self._stack is not None else stack, tags, spec, plan.prompt)
            yield from self._repeats(spec, (base, key), params, seed, plan.prompt)

    def _repeats(
        self, spec: JobSpec, named: tuple[str, str], params: dict[str, Any], seed: int | None, prompt: PromptText
    ) -> Iterator[Job]:
        base, key = named
        image = params.get("image")
        local = params.pop("image") if isinstance(image, LocalImage) else None
        if self._fixed_seed is not None:
            seed = self._fixed_seed
        if seed == -1:
            seed = None
        where = prompt.where if spec.from_file else spec.where
        for number in range(1, spec.repeat + 1):
            name = base if spec.repeat == 1 else f"{base}/{number}"
            name = self._ids.take(name, key)
            own = None if seed is None else seed + number - 1
            yield Job(name, self._preset, self._model_id, params, own, number, local, where)

    def _loras(
        self, params: dict[str, Any], stack: Loras | None, tags: list[str], spec: JobSpec, prompt: PromptText
    ) -> None:
        own = params.get("loras")
        if stack is None and own is None and not tags:
            return
        key = (id(stack), id(own))
        joined = self._joined.get(key)
        if joined is None:
            joined = [*(stack or ()), *(own or ())]
            self._joined[key] = joined
            self._keep.append((stack, own))  # ids in the cache stay those of living objects
        if tags:
            joined = [*joined, *(lora for tag in tags for lora in self._tag(tag, spec, prompt))]
        if self._max_loras is not None and len(joined) > self._max_loras:
            message = f"{len(joined)} LoRAs are too many; allowed: at most {self._max_loras} on {self._model_id}"
            where = prompt.where if tags else spec.where
            self._problems.add(where.file, where.line, where.column, spec.key + ".loras", message)
        params["loras"] = joined

    def _unclosed(self, spec: JobSpec, prompt: PromptText) -> None:
        where = prompt.where
        message = "<lora: is never closed: the > is missing; write <lora:owner/name:1>"
        self._problems.add(where.file, where.line, where.column, f"{spec.key}.prompt", message)

    def _tag(self, tag: str, spec: JobSpec, prompt: PromptText) -> list[Mapping[str, Any]]:
        try:
            return [parse_lora(tag)]
        except ValueError as why:
            where = prompt.where
            message = f"<lora:{tag[:80]}>: {why}"
            self._problems.add(where.file, where.line, where.column, f"{spec.key}.prompt", message)
            return []
