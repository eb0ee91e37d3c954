"""``flux-lora doctor``: what works and what does not, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.options import ServiceOptions
from flux_lora_cli.domain.events import Record
from flux_lora_cli.domain.outcome import exit_code
from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import AuthError, FolderError, NotFoundError, UsageError

if TYPE_CHECKING:
    from flux_lora_cli.cli.checkup import Finding

#: Columns of state and name.
_INDENT = 20
#: Where a batch writes without -o.
_DEFAULT = Path("flux-lora-output")


def doctor(
    service: ServiceOptions,
    console: Console,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The output folder to look at.")
    ] = _DEFAULT,
) -> int:
    """Check versions, folders, free disk, key, service, balance and clock.

    Prints one line for each check, with what to do where something is wrong.
    Spends nothing. Exits 4 for the key (3 where its file is missing), 5 for the
    service (2 where the key may not go there), 7 for a folder, 0 where
    everything works.
    """
    from flux_lora_cli.cli.service import check

    check(service)
    findings = []
    for finding in _findings(service, output, console):
        findings.append(finding)
        _tell(finding, console)
    states = [finding.state for finding in findings]
    console.summary.update({state: states.count(state) for state in ("ok", "warning", "failed", "skipped")})
    return exit_code({finding.exit_code for finding in findings})


def _findings(service: ServiceOptions, output: Path, console: Console) -> Iterator[Finding]:
    from flux_lora_cli.adapters.state_dir import state_dir
    from flux_lora_cli.cli import checkup

    yield from checkup.versions()
    place = checkup.folder("folder", output)
    yield place
    if place.state == "ok":
        yield checkup.disk(output)
    found = checkup.ledger(output)
    if found is not None:
        yield found
    yield checkup.folder("state", state_dir())
    yield from _service(service, console)


def _service(options: ServiceOptions, console: Console) -> Iterator[Finding]:
    from flux_lora_cli.adapters.clock import SystemClock
    from flux_lora_cli.cli import checkup
    from flux_lora_cli.cli.service import check_address, connected

    try:
        check_address(options)
    except UsageError as error:
        yield _key(options)
        yield checkup.failed("service", error)
        return
    try:
        with connected(options, console, SystemClock()) as connection:
            yield from checkup.service(connection.client, connection.service)
    except (AuthError, FolderError, NotFoundError, UsageError) as error:  # without a server or a key: never during it
        yield checkup.failed("sandbox" if isinstance(error, FolderError) else "key", error)
        yield checkup.Finding("service", "skipped", "nothing is sent without a key")


def _key(options: ServiceOptions) -> Finding:
    """Whether there is a key, where it cannot be tried."""
    from flux_lora_cli.adapters.client import load_key
    from flux_lora_cli.cli import checkup

    try:
        load_key(os.environ, options.api_key_file)
    except (AuthError, NotFoundError, UsageError) as error:
        return checkup.failed("key", error)
    return checkup.Finding("key", "skipped", "there is one; it was not sent")


def _tell(finding: Finding, console: Console) -> None:
    for line in _lines(finding, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0):
        console.result(line)
    data = {"check": finding.check, "state": finding.state, "message": finding.message, "hint": finding.hint}
    console.event(Record("check", data))
    if console.json and finding.error is not None:
        console.error(finding.error)


def _lines(finding: Finding, width: int) -> list[str]:
    """The finding as a line, and what to do as another; broken at words where somebody watches (``width`` > 0)."""
    lines = [f"{finding.state:<7}  {finding.check:<9}  {printable(finding.message)}"]
    if finding.hint:
        lines.append(" " * _INDENT + printable(finding.hint))
    if not width:
        return lines
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, width, subsequent_indent=" " * _INDENT, break_on_hyphens=False)
    ]


command = build(
    doctor,
    "doctor",
    examples="""\
  flux-lora doctor --sandbox
  flux-lora doctor -o /srv/images --json""",
)
