"""Combinations into jobs: each with its prompt, LoRAs, seed, ID and choices, and where its values come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flux_lora_cli.presets.expand import Plan, combinations, drawn, job_count
from flux_lora_cli.presets.job import Job, LocalImage, Where
from flux_lora_cli.presets.nodes import Node, Problems
from flux_lora_cli.presets.notes import note_job_loras, note_loras
from flux_lora_cli.presets.prompts import TooMany, take_tags
from flux_lora_cli.presets.spec import Axis, Loras, Names, Spec
from flux_lora_cli.service.models import Model
from flux_lora_cli.service.values import check_lora, parse_lora
from flux_lora_cli.text import quoted

#: Characters that the prompts of one command may come to, and digits that are drawn for them, all told.
MAX_TEXT = 40_000_000
MAX_WORK = 30_000_000
_TWO_SCALES = re.compile(r":[0-9.]+:[0-9.]+\s*$")


@dataclass(frozen=True, eq=False)
class Made:
    """A job and what it was made from."""

    job: Job
    spec: Spec
    plan: Plan
    index: int


@dataclass
class Expander:
    """Makes the jobs of one preset; their IDs are unique in it.

    Args:
        literal: tags in prompts are taken as they stand.
        overrides: values of the command line; a local image as ``LocalImage``.
        stack: LoRAs of ``--stack``, in place of a job's own stack.
        keep_ids: the values replace those of the expanded jobs, whose prompts' LoRA tags and own LoRAs go with them.
    """

    preset: str
    model: Model
    problems: Problems
    literal: bool
    overrides: Mapping[str, Any]
    stack: Loras | None = None
    keep_ids: bool = False

    def __post_init__(self) -> None:
        self._ids = Names()
        self._left = MAX_TEXT
        self._scaled: set[Axis] = set()

    def expand(self, spec: Spec) -> Iterator[Made]:
        """The jobs of one spec, in order; nothing more once a problem says that it is too much."""
        count = job_count(spec)
        if count * max((len(plan.slots) for plan in spec.plans), default=0) > MAX_WORK:
            message = f"{count} jobs of this many choices are too much to expand; draw some with sample"
            return self.problems.add(spec.node, spec.key, message)
        for plan, index in drawn(spec):
            try:
                for job in self._combination(spec, plan, index):
                    self._left -= len(job.params.get("prompt", ""))
                    if self._left < 0:
                        raise TooMany(f"the prompts come to more than {MAX_TEXT:,} characters")
                    yield Made(job, spec, plan, index)
            except TooMany as error:
                return self.problems.add(spec.node, spec.key, str(error))
        if count == combinations(spec) * spec.repeat:
            for axis in spec.axes if spec.plans else ():
                if self._is_scale(axis.names[0]) and axis not in self._scaled:
                    path = _path(axis.names[0])
                    which = f"has the LoRA {quoted(path)}" if path else "has a LoRA whose scale it could set"
                    self.problems.add(axis.place, axis.key, f"no combination of this job {which}")
        return None

    def _is_scale(self, name: str) -> bool:
        return name.partition(" ")[0] == "scale" and name not in self.model.parameters

    def _combination(self, spec: Spec, plan: Plan, index: int) -> Iterator[Job]:
        picks = plan.picks(index)
        values = plan.values(picks)
        prompt, tags = plan.text(picks, values), list[str]()
        if not self.literal:
            prompt, tags = take_tags(prompt)
        labels, axes = plan.labels(picks, values)
        params: dict[str, Any] = {**spec.params, "seed": spec.get("seed")}
        stack, own = spec.get("stack"), spec.get("loras")
        scales: list[tuple[Axis, str, Any]] = []
        for axis, row in plan.rows(picks):
            for name, value in axis.row(row):
                if name == "stack" and name not in self.model.parameters:
                    stack = value
                elif name == "loras":
                    own = value
                elif self._is_scale(name):
                    scales.append((axis, _path(name), value))
                else:
                    params[name] = value
        params.pop("prompt", None)
        if plan.prompt.text is not None:
            params["prompt"] = prompt
        if "prompt" in self.overrides:
            tags = []
        loras = self._loras(spec, plan, stack, own, tags)
        params |= self.overrides
        if loras is not None:
            params["loras"] = self._scale(loras, scales)
        base = "/".join((spec.id, *labels) if spec.id else labels)
        yield from self._jobs(spec, plan, params, axes, base, prompt)

    def _loras(
        self, spec: Spec, plan: Plan, stack: Loras | None, own: Loras | None, tags: Sequence[str]
    ) -> list[Any] | None:
        """Stack, own LoRAs and tags, joined; None where the job sets none of them."""
        given = self.overrides.get("loras")
        if self.stack is not None or given is not None:
            stack = self.stack
        if given is not None or (self.keep_ids and self.stack is not None):
            own = given
        if stack is None and own is None and not tags:
            return None
        prompt, place = plan.prompt.node, plan.prompt.node if tags else spec.node
        tagged = []
        for tag in tags:
            lora, why = _read_tag(tag)
            if why:
                self.problems.add(prompt, f"{spec.key}.prompt", why)
            else:
                tagged.append(lora)
        most, short = self.model.max_loras, self.model.short
        note_loras(tagged[:most], prompt, self.problems)
        joined = [*(stack or ()), *(own or ()), *tagged]
        if self.model.checked and len(joined) > most:
            limit = f"{len(joined)} LoRAs are too many; allowed: at most {most} on {short}"
            where = prompt if tags else spec.place("stack" if "stack" in spec.values else "loras")
            self.problems.add(where, f"{spec.key}.loras", limit if most else f"{short} takes no LoRAs")
        if len(joined) > 1 and given is None:
            note_job_loras((stack or (), own or (), *([lora] for lora in tagged)), place, self.problems)
        return joined

    def _scale(self, loras: list[Any], scales: Sequence[tuple[Axis, str, Any]]) -> list[Any]:
        """The LoRAs with the scales of a matrix: that of a path, or else of the last LoRA."""
        for axis, path, value in scales:
            meant = [lora["path"] == path if path else n == len(loras) for n, lora in enumerate(loras, 1)]
            loras = [{**lora, "scale": value} if it else lora for lora, it in zip(loras, meant, strict=True)]
            self._scaled |= {axis} if any(meant) else set()
        return loras

    def _jobs(
        self, spec: Spec, plan: Plan, params: dict[str, Any], axes: dict[str, str], base: str, prompt: str
    ) -> Iterator[Job]:
        """The job, once for each repeat; its ID made unique by its prompt."""
        images: dict[str, LocalImage] = {}

        def hashed(value: Any) -> Any:
            if isinstance(value, LocalImage):
                images[value.sha256] = value
                return value.sha256
            return value

        seed, repeat = params.pop("seed"), spec.repeat
        seed = None if seed == -1 else seed
        for name, value in params.items():
            params[name] = list(map(hashed, value)) if name == "images" and isinstance(value, list) else hashed(value)
        row, last = self.model.parameters.get("seed"), (seed or 0) + repeat - 1
        if seed is not None and repeat > 1 and row and row.maximum is not None and last > row.maximum:
            message = f"the seeds count up from {seed} to {last}; allowed: at most {row.maximum}"
            self.problems.add(spec.place("repeat"), f"{spec.key}.repeat", message)
        where = (spec.node if plan.prompt.axis is None else plan.prompt.node).where
        for number in range(1, repeat + 1):
            again = {"repeat": str(number)} if repeat > 1 else {}
            job_id = self._ids.take("/".join((base, *again.values())), prompt)
            counted = None if seed is None else seed + number - 1
            yield Job(job_id, self.preset, self.model.id, params, counted, number, {**axes, **again}, images, where)


def _read_tag(tag: str) -> tuple[dict[str, Any], str]:
    """The LoRA of a tag's inside, and why it is none."""
    if not tag:
        example = "write <lora:owner/name:1>, or \\<lora: for a literal one"
        return {}, f"<lora: is never closed: the > is missing; {example}"
    if _TWO_SCALES.search(tag):
        return {}, f"<lora:{tag[:80]}>: two scales; a LoRA has one here, for the whole of it: <lora:owner/name:0.8>"
    lora, _, why = check_lora(parse_lora(tag))
    return lora, f"<lora:{tag[:80]}>: {why}" if why else ""


def _path(scale: str) -> str:
    """The LoRA of an axis of scales, ``scale owner/name``; "" for the last one."""
    return scale.partition(" ")[2]


def origins(made: Made, options: Mapping[str, str]) -> dict[str, Where]:
    """The place that each value of a job came from, through ``extends``; ``options``: the option that set it."""
    spec, found = made.spec, _nodes(made)
    names = [*made.job.params, *(["model"] if "model" in found else [])]
    places = {name: found.get(name, spec.node).where for name in names}
    if "seed" in found or made.job.seed is not None:
        places["seed"] = found.get("seed", spec.node).where
    return {**places, **{name: Where(option) for name, option in options.items() if name in (*places, "seed", "model")}}


def parts(made: Made, name: str) -> Iterator[tuple[object, Where]]:
    """What a value of a job was made of, each part with its place: a prompt of variables, too, and LoRAs of stacks."""
    spec, found = made.spec, _nodes(made)
    nodes = [found[name]] if name in found else []
    if name == "prompt":
        used = [spec.vars[name] for name in made.plan.values(made.plan.picks(made.index))]
        nodes += [each.node for each in sorted(used, key=lambda each: each.order) if not each.many]
    if name == "loras":
        nodes += [found["stack"]] if "stack" in found else []
        named = [leaf.value for node in nodes for leaf in node.leaves()]
        nodes += [spec.stacks[value] for value in named if value in spec.stacks]
        nodes.append(found["prompt"])  # its tags
    yield from ((leaf.value, leaf.where) for node in nodes for leaf in node.leaves())


def _nodes(made: Made) -> dict[str, Node]:
    """What set each value of a job."""
    spec, plan = made.spec, made.plan
    found = {name: node for name, (_, node) in spec.values.items()} | {"prompt": plan.prompt.node}
    if "stack" in found:
        found.setdefault("loras", found["stack"])
    for axis, row in plan.rows(plan.picks(made.index)):
        for column in axis.columns:
            name = "loras" if column.name == "stack" or column.name.startswith("scale") else column.name
            found[name] = column.nodes[row]
    return found
