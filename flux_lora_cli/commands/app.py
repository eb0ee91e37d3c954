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
        from flux_lora_cli.folder.verify import verify_folder    # heavy imports inside

- Results: ``console.result(line)`` and ``console.record(kind, {...})``; both are always called, each prints in
  its own mode. Messages: ``console.info``, ``warn``, ``explain``. Counts for the last line: ``console.summary``.
- The service: ``with connected(service, console) as (client, name)``. A run: ``with running(...) as run``.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from flux_lora_cli.commands.console import Console, reason
from flux_lora_cli.commands.options import command, help_text
from flux_lora_cli.commands.signals import Ended
from flux_lora_cli.commands.values import parser_of
from flux_lora_cli.errors import ExitCode, FluxLoraError, NotFoundError, UsageError
from flux_lora_cli.text import nearest, printable, quoted

_ABOUT = (
    "Batch image generation with FLUX LoRA models.\n\nEvery prompt is paid for once, every image is kept, every "
    'image can be made again. Try it without a key: flux-lora submit --sandbox --wait "a cat"'
)
_MAKE, _RESULTS, _SERVICE = "Make images", "Results", "Service and tools"

#: Command → (help in one line, panel). Modules are imported when they are named on the command line.
COMMANDS: dict[str, tuple[str, str | None]] = {
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
    "preset check": ("Check presets and count what they would make.", None),
    "preset show": ("Show the jobs of presets as they would be submitted.", None),
    "preset list": ("List the presets of a folder.", None),
    "preset new": ("Write a preset to start from.", None),
    "preset diff": ("Show what a change of presets would buy.", None),
}


def run(arguments: Sequence[str]) -> int:
    """Run one command line to its exit code. Never raises."""
    console = Console()
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.json, console.plain = "--json" in options, console.plain or "--no-color" in options
    console.signals.catch()
    try:
        code = run_typer(arguments, console)
    except (FluxLoraError, Ended) as caught:
        error = caught.error if isinstance(caught, Ended) else caught
        console.error(error)
        code = error.exit_code
    except SystemExit as ended:  # completion ends so; fish reads from the code whether to offer files
        code = ended.code if isinstance(ended.code, int) else ExitCode.OK
    except Exception as error:  # the program's own fault
        code = _bug(error, console)
    return console.finish(code)


def run_typer(arguments: Sequence[str], console: Console) -> int:
    """Run one command line. Raises what the command raises."""
    return int(_group("")(list(arguments), prog_name="flux-lora", standalone_mode=False, obj=console) or 0)


def _bug(error: Exception, console: Console) -> int:
    """Own up without a wall of text. What was paid is not known here, and nothing is promised about it."""
    import traceback

    if isinstance(error, OSError) and error.errno in _NO_PATH and error.filename:  # no bug: a path that was named
        refused = NotFoundError(f"{printable(str(error.filename))}: {reason(error)}")
        console.error(refused)
        return refused.exit_code
    key = os.environ.get("WAVESPEED_API_KEY") or "\0"
    if os.environ.get("FLUX_LORA_DEBUG"):
        console.complain(traceback.format_exc().replace(key, "***").rstrip())
    what = f"{type(error).__name__}: {error}".replace(key, "***")
    hint = "A bug: FLUX_LORA_DEBUG=1 shows where. Tasks may have been submitted; see `flux-lora status` first."
    console.error(FluxLoraError(f"internal error: {what}", hint))
    return ExitCode.INTERNAL


#: What the system says of a path that is too long, or that may not be looked at.
_NO_PATH = frozenset((errno.ENAMETOOLONG, errno.EACCES, errno.EPERM))

# ---- wrong usage in our words ----------------------------------------------------------------

#: A dash with words behind it is a prompt, not an option.
_PROMPT = re.compile(r"-(?!-?[A-Za-z][\w-]*=).*\s.*", re.DOTALL)


def _wrong_usage(error: Any, words: Sequence[str], path: str) -> UsageError:
    """The error that Typer found among the ``words`` of a command, with what to write instead.

    ``path`` is what the command is called: ``flux-lora preset check``.
    """
    if hasattr(error, "possibilities"):
        return _unknown_option(error, words, path)
    if isinstance(error, typer.BadParameter) and error.message and error.param:
        names = error.param.get_error_hint().replace("'", "")
        return UsageError(f"{names}: {error.message}", f"See: {path} --help")
    message = error.format_message().partition(". Choose from")[0].rstrip(".").replace("'", "")
    message = message.replace("Got unexpected extra argument(s)", "unexpected argument:")
    return UsageError(message[:1].lower() + message[1:], f"See: {path} --help")


def _unknown_option(error: Any, words: Sequence[str], path: str) -> UsageError:
    name = printable(error.option_name)
    if name == "--api-key":
        return UsageError(
            "the key is never an option's value: other users of this machine could read it in the process list",
            "Set WAVESPEED_API_KEY, or put the key in a file and add --api-key-file FILE.",
        )
    if prompt := next(filter(_PROMPT.fullmatch, words), ""):
        return UsageError(
            f"{quoted(prompt)} begins with a dash, and so reads as an option",
            f"Write -- before it: {path} [OPTIONS] -- {shlex.quote(printable(prompt))}",
        )
    if isinstance(error.ctx.command, TyperGroup):
        hint = f"Write a command's options after it: {path} COMMAND {name} …; see {path} --help"
        return UsageError(f"unknown option {name} before the command", hint)
    return _unknown("option", name, name, error.possibilities or (), path)


def _unknown(kind: str, shown: str, name: str, known: Sequence[str], path: str) -> UsageError:
    near = nearest(name, known)
    return UsageError(f"unknown {kind} {shown}" + (f"; did you mean '{near}'?" if near else ""), f"See: {path} --help")


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
            raise _wrong_usage(error, words, ctx.command_path) from None


class _Command(_Ours, TyperCommand):
    pass


class _Group(_Ours, TyperGroup):
    """The program, or a group of its commands; each is loaded when it is named on the command line."""

    def list_commands(self, ctx: Any) -> list[str]:
        parts = [name.rpartition(" ") for name in COMMANDS]
        return [word for group, _, word in parts if group == self.name]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What the help and completion list."""
        text, panel = COMMANDS[f"{self.name} {cmd_name}".lstrip()]
        return TyperCommand(cmd_name, short_help=_unmarked(text), rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that runs. Raises UsageError."""
        word, known = args[0], self.list_commands(ctx)
        if word in known:
            name = f"{self.name} {word}".lstrip()
            return word, _group(name) if name == "preset" else _load(name), args[1:]
        if ctx.resilient_parsing:  # completion
            return None, None, args
        raise _unknown("command", quoted(word), word, known, ctx.command_path)

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
