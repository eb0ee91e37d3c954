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
from flux_lora_cli.presets.prompts import take_tags
from flux_lora_cli.presets.spec import Axis, Loras, Names, Prompt, Spec
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
        overrides: values of the command line; a local image as ``LocalImage``.
        stack: LoRAs of ``--stack``, in place of a job's own stack.
        keep_ids: the values replace those of the expanded jobs, whose prompts' LoRA tags and own LoRAs go with them.
    """

    preset: str
    model: Model
    problems: Problems
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
            return self.problems.at(spec.node.where, spec.key, message)
        for plan, index in drawn(spec):
            for made in self._combination(spec, plan, index):
                self._left -= len(made.job.params.get("prompt", ""))
                if self._left < 0:
                    message = f"the prompts come to more than {MAX_TEXT:,} characters"
                    return self.problems.at(spec.node.where, spec.key, message)
                yield made
        if count == combinations(spec) * spec.repeat:
            self._check_scales(spec)
        return None

    def _check_scales(self, spec: Spec) -> None:
        for axis in spec.axes if spec.plans else ():
            if self._is_scale(axis.names[0]) and axis not in self._scaled:
                path = _path(axis.names[0])
                which = f"has the LoRA {quoted(path)}" if path else "has a LoRA whose scale it could set"
                self.problems.add(axis.place, axis.key, f"no combination of this job {which}")

    def _is_scale(self, name: str) -> bool:
        return name.partition(" ")[0] == "scale" and name not in self.model.parameters

    def _combination(self, spec: Spec, plan: Plan, index: int) -> Iterator[Made]:
        picks = plan.picks(index)
        values = plan.values(picks)
        prompt, tags = plan.text(picks, values), list[str]()
        if not plan.prompt.literal:
            prompt, tags = take_tags(prompt)
        labels, axes = plan.labels(picks, values)
        params: dict[str, Any] = {**spec.params, "seed": spec.seed}
        stack, loras = spec.stack, spec.loras
        scales: list[tuple[Axis, str, Any]] = []
        for axis, row in plan.rows(picks):
            for name, value in zip(axis.names, axis.rows[row], strict=True):
                if name == "stack" and name not in self.model.parameters:
                    stack = value
                elif name == "loras":
                    loras = value
                elif self._is_scale(name):
                    scales.append((axis, _path(name), value))
                else:
                    params[name] = value
        params.pop("prompt", None)
        if not plan.prompt.absent:
            params["prompt"] = prompt
        joined = self._loras(spec, plan.prompt, stack, loras, tags)
        params |= self.overrides
        params.pop("loras", None)
        if joined is not None:
            params["loras"] = self._scale(joined, scales)
        base = "/".join((spec.id, *labels) if spec.id else labels)
        for job in self._repeats(self._job(spec, plan, params, axes), spec.repeat, base, prompt):
            yield Made(job, spec, plan, index)

    def _loras(
        self, spec: Spec, prompt: Prompt, stack: Loras | None, own: Loras | None, tags: Sequence[str]
    ) -> list[Any] | None:
        """Stack, own LoRAs and tags, joined; None where the job sets none of them."""
        given = self.overrides.get("loras")
        if self.stack is not None or given is not None:
            stack = self.stack
        if given is not None or (self.keep_ids and self.stack is not None):
            own = given
        if "prompt" in self.overrides:
            tags = ()
        if stack is None and own is None and not tags:
            return None
        read = [_read_tag(tag) for tag in tags]
        for why in (why for _, why in read if why):
            self.problems.add(prompt.node, f"{spec.key}.prompt", why)
        tagged = [lora for lora, _ in read if lora is not None]
        note_loras(tagged[: self.model.max_loras], prompt.node, self.problems)
        joined = [*(stack or ()), *(own or ()), *tagged]
        if self.model.checked and len(joined) > self.model.max_loras:
            most = self.model.max_loras
            limit = f"{len(joined)} LoRAs are too many; allowed: at most {most} on {self.model.short}"
            place = prompt.node if tags else spec.places.get("stack") or spec.places.get("loras") or spec.node
            self.problems.add(place, f"{spec.key}.loras", limit if most else f"{self.model.short} takes no LoRAs")
        if len(joined) > 1 and given is None:
            parts = (stack or (), own or (), *([lora] for lora in tagged))
            note_job_loras(parts, prompt.node if tags else spec.node, self.problems)
        return joined

    def _scale(self, loras: list[Any], scales: Sequence[tuple[Axis, str, Any]]) -> list[Any]:
        """The LoRAs with the scales of a matrix: that of a path, or else of the last LoRA."""
        for axis, path, value in scales:
            meant = [lora["path"] == path if path else n == len(loras) for n, lora in enumerate(loras, 1)]
            loras = [{**lora, "scale": value} if it else lora for lora, it in zip(loras, meant, strict=True)]
            self._scaled |= {axis} if any(meant) else set()
        return loras

    def _job(self, spec: Spec, plan: Plan, params: dict[str, Any], axes: dict[str, str]) -> Job:
        """The job, still without an ID of its own."""
        images: dict[str, LocalImage] = {}

        def hashed(value: Any) -> Any:
            if isinstance(value, LocalImage):
                images[value.sha256] = value
                return value.sha256
            return value

        seed = params.pop("seed")
        for name, value in params.items():
            params[name] = list(map(hashed, value)) if name == "images" and isinstance(value, list) else hashed(value)
        where = plan.prompt.node.where if spec.many_prompts else spec.node.where
        return Job("", self.preset, self.model.id, params, None if seed == -1 else seed, 1, axes, images, where)

    def _repeats(self, job: Job, repeat: int, base: str, prompt: str) -> Iterator[Job]:
        """The job, once for each repeat; its ID made unique by its prompt."""
        for number in range(1, repeat + 1):
            again = {"repeat": str(number)} if repeat > 1 else {}
            job_id = self._ids.take("/".join((base, *again.values())), prompt)
            seed = None if job.seed is None else job.seed + number - 1
            axes = {**job.axes, **again}
            yield Job(job_id, job.preset, job.model, job.params, seed, number, axes, job.images, job.where)


def _read_tag(tag: str) -> tuple[dict[str, Any] | None, str]:
    """The LoRA of a tag's inside, or why it is none."""
    if not tag:
        example = "write <lora:owner/name:1>, or \\<lora: for a literal one"
        return None, f"<lora: is never closed: the > is missing; {example}"
    if _TWO_SCALES.search(tag):
        return None, f"<lora:{tag[:80]}>: two scales; a LoRA has one here, for the whole of it: <lora:owner/name:0.8>"
    lora, _, why = check_lora(parse_lora(tag))
    return (None, f"<lora:{tag[:80]}>: {why}") if why else (lora, "")


def _path(scale: str) -> str:
    """The LoRA of an axis of scales, ``scale owner/name``; "" for the last one."""
    return scale.partition(" ")[2]


def origins(made: Made, options: Mapping[str, str]) -> dict[str, Where]:
    """The place that each value of a job came from, through ``extends``; ``options``: the option that set it."""
    spec, found = made.spec, _nodes(made)
    names = [*made.job.params, *(["model"] if "model" in found else [])]
    places = {name: found[name].where if name in found else spec.node.where for name in names}
    if "seed" in found or made.job.seed is not None:
        places["seed"] = found.get("seed", spec.node).where
    return {**places, **{name: Where(option) for name, option in options.items() if name in (*places, "seed", "model")}}


def parts(made: Made, name: str) -> Iterator[tuple[object, Where]]:
    """What a value of a job was made of, each part with its place: a prompt of variables, too, and LoRAs of stacks."""
    spec, found = made.spec, _nodes(made)
    nodes = [found[name]] if name in found else []
    if name == "prompt":
        used = made.plan.values(made.plan.picks(made.index))
        nodes += [var.node for var in spec.vars.values() if var.name in used and not var.many]
    if name == "loras":
        nodes += [found["stack"]] if "stack" in found else []
        named = [leaf.value for node in nodes for leaf in node.leaves()]
        nodes += [spec.places[key] for key in (f"stack {value}" for value in named) if key in spec.places]
        nodes.append(found["prompt"])  # its tags
    yield from ((leaf.value, leaf.where) for node in nodes for leaf in node.leaves())


def _nodes(made: Made) -> dict[str, Node]:
    """What set each value of a job."""
    spec, plan = made.spec, made.plan
    found: dict[str, Node] = {**spec.places, "prompt": plan.prompt.node}
    if "stack" in found:
        found.setdefault("loras", found["stack"])
    for axis, row in plan.rows(plan.picks(made.index)):
        for name, node in zip(axis.names, axis.nodes[row], strict=True):
            found["loras" if name == "stack" or name.startswith("scale") else name] = node
    return found
