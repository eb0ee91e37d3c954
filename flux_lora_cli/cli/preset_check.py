"""``flux-lora preset check``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.completion import preset_files
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.option_values import choice
from flux_lora_cli.cli.reporter import counted
from flux_lora_cli.domain.events import Record
from flux_lora_cli.domain.text import no_command, printable
from flux_lora_cli.errors import ExitCode, NotFoundError, PresetError

if TYPE_CHECKING:
    from pathlib import Path

    from flux_lora_cli.domain.presets import Loaded, LoadOptions, PresetFiles, Problem


def check(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE… | -", help="Presets.", show_default=False, autocompletion=preset_files),
    ],
    console: Console,
    max_jobs: Annotated[
        int, typer.Option("--max-jobs", min=1, metavar="N", help="More jobs than this are a problem.")
    ] = 1000,
    expand: Annotated[bool, typer.Option("--expand", help="Expand prompts of .txt, .csv, .jsonl.")] = False,
    format: Annotated[  # noqa: A002  # the option's name
        str, typer.Option("--format", metavar="text|github", help="How problems are written.")
    ] = "text",
    api_version: Annotated[str, typer.Option("--api-version", metavar="v2|v3", help="API version.")] = "v2",
    allow_unknown_model: Annotated[
        bool, typer.Option("--allow-unknown-model", help="Take a model without a parameter table.")
    ] = False,
    allow_path: Annotated[
        list[str] | None,
        typer.Option("--allow-path", metavar="DIR", help="Presets may read files below DIR; repeatable."),
    ] = None,
) -> int:
    """Find every problem of preset files. Nothing is sent or spent.

    Prints one line for each problem, FILE:LINE:COLUMN: message, and exits 10; or 0 if there is none.
    """
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.domain.presets import LoadOptions

    choice("--format", format, ("text", "github"))
    choice("--api-version", api_version, ("v2", "v3"))
    options = LoadOptions(
        max_jobs=max_jobs,
        expand=expand,
        api_version=api_version,
        allow_unknown_model=allow_unknown_model,
        require_jobs=False,
        stdin=sys.stdin.buffer.read() if "-" in files else None,
    )
    checker = _Check(console, FolderPresetFiles(allow_path or ()), options, format == "github")
    codes = [checker.file(path) for path in files]
    bad = sum(1 for code in codes if code)
    console.summary.update(files=len(files), invalid=bad, jobs=checker.jobs)
    noun = "preset" if len(files) == 1 else "presets"
    if bad:
        console.info(f"{bad} of {len(files)} {noun} invalid; nothing was sent")
    else:
        console.info(f"{len(files)} {noun} good, {counted(checker.jobs, 'job')}")
    return max(codes, key=lambda code: (code == ExitCode.NOT_FOUND, code), default=ExitCode.OK)


class _Check:
    def __init__(self, console: Console, files: PresetFiles, options: LoadOptions, github: bool) -> None:
        self._console = console
        self._files = files
        self._options = options
        self._github = github
        self.jobs = 0

    def file(self, path: str) -> int:
        from flux_lora_cli.domain.presets import load_sources

        try:
            loaded = load_sources([path], self._files, self._options)
        except NotFoundError as error:
            self._console.error(error)
            return ExitCode.NOT_FOUND
        except PresetError as error:
            for problem in error.problems:
                self._problem(problem)  # type: ignore[arg-type]  # of presets, problems are Problem
            if self._console.json:
                self._console.error(error)
            return ExitCode.PRESET
        self._good(path, loaded)
        return ExitCode.OK

    def _problem(self, problem: Problem) -> None:
        self._console.result(github_line(problem) if self._github else no_command(str(problem)))
        data = {
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "key": problem.key,
            "message": problem.message,
        }
        self._console.event(Record("problem", data))

    def _good(self, path: str, loaded: Loaded) -> None:
        self.jobs += loaded.total
        for preset in loaded.presets:
            data = {"file": path, "name": preset.name, "jobs": preset.jobs, "model": preset.model}
            self._console.event(Record("preset", data))
        self._console.explain(f"{path}: {loaded.multiplication} jobs")


def github_line(problem: Problem) -> str:
    """A workflow command of GitHub Actions that marks the line in the pull request."""
    place = f"file={_property(problem.file)},line={problem.line},col={problem.column}"
    return f"::error {place}::{_data(printable(problem.text, keep_newlines=True))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str | Path) -> str:
    return _data(printable(str(text))).replace(":", "%3A").replace(",", "%2C")


command = build(
    check,
    "check",
    examples="""\
  flux-lora preset check presets/*.yaml
  flux-lora preset check --format github presets/*.yaml""",
)
