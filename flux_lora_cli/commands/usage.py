"""Wrong usage in our words, with what to write instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

import typer

from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import nearest, printable, quoted

PROGRAM = "flux-lora"
#: A dash with words behind it is a prompt, not an option.
_PROMPT = re.compile(r"-(?!-?[A-Za-z][\w-]*=).*\s.*", re.DOTALL)
#: Names of parameters and variables in Typer's messages; our own need no quotes.
_QUOTED_NAME = re.compile(r"'([^' ]+)'(?=\)?(:|$)| requires| does not| \()")
_EXTRA = re.compile(r"Got unexpected extra argument\(?s?\)? \((.*)\)", re.DOTALL)
_NOT_BOOLEAN = re.compile("Input should be a valid boolean.*", re.DOTALL)
_PRESETS = (".yaml", ".yml", ".txt", ".csv", ".jsonl")
_API_KEY = (
    "the key is never an option's value: other users of this machine could read it in the process list",
    "Set WAVESPEED_API_KEY, or put the key in a file and add --api-key-file FILE.",
)


def unknown_command(words: Sequence[str], commands: Iterable[str], path: str = PROGRAM) -> UsageError:
    """The error of a first word that is not a command."""
    word = words[0]
    if word.startswith("-"):
        name = printable(word.partition("=")[0])
        if name == "--api-key":
            return UsageError(*_API_KEY)
        hint = f"Write a command's options after it: {path} COMMAND {name} …; see {path} --help"
        return UsageError(f"unknown option {name} before the command", hint)
    near = nearest(word, commands)
    hint = f"See: {path} --help"
    if not near and path == PROGRAM and word.lower().endswith(_PRESETS):
        hint = f"To run a preset: {PROGRAM} batch {shlex.quote(word)}"
    elif not near and path == PROGRAM and " " in word:
        hint = f"To submit a prompt: {PROGRAM} submit {shlex.quote(word)}"
    return UsageError(f"unknown command {quoted(word)}" + (f"; did you mean '{near}'?" if near else ""), hint)


def wrong_usage(error: typer.TyperException, words: Sequence[str], path: str) -> UsageError:
    """The error that Typer found, in our words.

    Args:
        words: the command's arguments.
        path: what the command is called (``flux-lora preset check``).
    """
    see = f"See: {path} --help"
    option = getattr(error, "option_name", None)
    if option is None or not hasattr(error, "possibilities"):
        message = error.format_message().partition(". Choose from")[0].rstrip(".")
        message = _NOT_BOOLEAN.sub("not a yes or no; write 1 or 0", message.removeprefix("Invalid value for "))
        message = _EXTRA.sub(r"unexpected argument: \1", message)
        return UsageError(_QUOTED_NAME.sub(r"\1", message[:1].lower() + message[1:]), see)
    if option == "--api-key":
        return UsageError(*_API_KEY)
    prompt = next((word for word in words if _PROMPT.fullmatch(word)), None)
    if prompt is not None:
        return UsageError(
            f"{quoted(prompt)} begins with a dash, and so reads as an option",
            f"Write -- before it: {path} [OPTIONS] -- {shlex.quote(printable(prompt))}",
        )
    near = nearest(option, error.possibilities or ())
    hint = f"; did you mean '{near}'?" if near else ""
    return UsageError(f"unknown option {printable(option)}{hint}", see)
