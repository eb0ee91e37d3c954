"""Wrong usage in words that help: what was meant, and how to write it."""

from __future__ import annotations

import inspect
import re
import shlex
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer

from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import nearest, printable

#: A dash with words behind it is a prompt, not an option.
_PROMPT = re.compile(r"-(?!-?[A-Za-z][\w-]*=).*\s.*", re.DOTALL)
_PRESETS = (".yaml", ".yml", ".txt", ".csv", ".jsonl")
_API_KEY = (
    "the key is never an option's value: other users of this machine could read it in the process list",
    "Set WAVESPEED_API_KEY, or put the key in a file and add --api-key-file FILE.",
)


def unknown_command(words: Sequence[str], commands: Iterable[str], path: str = "flux-lora") -> UsageError:
    """The error of a first word that is not a command."""
    word = words[0]
    shown = printable(word)
    if word.startswith("-"):
        name = word.partition("=")[0]
        if name == "--api-key":
            return UsageError(*_API_KEY)
        return UsageError(
            f"unknown option {printable(name)} before the command",
            f"Options of a command stand behind it: {path} COMMAND {printable(name)} …; see {path} --help",
        )
    if near := nearest(word, commands):
        return UsageError(f"unknown command '{shown}'; did you mean '{near}'?", f"See: {path} --help")
    if path == "flux-lora" and word.lower().endswith(_PRESETS):
        return UsageError(f"unknown command '{shown}'", f"To run a preset: flux-lora batch {shlex.quote(word)}")
    if path == "flux-lora" and " " in word:
        return UsageError(f"unknown command '{shown}'", f"To submit a prompt: flux-lora submit {shlex.quote(word)}")
    return UsageError(f"unknown command '{shown}'", f"See: {path} --help")


def wrong_usage(
    error: typer.TyperException, words: Sequence[str], path: str, function: Callable[..., Any]
) -> UsageError:
    """The error that Typer found, in our words.

    Args:
        words: the command's arguments.
        path: what the command is called (``flux-lora preset check``).
        function: of the command, for its options.
    """
    see = f"See: {path} --help"
    option = getattr(error, "option_name", None)
    if option is None or not hasattr(error, "possibilities"):
        message = error.format_message().rstrip(".")
        if words and "unexpected extra argument" in message and path.endswith("submit"):
            return UsageError("submit takes one prompt: quote it", see)
        return UsageError(message[:1].lower() + message[1:], see)
    if option == "--api-key":
        return UsageError(*_API_KEY)
    prompt = next((word for word in words if _PROMPT.fullmatch(word)), None)
    if prompt is not None:
        return UsageError(
            f"'{printable(prompt)}' begins with a dash, and so reads as an option",
            f"Write -- before it: {path} [OPTIONS] -- {shlex.quote(printable(prompt))}",
        )
    near = nearest(option, options_of(function)) if option.startswith("--") else ""
    hint = f"; did you mean '{near}'?" if near else ""
    return UsageError(f"unknown option {printable(option)}{hint}", see)


def options_of(function: Callable[..., Any]) -> list[str]:
    """The long options of a command."""
    found = ["--help"]
    for parameter in inspect.signature(function).parameters.values():
        for info in typing.get_args(parameter.annotation):
            # Inside Annotated the first name stands where a default would.
            names = (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ()))
            found += [name for name in names if isinstance(name, str) and name.startswith("--")]
    return found
