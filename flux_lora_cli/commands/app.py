"""The command line as a whole: its commands, its help, and the one boundary between errors and exit codes.

How to add a command: give it a line in ``COMMANDS`` (``"preset check"`` for a command of a group), and write
``commands/NAME.py`` (spaces and dashes as underscores) with a function of the same name::

    EXAMPLES = "flux-lora verify out"       # optional; one command per line, for the end of the help

    @command                                # from options.py
    def verify(
        folder: Folder,                     # arguments and options: argument(), option(), flag(), words(); those that
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

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from flux_lora_cli.commands.console import Console, takes_codes
from flux_lora_cli.commands.options import command
from flux_lora_cli.commands.signals import Ended
from flux_lora_cli.commands.usage import PROGRAM, unknown_command, wrong_usage
from flux_lora_cli.errors import ExitCode, FluxLoraError, UsageError

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
    "preset check": ("Check presets and count what they would make.", ""),
    "preset show": ("Show the jobs of presets as they would be submitted.", ""),
    "preset list": ("List the presets of a folder.", ""),
    "preset new": ("Write a preset to start from.", ""),
    "preset diff": ("Show what a change of presets would buy.", ""),
}
_HELP = {
    "": "Batch image generation with FLUX LoRA models.\n\nEvery prompt is paid for once, every image is kept, every "
    'image can be made again. Try it without a key: flux-lora submit --sandbox --wait "a cat"',
    "preset": "Work on presets without spending anything.",
}
_EPILOG = (
    "flux-lora help COMMAND shows the options of a command, and flux-lora help agents how a program uses it safely."
)
_COMPLETING = "_FLUX_LORA_COMPLETE"
_FLAG = re.compile(r"--(quiet|verbose|no-color|json)|-[qv]+|--log-file=.*", re.DOTALL)
#: What these print comes from Typer.
_TELLING = frozenset(("-h", "--help", "--version", "--show-completion", "--install-completion"))


def run(arguments: Sequence[str]) -> int:
    """Run one command line to its exit code. Never raises."""
    console = Console()
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.json = "--json" in options
    console.signals.catch()
    telling = _split_general(list(options))[1][:1] == ["help"] or not _TELLING.isdisjoint(options)
    code = (_told if telling else _guarded)(arguments, console)
    console.finish(code)
    if console.closed and code not in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        code = ExitCode.CLOSED_OUTPUT
    console.settle()
    return int(code)


def _told(arguments: Sequence[str], console: Console) -> int:
    """Help or the version: in color on a terminal, else like any other result."""
    plain = console.json or "--no-color" in arguments or "NO_COLOR" in os.environ
    if console.out_is_terminal and not plain and takes_codes():
        return _guarded(arguments, console)
    os.environ["TERM"] = "dumb"  # or Typer colors it all the same where GITHUB_ACTIONS or FORCE_COLOR is set
    with redirect_stdout(io.StringIO()) as text:
        code = _guarded(arguments, console)
    if text.getvalue():
        console.result(text.getvalue().rstrip("\n"))
        console.record("help", {"text": text.getvalue()})
    return code


def _guarded(arguments: Sequence[str], console: Console) -> int:
    try:
        return _dispatch(list(arguments), console)
    except FluxLoraError as error:
        console.error(error)
        return error.exit_code
    except Ended as ended:
        console.error(ended.error)
        return ended.error.exit_code
    except SystemExit as ended:  # completion ends so; fish reads from the code whether to offer files
        return ended.code if isinstance(ended.code, int) else ExitCode.OK
    except BrokenPipeError:
        console.close_out()
        return ExitCode.OK
    except Exception as error:  # the program's own fault: say so without a wall of text
        return _bug(error, console)


def _dispatch(arguments: list[str], console: Console) -> int:
    leading, words = _split_general(arguments)
    if words[:1] == ["help"]:
        if words[1:] == ["agents"]:
            print(_agents())  # noqa: T201 - as help is
            return 0
        words = [*words[1:], "--help"]
    if _COMPLETING in os.environ or not words or words[0] in _TELLING:
        return _run_whole(_whole(_completed_command()), [*leading, *words], console)
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        raise unknown_command(words, [name for name in COMMANDS if " " not in name])
    members = [each.partition(" ")[2] for each in COMMANDS if each.startswith(f"{name} ")]
    if members:
        more, rest = _split_general(rest)
        leading += more
        if not rest or rest[0] in _TELLING:
            return _run_whole(_whole(prefix=name), [*leading, *rest], console, f"{PROGRAM} {name}")
        if rest[0] not in members:
            raise unknown_command(rest, members, f"{PROGRAM} {name}")
        name, rest = f"{name} {rest[0]}", rest[1:]
    function, examples = _load(name)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    _register(app, name, function, examples)
    path = f"{PROGRAM} {name}"
    try:
        code = app([*leading, *rest], prog_name=path, standalone_mode=False, obj=console)
    except typer.TyperException as error:
        raise wrong_usage(error, rest, path) from None
    return code if isinstance(code, int) else 0


def _split_general(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The general options that stand before a command, and the rest."""
    at = 0
    while at < len(arguments):
        if arguments[at] == "--log-file" and at + 1 < len(arguments):
            at += 2
        elif _FLAG.fullmatch(arguments[at]):
            at += 1
        else:
            break
    return arguments[:at], arguments[at:]


# ---- Typer -----------------------------------------------------------------------------------


class _Value:
    """Hands what stands on the command line to the option's own parser.

    Typer puts pydantic between the two, whose import is a third of the start-up of any command [measured, 0.29.2].
    """

    def __init__(self, parse: Callable[[Any], Any]) -> None:
        self._parse = parse

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if param.multiple or param.nargs == -1:
            return list(map(self._parse, value or ()))
        return None if value is None else self._parse(value)


class _Option(TyperOption):
    def get_runtime_param(self) -> Any:
        parse = self.type_descriptor.parameter_info.parser
        return _Value(parse) if parse else super().get_runtime_param()


class _Argument(TyperArgument):
    """An argument that the help shows by its metavar alone, without the name of a Python type, as man pages do."""

    get_runtime_param = _Option.get_runtime_param

    def display_type_rich(self, ctx: Any) -> None:
        return None

    def get_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = super().get_usage_pieces(ctx)
        return [piece if "|" in piece else re.sub("[{}]", "", piece) for piece in pieces]  # {ID}... but {a|b}


def _without_types(parameters: list[Any]) -> list[Any]:
    for each in parameters:
        if isinstance(each, TyperArgument):
            each.__class__ = _Argument
        else:
            each.__class__ = _Option
            each.metavar = each.metavar or ""  # Typer's own has none: --install-completion
    return parameters


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


def _load(name: str) -> tuple[Callable[..., Any], str]:
    """The function of a command, and its examples."""
    module_name = name.replace(" ", "_").replace("-", "_")
    module = import_module(f"flux_lora_cli.commands.{module_name}")
    return getattr(module, module_name), getattr(module, "EXAMPLES", "")


def _register(app: typer.Typer, name: str, function: Callable[..., Any], examples: str = "") -> None:
    """Add a command to an app under the last word of its name."""
    paragraphs = [" ".join(each.split()) for each in (function.__doc__ or "").split("\n\n")]
    lines = ["Examples:", *(f"$ {line.strip()}" for line in examples.strip().splitlines())]
    app.command(
        name.rpartition(" ")[2],
        cls=_Command,
        help=_unmarked("\n\n".join(paragraphs).strip()),
        short_help=_unmarked(COMMANDS[name][0]),
        epilog=_unmarked("\n".join(lines)) if examples else None,
        rich_help_panel=COMMANDS[name][1] or None,
        add_help_option=False,  # ours is one of the general options
    )(function)


def _whole(loaded: str = "", prefix: str = "") -> typer.Typer:
    """The program, or a group of its commands, with a stub for each command but the one that is loaded.

    A single command is run without it: what Typer makes of twenty stubs is a third of the start-up.
    [measured, typer 0.29.2]
    """
    app = typer.Typer(
        name=prefix or PROGRAM,
        cls=_Group,
        add_completion=not prefix,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_help_option=False,
        help=_unmarked(_HELP[prefix]),
        epilog=None if prefix else _unmarked(_EPILOG),
    )
    app.callback()(command(_nothing))
    start = f"{prefix} " if prefix else ""
    for name in [each for each in COMMANDS if each.startswith(start) and " " not in each[len(start) :]]:
        if name in _HELP:
            app.add_typer(_whole(loaded, name), name=name, short_help=COMMANDS[name][0], rich_help_panel=_MAKE)
        else:
            _register(app, name, _load(name)[0] if name == loaded else _nothing)
    return app


def _nothing() -> int:
    return 0


def _run_whole(app: typer.Typer, words: list[str], console: Console, path: str = PROGRAM) -> int:
    bare = not set(words) & _TELLING and _COMPLETING not in os.environ
    with redirect_stdout(io.StringIO() if bare else sys.stdout) as text:
        app([*words, "--help"] if bare else words, prog_name=path, standalone_mode=False, obj=console)
    if not bare:
        return 0
    console.info(text.getvalue().rstrip())  # type: ignore[union-attr]  # nothing was asked: wrong usage
    raise UsageError("no command was named", f"See: {path} --help")


def _agents() -> str:
    """The guide for programs, as a skill that agents load."""
    from importlib.resources import files

    return (files("flux_lora_cli") / "resources" / "SKILL.md").read_text("utf-8").rstrip("\n")


def _completed_command() -> str:
    """The command on the line that the shell wants completed; "" where none does."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    words = [word for word in line.split()[1:] if not word.startswith("-")]
    pair = " ".join(words[:2])
    if _COMPLETING not in os.environ or not words:
        return ""
    return pair if pair in COMMANDS else words[0]


def _unmarked(text: str) -> str:
    """``text`` as rich's markup shows it unchanged."""
    return text.replace("[", "\\[")


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
