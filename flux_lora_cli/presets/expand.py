"""From a checked job to its combinations: a combination is the digits of an index, one digit for each axis.

Variables, matrix keys, choices and repeats are all axes. A variable that only some choices use is tied to them in one
axis, whose rows are what can really come together: a branch that is not taken multiplies nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from hashlib import sha256
from math import prod
from typing import NamedTuple

from flux_lora_cli.presets.nodes import Problems
from flux_lora_cli.presets.prompts import Budget, Choice, Part, Text, Var, needs, render
from flux_lora_cli.presets.scope import Scope
from flux_lora_cli.presets.spec import MAX_SHOWN, Axis, Prompt, Spec, label
from flux_lora_cli.text import mask_secrets

#: Characters of one prompt that expansion makes; nobody reads more, and variables can double.
MAX_PROMPT = 1_000_000
#: What is chosen along an axis: a variable by its name, a choice, or a row of matrix or zip.
Head = str | Choice | Axis


class Slot(NamedTuple):
    """One digit: the number of an option of ``head``; with ``rows``, of a row of such numbers."""

    head: Head
    size: int
    rows: Sequence[Mapping[Head, int]] | None = None


class Plan:
    """One prompt of a job, and the axes that multiply it, in the order variables, matrix, choices."""

    def __init__(self, spec: Spec, prompt: Prompt, scope: Scope, problems: Problems) -> None:
        self.prompt = prompt
        self._parts: list[Part] = [prompt.text]
        self._options: dict[Head, Sequence[Text]] = {}
        self._order: list[str] = []
        self._constants: dict[str, str] = {}
        tied: list[Slot] = []
        if not prompt.literal:
            key = f"{spec.key}.prompt".removeprefix(".")
            self._parts = scope.parts(prompt.text, prompt.node, spec.node.source, key) or [prompt.text]
            try:
                tied = self._tie(scope, scope.budget(spec.node.source))
            except ValueError as error:
                problems.add(prompt.node, key, str(error))
                self._parts, self._order = [], []
        self._choices = [part for part in self._parts if isinstance(part, Choice)]
        matrix = [Slot(axis, len(axis.rows)) for axis in spec.axes if axis is not prompt.axis]
        variables = [slot for slot in tied if isinstance(slot.head, str)]
        self.slots = [*variables, *matrix, *(slot for slot in tied if isinstance(slot.head, Choice))]
        self.total = prod(slot.size for slot in self.slots)
        self._labelled = scope.in_order(n for n in self._order if scope.defs[n].many or len(self._options[n]) > 1)

    # ---- building ----------------------------------------------------------------------------

    def _tie(self, scope: Scope, budget: Budget) -> list[Slot]:
        """The slots of variables and choices. Raises ValueError: a circle, or beyond a limit."""
        if all(type(part) is str for part in self._parts):
            return []
        choices = [part for part in self._parts if isinstance(part, Choice)]
        direct = {part for part in self._parts if isinstance(part, Var)}
        self._options = {choice: choice.options for choice in choices}
        self._order = scope.closure(direct.union(*(scope.facts(choice.options).uses for choice in choices)))
        self._options |= {name: scope.options(name) for name in self._order}
        self._check_length(scope)
        for name in self._order:
            options = self._options[name]
            if len(options) == 1 and needs(options[0]) <= self._constants.keys():
                self._constants[name] = render(options[0], self._constants)
        users_first = [name for name in reversed(self._order) if name not in self._constants]
        certain: set[str] = {name for name in direct if name not in self._constants}
        for name in users_first:  # a variable that every text of a certain one uses is certain, too
            if name in certain:
                certain |= scope.facts(self._options[name]).common - self._constants.keys()
        unsure = dict.fromkeys(name for name in users_first if name not in certain).keys()
        heads: list[Head] = [*scope.in_order(certain), *choices]
        return [self._slot(group, unsure, budget) for group in self._groups(heads, unsure, scope)]

    def _groups(self, heads: Sequence[Head], unsure: Set[str], scope: Scope) -> Iterator[list[Head]]:
        """The heads, each with the uncertain variables that it may lead to, and the heads that share one of them."""
        group: dict[Head, list[Head]] = {head: [head] for head in (*heads, *unsure)}
        place = {head: number for number, head in enumerate(group)}
        for head in group if unsure else ():
            for name in scope.facts(self._options[head]).uses & unsure:
                small, large = sorted((group[head], group[name]), key=len)
                if small is not large:
                    large += small
                    group.update((member, large) for member in small)
        for head in heads:
            members = group[head]
            if min(map(place.__getitem__, members)) == place[head]:
                yield sorted(members, key=place.__getitem__)

    def _slot(self, group: Sequence[Head], unsure: Set[str], budget: Budget) -> Slot:
        """One axis for heads and uncertain variables that can only be chosen together. Raises TooMany."""
        if len(group) == 1:
            return Slot(group[0], len(self._options[group[0]]))
        rows: list[tuple[dict[Head, int], Set[str]]] = [({}, set())]
        for head in group:
            wider = []
            for picks, needed in rows:
                taken = head not in unsure or head in needed
                options = list(enumerate(self._options[head])) if taken else []
                budget.spend((len(picks) + 1) * len(options or "x"))
                wider += [({**picks, head: n}, needed | (needs(text) & unsure)) for n, text in options]
                wider += [] if taken else [(picks, needed)]
            rows = wider
        return Slot(group[0], len(rows), [picks for picks, _ in rows])

    def _check_length(self, scope: Scope) -> None:
        def length(text: Text) -> int:
            pieces = (text,) if isinstance(text, str) else text
            return min(sum(longest(self._options[p]) if isinstance(p, Var) else len(p) for p in pieces), 10**12)

        def longest(options: Sequence[Text]) -> int:
            facts = scope.facts(options)
            if facts.longest < 0:
                facts.longest = max(map(length, options), default=0)
            return facts.longest

        for name in self._order:  # those that others use come first
            longest(self._options[name])
        total = sum(longest(part.options) if isinstance(part, Choice) else length((part,)) for part in self._parts)
        if self._order and total > MAX_PROMPT:
            raise ValueError(f"this makes a prompt of up to {total:,} characters; allowed: {MAX_PROMPT:,}")

    # ---- reading -----------------------------------------------------------------------------

    def factors(self) -> list[tuple[str, int]]:
        """What is multiplied, by name, without ones."""
        return [(_name(head), size) for head, size, _ in self.slots if size != 1]

    def picks(self, index: int) -> dict[Head, int]:
        """What the index-th combination chooses along each axis."""
        found: dict[Head, int] = {}
        for head, size, rows in reversed(self.slots):
            index, digit = divmod(index, size)
            found.update({head: digit} if rows is None else rows[digit])
        return found

    def values(self, picks: Mapping[Head, int]) -> dict[str, str]:
        """The variables' values."""
        values = dict(self._constants)
        for name in self._order:
            if name in picks:
                values[name] = render(self._options[name][picks[name]], values)
        return values

    def text(self, picks: Mapping[Head, int], values: Mapping[str, str]) -> str:
        """The prompt."""
        chosen = (part.options[picks[part]] if isinstance(part, Choice) else (part,) for part in self._parts)
        return "".join(render(text, values) for text in chosen)

    def rows(self, picks: Mapping[Head, int]) -> Iterator[tuple[Axis, int]]:
        """The axes of matrix and zip, each with the row that was chosen."""
        yield from ((slot.head, picks[slot.head]) for slot in self.slots if isinstance(slot.head, Axis))
        if self.prompt.axis is not None:
            yield self.prompt.axis, self.prompt.row

    def labels(self, picks: Mapping[Head, int], values: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """The pieces of the ID, and what was chosen by the axis's name."""
        labels = [self.prompt.label] if self.prompt.label else []
        axes = {"prompt": self.prompt.text[:MAX_SHOWN]} if self.prompt.label else {}
        shown = {name: values[name] for name in self._labelled if name in values}
        labels += map(label, shown.values())
        axes |= {name: value[:MAX_SHOWN] for name, value in shown.items()}
        for axis, row in self.rows(picks):
            labels += [axis.labels[row]] if axis is not self.prompt.axis else []
            axes.update(zip(axis.names, axis.shown[row], strict=True))
        for number, choice in enumerate(self._choices, 1):
            chosen = render(choice.options[picks[choice]], values)
            labels.append(label(chosen))
            name = _name(choice)
            axes[name if name not in axes else f"{name} {number}"] = mask_secrets(chosen)[:MAX_SHOWN]
        return labels, axes


def _name(head: Head) -> str:
    return head if isinstance(head, str) else head.name or "choice"


# ---- how many, and which -------------------------------------------------------------------------

#: Terms of a sum, and factors of a term, that are written out.
_MAX_TERMS, _MAX_FACTORS = 4, 12


def combinations(spec: Spec) -> int:
    """How many combinations a job has, before ``sample`` and ``repeat``."""
    return sum(plan.total for plan in spec.plans)


def job_count(spec: Spec) -> int:
    """How many jobs a job becomes."""
    drawn = combinations(spec)
    return (drawn if spec.sample is None else min(spec.sample, drawn)) * spec.repeat


def drawn(spec: Spec) -> Iterator[tuple[Plan, int]]:
    """The combinations that are asked for: all, or those that ``sample`` draws."""
    plans = iter(spec.plans)
    plan, start = next(plans, None), 0
    for index in sample(combinations(spec), spec.sample, spec.sample_seed):
        while plan is not None and index - start >= plan.total:
            start += plan.total
            plan = next(plans)
        assert plan is not None
        yield plan, index - start


def sample(total: int, count: int | None, seed: int) -> Iterable[int]:
    """Draw ``count`` different indices below ``total``, in ascending order (Floyd's algorithm: O(count)).

    SHA-256 in counter mode, and not ``random``: the same preset must give the same jobs on every machine and
    Python version, for as long as presets are kept.
    """
    if count is None or count >= total:
        return range(total)
    counter = 0
    chosen: set[int] = set()
    for top in range(total - count, total):
        bits = (top + 1).bit_length()
        value = top + 1
        while value > top:  # draws that would be unfair are dropped
            blocks = b""
            while len(blocks) * 8 < bits:
                counter += 1
                blocks += sha256(f"flux-lora sample 1/{seed}/{counter}".encode()).digest()
            value = int.from_bytes(blocks, "big") >> (len(blocks) * 8 - bits)
        chosen.add(top if value in chosen else value)
    return sorted(chosen)


def _factors(spec: Spec) -> list[tuple[str, int]]:
    """What one spec multiplies, by name, without ones."""
    total = combinations(spec)
    each = {tuple(plan.factors()) for plan in spec.plans}
    prompts = [("prompt", len(spec.plans))] if len(spec.plans) > 1 else []
    factors = [*prompts, *each.pop()] if len(each) == 1 else [("combinations", total)]
    if spec.sample is not None and spec.sample < total:
        factors = [("sample", spec.sample)]
    return factors + ([("repeat", spec.repeat)] if spec.repeat > 1 else [])


def _product(numbers: Sequence[int], words: Sequence[str] = ()) -> str:
    written = [f"{word} {number(one)}".strip() for word, one in zip(words or [""] * len(numbers), numbers, strict=True)]
    return " × ".join(written if len(written) <= _MAX_FACTORS else [*written[:_MAX_FACTORS], "…"])


def multiplication(specs: Sequence[Spec]) -> str:
    """How the number of jobs comes about: ``2 × 40 × 12 = 960``."""
    groups: dict[tuple[int, ...], int] = {}
    for spec in specs:
        factors = tuple(count for _, count in _factors(spec))
        groups[factors] = groups.get(factors, 0) + 1
    total = number(sum(map(job_count, specs)))
    terms = [
        _product(([times] if times > 1 or not factors else []) + list(factors)) for factors, times in groups.items()
    ]
    text = " + ".join(terms if len(terms) <= _MAX_TERMS else [*terms[:_MAX_TERMS], "…"]) or "0"
    return text if text == total else f"{text} = {total}"


def sums(specs: Sequence[Spec]) -> list[str]:
    """How each job multiplies, by the names of its axes: ``dawn: place 2 × stack 3 = 6``."""
    lines = []
    for spec in specs:
        if factors := _factors(spec):
            names, counts = zip(*factors, strict=True)
            lines.append(f"{spec.id or spec.key}: {_product(counts, names)} = {number(job_count(spec))}")
    return lines


def number(value: int) -> str:
    """A number in full, or, past all reason, its order of magnitude."""
    return str(value) if value < 10**18 else f"over 10^{int(value.bit_length() * 0.30103) - 1}"
