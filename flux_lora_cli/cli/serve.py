"""``flux-lora serve``: the service itself, offline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.option_values import duration, money, rate
from flux_lora_cli.domain.events import Record
from flux_lora_cli.errors import FolderError, UsageError
from flux_lora_cli.sandbox.faults import fault_help

if TYPE_CHECKING:
    from flux_lora_cli.sandbox.journal import Seen
    from flux_lora_cli.sandbox.options import SandboxOptions
    from flux_lora_cli.sandbox.server import Sandbox

_PANEL = "Sandbox"
_RANGE = re.compile(r"([^-]+)-([^-]+)")


def span(text: str) -> tuple[float, float]:
    """Seconds, from and to, of ``0.5``, ``2-6`` or ``30s-2m``. Raises UsageError."""
    match = _RANGE.fullmatch(text.strip())
    try:
        low, high = (_seconds(part) for part in (match.groups() if match else (text, text)))
    except typer.BadParameter as error:
        raise UsageError(f"--service-time {text!r}: write 0.5, or 2-6 (seconds)") from error
    return low, high


def _seconds(text: str) -> float:
    return 0.0 if re.fullmatch(r"0+(\.0*)?s?", text.strip()) else duration(text)


def _images_per_minute(text: str) -> float:
    return rate(text) * 60


@dataclass
class SandboxFlags:
    """How the sandbox behaves."""

    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.", rich_help_panel=_PANEL)] = 0
    service_time: Annotated[
        str,
        typer.Option(
            "--service-time", metavar="S[-S]", help="How long a task takes: 0.5, or 2-6.", rich_help_panel=_PANEL
        ),
    ] = "0.3-1.2"
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", metavar="N/min", parser=_images_per_minute, help="Images accepted; more: 429.",
            rich_help_panel=_PANEL,
        ),
    ] = None  # fmt: skip
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tasks at once; more wait in line.", rich_help_panel=_PANEL),
    ] = None
    price_per_image: Annotated[
        Decimal | None,
        typer.Option(
            "--price-per-image", metavar="USD", parser=money, help="[default: 0.015]", show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None  # fmt: skip
    balance: Annotated[
        Decimal | None,
        typer.Option(metavar="USD", parser=money, help="Credit; without it there is no end.", rich_help_panel=_PANEL),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", metavar="KEY", help="Take this key only; else any.", rich_help_panel=_PANEL),
    ] = None
    nsfw_rate: Annotated[
        float,
        typer.Option(
            "--nsfw-rate", min=0, max=1, metavar="0-1", help="Share of images flagged.", rich_help_panel=_PANEL
        ),
    ] = 0.0
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="SPEC", help="What goes wrong, see below; repeatable.", rich_help_panel=_PANEL),
    ] = None
    seed: Annotated[int, typer.Option(metavar="INT", help="Of its own randomness.", rich_help_panel=_PANEL)] = 0
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="FILE", dir_okay=False, help="Keep the state here.", rich_help_panel=_PANEL),
    ] = None


def serve(flags: SandboxFlags, console: Console) -> None:
    """Serve the API itself, offline: same endpoints, same checks, drawn pictures.

    The first line on standard output is the base URL. Any client that lets its
    base URL be set works with it. Ctrl-C ends it.
    """
    sandbox = _made(flags, console)
    try:
        url = sandbox.start()
    except OSError as error:
        raise UsageError(f"port {flags.port}: {error.strerror or error}", "Choose another, or 0.") from error
    try:
        console.result(url)
        console.event(Record("serving", {"url": url, "sandbox": True}))
        while True:
            time.sleep(3600)
    finally:
        console.summary.update(sandbox=sandbox.stats())
        sandbox.stop()


def _made(flags: SandboxFlags, console: Console) -> Sandbox:
    from flux_lora_cli.sandbox.server import Sandbox
    from flux_lora_cli.sandbox.store import StateError

    try:
        return Sandbox(_options(flags), observer=_log(console) if console.verbose else None)
    except StateError as error:
        raise FolderError(str(error), "Name another file with --state.") from error
    except ValueError as error:
        raise UsageError(str(error), "See: flux-lora serve --help") from error
    except OSError as error:
        raise FolderError(f"{flags.state}: {error.strerror or error}", "Name another file with --state.") from error


def _options(flags: SandboxFlags) -> SandboxOptions:
    from flux_lora_cli.sandbox.options import DOCUMENTED_PRICE, SandboxOptions

    return SandboxOptions(
        port=flags.port,
        service_time=span(flags.service_time),
        rate=flags.rate,
        concurrency=flags.concurrency,
        balance=flags.balance,
        api_key=flags.api_key,
        nsfw_rate=flags.nsfw_rate,
        faults=flags.fault or [],
        seed=flags.seed,
        state=flags.state,
        price_per_image=DOCUMENTED_PRICE if flags.price_per_image is None else flags.price_per_image,
    )


def _log(console: Console) -> Callable[[Seen], None]:
    def note(seen: Seen) -> None:
        fault = f"  fault {seen.fault}" if seen.fault else ""
        console.explain(f"{seen.method} {seen.path} {seen.status or 'no answer'}{fault}")

    return note


command = build(
    serve,
    "serve",
    examples="""\
  flux-lora serve --port 8000
  flux-lora serve --service-time 2-6 --concurrency 3 --rate 10/min
  flux-lora serve --fault submit:503:2 --fault download:cut:5%

Faults:
"""
    + fault_help(),
)
