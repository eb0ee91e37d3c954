"""``flux-lora doctor``: what works, what does not, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from flux_lora_cli._version import __version__
from flux_lora_cli.commands.console import Console, plain
from flux_lora_cli.commands.options import ServiceOptions, command, option
from flux_lora_cli.commands.running import check, connected
from flux_lora_cli.engine.budget import dollars
from flux_lora_cli.errors import PRECEDENCE, AuthError, ExitCode, FluxLoraError, Rejected
from flux_lora_cli.text import counted

EXAMPLES = """
flux-lora doctor
flux-lora doctor --sandbox
flux-lora doctor -o /srv/images --json
"""

#: Seconds between the service's clock and ours that do no harm: a submission of unknown outcome is searched for in a
#: window of minutes around its time.
_MAX_SKEW = 60.0
#: Bytes free below which a batch of some hundred images does not fit. [1024×1024 PNG: 1 to 2 MB]
_LITTLE_SPACE = 500_000_000
_PACKAGES = ("typer", "rich", "requests", "urllib3", "PyYAML", "Pillow", "rfc8785", "platformdirs")


#: A check's name, what was found, and (as a warning) what to do.
Finding = tuple[str, str, str]


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
    states, errors = Counter(ok=0, warning=0, failed=0), list[FluxLoraError]()

    def tell(state: str, name: str, message: str, hint: str) -> None:
        states[state] += 1
        console.result(f"{state:<7}  {name:<9} {plain(message)}")
        if hint:
            console.result(f"{'':<19}{plain(hint)}")
        console.record("check", {"check": name, "state": state, "message": message, "hint": hint})

    checks = {"versions": _versions(), "folder": _folder(output), "service": _service(service, console)}
    for name, findings in checks.items():
        try:
            for finding in findings:
                tell("warning" if finding[2] else "ok", *finding)
        except FluxLoraError as error:
            tell("failed", "key" if isinstance(error, AuthError) else name, error.message, error.hint)
            errors.append(error)
            if console.json:
                console.error(error)
    console.summary.update(states)
    if errors:
        console.complain(f"{counted(len(errors), 'check')} failed")
    codes = {error.exit_code for error in errors}
    return next((code for code in PRECEDENCE if code in codes), ExitCode.OK)


def _versions() -> Iterator[Finding]:
    from importlib.metadata import version

    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "flux-lora", __version__, ""
    yield "python", f"{platform.python_version()} on {system} ({sys.executable})", ""
    yield "packages", ", ".join(f"{name} {version(name)}" for name in _PACKAGES), ""


def _folder(path: Path) -> Iterator[Finding]:
    """Whether it, or the one in which it would be made, can be written; how much space is left; what it holds."""
    from flux_lora_cli.folder.images import ImageStore
    from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger

    place = next((above for above in (path, *path.absolute().parents) if above.exists()), path)
    with suppress(OSError):  # some systems do not tell
        free = shutil.disk_usage(place).free
        little = "An image takes 1 to 2 MB: make room, or choose another disk with -o." if free < _LITTLE_SPACE else ""
        yield "disk", f"{free / 1e9:.1f} GB free", little
    ImageStore(place).check_writable()
    jobs = ""
    if os.path.lexists(path / LEDGER_NAME):
        with Ledger.open(path / LEDGER_NAME, None, create=False, read_only=True) as ledger:
            jobs = f"; it has {counted(sum(1 for _ in ledger.records()), 'job')}, of {ledger.service}"
    yield "folder", f"{path} can be {'written' if place == path else f'made in {place}'}{jobs}", ""


def _service(options: ServiceOptions, console: Console) -> Iterator[Finding]:
    """Whether it answers, takes the key, what it says of the balance, and whether its clock agrees with ours."""
    check(options, console)
    with connected(options, console) as (client, name):
        balance, began = None, time.monotonic()
        with suppress(Rejected):
            balance = client.balance()
            if balance is None:  # a service without this call: another one tells of the key
                client.predictions(page_size=1)
        yield "service", f"{name} answers in {(time.monotonic() - began) * 1000:.0f} ms", ""
        yield "key", "accepted", ""
        if balance is None:
            yield "balance", "the service does not say", ""
        else:
            empty = "" if balance > 0 else "Top up the account, or submissions will be refused."
            yield "balance", dollars(balance), empty
        ahead = client.clock_ahead
        if ahead is not None:
            wrong = "Set the clock (NTP): submissions are found by their time." if abs(ahead) > _MAX_SKEW else ""
            yield "clock", f"{abs(ahead):.0f} s from the service's", wrong
