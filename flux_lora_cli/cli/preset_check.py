"""``flux-lora preset check``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.completion import preset_files
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.github import annotation
from flux_lora_cli.cli.option_values import choice
from flux_lora_cli.cli.reporter import counted
from flux_lora_cli.domain.events import Record
from flux_lora_cli.domain.text import no_command, printable
from flux_lora_cli.errors import ExitCode, NotFoundError, PresetError

if TYPE_CHECKING:
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
    console.summary.update(files=len(files), invalid=sum(1 for code in codes if code), jobs=checker.jobs)
    _conclude(codes, checker.jobs, console)
    return max(codes, key=lambda code: (code == ExitCode.NOT_FOUND, code), default=ExitCode.OK)


def _conclude(codes: list[int], jobs: int, console: Console) -> None:
    noun = "preset" if len(codes) == 1 else "presets"
    bad = sum(1 for code in codes if code)
    if not bad:
        console.info(f"{len(codes)} {noun} good, {counted(jobs, 'job')}")
        return
    message = f"{bad} of {len(codes)} {noun} invalid; nothing was sent"
    if console.json and ExitCode.PRESET in codes:
        console.error(PresetError(message))
    else:
        console.info(message)


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
            self._annotate(f"{error.message} {error.hint}".strip(), path)
            return ExitCode.NOT_FOUND
        except PresetError as error:
            for problem in error.problems:
                self._problem(problem)  # type: ignore[arg-type]  # of presets, problems are Problem
            return ExitCode.PRESET
        self._good(path, loaded)
        return ExitCode.OK

    def _problem(self, problem: Problem) -> None:
        if self._console.json:
            self._console.problem(problem)
        elif not self._github:
            self._console.result(no_command(str(problem)))
        self._annotate(problem.text, str(problem.file), problem.line, problem.column)

    def _annotate(self, text: str, file: str, line: int = 0, column: int = 0) -> None:
        """Mark a place for GitHub: among the results, or, where those are NDJSON, among the messages."""
        if not self._github:
            return
        command = annotation("error", printable(text, keep_newlines=True), printable(file), line, column)
        if self._console.json:
            self._console.annotate(command)
        else:
            self._console.result(command)

    def _good(self, path: str, loaded: Loaded) -> None:
        self.jobs += loaded.total
        for preset in loaded.presets:
            data = {"file": path, "name": preset.name, "jobs": preset.jobs, "model": preset.model}
            self._console.event(Record("preset", data))
        self._console.explain(f"{path}: {loaded.multiplication} jobs")


command = build(
    check,
    "check",
    examples="""\
  flux-lora preset check presets/*.yaml
  flux-lora preset check --format github presets/*.yaml""",
)
