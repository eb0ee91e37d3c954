"""From a checked job to its combinations: a combination is the digits of an index, one digit for each axis.

Variables, matrix keys, choices and repeats are all axes. A variable that only some choices use is tied to them in one
axis, whose rows are what can really come together: a branch that is not taken multiplies nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from hashlib import sha256
from itertools import accumulate
from math import prod
from typing import NamedTuple

from flux_lora_cli.presets.prompts import MAX_PROMPT, Budget, Options, Part, TooMany, Var, needs, pieces_of, render
from flux_lora_cli.presets.spec import MAX_SHOWN, Axis, Prompt, Spec, Variable, label
from flux_lora_cli.text import mask_secrets

#: What is chosen along an axis: a variable by its name, a choice by its place in the prompt, a row of matrix or zip.
Head = str | int | Axis


class Slot(NamedTuple):
    """One digit: the number of an option of ``head``; with ``rows``, of a row of such numbers."""

    head: Head
    size: int
    rows: Sequence[Mapping[Head, int]] | None = None


class Combination(NamedTuple):
    """What one index stands for.

    Attributes:
        values: of the variables that the prompt uses.
        rows: the axes of matrix and zip, each with the row that was chosen.
        labels: the pieces of the ID.
        axes: what was chosen, by the axis's name.
    """

    prompt: str
    values: Mapping[str, str]
    rows: Sequence[tuple[Axis, int]]
    labels: Sequence[str]
    axes: Mapping[str, str]


class Plan:
    """One prompt of a job, and the axes that multiply it, in the order variables, matrix, choices.

    Args:
        parts: of the prompt.
        variables: that it uses, those that are used before those that use them.

    Raises:
        TooMany: too many combinations of choices that depend on each other, or too long a text.
    """

    def __init__(
        self, prompt: Prompt, parts: list[Part], variables: Mapping[str, Variable], axes: Iterable[Axis], budget: Budget
    ) -> None:
        self.prompt = prompt
        self._parts = parts
        self._budget = budget
        self._choices = {n: part for n, part in enumerate(parts) if isinstance(part, Options)}
        self._options: dict[Head, Options] = dict(self._choices.items())
        self._constants: dict[str, str] = {}
        for name, variable in variables.items():
            assert variable.options is not None  # it was read to find what it uses
            self._options[name], texts = variable.options, variable.options.texts
            if len(texts) == 1 and needs(texts[0]) <= self._constants.keys():
                self._constants[name] = render(texts[0], self._constants)
                budget.spend(len(self._constants[name]) // 256)
        self._varying = [name for name in variables if name not in self._constants]
        in_order = sorted(variables, key=lambda name: variables[name].order)
        self._labelled = [n for n in in_order if variables[n].many or len(self._options[n].texts) > 1]
        tied = self._tie(in_order) if self._options else []
        matrix = [Slot(axis, len(axis.labels)) for axis in axes if axis is not prompt.axis]
        by_variables = [slot for slot in tied if isinstance(slot.head, str)]
        self.slots = [*by_variables, *matrix, *(slot for slot in tied if isinstance(slot.head, int))]
        self.total = prod(slot.size for slot in self.slots)

    def _tie(self, in_order: Iterable[str]) -> list[Slot]:
        """The slots of variables and choices. Raises TooMany."""
        users_first = self._varying[::-1]
        certain = {str(part) for part in self._parts if isinstance(part, Var)} - self._constants.keys()
        for name in users_first:  # a variable that every text of a certain one uses is certain, too
            if name in certain:
                certain |= self._options[name].common - self._constants.keys()
        unsure = dict.fromkeys(name for name in users_first if name not in certain).keys()
        heads: list[Head] = [*(name for name in in_order if name in certain), *self._choices]
        return [self._slot(group, unsure) for group in self._groups(heads, unsure)]

    def _groups(self, heads: Sequence[Head], unsure: Set[str]) -> Iterator[list[Head]]:
        """The heads, each with the uncertain variables that it may lead to, and the heads that share one of them."""
        group: dict[Head, list[Head]] = {head: [head] for head in (*heads, *unsure)}
        place = {head: number for number, head in enumerate(group)}
        for head in group if unsure else ():
            for name in self._options[head].uses & unsure:
                small, large = sorted((group[head], group[name]), key=len)
                if small is not large:
                    large += small
                    group.update((member, large) for member in small)
        for members in {id(members): members for members in group.values()}.values():
            yield sorted(members, key=place.__getitem__)

    def _slot(self, group: Sequence[Head], unsure: Set[str]) -> Slot:
        """One axis for heads and uncertain variables that can only be chosen together. Raises TooMany."""
        if len(group) == 1:
            return Slot(group[0], len(self._options[group[0]].texts))
        rows: list[tuple[dict[Head, int], Set[str]]] = [({}, set())]
        for head in group:
            wider = []
            for picks, needed in rows:
                taken = head not in unsure or head in needed
                options = list(enumerate(self._options[head].texts)) if taken else []
                self._budget.spend((len(picks) + 1) * len(options or "x"))
                wider += [({**picks, head: n}, needed | (needs(text) & unsure)) for n, text in options]
                wider += [] if taken else [(picks, needed)]
            rows = wider
        return Slot(group[0], len(rows), [picks for picks, _ in rows])

    def at(self, index: int) -> Combination:
        """What the digits of an index choose. Raises TooMany."""
        picks: dict[Head, int] = {}
        for head, size, tied in reversed(self.slots):
            index, digit = divmod(index, size)
            picks.update({head: digit} if tied is None else tied[digit])
        values, left = dict(self._constants), 10 * MAX_PROMPT
        for name in self._varying:
            if name in picks:
                values[name] = render(self._options[name].texts[picks[name]], values)
                left -= len(values[name])
                if left < 0:
                    raise TooMany(f"the variables of one prompt come to more than {10 * MAX_PROMPT:,} characters")
        chosen = (part.texts[picks[n]] if isinstance(part, Options) else part for n, part in enumerate(self._parts))
        prompt = render(pieces_of(chosen), values)
        own = [(self.prompt.axis, self.prompt.row)] if self.prompt.axis else []
        rows = [(slot.head, picks[slot.head]) for slot in self.slots if isinstance(slot.head, Axis)]
        pieces = [(axis.labels[row], axis.shown(row)) for axis, row in own]
        pieces += [_piece(values[name], name) for name in self._labelled if name in values]
        pieces += [(axis.labels[row], axis.shown(row)) for axis, row in rows]
        axes = {name: shown for _, each in pieces for name, shown in each.items()}
        for number, (place, choice) in enumerate(self._choices.items(), 1):
            name = choice.name or "choice"
            name = name if name not in axes else f"{name} {number}"
            pieces.append(_piece(render(choice.texts[picks[place]], values), name))
            axes |= pieces[-1][1]
        return Combination(prompt, values, [*rows, *own], [text for text, _ in pieces], axes)

    def factors(self) -> Iterator[tuple[str, int]]:
        """What multiplies, by name, without ones."""
        for head, size, _ in self.slots:
            if size != 1:
                yield head.name if isinstance(head, Axis) else self._options[head].name or "choice", size


def _piece(text: str, name: str) -> tuple[str, dict[str, str]]:
    """What was chosen along an axis, for the ID and for people."""
    return label(text), {name: mask_secrets(text)[:MAX_SHOWN]}


# ---- how many, and which -------------------------------------------------------------------------

#: Characters of a multiplication that are shown.
_MAX_SUM = 120


def combinations(spec: Spec) -> int:
    """How many combinations a job has, before ``sample`` and ``repeat``."""
    return sum(plan.total for plan in spec.plans)


def job_count(spec: Spec) -> int:
    """How many jobs a job becomes."""
    total = combinations(spec)
    sample: int = spec.get("sample", total)
    return min(sample, total) * spec.repeat


def drawn(spec: Spec) -> Iterator[tuple[Plan, int]]:
    """The combinations that are asked for: all, or those that ``sample`` draws."""
    ends = list(accumulate(plan.total for plan in spec.plans))
    for index in sample(combinations(spec), spec.get("sample"), spec.get("sample_seed", 0)):
        number = bisect_right(ends, index)
        yield spec.plans[number], index - ends[number] + spec.plans[number].total


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
    total, asked = combinations(spec), job_count(spec) // spec.repeat
    each = {tuple(plan.factors()) for plan in spec.plans}
    prompts = [("prompt", len(spec.plans))] if len(spec.plans) > 1 else []
    factors = [*prompts, *each.pop()] if len(each) == 1 else [("combinations", total)]
    if asked < total:
        factors = [("sample", asked)]
    return factors + ([("repeat", spec.repeat)] if spec.repeat > 1 else [])


def multiplication(specs: Sequence[Spec]) -> str:
    """How the number of jobs comes about: ``2 × 40 × 12 = 960``."""
    groups = Counter(tuple(count for _, count in _factors(spec)) for spec in specs)
    terms = (([times] if times > 1 or not factors else []) + list(factors) for factors, times in groups.items())
    return _equation(" + ".join(" × ".join(map(number, term)) for term in terms) or "0", sum(map(job_count, specs)))


def sums(specs: Sequence[Spec]) -> list[str]:
    """How each job multiplies, by the names of its axes: ``dawn: place 2 × stack 3 = 6``, ``dusk: place 2``."""
    named = ((spec, [f"{name} {number(count)}" for name, count in _factors(spec)]) for spec in specs)
    return [f"{spec.id or spec.key}: {_equation(' × '.join(by), job_count(spec))}" for spec, by in named if by]


def _equation(text: str, total: int) -> str:
    """A sum, cut where it is long, and what it comes to, unless it says only that."""
    short = text if len(text) <= _MAX_SUM else f"{text[:_MAX_SUM].rpartition(' ')[0]} …"
    return short if text.rpartition(" ")[2] == number(total) else f"{short} = {number(total)}"


def number(value: int) -> str:
    """A number in full, or, past all reason, its order of magnitude."""
    return str(value) if value < 10**18 else f"over 10^{int(value.bit_length() * 0.30103) - 1}"
