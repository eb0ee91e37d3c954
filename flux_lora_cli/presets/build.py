"""One source into specs: defaults, axes and prompts put together, and what is checked of the whole."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flux_lora_cli.errors import NotFoundError
from flux_lora_cli.presets import notes
from flux_lora_cli.presets.expand import Plan, job_count, number, plans
from flux_lora_cli.presets.job import Where
from flux_lora_cli.presets.labels import MAX_SLUG, Names, digest, label
from flux_lora_cli.presets.language import JOB_KEYS, preset_language
from flux_lora_cli.presets.lists import looks_like_table, prompt_lines
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.prompts import Budget, PromptReader, TooMany, words_of
from flux_lora_cli.presets.shapes import BAD, Context, Spot
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.presets.spec import Axis, Loras, Placed, Prompt, Sections, Spec, Variable, prompts_of
from flux_lora_cli.service.models import Model
from flux_lora_cli.text import nearest, quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.load import LoadOptions

#: With ``--max-jobs``, at most.
MOST_JOBS = 10_000_000
#: Jobs, and prompts, that are read of one file where ``--max-jobs`` is lower; each costs 2 KB and 50 µs [measured].
MAX_READ = 20_000
#: How much may be read again that jobs share, for each job of a file that may be read.
_AGAIN = 40
#: What a job sets besides parameters, stack and LoRAs.
_NO_PARAMETERS = {*JOB_KEYS, "prompt", "model"} - {"stack"}


class Preset:
    """One source, by the tables of its model: once it is built, its jobs, ready to expand."""

    def __init__(
        self, source: Source, model: Model, values: Mapping[str, Any], stack: str | Sequence[str] | None,
        options: LoadOptions, files: Files, problems: Problems, literal: bool,
    ) -> None:  # fmt: skip
        self.source = source
        self.name = Path(source.name).stem or source.name
        self.description = ""
        self.model = model
        self.values = values  # what the command line sets in every job
        self._stack = [stack] if isinstance(stack, str) else stack  # the names of ``--stack``
        self.stack: Loras | None = None  # the LoRAs of ``--stack``
        self.specs: list[Spec] = []
        self.line = 1  # where the jobs begin
        self.read: dict[str, str] = {}  # the SHA-256 of each further file that was read, by name
        self.most = min(max(options.max_jobs or MOST_JOBS, MAX_READ), MOST_JOBS)
        self.language = preset_language(model)
        self.context = Context(problems, model, files)
        self.problems = problems
        self.shared = Spec(Node({}, source, 1, 1), "defaults")  # what every job starts from
        self._options = options
        self._literal = literal  # prompts are taken as they stand
        no_stack = ["stack"] if stack is not None or "loras" in values else []
        self._dropped = set() if options.keep_ids else {*values, *no_stack}
        self._sections = Sections(self.context)
        self._reader = PromptReader(files, problems, self._told)
        self._again = Budget(self.most * _AGAIN, "what the jobs share")
        self._files_of_prompts: dict[tuple[str, str], list[Prompt] | str] = {}
        self._has_images = False

    @property
    def file(self) -> str:
        return self.source.name

    @property
    def stacks(self) -> Mapping[str, Loras]:
        return self._sections.stacks

    @property
    def wanted(self) -> list[Spec]:
        return [spec for spec in self.specs if not spec.skip]

    @property
    def jobs(self) -> int:
        """How many there will be."""
        return sum(map(job_count, self.wanted))

    def too_many(self, total: int, how: str = "") -> None:
        """Refuse so many jobs; ``how`` they come about."""
        more = f"preset check and batch --max-jobs {number(total)} allow them"
        message = f"expands to {how or total} jobs, more than the limit of {self._options.max_jobs}; {more}"
        self.problems.at(Where(self.file, self.line, 1), "jobs", message)

    def _told(self, source: Source) -> None:
        self.read[source.name] = source.sha256

    # ---- a document ------------------------------------------------------------------------------

    def build(self, document: Node, *, is_prompts: bool = False) -> None:
        """Read a whole document; ``is_prompts``: its jobs are prompts of the command line. Raises NotFoundError."""
        jobs, typed = document.get("jobs"), self._share(document)
        if jobs is None and self._options.require_jobs and not self.problems:
            self.problems.add(document, "jobs", "there are none; a preset to run has jobs, each - prompt: …")
        if jobs is not None and isinstance(jobs.value, list):
            self.line = jobs.line if jobs.source is self.source else 1
            if len(jobs.items) > self.most:
                self.too_many(len(jobs.items))
                typed = []
            for index, (node, job) in enumerate(zip(jobs.items, typed, strict=False)):
                if job is not BAD and not self._again.spent:
                    self.specs.append(self._job(node, "" if is_prompts else f"jobs[{index}]", job))
        if self.specs and not is_prompts:
            self._note_unused()
        self._name_jobs()
        for name in self._stack or ():
            if name not in self.stacks:
                raise NotFoundError(f"{self.file}: {self._sections.unknown_stack(name)}")
        if self._stack is not None:
            self.stack = tuple(lora for name in self._stack for lora in self.stacks[name])

    def _share(self, document: Node) -> list[Any]:
        """Check a whole document, and keep what its jobs share; the jobs, typed."""
        typed = self.language.check(Spot(document, "", self.context))
        sections = {} if typed is BAD else {name: value for name, (value, _) in typed.items()}
        self.name, self.description = sections.get("name", self.name), sections.get("description", "")
        shared = self.shared
        for name, (loras, place) in sections.get("stacks", {}).items():
            self._sections.stacks[name] = tuple(loras)
            shared.stacks[name] = place
            self._sections.note_loras(loras, place)
        shared.values |= self._sections.values(sections.get("defaults", {}), "defaults")
        if "prompt" in shared.values:
            shared.prompts = [Prompt(*shared.values["prompt"])]
        shared.vars = self._sections.variables(sections.get("vars", {}), "vars", {})
        shared.axes = self._sections.axes({} if typed is BAD else typed, "")
        jobs: list[Any] = sections.get("jobs", [])
        return jobs

    def _job(self, node: Node, key: str, typed: Placed) -> Spec:
        """One of its jobs, its prompts parsed."""
        shared, own = self.shared, self._sections.values(typed, key)
        spec = Spec(node, key, {**shared.values, **own}, shared.vars, shared.stacks, literal=self._literal)
        if "vars" in typed:
            own_vars = self._sections.variables(typed["vars"][0], f"{key}.vars", shared.vars)
            spec.vars = ChainMap(own_vars, cast(dict[str, Variable], shared.vars))
        spec.params = {name: value for name, (value, _) in spec.values.items() if name not in _NO_PARAMETERS}
        spec.axes = self._axes_of(spec, typed)
        spec.prompts = self._prompts(spec, own)
        self._check_effects(spec)
        if "id" in node.entries:
            spec.id = spec.get("id") or digest(key)
        elif spec.prompts and spec.prompts[0].axis is None:
            spec.id = label(words_of(spec.prompts[0].text or ""), MAX_SLUG)
        try:
            spec.plans = [plan for prompt in spec.prompts for plan in self._plans(spec, prompt)]
        except TooMany:
            why = "too much to read: what the jobs share (prompts, variables, axes) is read again for each of them"
            self.problems.add(node, key, f"{why}; a higher --max-jobs allows more")
        return spec

    def _axes_of(self, spec: Spec, typed: Placed) -> list[Axis]:
        """The axes that multiply a job: those of the file, but for keys that it sets itself, and its own."""
        entries, shared = spec.node.entries, self.shared.axes
        own = self._sections.axes(typed, f"{spec.key}.")
        set_here = {*entries, *(["prompt"] if "prompts_file" in entries else [])}
        for axis in own:
            for name in set_here.intersection(axis.names):
                self.problems.add(axis.place, axis.key, f"the job sets {name} itself, too; leave one out")
        set_here.update(name for axis in own for name in axis.names)
        own_zip = any(axis.tied for axis in own)
        used = [axis for axis in shared if not (own_zip and axis.tied) and not set_here.issuperset(axis.names)]
        for axis in used:
            axis.used = True
        order = [axis.name for axis in shared]
        own.sort(key=lambda axis: (axis.tied, order.index(axis.name) if axis.name in order else len(order)))
        left = [axis.without(set_here) for axis in used] + own
        gone = {name for axis in left if axis for name in axis.names if self._is_dropped(name)}
        return [kept for axis in left if axis and (kept := axis.without(gone))]

    def _is_dropped(self, name: str) -> bool:
        """Whether the command line sets it, so that no axis of it multiplies."""
        return name in self._dropped or (name.startswith("scale") and "loras" in self._dropped)

    # ---- prompts ---------------------------------------------------------------------------------

    def _prompts(self, spec: Spec, own: Placed) -> Sequence[Prompt]:
        """The prompts of a job; none where they are refused."""
        node, entries = spec.node, spec.node.entries
        if "prompts_file" in entries:
            if "prompt" in entries:
                message = "a job takes prompt or prompts_file, not both"
                self.problems.add(node.key("prompts_file"), f"{spec.key}.prompts_file", message)
            return self._prompts_file(own["prompts_file"][1], spec.key) if "prompts_file" in own else ()
        if "prompt" in entries:
            return [Prompt(*own["prompt"])] if "prompt" in own else ()
        for axis in spec.axes:
            if "prompt" in axis.names:
                spec.axes.remove(axis)
                return axis.prompts
        if self.shared.prompts:
            return self.shared.prompts
        if "prompt" not in self.model.parameters or not self.model.checked:
            return [Prompt(None, node)]
        if not nearest("prompt", (name for name in entries if name not in own)):  # else misspelled, which is told
            message = 'no prompt; a job has prompt or prompts_file (for none at all write prompt: "")'
            self.problems.add(node, spec.key, message)
        return ()

    def _prompts_file(self, node: Node, key: str) -> list[Prompt]:
        """The prompts of a file, which is read once for all jobs."""
        file = (node.source.folder, node.value)
        if file not in self._files_of_prompts:
            self._files_of_prompts[file] = self._read_prompts(node)
        found = self._files_of_prompts[file]
        if isinstance(found, str):
            self.problems.add(node, f"{key}.prompts_file", f"{quoted(node.value)}: {found}")
            return []
        return found

    def _read_prompts(self, node: Node) -> list[Prompt] | str:
        """The prompts of a file; none where its problems were noted; or why it is refused."""
        try:
            source, text = self.context.files.text(node.value, node.source, self.problems)
        except Refused as error:
            return str(error)
        if text is None:
            return []
        if why := looks_like_table(text):
            return f"is {why}"
        lines = list(islice(prompt_lines(text, source), self.most + 1))
        if not lines or len(lines) > self.most:
            return f"has more than {self.most} prompts (--max-jobs)" if lines else "has no prompts"
        self._told(source)
        notes.note_list("txt", lines, self._literal, self.problems)
        return prompts_of(lines, "prompts_file", node)

    def _plans(self, spec: Spec, prompt: Prompt) -> list[Plan]:
        """Raises TooMany: too much is read again."""
        key, text, budget = f"{spec.key}.prompt".removeprefix("."), prompt.text or "", self._reader.budget
        is_new = not prompt.parts
        if is_new or spec.vars is not self.shared.vars:
            notes.note_prompt(text, prompt.node, self.problems, spec.vars, literal=self._literal)
        if not is_new:
            self._again.spend(len(prompt.parts) + 4 + len(text) // 40)
        try:
            if is_new:
                prompt.parts = [text]
                if not self._literal:
                    prompt.parts = self._reader.parse(prompt.node, key, spec.node.source) or [text]
            variables = {} if self._literal else self._reader.variables(prompt.parts, spec.vars, prompt.node, key)
            if variables is not None:
                return [*plans(prompt, prompt.parts, variables, spec.axes, budget)]
        except TooMany as error:
            self.problems.add(prompt.node, key, str(error))
        return [*plans(prompt, [text], {}, spec.axes, budget)]

    # ---- the whole -------------------------------------------------------------------------------

    def _check_effects(self, spec: Spec) -> None:
        """Note parameters without effect; refuse a request that lacks what its model requires."""
        node, rows = spec.node, self.model.parameters
        along = {column.name: column.nodes[0] for axis in spec.axes for column in axis.columns}
        given = {*along, *self._dropped, *(name for name, value in spec.params.items() if value)}
        given |= {name for name, item in node.entries.items() if item.value}  # what is refused was given, too
        has_image = bool(given & {"image", "images"})
        self._has_images |= has_image
        for name in ("strength", "mask_image"):
            place = node.get(name) or along.get(name)
            if place is not None and not has_image and name in rows:
                self.problems.note(place.where, "no-effect", f"{name} has no effect without an image")
        if "sample_seed" in node.entries and "sample" not in node.entries:
            self.problems.note(node.key("sample_seed").where, "no-effect", "sample_seed has no effect without sample")
        for name, row in rows.items():
            if row.required and name not in ("prompt", "seed", "loras") and name not in given:
                self.problems.add(node, spec.key, f"{self.model.short} needs {name}: {row.allowed}")
        empty = [each for each in spec.prompts if each.text is not None and not each.text.strip()]
        for prompt in empty if "prompt" in rows and "prompt" not in self._dropped else ():
            if rows["prompt"].required:
                self.problems.add(prompt.node, f"{spec.key}.prompt", f"{self.model.short} needs a prompt")
            elif not has_image:
                why = "an empty prompt without an image shows nothing asked for"
                self.problems.note(prompt.node.where, "no-effect", why)

    def _note_unused(self) -> None:
        """Note what nothing in the main file uses: variables, stacks, axes, a strength."""
        shared, used = self.shared, self._sections.used_stacks
        idle = [each for each in shared.vars.values() if each.options is None]
        unused = [(each.node, f"the variable {quoted(each.name)} is not used by any prompt") for each in idle]
        left = [(node, name) for name, node in shared.stacks.items() if name not in used]
        unused += [(node, f"the stack {quoted(name)} is not used by any job") for node, name in left]
        own = [(node, "unused", message) for node, message in unused if node.source is self.source]
        found = [] if own and self.source.real and self.context.files.is_extended(self.source) else own
        if "strength" in shared.values and not self._has_images:
            found.append((shared.place("strength"), "no-effect", "strength has no effect: no job has an image"))
        for axis in shared.axes:
            why = "" if axis.used else f"multiplies nothing: every job sets {axis.name} itself"
            if self._dropped.intersection(axis.names):
                why = "is replaced by what the command line sets"
            if why:
                found.append((axis.place, "axis", f"{axis.key} {why}"))
        for place, kind, message in found:
            if place.source is self.source:
                self.problems.note(place.where, kind, message)

    def _name_jobs(self) -> None:
        """Check that the IDs of the file are unique, and make the others so, whatever stands elsewhere in it."""
        first: dict[str, Node] = {}
        for spec in self.specs:
            if "id" in spec.values:
                place = first.get(spec.id)
                if place is not None:
                    message = f"the ID {quoted(spec.id)} is a duplicate; it is already in line {place.line}"
                    self.problems.add(spec.place("id"), f"{spec.key}.id", message)
                first.setdefault(spec.id, spec.place("id"))
        names = Names(first)
        for spec in self.specs:
            if "id" not in spec.values and spec.id and spec.prompts:
                params = [str(item) for item in spec.params.items() if item[0] not in ("stack", "loras", "seed")]
                content = f"{spec.prompts[0].text} {sorted(params)} {spec.get('seed')}"
                spec.id = names.take(spec.id, content)
