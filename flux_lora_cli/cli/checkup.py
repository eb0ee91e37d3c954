"""What ``doctor`` looks at: each check ends as one finding, and none raises."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.errors import ExitCode, FluxLoraError, ServiceError

if TYPE_CHECKING:
    from flux_lora_cli.adapters.client import Client
    from flux_lora_cli.domain.wire import HttpResponse

#: Seconds between the server's clock and ours that do no harm: submits of unknown outcome are searched for in a
#: window of two minutes around their time.
SKEW_SECONDS = 60.0
#: Seconds to an answer above which the network is worth a look.
SLOW_SECONDS = 2.0
#: Bytes free under which a batch of some hundred images does not fit (1024×1024 PNG: 1 to 2 MB).
LITTLE_BYTES = 500_000_000

_DISTRIBUTIONS = ("typer", "click", "rich", "requests", "urllib3", "PyYAML", "Pillow", "rfc8785")


@dataclass(frozen=True)
class Finding:
    """One check's result.

    Attributes:
        state: ``ok``, ``warning``, ``failed`` or ``skipped``.
        hint: what to do; "" where there is nothing to do.
        error: why a check failed.
    """

    check: str
    state: str
    message: str
    hint: str = ""
    error: FluxLoraError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """What this check makes of the command. No call of this command is refused for what the user said in it."""
        if self.error is None:
            return ExitCode.OK
        return ExitCode.SERVICE if self.error.exit_code is ExitCode.INCOMPLETE else self.error.exit_code


def failed(check: str, error: FluxLoraError, clean: Callable[[str], str] = str) -> Finding:
    """An error as a finding."""
    error.message, error.hint = clean(error.message), clean(error.hint)
    return Finding(check, "failed", error.message, error.hint, error)


# ---- this machine --------------------------------------------------------------------------


def versions() -> Iterator[Finding]:
    """The program, Python, and what they stand on."""
    import platform
    import sqlite3

    from flux_lora_cli._version import __version__

    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Finding("flux-lora", "ok", __version__)
    yield Finding("python", "ok", f"{platform.python_version()} on {system} ({sys.executable})")
    packages = [*map(_package, _DISTRIBUTIONS), f"SQLite {sqlite3.sqlite_version}"]
    yield Finding("packages", "ok", ", ".join(packages))
    yield _yaml()


def _package(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} of unknown version"


def _yaml() -> Finding:
    import yaml

    if hasattr(yaml, "CSafeLoader"):
        return Finding("yaml", "ok", "PyYAML with libyaml")
    return Finding(
        "yaml",
        "warning",
        "PyYAML without libyaml: large presets are read about eight times slower",
        "Install PyYAML from a wheel (pip install --force-reinstall --only-binary :all: PyYAML).",
    )


def folder(name: str, path: Path) -> Finding:
    """Whether files can be written in a folder, or where it would be made."""
    from flux_lora_cli.adapters.image_store import ImageStore

    place = existing(path)
    try:
        ImageStore(place).check_writable()
    except FluxLoraError as error:
        return failed(name, error)
    return Finding(name, "ok", f"{path} can be written" if place == path else f"{path} can be made in {place}")


def disk(path: Path) -> Finding:
    """How much room there is for images."""
    from flux_lora_cli.adapters.image_store import ImageStore

    free = ImageStore(existing(path)).free_bytes()
    if free is None:
        return Finding("disk", "skipped", "the system does not tell how much is free")
    text = f"{free / 1e9:.1f} GB free"
    if free < LITTLE_BYTES:
        return Finding("disk", "warning", text, "An image takes 1 to 2 MB; make room, or choose another disk with -o.")
    return Finding("disk", "ok", text)


def ledger(path: Path) -> Finding | None:
    """Whether the folder's ledger can be read; None where there is none."""
    from flux_lora_cli.adapters.ledger import Ledger

    try:
        with Ledger.snapshot(path) as found:
            if found is None:
                return None
            count = sum(1 for _ in found.jobs())
            return Finding("ledger", "ok", f"{count} jobs, of {found.service}")
    except FluxLoraError as error:
        return failed("ledger", error)


def existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists; a file in its way is returned as it is."""
    for place in (path, *path.absolute().parents):
        if place.exists():
            return place
    return path


# ---- the service ---------------------------------------------------------------------------


def service(client: Client, name: str) -> Iterator[Finding]:
    """Whether it answers, takes the key, what it says of the balance, and whether its clock agrees with ours."""
    try:
        client.probe()
        # The first answer includes the connection's set-up; the second is what every later request takes.
        answer = client.probe()
    except FluxLoraError as error:
        yield failed("service", error, client.redactor.clean)
        return
    trip = _round_trip(answer, name)
    yield trip
    if trip.error is None:
        yield from _account(client, answer)
    yield clock(answer)


def _round_trip(answer: HttpResponse, name: str) -> Finding:
    text = f"{name} answers in {answer.elapsed * 1000:.0f} ms"
    if answer.status >= 500:
        return failed("service", ServiceError(f"{name} answers HTTP {answer.status}", "Try again later."))
    if answer.elapsed > SLOW_SECONDS:
        return Finding("service", "warning", text, "That is slow: look at the network, or at a proxy in between.")
    return Finding("service", "ok", text)


def _account(client: Client, answer: HttpResponse) -> Iterator[Finding]:
    from flux_lora_cli.domain.answers import decode_balance
    from flux_lora_cli.errors import AuthError, Rejected

    clean = client.redactor.clean
    try:
        balance = decode_balance(answer)
        if balance is None:  # this service has no such call; one that every service has tells of the key
            client.predictions(page_size=1)
    except AuthError as error:
        yield failed("key", error, clean)
        return
    except Rejected:
        balance = None
    except FluxLoraError as error:
        yield failed("account", error, clean)
        return
    yield Finding("key", "ok", "accepted")
    if balance is None:
        yield Finding("balance", "skipped", "the service does not say")
    elif balance <= 0:
        yield Finding("balance", "warning", f"${balance:f}", "Top up the account, or submits will be refused.")
    else:
        yield Finding("balance", "ok", f"${balance:f}")


def clock(answer: HttpResponse) -> Finding:
    """How far the server's clock is from ours, to the second that its Date header has."""
    from flux_lora_cli.domain.envelope import server_date

    theirs = server_date(answer)
    if theirs is None:
        return Finding("clock", "skipped", "the service does not tell its time")
    skew = _skew(answer.received_at, theirs)
    if abs(skew) <= SKEW_SECONDS:
        return Finding("clock", "ok", f"{abs(skew):.0f} s from the service's")
    side = "ahead of" if skew > 0 else "behind"
    return Finding(
        "clock",
        "warning",
        f"this machine's clock is {abs(skew):.0f} s {side} the service's",
        "Set the clock (NTP): what was submitted is found again by its time.",
    )


def _skew(ours: datetime, theirs: datetime) -> float:
    """Seconds that we are ahead. The header is cut to whole seconds, half of which is its mean error."""
    seconds = (ours - theirs).total_seconds() - 0.5
    return 0.0 if abs(seconds) < 1 else seconds
