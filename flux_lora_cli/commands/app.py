"""The command line as a whole: its commands, its help, and the one boundary between errors and exit codes.

How to add a command: give it a line in ``COMMANDS`` (``"preset check"`` for a command of a group), and write
``commands/NAME.py`` (spaces and dashes as underscores) with a function of the same name::

    EXAMPLES = "flux-lora verify out"       # optional; one command per line, for the end of the help

    @command                                # from options.py
    def verify(
        folder: Annotated[Path, typer.Argument(metavar="DIR", parser=Path, help="The output folder.")],
        service: ServiceOptions,            # groups of options: dataclasses of options.py and generate.py
        console: Console,                   # where everything that is said goes
    ) -> int:                               # the exit code; or raise a FluxLoraError
        \"\"\"Check every file against the manifest.

        Further paragraphs of the help.
        \"\"\"
        from flux_lora_cli.folder.verify import verify_folder    # heavy imports inside

- Arguments and options of text take ``parser=str``, paths ``parser=Path``: names that are not UTF-8 get through.
- Options that few users need: ``advanced(...)`` in place of ``typer.Option(...)``. Words: a ``Literal`` with
  ``metavar="A|B", parser=word(X)``. Defaults stand in the help text.
- Results: ``console.result(line)`` and ``console.event(Record(kind, {...}))``; both are always called, each prints in
  its own mode. Messages: ``console.info``, ``warn``, ``explain``. Counts for the last line: ``console.summary``.
- The service: ``with connected(service, console) as connection``. A run that can be stopped:
  ``with console.signals.stopping(console, resume) as stop``.
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

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.options import command
from flux_lora_cli.commands.signals import Ended
from flux_lora_cli.commands.usage import unknown_command, wrong_usage
from flux_lora_cli.errors import ExitCode, FluxLoraError, Interrupted, UsageError
from flux_lora_cli.text import mask_secrets

PROGRAM = "flux-lora"
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
_EPILOG = "flux-lora help COMMAND shows the options of a command, flux-lora help exit-codes the exit codes."
_FLAG = re.compile(r"--(quiet|verbose|no-color|json)|-[qv]+|--log-file=.*", re.DOTALL)
#: What these print comes from Typer.
_TELLING = frozenset(("-h", "--help", "--version", "--show-completion", "--install-completion"))


def run(arguments: Sequence[str]) -> int:
    """Run one command line to its exit code. Never raises."""
    console = Console()
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.json = "--json" in options
    console.signals.catch()
    console.closed = sys.stdout is None
    telling = _split_general(list(options))[1][:1] == ["help"] or not _TELLING.isdisjoint(options)
    code = (_told if telling else _guarded)(arguments, console)
    console.finish(code)
    if console.closed and code not in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        code = ExitCode.CLOSED_OUTPUT
    console.settle()
    return int(code)


def _told(arguments: Sequence[str], console: Console) -> int:
    """Help or the version: in color on a terminal, else like any other result."""
    if console.out_is_terminal and not console.json and "NO_COLOR" not in os.environ:
        return _guarded(arguments, console)
    os.environ["TERM"] = "dumb"  # or Typer colors it all the same where GITHUB_ACTIONS or FORCE_COLOR is set
    with redirect_stdout(io.StringIO()) as text:
        code = _guarded(arguments, console)
    if text.getvalue():
        console.document(text.getvalue())
        if console.json:
            from flux_lora_cli.engine.events import Record

            console.event(Record("help", {"text": text.getvalue()}))
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
    except (typer.Abort, KeyboardInterrupt):
        console.error(Interrupted("interrupted"))
        return ExitCode.INTERRUPTED
    except SystemExit:  # completion ends so
        return ExitCode.OK
    except BrokenPipeError:
        console.close_out()
        return ExitCode.OK
    except Exception as error:  # the program's own fault: say so without a wall of text
        return _bug(error, console)


def _dispatch(arguments: list[str], console: Console) -> int:
    leading, words = _split_general(arguments)
    if words[:1] == ["help"]:
        if words[1:] == ["exit-codes"]:
            print(exit_codes())  # noqa: T201 - help is caught, or goes to a terminal
            return 0
        words = [*words[1:], "--help"]
    completing = "_FLUX_LORA_COMPLETE" in os.environ
    if completing or not words or words[0] in _TELLING:
        return _run_whole(_whole(_completed_command() if completing else ""), [*leading, *words], console)
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
        raise wrong_usage(error, rest, path, function) from None
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
        help=_plain("\n\n".join(paragraphs).strip()),
        short_help=_plain(COMMANDS[name][0]),
        epilog=_plain("\n".join(lines)) if examples else None,
        rich_help_panel=COMMANDS[name][1] or None,
        add_help_option=False,  # ours is one of the general options
    )(function)


def _whole(loaded: str = "", prefix: str = "") -> typer.Typer:
    """The program, or a group of its commands, with a stub for each command but the one that is loaded.

    A single command is run without it: Typer coerces the group's own options first, and imports pydantic for that,
    which makes the help of every command a third slower. [measured, typer 0.29.2]
    """
    app = typer.Typer(
        name=prefix or PROGRAM,
        add_completion=not prefix,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_help_option=False,
        help=_plain(_HELP[prefix]),
        epilog=None if prefix else _plain(_EPILOG),
    )
    app.callback()(command(_nothing))
    start = f"{prefix} " if prefix else ""
    for name in [each for each in COMMANDS if each.startswith(start) and " " not in each[len(start) :]]:
        if name in _HELP:
            app.add_typer(_whole(loaded, name), name=name, short_help=COMMANDS[name][0], rich_help_panel=_MAKE)
        else:
            _register(app, name, _load(name)[0] if name == loaded else _stub(name))
    return app


def _nothing() -> int:
    return 0


def _stub(name: str) -> Callable[[], None]:
    def stub() -> None: ...

    stub.__doc__ = COMMANDS[name][0]
    return stub


def _run_whole(app: typer.Typer, words: list[str], console: Console, path: str = PROGRAM) -> int:
    bare = not set(words) & _TELLING and "_FLUX_LORA_COMPLETE" not in os.environ
    with redirect_stdout(io.StringIO() if bare else sys.stdout) as text:
        app([*words, "--help"] if bare else words, prog_name=path, standalone_mode=False, obj=console)
    if not bare:
        return 0
    console.info(text.getvalue().rstrip())  # type: ignore[union-attr]  # nothing was asked: wrong usage
    raise UsageError("no command was named", f"See: {path} --help")


def _completed_command() -> str:
    """The command on the line that the shell wants completed."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    words = [word for word in line.split()[1:] if not word.startswith("-")]
    pair = " ".join(words[:2])
    return pair if pair in COMMANDS else (words or [""])[0]


def _plain(text: str) -> str:
    """``text`` as rich's markup shows it unchanged."""
    return text.replace("[", "\\[")


def exit_codes() -> str:
    """The table of exit codes, one per line."""
    return "\n".join(f"{code.value:>4}  {code.meaning}" for code in ExitCode)


def _bug(error: Exception, console: Console) -> int:
    """Own up to a fault of the program. What was paid is not known here, and nothing is promised about it."""
    import traceback

    key = os.environ.get("WAVESPEED_API_KEY") or "\0"
    if os.environ.get("FLUX_LORA_DEBUG"):
        console.complain(mask_secrets(traceback.format_exc()).replace(key, "***").rstrip())
    what = mask_secrets(f"{type(error).__name__}: {error}").replace(key, "***")
    console.error(
        FluxLoraError(
            f"internal error: {what}",
            "A bug: FLUX_LORA_DEBUG=1 shows where. Tasks may have been submitted; see `flux-lora status` first.",
        )
    )
    return ExitCode.INTERNAL
