"""``flux-lora preset check``: every problem of presets, before anything is spent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flux_lora_cli.commands.console import Console, plain
from flux_lora_cli.commands.inputs import load_options, offline_service, selection, warn_unchecked
from flux_lora_cli.commands.options import ExpandOptions, Files, ModelsOptions, Strict, command, option
from flux_lora_cli.errors import FluxLoraError, PresetError
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
    from flux_lora_cli.presets.load import load_presets
    from flux_lora_cli.presets.notes import KINDS

    def annotate(level: str, text: str, *place: Any) -> None:
        """Mark a place for GitHub: among the results, or, where those are NDJSON, among the messages."""
        if format == "github":
            (console.annotate if console.json else console.result)(annotation(level, text, *place))

    def tell(level: str, item: Any) -> None:
        if console.json:
            (console.problem if level == "error" else console.note)(item)
        elif format == "text":
            console.result(plain(item))
        annotate(level, item.text, item.file, item.line, item.column)

    try:
        chosen = selection(files, options)
        service = offline_service(options.api_version)
        settings = load_options(models, service, strict=strict, require_jobs=False, **chosen)
        loaded = load_presets(*files, options=settings, allow=models.allow_path or ())
    except FluxLoraError as error:
        problems: tuple[Any, ...] = error.problems
        for problem in problems:
            tell("error", problem)
        if not problems:
            annotate("error", f"{error.message} {error.hint}".strip())
        console.summary.update(files=len(files), problems=len(problems))
        if isinstance(error, PresetError):
            raise PresetError(error.message, error.hint) from None  # its problems were told
        raise
    for note in loaded.notes:
        tell("warning", note)
    for kind in dict.fromkeys(note.kind for note in loaded.notes):
        console.explain(f"{kind}: {KINDS[kind].reason}; to silence it, {KINDS[kind].silence}")
    warn_unchecked((preset.model.id for preset in loaded.presets), settings.models, options.api_version, console)
    for preset in loaded.presets:
        data = {"file": preset.file, "name": preset.name, "jobs": preset.jobs, "model": preset.model.id}
        console.record("preset", data)
        for line in preset.sums:
            console.explain(f"{preset.file}: {line}")
    console.summary.update(files=len(loaded.presets), problems=0, notes=len(loaded.notes), jobs=loaded.total)
    how = f" ({loaded.multiplication})" if "=" in loaded.multiplication else ""
    notes = f", {counted(len(loaded.notes), 'note')}" if loaded.notes else ""
    console.info(f"{counted(len(loaded.presets), 'preset')} OK, {counted(loaded.total, 'job')}{how}{notes}")
    return 0
