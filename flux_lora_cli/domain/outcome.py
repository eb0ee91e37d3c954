"""The exit code of a run, from the final state of all that was asked for."""

from __future__ import annotations

from collections.abc import Collection

from flux_lora_cli.errors import ExitCode

#: Of several reasons the first in this order wins; what ends a command before its work, and interrupts, win over all.
ORDER = (
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.CLOSED_OUTPUT,
    ExitCode.FOLDER,
    ExitCode.BUSY,
    ExitCode.INTERNAL,
    ExitCode.USAGE,
    ExitCode.NOT_FOUND,
    ExitCode.PRESET,
    ExitCode.AUTH,
    ExitCode.BUDGET,
    ExitCode.UNKNOWN,
    ExitCode.SERVICE,
    ExitCode.DEADLINE,
    ExitCode.INCOMPLETE,
    ExitCode.NSFW,
)

#: The error of a failed job that has none of its own.
FAILED = "failed: the task failed"


def exit_code(reasons: Collection[ExitCode]) -> ExitCode:
    """The code of the first reason in ORDER; OK where there is none."""
    return next((code for code in ORDER if code in reasons), ExitCode.OK)


def code_and_message(error: str | None, otherwise: str) -> tuple[str, str]:
    """The two parts of a record's ``error``, which is a code, then ``: message``.

    Args:
        otherwise: an error of that form, for a record that has none.
    """
    code, _, message = (error or otherwise).partition(": ")
    return code, message or code
