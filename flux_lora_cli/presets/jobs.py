"""Specs into jobs: every combination with its prompt, LoRAs, seed, ID and choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flux_lora_cli.presets.draw import combinations, drawn, job_count
from flux_lora_cli.presets.expand import Plan
from flux_lora_cli.presets.job import Job, LocalImage, Where
from flux_lora_cli.presets.nodes import Node, Problems
from flux_lora_cli.presets.notes import note_job_loras
from flux_lora_cli.presets.spec import Axis, Loras, Names, Prompt, Spec
from flux_lora_cli.presets.tags import read_tag, take_tags
from flux_lora_cli.service.models import Model
from flux_lora_cli.text import quoted

#: Characters that the prompts of one command may come to, and digits that are drawn for them, all told.
MAX_TEXT = 40_000_000
MAX_WORK = 30_000_000


@dataclass(frozen=True, eq=False)
class Made:
    """A job and what it was made from."""

    job: Job
    spec: Spec
    plan: Plan
    index: int


class Expander:
    """Makes the jobs of one preset; their IDs are unique in it.

    Args:
        overrides: values of the command line; a local image as ``LocalImage``.
        stack: LoRAs of ``--stack``, in place of a job's own stack.
        keep_ids: the values replace those of the expanded jobs, whose prompts' LoRA tags and own LoRAs go with them.
    """

    def __init__(
        self,
        preset: str,
        model: Model,
        problems: Problems,
        overrides: Mapping[str, Any],
        stack: Loras | None = None,
        keep_ids: bool = False,
    ) -> None:
        self._preset = preset
        self._model = model
        self._problems = problems
        self._overrides = dict(overrides)
        self._stack = stack
        self._keep_ids = keep_ids
        self._ids = Names()
        self._left = MAX_TEXT
        self._scaled: set[Axis] = set()

    def expand(self, spec: Spec) -> Iterator[Made]:
        """The jobs of one spec, in order; nothing more once a problem says that it is too much."""
        work = job_count(spec) * max((len(plan.slots) for plan in spec.plans), default=0)
        if work > MAX_WORK:
            message = f"{job_count(spec)} jobs of this many choices are too much to expand; draw some with sample"
            return self._problems.at(spec.node.where, spec.key, message)
        for plan, index in drawn(spec):
            for made in self._combination(spec, plan, index):
                self._left -= len(made.job.params.get("prompt", ""))
                if self._left < 0:
                    message = f"the prompts come to more than {MAX_TEXT:,} characters"
                    return self._problems.at(spec.node.where, spec.key, message)
                yield made
        for axis in spec.axes:
            if axis.names[0].startswith("scale") and axis not in self._scaled and spec.plans:
                name = axis.names[0].removeprefix("scale").strip()
                which = f"has the LoRA {quoted(name)}" if name else "has a LoRA whose scale it could set"
                self._problems.add(axis.place, axis.key, f"no combination of this job {which}")
        return None

    def _combination(self, spec: Spec, plan: Plan, index: int) -> Iterator[Made]:
        picks = plan.picks(index)
        values = plan.values(picks) if plan.order else {}
        prompt = plan.text(picks, values)
        labels, axes = plan.labels(picks, values)
        params = dict(spec.params)
        seed, stack, loras = spec.seed, spec.stack, spec.loras
        scales: list[tuple[Axis, str, Any]] = []
        for axis, row in _rows(plan, picks):
            for name, value in zip(axis.names, axis.rows[row], strict=True):
                if name == "seed":
                    seed = value
                elif name == "stack" and "stack" not in self._model.parameters:
                    stack = value
                elif name == "loras":
                    loras = tuple(value)
                elif name.startswith("scale") and name not in self._model.parameters:
                    scales.append((axis, name.removeprefix("scale").strip(), value))
                elif name != "prompt":
                    params[name] = value
        tags: list[str] = []
        if not plan.prompt.literal:
            prompt, tags = take_tags(prompt)
        if not plan.prompt.absent:
            params["prompt"] = prompt
        key = prompt
        joined = self._loras(spec, plan.prompt, stack, loras, tags)
        joined = self._scale(joined, scales)
        if joined is not None:
            params["loras"] = joined
        for name, value in self._overrides.items():
            if name == "seed":
                seed = value
            elif name != "loras":
                params[name] = value
        base = "/".join((spec.id, *labels) if spec.id else labels)
        yield from self._repeats(spec, plan, index, base, key, params, seed, axes)

    def _loras(
        self, spec: Spec, prompt: Prompt, stack: Loras | None, own: Loras | None, tags: Sequence[str]
    ) -> list[Any] | None:
        if self._stack is not None:
            stack = self._stack
            own = None if self._keep_ids else own
        given = self._overrides.get("loras")
        if given is not None:
            stack = self._stack
            own = tuple(given)
        if "prompt" in self._overrides:
            tags = ()
        if stack is None and own is None and not tags:
            return None
        read = [read_tag(tag) for tag in tags]
        for _, why in read:
            if why:
                self._problems.add(prompt.node, f"{spec.key}.prompt", why)
        tagged = [lora for lora, _ in read if lora is not None]
        joined = [*(stack or ()), *(own or ()), *tagged]
        if self._model.checked and len(joined) > self._model.max_loras:
            most = self._model.max_loras
            limit = f"allowed: at most {most} on {self._model.short}" if most else f"{self._model.short} takes none"
            place = prompt.node if tags else spec.places.get("stack") or spec.places.get("loras") or spec.node
            self._problems.add(place, f"{spec.key}.loras", f"{len(joined)} LoRAs are too many; {limit}")
        if len(joined) > 1 and given is None:
            note_job_loras((stack or (), own or (), tagged), prompt.node if tags else spec.node, self._problems)
        return joined

    def _scale(self, joined: list[Any] | None, scales: Sequence[tuple[Axis, str, Any]]) -> list[Any] | None:
        for axis, path, value in scales:
            if joined and (not path or any(lora["path"] == path for lora in joined)):
                last = len(joined) - 1
                joined = [
                    {**lora, "scale": value} if (lora["path"] == path if path else n == last) else lora
                    for n, lora in enumerate(joined)
                ]
                self._scaled.add(axis)
        return joined

    def _repeats(
        self,
        spec: Spec,
        plan: Plan,
        index: int,
        base: str,
        key: str,
        params: dict[str, Any],
        seed: Any,
        axes: dict[str, str],
    ) -> Iterator[Made]:
        images: dict[str, LocalImage] = {}
        for name, value in params.items():
            if isinstance(value, LocalImage):
                images[value.sha256] = value
                params[name] = value.sha256
            elif name == "images" and isinstance(value, list):
                images |= {item.sha256: item for item in value if isinstance(item, LocalImage)}
                params[name] = [item.sha256 if isinstance(item, LocalImage) else item for item in value]
        if seed == -1:
            seed = None
        where = plan.prompt.node.where if spec.many_prompts else spec.node.where
        for number in range(1, spec.repeat + 1):
            name = base if spec.repeat == 1 else f"{base}/{number}"
            own = None if seed is None else seed + number - 1
            chosen = axes if spec.repeat == 1 else {**axes, "repeat": str(number)}
            job_id = self._ids.take(name, key)
            job = Job(job_id, self._preset, self._model.id, params, own, number, chosen, images, where)
            yield Made(job, spec, plan, index)


def _rows(plan: Plan, picks: Mapping[Any, int]) -> Iterator[tuple[Axis, int]]:
    """The axes of matrix and zip with the row that was chosen."""
    for head, _, _ in plan.slots:
        if isinstance(head, Axis):
            yield head, picks[head]
    if plan.prompt.axis is not None:
        yield plan.prompt.axis, plan.prompt.row


# ---- where values come from --------------------------------------------------------------------


def origins(made: Made, options: Mapping[str, str]) -> dict[str, Where]:
    """The place that each value of a job came from, through ``extends``; ``options``: the option that set it."""
    spec, plan = made.spec, made.plan
    found: dict[str, Node] = dict(spec.places)
    found["prompt"] = plan.prompt.node
    if "stack" in found:
        found.setdefault("loras", found["stack"])
    for axis, row in _rows(plan, plan.picks(made.index)):
        for name, node in zip(axis.names, axis.nodes[row], strict=True):
            found["loras" if name == "stack" or name.startswith("scale") else name] = node
    places = {name: found[name].where if name in found else spec.node.where for name in made.job.params}
    if "seed" in found or made.job.seed is not None:
        places["seed"] = found.get("seed", spec.node).where
    return {**places, **{name: Where(option) for name, option in options.items() if name in (*places, "seed")}}


# ---- how the number comes about ------------------------------------------------------------------

#: Terms of a sum, and factors of a term, that are written out.
_MAX_TERMS, _MAX_FACTORS = 4, 12


def _factors(spec: Spec) -> list[tuple[str, int]]:
    """What one spec multiplies, by name, without ones."""
    total = combinations(spec)
    if spec.sample is not None and spec.sample < total:
        factors = [("sample", spec.sample)]
    else:
        each = {tuple(plan.factors()) for plan in spec.plans}
        if len(each) == 1:
            factors = ([("prompt", len(spec.plans))] if len(spec.plans) > 1 else []) + list(each.pop())
        else:
            factors = [("combinations", total)]
    return factors + ([("repeat", spec.repeat)] if spec.repeat > 1 else [])


def multiplication(specs: Sequence[Spec]) -> str:
    """How the number of jobs comes about: ``2 × 40 × 12 = 960``."""
    groups: dict[tuple[int, ...], int] = {}
    for spec in specs:
        factors = tuple(count for _, count in _factors(spec))
        groups[factors] = groups.get(factors, 0) + 1
    total = number(sum(map(job_count, specs)))
    terms = []
    for factors, times in groups.items():
        numbers = ([times] if times > 1 or not factors else []) + list(factors)
        written = [number(one) for one in numbers[:_MAX_FACTORS]]
        terms.append(" × ".join(written if len(numbers) <= _MAX_FACTORS else [*written, "…"]))
    text = " + ".join(terms if len(terms) <= _MAX_TERMS else [*terms[:_MAX_TERMS], "…"]) or "0"
    return text if text == total else f"{text} = {total}"


def sums(specs: Sequence[Spec]) -> list[str]:
    """How each job multiplies, by the names of its axes: ``dawn: place 2 × stack 3 = 6``."""
    lines = []
    for spec in specs:
        factors = _factors(spec)
        if factors:
            shown = [f"{name} {number(count)}" for name, count in factors[:_MAX_FACTORS]]
            more = " × …" if len(factors) > _MAX_FACTORS else ""
            lines.append(f"{spec.id or spec.key}: {' × '.join(shown)}{more} = {number(job_count(spec))}")
    return lines


def number(value: int) -> str:
    """A number in full, or, past all reason, its order of magnitude."""
    return str(value) if value < 10**18 else f"over 10^{int(value.bit_length() * 0.30103) - 1}"
