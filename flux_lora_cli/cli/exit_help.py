"""The exit codes as help text; the one source is the enum."""

from __future__ import annotations

import textwrap

from flux_lora_cli.errors import ExitCode


def exit_code_lines(width: int = 80) -> str:
    """``Exit codes:`` and one entry a code, wrapped."""
    lines = ["Exit codes:"]
    for code in ExitCode:
        lines += textwrap.wrap(code.meaning, width, initial_indent=f"  {code.value:>3}  ", subsequent_indent=" " * 7)
    return "\n".join(lines)
