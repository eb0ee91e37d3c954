"""How many jobs there are, and how the number comes about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .expansion import combinations, job_count
from .problems import Problems
from .spec import JobSpec

#: Terms of a sum that are written out.
_MOST_TERMS = 4
#: Factors of a term that are written out.
_MOST_FACTORS = 12


def _factors(spec: JobSpec) -> tuple[int, ...]:
    if spec.sample is not None and spec.sample < combinations(spec):
        factors: tuple[int, ...] = (spec.sample,)
    else:
        each = {plan.factors() for plan in spec.plans}
        if len(each) == 1:
            prompts = len(spec.plans)
            factors = ((prompts,) if prompts > 1 else ()) + each.pop()
        else:
            factors = (combinations(spec),)
    return factors + ((spec.repeat,) if spec.repeat > 1 else ())


def multiplication(specs: Sequence[JobSpec]) -> str:
    """How the number of jobs comes about: ``2 × 40 × 12 = 960``."""
    groups = Counter(_factors(spec) for spec in specs)
    total = sum(job_count(spec) for spec in specs)
    terms = []
    for factors, times in groups.items():
        numbers = ([times] if times > 1 or not factors else []) + list(factors)
        shown = [_number(number) for number in numbers[:_MOST_FACTORS]]
        terms.append(" × ".join(shown if len(numbers) <= _MOST_FACTORS else [*shown, "…"]))
    if len(terms) > _MOST_TERMS:
        terms = [*terms[:_MOST_TERMS], "…"]
    text = " + ".join(terms) or "0"
    return text if text == _number(total) else f"{text} = {_number(total)}"


def _number(value: int) -> str:
    """A number in full, or, past all reason, its order of magnitude."""
    return str(value) if value < 10**18 else f"over 10^{int(value.bit_length() * 0.30103) - 1}"


def check_limit(presets: Sequence[tuple[str, int, Sequence[JobSpec]]], max_jobs: int | None, problems: Problems) -> int:
    """The number of jobs of all presets; a problem where it is more than ``max_jobs``."""
    counts = [sum(job_count(spec) for spec in specs) for _, _, specs in presets]
    total = sum(counts)
    if max_jobs is not None and total > max_jobs:
        largest = max(range(len(counts)), key=counts.__getitem__)
        file, line, _ = presets[largest]
        how = multiplication([spec for _, _, specs in presets for spec in specs])
        message = f"expands to {how} jobs, more than the limit of {max_jobs}; raise it with --max-jobs {_number(total)}"
        problems.add(file, line, 1, "jobs", message)
    return total
