"""``flux-lora doctor``: what works, what does not, and what to do about it."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from flux_lora_cli.commands.console import Console, plain
from flux_lora_cli.commands.options import ServiceOptions, command, option
from flux_lora_cli.commands.running import check, connected
from flux_lora_cli.engine.budget import dollars
from flux_lora_cli.errors import PRECEDENCE, AuthError, ExitCode, FluxLoraError, Rejected
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.service.client import Client

EXAMPLES = """
flux-lora doctor
flux-lora doctor --sandbox
flux-lora doctor -o /srv/images --json
"""

#: Seconds between the service's clock and ours that do no harm: a submission of unknown outcome is searched for in a
#: window of minutes around its time.
_MAX_SKEW = 60.0
#: Seconds to an answer above which the network is worth a look.
_SLOW = 2.0
#: Bytes free below which a batch of some hundred images does not fit. [1024×1024 PNG: 1 to 2 MB]
_LITTLE_SPACE = 500_000_000
_PACKAGES = ("typer", "rich", "requests", "urllib3", "PyYAML", "Pillow", "rfc8785", "platformdirs")
_STATES = ("ok", "warning", "failed", "skipped")


@dataclass(frozen=True)
class Finding:
    """One check's result. ``hint``: what to do; ``error``: why a check failed."""

    check: str
    state: Literal["ok", "warning", "failed", "skipped"]
    message: str
    hint: str = ""
    error: FluxLoraError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """What it makes of the command: a service that refuses plain questions is of no use."""
        code = self.error.exit_code if self.error is not None else ExitCode.OK
        return ExitCode.SERVICE if code is ExitCode.INCOMPLETE else code


@command
def doctor(
    *,
    output: Annotated[Path, option("--output -o", "DIR", "Output folder to check.", Path)] = Path("flux-lora-output"),
    service: ServiceOptions,
    console: Console,
) -> int:
    """Check versions, folders, free space, key, service, balance and clock.

    Prints one line for each check, with what to do where something is wrong. Spends nothing. Exits with 4 for the
    key, 5 for the service, 7 for a folder, and 0 where everything works.
    """
    findings = []
    for finding in _check_all(service, output, console):
        findings.append(finding)
        console.result(f"{finding.state:<7}  {finding.check:<9} {plain(finding.message)}")
        if finding.hint:
            console.result(f"{'':<19}{plain(finding.hint)}")
        data = {"check": finding.check, "state": finding.state, "message": finding.message, "hint": finding.hint}
        console.record("check", data)
        if console.json and finding.error is not None:
            console.error(finding.error)
    console.summary.update({state: sum(finding.state == state for finding in findings) for state in _STATES})
    failed = [finding.check for finding in findings if finding.error is not None]
    if failed:
        console.complain(f"{counted(len(failed), 'check')} failed: {', '.join(failed)}")
    codes = {finding.exit_code for finding in findings}
    return next((code for code in PRECEDENCE if code in codes), ExitCode.OK)


def _check_all(service: ServiceOptions, output: Path, console: Console) -> Iterator[Finding]:
    yield from _versions()
    for name, findings in (("folder", _folder(output)), ("service", _service(service, console))):
        try:
            yield from findings
        except FluxLoraError as error:
            yield Finding("key" if isinstance(error, AuthError) else name, "failed", error.message, error.hint, error)


def _versions() -> Iterator[Finding]:
    import sqlite3
    from importlib.metadata import version

    from flux_lora_cli._version import __version__

    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    packages = [f"{name} {version(name)}" for name in _PACKAGES]
    yield Finding("flux-lora", "ok", __version__)
    yield Finding("python", "ok", f"{platform.python_version()} on {system} ({sys.executable})")
    yield Finding("packages", "ok", ", ".join([*packages, f"SQLite {sqlite3.sqlite_version}"]))


def _folder(path: Path) -> Iterator[Finding]:
    """Whether it, or the one in which it would be made, can be written; how much space is left; what it holds."""
    from flux_lora_cli.folder.images import ImageStore
    from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger

    place = next((above for above in (path, *path.absolute().parents) if above.exists()), path)
    store = ImageStore(place)
    free = store.free_bytes()
    if free is not None:
        little = "An image takes 1 to 2 MB: make room, or choose another disk with -o." if free < _LITTLE_SPACE else ""
        yield Finding("disk", "warning" if little else "ok", f"{free / 1e9:.1f} GB free", little)
    store.check_writable()
    jobs = ""
    if os.path.lexists(path / LEDGER_NAME):
        with Ledger.open(path / LEDGER_NAME, None, create=False, read_only=True) as ledger:
            jobs = f"; it has {counted(sum(1 for _ in ledger.records()), 'job')}, of {ledger.service}"
    yield Finding("folder", "ok", f"{path} can be {'written' if place == path else f'made in {place}'}{jobs}")


def _service(options: ServiceOptions, console: Console) -> Iterator[Finding]:
    check(options, console)
    with connected(options, console) as (client, name):
        yield from _account(client, name)


def _account(client: Client, name: str) -> Iterator[Finding]:
    """Whether it answers, takes the key, what it says of the balance, and whether its clock agrees with ours."""
    balance, took = None, 0.0
    try:
        client.balance()  # makes the connection; the second call takes as long as every later one
        began = time.monotonic()
        balance = client.balance()
        took = time.monotonic() - began
        if balance is None:  # a service without this call: another one tells of the key
            client.predictions(page_size=1)
    except Rejected:
        pass
    slow = "That is slow: check the network, or a proxy in between." if took > _SLOW else ""
    yield Finding("service", "warning" if slow else "ok", f"{name} answers in {took * 1000:.0f} ms", slow)
    yield Finding("key", "ok", "accepted")
    if balance is None:
        yield Finding("balance", "skipped", "the service does not say")
    else:
        empty = "Top up the account, or submissions will be refused." if balance <= 0 else ""
        yield Finding("balance", "warning" if empty else "ok", dollars(balance), empty)
    ahead = client.clock_ahead
    if ahead is not None:
        hint = "Set the clock (NTP): submissions are found by their time." if abs(ahead) > _MAX_SKEW else ""
        yield Finding("clock", "warning" if hint else "ok", f"{abs(ahead):.0f} s from the service's", hint)
