"""``flux-lora preset show``: the jobs of presets, exactly as they would be submitted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flux_lora_cli.commands.console import Console, print_table, value_text
from flux_lora_cli.commands.inputs import load, request, selection, tell_notes
from flux_lora_cli.commands.options import (
    ExpandOptions,
    Files,
    GenerateOptions,
    Only,
    OnlyFile,
    ServiceOptions,
    Strict,
    command,
    flag,
    option,
)
from flux_lora_cli.text import counted, masked, quoted

if TYPE_CHECKING:
    from flux_lora_cli.presets.job import Job
    from flux_lora_cli.presets.load import Loaded

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
    selected = selection(files, options, only, only_file) | request(generate)
    loaded = load(files, generate, ServiceOptions.offline(options.api_version), selected, strict=strict)
    views = [_view(job, loaded) for job in loaded.jobs]
    console.summary.update(jobs=len(views))
    for sent, places in views:
        console.record("job", sent | ({"why": places} if why else {}))
    if as_ == "yaml":
        for sent, _ in views:
            console.result(sent_as_yaml(sent))
    elif views:
        _print_jobs(views, why, console)
    tell_notes(loaded, console)
    part = f" of {loaded.total:,}" if len(views) != loaded.total else ""
    console.info(f"{counted(len(views), 'job')}{part}{loaded.how}")
    for line in loaded.sums:
        console.explain(line)
    return 0


def _view(job: Job, loaded: Loaded) -> tuple[dict[str, Any], dict[str, str]]:
    """A job as it will be sent, and where the value of each parameter comes from.

    A local image stands there as its path, a seed that will be drawn as ``random``; secrets are masked.
    """
    model = loaded.models[job.model]
    params = {
        name: job.with_images(value, lambda image: os.path.relpath(image.path)) for name, value in job.params.items()
    }
    request = model.request(params, job.seed or 0)
    where = {name: f"{at.file}:{at.line}" if at.line else at.file for name, at in loaded.provenance(job).items()}
    places = {"model": "default"} | dict.fromkeys(request, f"default of {model.short}")
    if "seed" in request and job.seed is None:
        request["seed"], places["seed"] = "random", "drawn when submitted"
    return masked({"id": job.id, "preset": job.preset, "model": job.model, "input": request}), places | where


def _print_jobs(views: Sequence[tuple[dict[str, Any], dict[str, str]]], why: bool, console: Console) -> None:
    """What all jobs share, and what differs; what a job does not have is shown as ``-``."""
    cells = [(sent["id"], _cells(sent, places if why else {})) for sent, places in views]
    everyone, first = cells[0] if len(cells) == 1 else ("all jobs", cells[0][1])
    shared = {name: cell for name, cell in first.items() if all(each.get(name) == cell for _, each in cells)}
    left = [(job, {name: cell for name, cell in each.items() if name not in shared}) for job, each in cells]
    if why:
        rows = [[job, name, *cell] for job, each in [(everyone, shared), *left] for name, cell in each.items()]
        print_table([["JOB", "PARAMETER", "FROM", "VALUE"], *rows], console)
        return
    print_table([[everyone, ""], *([name, text] for name, (_, text) in shared.items())], console)
    if len(cells) > 1:
        names = dict.fromkeys(name for _, each in left for name in each)
        rows = [[job, *(each.get(name, ("", "-"))[1] for name in names)] for job, each in left]
        console.result("")
        print_table([["JOB", *map(str.upper, names)], *rows], console)


def _cells(sent: dict[str, Any], places: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Place and text of each value; the model first, the long ones last."""
    values = {"model": sent["model"], **sent["input"]}
    names = sorted(values, key=lambda name: (name == "prompt", name == "loras"))
    return {name: (places.get(name, ""), value_text(values[name], _scalar)) for name in names}


def _scalar(value: Any) -> str:
    return value or '""' if isinstance(value, str) else quoted(value)


def sent_as_yaml(sent: dict[str, Any]) -> str:
    """A job as an item of a YAML list."""
    from flux_lora_cli.presets.job import fields_as_yaml

    head = fields_as_yaml([(name, sent[name]) for name in ("id", "preset", "model")], "  ")
    return "\n".join(["- " + head[0].strip(), *head[1:], "  input:", *fields_as_yaml(sent["input"].items(), "    ")])
