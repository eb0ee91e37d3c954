"""``flux-lora preset show``: the jobs of presets, exactly as they would be submitted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flux_lora_cli.commands.console import Console, print_table, value_text
from flux_lora_cli.commands.inputs import load_options, offline_service, selection, warn_unchecked
from flux_lora_cli.commands.options import (
    ExpandOptions,
    Files,
    GenerateOptions,
    Only,
    OnlyFile,
    Strict,
    command,
    flag,
    option,
)
from flux_lora_cli.text import counted, masked, printable, quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.job import Job, LocalImage
    from flux_lora_cli.presets.load import Loaded, LoadOptions

EXAMPLES = """
flux-lora preset show presets/posters.yaml
flux-lora preset show presets/posters.yaml --why
flux-lora preset show presets/posters.yaml --steps 12 --as yaml
"""

As = Literal["table", "yaml"]


@command
def preset_show(
    files: Files,
    *,
    why: Annotated[bool, flag("--why", "Print file and line of each value.")] = False,
    as_: Annotated[As, option("--as", "table|yaml", "Form (default: table).")] = "table",
    only: Only = None,
    only_file: OnlyFile = None,
    strict: Strict = False,
    generate: GenerateOptions,
    options: ExpandOptions,
    console: Console,
) -> int:
    """Show the expanded jobs, exactly as they would be submitted. Nothing is sent or spent.

    What all jobs share stands first, then a table of what differs. With --why, each value comes with the file and
    line that set it, through "extends" too.
    """
    from flux_lora_cli.presets.load import load_presets

    chosen = selection(files, options, only, only_file)
    settings = load_options(generate, offline_service(options.api_version), strict=strict, **chosen)
    loaded = load_presets(*files, options=settings, allow=generate.allow_path or ())
    views = [View.of(job, loaded, settings) for job in loaded.jobs]
    console.summary.update(jobs=len(views))
    for view in views:
        console.record("job", view.sent | ({"why": view.places} if why else {}))
    if as_ == "yaml":
        for view in views:
            console.result(sent_as_yaml(view.sent))
    elif views:
        _print_jobs(views, why, console)
    for note in loaded.notes:
        console.note(note)
    warn_unchecked((preset.model.id for preset in loaded.presets), settings.models, options.api_version, console)
    part = f" of {loaded.total:,}" if len(views) != loaded.total else ""
    how = f" ({loaded.multiplication})" if "=" in loaded.multiplication else ""
    console.info(f"{counted(len(views), 'job')}{part}{how}")
    for line in loaded.sums:
        console.explain(line)
    return 0


@dataclass(frozen=True)
class View:
    """A job as it will be sent; a local image by its path, a seed that will be drawn as ``random``, secrets masked.

    Attributes:
        places: parameter → where its value comes from.
    """

    sent: dict[str, Any]
    places: dict[str, str]

    @classmethod
    def of(cls, job: Job, loaded: Loaded, options: LoadOptions) -> View:
        """The view of one of the jobs that were loaded under these options."""
        model = options.models.find(job.model, options.api_version, allow_unknown=options.allow_unknown_model)
        params = {name: job.with_images(value, _from_here) for name, value in job.params.items()}
        request = model.request(params, job.seed or 0)
        if "seed" in request and job.seed is None:
            request["seed"] = "random"
        where = {name: f"{at.file}:{at.line}" if at.line else at.file for name, at in loaded.provenance(job).items()}
        places = {"model": "default"} | where | {name: where.get(name, f"default of {model.short}") for name in request}
        if job.seed is None and "seed" not in where:
            places["seed"] = "drawn when submitted"
        return cls(masked({"id": job.id, "preset": job.preset, "model": job.model, "input": request}), places)

    def cells(self, why: bool) -> dict[str, tuple[str, str]]:
        """Each value as text, with its place where that is asked for; the model first, the long ones last."""
        values = {"model": self.sent["model"], **self.sent["input"]}
        names = sorted(values, key=lambda name: (name == "prompt", name == "loras"))
        return {name: (value_text(values[name], _scalar), self.places.get(name, "") if why else "") for name in names}


def _print_jobs(views: Sequence[View], why: bool, console: Console) -> None:
    """What all jobs share, and what differs; what a job does not have is shown as ``-``."""
    cells = [view.cells(why) for view in views]
    names = list(dict.fromkeys(name for each in cells for name in each))
    columns = {name: [each.get(name, ("-", "")) for each in cells] for name in names}
    shared = {name: column[0] for name, column in columns.items() if len(set(column)) == 1}
    ids = [view.sent["id"] for view in views]
    everyone = "all jobs" if len(ids) > 1 else ids[0]
    if why:
        rows = [[everyone, name, place, text] for name, (text, place) in shared.items()]
        for job, values in zip(ids, cells, strict=True):
            rows += [[job, name, place, text] for name, (text, place) in values.items() if name not in shared]
        print_table([["JOB", "PARAMETER", "FROM", "VALUE"], *rows], console)
        return
    print_table([[everyone, ""], *([name, text] for name, (text, _) in shared.items())], console)
    if len(ids) > 1:
        left = [name for name in names if name not in shared]
        rows = [[job, *(columns[name][at][0] for name in left)] for at, job in enumerate(ids)]
        console.result("")
        print_table([["JOB", *map(str.upper, left)], *rows], console)


def sent_as_yaml(sent: dict[str, Any]) -> str:
    """A job as an item of a YAML list; text that is not plain stands in double quotes, on one line."""
    import yaml

    from flux_lora_cli.presets.read import resolve

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: Any, value: str) -> Any:
        # Readers of YAML 1.2 take 1e5 for a number, and PyYAML, which writes 1.1, does not.
        plain = value == printable(value) and not value.lstrip().startswith(":") and resolve(value) in (value, None)
        style = None if plain else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    item = yaml.dump([sent], Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1_000_000_000)
    return printable(item.rstrip("\n"), keep_newlines=True)


def _scalar(value: Any) -> str:
    return value or '""' if isinstance(value, str) else quoted(value)


def _from_here(image: LocalImage) -> str:
    return os.path.relpath(image.path)
