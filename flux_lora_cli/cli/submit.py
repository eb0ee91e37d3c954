"""``flux-lora submit``: one task id a line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.options import SaveOptions, ServiceOptions, SpendOptions
from flux_lora_cli.cli.request_options import GenerateOptions, PromptOptions
from flux_lora_cli.cli.text_options import check_text
from flux_lora_cli.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from flux_lora_cli.domain.job import Job


def submit(
    prompts: PromptOptions,
    generate: GenerateOptions,
    spend: SpendOptions,
    service: ServiceOptions,
    save: SaveOptions,
    console: Console,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]", help="A prompt in quotes, or - for one a line.", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the tasks and save their images.")] = False,
) -> int:
    """Submit tasks; print one task id a line.

    It always submits: two equal requests are two tasks. Prompts are taken as they stand, unless --expand.
    With --wait the images are saved as by the wait command, and their paths are printed instead.
    """
    from flux_lora_cli.cli.service import check
    from flux_lora_cli.cli.submit_run import dry_run, run

    check(service)
    if save.filename is not None:
        from flux_lora_cli.domain.filenames import Template

        Template.parse(save.filename)
    texts = _prompts(prompt or [], prompts)
    jobs = _jobs(texts, prompts, generate, service)
    if spend.dry_run:
        return dry_run(jobs, spend, console)
    return run(jobs, (spend, save, service), console, wait=wait)


def _prompts(positional: list[str], options: PromptOptions) -> list[str]:
    if len(positional) > 1:
        raise UsageError(
            f"submit takes one prompt, and got {len(positional)}: {' | '.join(positional[:4])}; quote the prompt",
            'For example: flux-lora submit "a cat on the moon". Several prompts: repeat -p.',
        )
    texts = list(options.prompt_option or [])
    check_text("PROMPT", *positional)
    check_text("--prompt", *texts)
    check_text("--stack", options.stack or "")
    check_text("--job", options.job or "")
    if positional == ["-"]:
        if texts:
            raise UsageError("- reads the prompts from standard input; -p cannot be added to it")
        return _lines()
    return [*positional, *texts]


def _lines() -> list[str]:
    from flux_lora_cli.domain.presets.text_readers import split_lines

    stream = sys.stdin.buffer if sys.stdin is not None else None
    data = stream.read() if stream is not None else b""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 (byte {error.start + 1})") from None
    lines = [line.strip() for line in split_lines(text)]
    lines = [line for line in lines if line]
    if not lines:
        raise NotFoundError("no prompt came in on standard input", "The command before may have failed.")
    return lines


def _jobs(texts: list[str], prompts: PromptOptions, generate: GenerateOptions, service: ServiceOptions) -> list[Job]:
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles
    from flux_lora_cli.cli.generate import load_options
    from flux_lora_cli.domain.presets.loading import LoadOptions
    from flux_lora_cli.domain.presets.prompts import build_prompt_jobs

    return build_prompt_jobs(
        texts,
        FolderPresetFiles(generate.allow_path or ()),
        LoadOptions(**load_options(generate, service.api_version, expand=prompts.expand)),
        preset=prompts.preset,
        stack=prompts.stack,
        job=prompts.job,
    )


def default_folder(service: ServiceOptions, output: Path | None) -> Path:
    """Where ``wait`` saves: ``-o``, else one folder for all, apart for the sandbox."""
    return output or Path("flux-lora-output-sandbox" if service.sandbox else "flux-lora-output")


command = build(
    submit,
    "submit",
    examples="""\
  flux-lora submit --sandbox "a cat"
  flux-lora submit "a cat" | flux-lora wait -
  flux-lora submit -p "a cat" -p "a dog" --steps 12 --lora owner/name:0.8
  flux-lora submit --preset posters.yaml --stack nasa "a lunar base"
  cat prompts.txt | flux-lora submit - --max-cost 1""",
)
