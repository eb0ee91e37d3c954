"""Wrong usage in our words, with what to write instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import nearest, printable, quoted

#: A dash with words behind it is a prompt, not an option.
_PROMPT = re.compile(r"-(?!-?[A-Za-z][\w-]*=).*\s.*", re.DOTALL)


def wrong_usage(error: typer.TyperException, words: Sequence[str], path: str) -> UsageError:
    """The error that Typer found, in our words.

    Args:
        words: the command's arguments.
        path: what the command is called (``flux-lora preset check``).
    """
    see = f"See: {path} --help"
    if hasattr(error, "possibilities"):
        return _unknown_option(error, words, path)
    if isinstance(error, typer.BadParameter) and error.message and error.param:
        return UsageError(f"{_unquoted(error.param.get_error_hint())}: {error.message}", see)
    message = _unquoted(error.format_message().partition(". Choose from")[0].rstrip("."))
    message = message.replace("Got unexpected extra argument(s)", "unexpected argument:")
    return UsageError(message[:1].lower() + message[1:], see)


def _unquoted(text: str) -> str:
    """Names of options need no quotes."""
    return text.replace("'", "")


def _unknown_option(error: Any, words: Sequence[str], path: str) -> UsageError:
    name = printable(error.option_name)
    if name == "--api-key":
        return UsageError(
            "the key is never an option's value: other users of this machine could read it in the process list",
            "Set WAVESPEED_API_KEY, or put the key in a file and add --api-key-file FILE.",
        )
    prompt = next((word for word in words if _PROMPT.fullmatch(word)), None)
    if prompt is not None:
        return UsageError(
            f"{quoted(prompt)} begins with a dash, and so reads as an option",
            f"Write -- before it: {path} [OPTIONS] -- {shlex.quote(printable(prompt))}",
        )
    if isinstance(error.ctx.command, TyperGroup):
        hint = f"Write a command's options after it: {path} COMMAND {name} …; see {path} --help"
        return UsageError(f"unknown option {name} before the command", hint)
    near = nearest(error.option_name, error.possibilities or ())
    meant = f"; did you mean '{near}'?" if near else ""
    return UsageError(f"unknown option {name}{meant}", f"See: {path} --help")
