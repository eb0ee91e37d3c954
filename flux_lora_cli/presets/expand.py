"""From a checked job to its combinations: a combination is the digits of an index, one digit for each axis.

Variables, matrix keys and choices are all axes. A prompt whose choices may use a variable, or not, has a plan for each
of these cases: a branch that is not taken multiplies nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import accumulate, chain
from math import prod
from typing import NamedTuple

from flux_lora_cli.presets.labels import MAX_SHOWN, label
from flux_lora_cli.presets.prompts import (
    MAX_PROMPT,
    Budget,
    Options,
    Part,
    Text,
    TooMany,
    Var,
    needs,
    render,
)
from flux_lora_cli.presets.spec import Axis, Prompt, Spec, Variable
from flux_lora_cli.text import mask_secrets

#: What is chosen along an axis: a variable by its name, a choice by its place in the prompt, a row of matrix or zip.
Head = str | int | Axis


class Combination(NamedTuple):
    """What one index stands for.

    Attributes:
        rows: the axes of matrix and zip, each with the row that was chosen.
        labels: the pieces of the ID.
        axes: what was chosen, by the axis's name.
    """

    prompt: str
    rows: Sequence[tuple[Axis, int]]
    labels: Sequence[str]
    axes: Mapping[str, str]


def plans(
    prompt: Prompt, parts: list[Part], variables: Mapping[str, Variable], axes: Iterable[Axis], budget: Budget
) -> Iterator[Plan]:
    """The plans of a prompt: in each, what is chosen along one axis decides nothing about the others.

    Args:
        parts: of the prompt.
        variables: that it may use, those that are used before those that use them.

    Raises:
        TooMany: too many choices of which some texts use a variable and others do not, or too long a text.
    """
    in_order = sorted(variables, key=lambda name: variables[name].order)
    whole: dict[Head, Options] = {n: part for n, part in enumerate(parts) if isinstance(part, Options)}
    choices, constants = list(whole), dict[str, str]()
    for name, variable in variables.items():
        assert variable.options is not None  # it was read to find what it uses
        whole[name], texts = variable.options, variable.options.texts
        if len(texts) == 1 and needs(texts[0]) <= constants.keys():
            constants[name] = render(texts[0], constants)
            budget.spend(len(constants[name]) // 256)
    labelled = [name for name in in_order if variables[name].many or len(whole[name].texts) > 1]
    cases = [whole]
    while cases:
        options = cases.pop()
        used: dict[Head, None] = dict.fromkeys(constants)
        heads: list[Head] = [*choices[::-1], *(str(part) for part in parts if isinstance(part, Var))]
        while heads:
            head = heads.pop()
            if head not in used:
                by_need: dict[frozenset[str], list[Text]] = {}
                for text in () if options[head].uses <= used.keys() else options[head].texts:
                    by_need.setdefault(frozenset(needs(text)).difference(used), []).append(text)
                if len(by_need) > 1:
                    budget.spend(len(options) * len(by_need))
                    cases += [{**options, head: Options(texts, options[head].name)} for texts in by_need.values()][::-1]
                    break
                heads += options[head].uses
                used[head] = None
        else:
            taken = {head: options[head] for head in options if head in used}
            slots: list[tuple[Head, int]] = [
                (name, len(taken[name].texts)) for name in in_order if name in taken and name not in constants
            ]
            slots += [(axis, len(axis.labels)) for axis in axes if axis is not prompt.axis]
            slots += [(choice, len(taken[choice].texts)) for choice in choices]
            yield Plan(prompt, parts, taken, constants, labelled, slots)


@dataclass(eq=False)
class Plan:
    """One prompt of a job, and what multiplies it.

    Args:
        options: of its choices and the variables that it uses, those that are used before those that use them.
        constants: the variables that have one value.
        labelled: the variables that a job is called by.
        slots: the axes and their sizes, in the order variables, matrix, choices.
    """

    prompt: Prompt
    parts: Sequence[Part]
    options: Mapping[Head, Options]
    constants: Mapping[str, str]
    labelled: Sequence[str]
    slots: Sequence[tuple[Head, int]]

    @cached_property
    def total(self) -> int:
        return prod(size for _, size in self.slots)

    def at(self, index: int) -> Combination:
        """What the digits of an index choose. Raises TooMany."""
        picks: dict[Head, int] = {}
        for head, size in reversed(self.slots):
            index, picks[head] = divmod(index, size)
        chosen = {head: self.options[head].texts[pick] for head, pick in picks.items() if head in self.options}
        values = {name: value for name, value in self.constants.items() if name in self.options}
        left = 10 * MAX_PROMPT
        for name in self.options:
            if isinstance(name, str) and name not in values:
                values[name] = render(chosen[name], values)
                left -= len(values[name])
                if left < 0:
                    raise TooMany(f"the variables of one prompt come to more than {10 * MAX_PROMPT:,} characters")
        texts = ((part,) if isinstance(part, str) else chosen[n] for n, part in enumerate(self.parts))
        prompt = render(chain.from_iterable(texts), values)
        own = [(self.prompt.axis, self.prompt.row)] if self.prompt.axis else []
        rows = [(head, picks[head]) for head, _ in self.slots if isinstance(head, Axis)]
        pieces = [(axis.labels[row], axis.shown(row)) for axis, row in own]
        pieces += [_piece(values[name], name) for name in self.labelled if name in values]
        pieces += [(axis.labels[row], axis.shown(row)) for axis, row in rows]
        axes = {name: shown for _, each in pieces for name, shown in each.items()}
        for number, head in enumerate((head for head in self.options if isinstance(head, int)), 1):
            name = self.options[head].name or "choice"
            name = name if name not in axes else f"{name} {number}"
            pieces.append(_piece(render(chosen[head], values), name))
            axes |= pieces[-1][1]
        return Combination(prompt, [*rows, *own], [text for text, _ in pieces], axes)

    def factors(self) -> list[tuple[str, int]]:
        """What multiplies, by name, without ones."""
        named = ((head.name if isinstance(head, Axis) else self.options[head].name, size) for head, size in self.slots)
        return [(name or "choice", size) for name, size in named if size != 1]


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


def _terms(spec: Spec) -> Counter[tuple[tuple[str, int], ...]]:
    """The products that a spec is the sum of, as names and sizes without ones, and how often each is there."""
    total, asked = combinations(spec), job_count(spec) // spec.repeat
    again = [("repeat", spec.repeat)] if spec.repeat > 1 else []
    products = [[("sample", asked)]] if asked < total else map(Plan.factors, spec.plans)
    return Counter((*each, *again) for each in products)


def multiplication(specs: Sequence[Spec]) -> str:
    """How the number of jobs comes about: ``2 × 40 × 12 = 960``."""
    groups = Counter(tuple(size for _, size in term) for spec in specs for term in _terms(spec).elements())
    terms = ((*([times] if times > 1 or not sizes else []), *sizes) for sizes, times in groups.items())
    return _equation(" + ".join(" × ".join(map(number, term)) for term in terms) or "0", sum(map(job_count, specs)))


def sums(specs: Sequence[Spec]) -> list[str]:
    """How each job multiplies, by the names of its axes: ``dawn: place 2 × stack 3 = 6``, ``dusk: place 2``."""
    lines = []
    for spec in specs:
        terms = ((*([("prompt", times)] if times > 1 else []), *term) for term, times in _terms(spec).items())
        text = " + ".join(" × ".join(f"{name} {number(size)}" for name, size in term) or "1" for term in terms)
        lines += [f"{spec.id or spec.key}: {_equation(text, job_count(spec))}"] if text not in ("", "1") else []
    return lines


def _equation(text: str, total: int) -> str:
    """A sum, cut where it is long, and what it comes to, unless it says only that."""
    short = text if len(text) <= _MAX_SUM else f"{text[:_MAX_SUM].rpartition(' ')[0]} …"
    return short if text.rpartition(" ")[2] == number(total) else f"{short} = {number(total)}"


def number(value: int) -> str:
    """A number in full, or, past all reason, its order of magnitude."""
    return str(value) if value < 10**18 else f"over 10^{int(value.bit_length() * 0.30103) - 1}"
