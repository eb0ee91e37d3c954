"""How many jobs a job becomes, and which combinations are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from flux_lora_cli.presets.expand import Plan
from flux_lora_cli.presets.spec import Spec


def combinations(spec: Spec) -> int:
    """How many combinations a job has, before ``sample`` and ``repeat``."""
    return sum(plan.total for plan in spec.plans)


def job_count(spec: Spec) -> int:
    """How many jobs a job becomes."""
    drawn = combinations(spec)
    return (drawn if spec.sample is None else min(spec.sample, drawn)) * spec.repeat


def drawn(spec: Spec) -> Iterator[tuple[Plan, int]]:
    """The combinations that are asked for: all, or those that ``sample`` draws."""
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


def sample(total: int, count: int, seed: int) -> list[int]:
    """Draw ``count`` different indices below ``total``, in ascending order (Floyd's algorithm: O(count)).

    SHA-256 in counter mode, and not ``random``: the same preset must give the same jobs on every machine and
    Python version, for as long as presets are kept.
    """
    if count >= total:
        return list(range(total))
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
