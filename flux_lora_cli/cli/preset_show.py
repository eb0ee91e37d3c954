"""``flux-lora preset show``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.completion import job_ids, preset_files
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.option_values import choice
from flux_lora_cli.cli.reporter import counted
from flux_lora_cli.cli.request_options import GenerateOptions
from flux_lora_cli.cli.table import screen, table
from flux_lora_cli.cli.text_options import check_text
from flux_lora_cli.domain.events import Record
from flux_lora_cli.domain.text import is_plain, json_line, printable

if TYPE_CHECKING:
    from flux_lora_cli.domain.job import Job

#: Shown for a seed that is drawn when the job is submitted.
RANDOM = "random"


def show(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE… | -", help="Presets.", show_default=False, autocompletion=preset_files),
    ],
    generate: GenerateOptions,
    console: Console,
    as_: Annotated[str, typer.Option("--as", metavar="table|yaml|jsonl", help="How the jobs are written.")] = "table",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="GLOB", help="Only these job ids; repeatable.", autocompletion=job_ids),
    ] = None,
    max_jobs: Annotated[int, typer.Option("--max-jobs", min=1, metavar="N", help="More is an error.")] = 1000,
    expand: Annotated[bool, typer.Option("--expand", help="Expand prompts of .txt, .csv, .jsonl.")] = False,
    api_version: Annotated[str, typer.Option("--api-version", metavar="v2|v3", help="API version.")] = "v2",
) -> None:
    """Print the expanded jobs, exactly as they will be sent. Nothing is sent or spent."""
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.cli.generate import load_options
    from flux_lora_cli.domain.presets import LoadOptions, load_sources

    choice("--as", as_, ("table", "yaml", "jsonl"))
    choice("--api-version", api_version, ("v2", "v3"))
    check_text("--only", *(only or ()))
    stdin = sys.stdin.buffer.read() if "-" in files else None
    options = LoadOptions(
        **load_options(generate, api_version, only=only or (), max_jobs=max_jobs, expand=expand, stdin=stdin)
    )
    loaded = load_sources(files, FolderPresetFiles(generate.allow_path or ()), options)
    console.summary.update(jobs=len(loaded.jobs))
    for job in loaded.jobs:
        if console.json:
            console.event(Record("job", as_sent(job, api_version)))
    if not console.json:
        for line in _WRITERS[as_](loaded.jobs, api_version):
            console.result(line)
    part = f" of {loaded.total}" if len(loaded.jobs) != loaded.total else ""
    how = f" ({loaded.multiplication})" if "=" in loaded.multiplication else ""
    console.info(f"{counted(len(loaded.jobs), 'job')}{part}{how}")


def as_sent(job: Job, api_version: str) -> dict[str, Any]:
    """A job as its request will be; a local image by its path, a seed to be drawn as "random"."""
    from flux_lora_cli.domain.parameters import find_model, request_input

    params = dict(job.params)
    if job.image is not None:
        params["image"] = _shown(Path(job.image.path))
    seed: Any = RANDOM if job.seed is None else job.seed
    body = request_input(find_model(job.model), params, seed, api_version)
    return {"id": job.id, "preset": job.preset, "model": job.model, "input": body}


def _shown(path: Path) -> str:
    """A path as somebody here would write it: what is shown of a repository is the same on every machine."""
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)


def _jsonl(jobs: Sequence[Job], api_version: str) -> Iterator[str]:
    for job in jobs:
        yield json_line(as_sent(job, api_version))


def _yaml(jobs: Sequence[Job], api_version: str) -> Iterator[str]:
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # either of the two
        """Writes text that is not plain in double quotes, on one line: no line of it stands alone in a log."""

    def quoted(dumper: Any, text: str) -> Any:
        style = None if is_plain(text) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, quoted)
    for job in jobs:
        text: str = yaml.dump(
            [as_sent(job, api_version)], Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1_000_000_000
        )
        yield printable(text.rstrip("\n"), keep_newlines=True)


def _table(jobs: Sequence[Job], api_version: str) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("JOB", "SEED", "SIZE", "STEPS", "LORAS", "PROMPT")]
    rows += [_row(as_sent(job, api_version)) for job in jobs]
    yield from table(rows, screen())


def _row(sent: dict[str, Any]) -> tuple[str, ...]:
    body = sent["input"]
    loras = ", ".join(f"{lora['path'].rpartition('/')[2]}:{lora['scale']:g}" for lora in body.get("loras", ()))
    cells = (
        sent["id"],
        body.get("seed", ""),
        body.get("size", ""),
        body.get("num_inference_steps", ""),
        loras or "-",
        body.get("prompt", ""),
    )
    return tuple(printable(str(cell)) for cell in cells)


_WRITERS = {"table": _table, "yaml": _yaml, "jsonl": _jsonl}

command = build(
    show,
    "show",
    examples="""\
  flux-lora preset show presets/posters.yaml
  flux-lora preset show presets/posters.yaml --as jsonl --steps 12""",
)
