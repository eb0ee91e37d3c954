"""Combinations into jobs: each with its prompt, LoRAs, seed, ID and choices, and where its values come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flux_lora_cli.presets.expand import Combination, Plan, combinations, drawn, job_count
from flux_lora_cli.presets.job import Job, LocalImage, Where
from flux_lora_cli.presets.labels import Names
from flux_lora_cli.presets.nodes import Node, Problems
from flux_lora_cli.presets.notes import note_job_loras, note_loras
from flux_lora_cli.presets.prompts import HOLD, TooMany
from flux_lora_cli.presets.spec import Axis, Spec
from flux_lora_cli.service.values import check_lora, parse_lora
from flux_lora_cli.text import quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.build import Preset

#: Characters that the prompts of one command may come to, and digits that are drawn for them, all told.
MAX_TEXT = 40_000_000
MAX_WORK = 30_000_000
_TAG = re.compile(r"<lora:([^<>]*)>")
_TWO_SCALES = re.compile(r":[0-9.]+:[0-9.]+\s*$")


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
        keep_ids: what the command line sets is put into the expanded jobs; ``--stack`` replaces all their LoRAs.
    """

    def __init__(self, preset: Preset, problems: Problems, keep_ids: bool) -> None:
        self.preset = preset
        self.model = preset.model
        self.problems = problems
        self._ids = Names()
        self._left = MAX_TEXT
        self._scaled: set[Axis] = set()  # whose LoRA some job has
        self._given = dict(preset.values)
        if preset.stack is not None or "loras" in self._given:
            self._given["stack"] = preset.stack
        if preset.stack is not None and keep_ids:
            self._given.setdefault("loras", None)

    def expand(self, spec: Spec) -> Iterator[Made]:
        """The jobs of one spec, in order; nothing more once a problem says that it is too much."""
        count = job_count(spec)
        if count * max((len(plan.slots) for plan in spec.plans), default=0) > MAX_WORK:
            message = f"{count} jobs of this many choices are too much to expand; draw some with sample"
            return self.problems.add(spec.node, spec.key, message)
        for plan, index in drawn(spec):
            try:
                made = plan.at(index)
                self._left -= len(made.prompt) * spec.repeat
                if self._left < 0:
                    raise TooMany(f"the prompts come to more than {MAX_TEXT:,} characters")
            except TooMany as error:
                return self.problems.add(spec.node, spec.key, str(error))
            for job in self._jobs(spec, plan, made):
                yield Made(job, spec, plan, index)
        if count == combinations(spec) * spec.repeat:
            for axis in spec.axes if spec.plans else ():
                if axis.names[0].partition(" ")[0] == "scale" and axis not in self._scaled:
                    path = _path(axis.names[0])
                    which = f"has the LoRA {quoted(path)}" if path else "has a LoRA whose scale it could set"
                    self.problems.add(axis.place, axis.key, f"no combination of this job {which}")
        return None

    def _jobs(self, spec: Spec, plan: Plan, made: Combination) -> Iterator[Job]:
        """The jobs of one combination, one for each repeat."""
        prompt, tags = (made.prompt, []) if spec.literal else take_tags(made.prompt)
        params = dict(spec.params)
        for axis, row in made.rows:
            params |= axis.row(row)
        if plan.prompt.text is not None:
            params["prompt"] = prompt
        scales = {name: params.pop(name) for name in [*params] if name.partition(" ")[0] == "scale"}
        params |= self._given
        loras = self._loras(spec, plan, params, [] if "prompt" in self.preset.values else tags)
        if loras is not None:
            params["loras"] = self._scale(loras, made, scales)
        seed, repeat, images = params.pop("seed", None), spec.repeat, dict[str, LocalImage]()
        seed = None if seed == -1 else seed
        params = {name: _named(value, images) for name, value in params.items()}
        rule, last = self.model.parameters.get("seed"), (seed or 0) + repeat - 1
        if seed is not None and repeat > 1 and rule and rule.maximum is not None and last > rule.maximum:
            message = f"the seeds count up from {seed} to {last}; allowed: at most {rule.maximum}"
            self.problems.add(spec.place("repeat"), f"{spec.key}.repeat", message)
        where = (spec.node if plan.prompt.axis is None else plan.prompt.node).where
        base = [spec.id, *made.labels] if spec.id else made.labels
        for number in range(1, repeat + 1):
            again = {"repeat": str(number)} if repeat > 1 else {}
            job_id = self._ids.take("/".join((*base, *again.values())), prompt)
            counted = None if seed is None else seed + number - 1
            axes = {**made.axes, **again}
            yield Job(job_id, self.preset.name, self.model.id, params, counted, number, axes, images, where)

    def _loras(self, spec: Spec, plan: Plan, params: dict[str, Any], tags: Sequence[str]) -> list[Any] | None:
        """Stack, own LoRAs and tags, joined, and the first two taken out; None where the job sets none of them."""
        stack, own = params.pop("stack", None), params.pop("loras", None)
        if stack is None and own is None and not tags:
            return None
        prompt, tagged = plan.prompt.node, []
        for lora, why in map(_read_tag, tags):
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
        if len(joined) > 1 and "loras" not in self.preset.values:
            parts = (stack or (), own or (), *([lora] for lora in tagged))
            note_job_loras(parts, prompt if tags else spec.node, self.problems)
        return joined

    def _scale(self, loras: list[Any], made: Combination, scales: Mapping[str, Any]) -> list[Any]:
        """The LoRAs with the scales of a matrix: that of a path, or else of the last LoRA."""
        for name, value in scales.items():
            path = _path(name)
            meant = [lora["path"] == path if path else n == len(loras) for n, lora in enumerate(loras, 1)]
            loras = [{**lora, "scale": value} if it else lora for lora, it in zip(loras, meant, strict=True)]
            self._scaled |= {axis for axis, _ in made.rows if name in axis.names} if any(meant) else set()
        return loras


def _named(value: Any, images: dict[str, LocalImage]) -> Any:
    """A value with the SHA-256 of each local image in its place; they are put among ``images``."""
    if isinstance(value, list):
        return [_named(item, images) for item in value]
    if isinstance(value, LocalImage):
        images[value.sha256] = value
        return value.sha256
    return value


def take_tags(text: str) -> tuple[str, list[str]]:
    """Take ``<lora:PATH:SCALE>`` out of a finished prompt; what is left, and the insides of the tags."""
    tags: list[str] = []
    if "<lora:" in text:
        tags = _TAG.findall(text)
        text = _TAG.sub("", text)
        text = re.sub(r"[ \t]{2,}", " ", text)
        text = re.sub(r"(?<!\s)\s+([,.;])", r"\1", text)
        text = re.sub(r"([,;])(?:\s*[,;])+", r"\1", text).strip(" ,;\t")
    if "<lora:" in text:  # what is left of them is not closed; an escaped one is still held
        tags.append("")
    return text.replace(HOLD + "1", "<").replace(HOLD + "0", HOLD), tags


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
    given = {*made.job.params, "model"} | ({"seed"} if made.job.seed is not None else set())
    places = {name: nodes[0].where for name, nodes in _nodes(made).items() if name in given or name == "seed"}
    places = {**dict.fromkeys(given - {"model"}, made.spec.node.where), **places}
    return places | {name: Where(option) for name, option in options.items() if name in (*places, "seed", "model")}


def parts(made: Made, name: str) -> Iterator[tuple[object, Where]]:
    """What a value of a job was made of, each part with its place: a prompt of variables, too, and LoRAs of stacks."""
    nodes = _nodes(made).get(name, [])
    yield from ((leaf.value, leaf.where) for node in nodes for leaf in node.leaves())


def _nodes(made: Made) -> dict[str, list[Node]]:
    """For each value of a job what set it; and then the variables of a prompt, and the stacks and tags of LoRAs."""
    spec, plan, prompt = made.spec, made.plan, made.plan.prompt.node
    found = {name: [node] for name, (_, node) in spec.values.items()} | {"prompt": [prompt]}
    found["loras"] = [*found.get("loras", []), *found.get("stack", [])]
    for axis, row in plan.at(made.index).rows:
        for column in axis.columns:
            name = "loras" if column.name == "stack" or column.name.startswith("scale") else column.name
            found[name] = [column.nodes[row], *found.get(name, [])]
    used = (spec.vars[name] for name in plan.options if isinstance(name, str))
    found["prompt"] += [variable.node for variable in used if not variable.many]
    names = [leaf.value for node in found["loras"] for leaf in node.leaves()]
    found["loras"] += [spec.stacks[name] for name in names if name in spec.stacks] + [prompt]
    return found
