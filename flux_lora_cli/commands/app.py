"""The command line as a whole: its commands, its help, and the one boundary between errors and exit codes.

How to add a command: give it a line in ``COMMANDS`` (``"preset check"`` for a command of a group), and write
``commands/NAME.py`` (a space as an underscore) with a function of the same name::

    EXAMPLES = "flux-lora verify out"       # optional; one command per line, for the end of the help

    @command                                # from options.py
    def verify(
        folder: Folder,                     # arguments and options: argument(), option(), flag(); those that
        strict: Annotated[bool, advanced_flag("--strict", "…")] = False,    # several commands have are in options.py
        *,
        service: ServiceOptions,            # groups of options: dataclasses
        console: Console,                   # where everything that is said goes
    ) -> int:                               # the exit code; or raise a FluxLoraError
        \"\"\"Check every file against the manifest.

        Further paragraphs of the help.
        \"\"\"
        from flux_lora_cli.folder.folders import verify_folder    # heavy imports inside

- Results: ``console.result(line)`` and ``console.record(kind, {...})``; both are always called, each prints in
  its own mode. Messages: ``console.info``, ``warn``, ``explain``. Counts for the last line: ``console.summary``.
- The service: ``with connected(service, console) as (client, name)``. A run: ``with running(...) as run``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.options import command, help_text
from flux_lora_cli.commands.signals import Ended
from flux_lora_cli.commands.usage import wrong_usage
from flux_lora_cli.commands.values import parser_of
from flux_lora_cli.errors import ExitCode, FluxLoraError, UsageError
from flux_lora_cli.text import nearest, quoted

PROGRAM = "flux-lora"
_ABOUT = (
    "Batch image generation with FLUX LoRA models.\n\nEvery prompt is paid for once, every image is kept, every "
    'image can be made again. Try it without a key: flux-lora submit --sandbox --wait "a cat"'
)
_MAKE, _RESULTS, _SERVICE = "Make images", "Results", "Service and tools"

#: Command → (help in one line, panel). Modules are imported when they are named on the command line.
COMMANDS: dict[str, tuple[str, str]] = {
    "submit": ("Submit tasks and print one task ID per line.", _MAKE),
    "status": ("Show the status of tasks (recent ones by default).", _MAKE),
    "wait": ("Wait for tasks, save their images, print the file paths.", _MAKE),
    "batch": ("Run presets to completion; run again to resume.", _MAKE),
    "preset": ("Check, show, list, start and compare presets; spends nothing.", _MAKE),
    "replay": ("Submit again the request that made an image.", _MAKE),
    "verify": ("Check every file of a folder against its manifest.", _RESULTS),
    "merge": ("Merge the folders of shards.", _RESULTS),
    "gallery": ("Build a web page of the results.", _RESULTS),
    "embed": ("Copy the images with their requests embedded.", _RESULTS),
    "models": ("List the models that take LoRAs, their parameters and prices.", _SERVICE),
    "audit": ("Check folders against the service's bill.", _SERVICE),
    "doctor": ("Check key, service, balance and folder.", _SERVICE),
    "schema": ("Print the JSON Schemas.", _SERVICE),
    "serve": ("Serve the API offline (the sandbox).", _SERVICE),
    "help": ("Show the options of a command; help agents: the guide for programs.", _SERVICE),
    "preset check": ("Check presets and count what they would make.", ""),
    "preset show": ("Show the jobs of presets as they would be submitted.", ""),
    "preset list": ("List the presets of a folder.", ""),
    "preset new": ("Write a preset to start from.", ""),
    "preset diff": ("Show what a change of presets would buy.", ""),
}


def run(arguments: Sequence[str]) -> int:
    """Run one command line to its exit code. Never raises."""
    console = Console()
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.json, console.plain = "--json" in options, console.plain or "--no-color" in options
    console.signals.catch()
    code = _guarded(arguments, console)
    console.finish(code)
    if console.closed and code not in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        code = ExitCode.CLOSED_OUTPUT
    console.settle()
    return int(code)


def run_typer(arguments: Sequence[str], console: Console) -> int:
    """Run one command line. Raises what the command raises."""
    return int(_group("")(list(arguments), prog_name=PROGRAM, standalone_mode=False, obj=console) or 0)


def _guarded(arguments: Sequence[str], console: Console) -> int:
    try:
        return run_typer(arguments, console)
    except FluxLoraError as error:
        console.error(error)
        return error.exit_code
    except Ended as ended:
        console.error(ended.error)
        return ended.error.exit_code
    except SystemExit as ended:  # completion ends so; fish reads from the code whether to offer files
        return ended.code if isinstance(ended.code, int) else ExitCode.OK
    except Exception as error:  # the program's own fault: say so without a wall of text
        return _bug(error, console)


def _bug(error: Exception, console: Console) -> int:
    """Own up to a fault of the program. What was paid is not known here, and nothing is promised about it."""
    import traceback

    key = os.environ.get("WAVESPEED_API_KEY") or "\0"
    if os.environ.get("FLUX_LORA_DEBUG"):
        console.complain(traceback.format_exc().replace(key, "***").rstrip())
    what = f"{type(error).__name__}: {error}".replace(key, "***")
    hint = "A bug: FLUX_LORA_DEBUG=1 shows where. Tasks may have been submitted; see `flux-lora status` first."
    console.error(FluxLoraError(f"internal error: {what}", hint))
    return ExitCode.INTERNAL


# ---- Typer -----------------------------------------------------------------------------------


class _Option(TyperOption):
    """An option that hands what stands on the command line to its parser itself.

    Typer puts pydantic between the two, whose import is a third of the start-up of any command [measured, 0.29.2].
    """

    def get_runtime_param(self) -> Any:
        return self

    def coerce(self, value: Any, **_: Any) -> Any:
        parse = self.type_descriptor.parameter_info.parser or parser_of(self.type_descriptor.annotation)
        if self.multiple or self.nargs == -1:
            return list(map(parse, value or ()))
        return None if value is None else parse(value)

    def display_type_rich(self, ctx: Any) -> str | None:
        return self.metavar


class _Argument(TyperArgument):
    """The same; the help shows it by its metavar alone, without the name of a Python type, as man pages do."""

    get_runtime_param = _Option.get_runtime_param
    coerce = _Option.coerce

    def display_type_rich(self, ctx: Any) -> None:
        return None


class _Ours:
    """A command or group with our parameters, and our words where they are wrong."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # Typer's
        for each in parameters:
            each.__class__ = _Argument if isinstance(each, TyperArgument) else _Option
        return parameters

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc, no-any-return]  # Typer's
        except typer.TyperException as error:
            raise wrong_usage(error, words, ctx.command_path) from None


class _Command(_Ours, TyperCommand):
    pass


class _Group(_Ours, TyperGroup):
    """The program, or a group of its commands; each is loaded when it is named on the command line."""

    def _full(self, name: str) -> str:
        return f"{self.name} {name}".lstrip()

    def list_commands(self, ctx: Any) -> list[str]:
        start = self._full("")
        rests = [name.removeprefix(start) for name in COMMANDS if name.startswith(start)]
        return [rest for rest in rests if " " not in rest]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What the help and completion list."""
        text, panel = COMMANDS[self._full(cmd_name)]
        return TyperCommand(cmd_name, short_help=_unmarked(text), rich_help_panel=panel or None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that runs. Raises UsageError."""
        word, names = args[0], self.list_commands(ctx)
        if word in names:
            name = self._full(word)
            is_group = any(each.startswith(f"{name} ") for each in COMMANDS)
            return word, _group(name) if is_group else _load(name), args[1:]
        if ctx.resilient_parsing:  # completion
            return None, None, args
        near = nearest(word, names)
        meant = f"; did you mean '{near}'?" if near else ""
        raise UsageError(f"unknown command {quoted(word)}{meant}", f"See: {ctx.command_path} --help")

    def invoke(self, ctx: Any) -> Any:
        code = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            ctx.obj.info(help_text(ctx))
            raise UsageError("no command was named", f"See: {ctx.command_path} --help")
        return code


def _group(name: str) -> Any:
    app = typer.Typer(
        name=name,
        cls=_Group,
        help=_unmarked(COMMANDS[name][0] if name else _ABOUT),
        add_completion=not name,
        add_help_option=False,  # ours is one of the general options
        invoke_without_command=True,
        rich_markup_mode="rich",
    )
    app.callback()(command(_nothing))
    return get_command(app)


def _nothing(console: Console) -> int:
    """General options may stand before a command."""
    return 0


def _load(name: str) -> Any:
    module_name = name.replace(" ", "_")
    module = import_module(f"flux_lora_cli.commands.{module_name}")
    function = getattr(module, module_name)
    paragraphs = [" ".join(each.split()) for each in (function.__doc__ or "").split("\n\n")]
    examples = [f"$ {line}" for line in getattr(module, "EXAMPLES", "").strip().splitlines()]
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(
        name.rpartition(" ")[2],
        cls=_Command,
        help=_unmarked("\n\n".join(paragraphs).strip()),
        epilog=_unmarked("\n".join(["Examples:", *examples])) if examples else None,
        add_help_option=False,
    )(function)
    return get_command(app)


def _unmarked(text: str) -> str:
    """``text`` as rich's markup shows it unchanged."""
    return text.replace("[", "\\[")
