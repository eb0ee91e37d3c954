"""``flux-lora preset check``: every problem of presets, before anything is spent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flux_lora_cli.commands.console import Console, plain
from flux_lora_cli.commands.inputs import load, selection, warn_unchecked
from flux_lora_cli.commands.options import ExpandOptions, Files, ModelsOptions, ServiceOptions, Strict, command, option
from flux_lora_cli.errors import FluxLoraError
from flux_lora_cli.text import counted

EXAMPLES = """
flux-lora preset check presets/*.yaml
flux-lora preset check --strict --format github presets/*.yaml
"""

Format = Literal["text", "github"]


@command
def preset_check(
    files: Files,
    models: ModelsOptions,
    options: ExpandOptions,
    console: Console,
    strict: Strict = False,
    format: Annotated[  # noqa: A002 - the option's name
        Format, option("--format", "text|github", "Print text (default) or GitHub annotations.")
    ] = "text",
) -> int:
    """Find every problem of presets. Nothing is sent or spent.

    Prints one line for each problem, FILE:LINE:COLUMN: message, and exits with 10, or with 0 if there is none. Notes
    say what is valid and probably not meant. With -v, also says how the number of jobs comes about, and
    what silences a note.
    """
    from flux_lora_cli.commands.ci import annotation
    from flux_lora_cli.presets.notes import KINDS

    def tell(found: Any, level: str = "error") -> None:
        """A problem or note, or an error without a place, among the results; of NDJSON, among the messages."""
        if console.json:
            (console.problem if level == "error" else console.note)(found)
        elif console.github:
            console.result(annotation(level, found.text, found.file, found.line, found.column))
        else:
            console.result(plain(found))

    console.github = format == "github"
    try:
        selected, service = selection(files, options), ServiceOptions.offline(options.api_version)
        loaded = load(files, models, service, selected, strict=strict, require_jobs=False)
    except FluxLoraError as error:
        console.summary.update(files=len(files), problems=len(error.problems))
        if not console.json:  # else they stand among the messages, as other errors do
            for problem in error.problems:
                tell(problem)
            if console.github and not error.problems:
                console.result(annotation("error", f"{error.message} {error.hint}"))
            console.github, error.problems = False, ()
        raise
    for note in loaded.notes:
        tell(note, "warning")
    for kind in dict.fromkeys(note.kind for note in loaded.notes):
        console.explain(f"{kind}: {KINDS[kind].reason}; to silence it, {KINDS[kind].silence}")
    warn_unchecked(loaded.models.values(), console)
    for preset in loaded.presets:
        data = {"file": preset.file, "name": preset.name, "jobs": preset.jobs, "model": preset.model.id}
        console.record("preset", data)
    for line in loaded.sums:
        console.explain(line)
    console.summary.update(files=len(loaded.presets), problems=0, notes=len(loaded.notes), jobs=loaded.total)
    notes = f", {counted(len(loaded.notes), 'note')}" if loaded.notes else ""
    console.info(f"{counted(len(loaded.presets), 'preset')} OK, {counted(loaded.total, 'job')}{loaded.how}{notes}")
    return 0
