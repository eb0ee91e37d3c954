"""``flux-lora serve``: the sandbox as a server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flux_lora_cli.commands.console import Console, reason
from flux_lora_cli.commands.options import advanced, command, option
from flux_lora_cli.commands.values import bad, count, duration, money, rate, share
from flux_lora_cli.errors import FolderError, OutputClosed, UsageError
from flux_lora_cli.sandbox import ENDPOINTS, KINDS, Request, Sandbox, StateError

EXAMPLES = """
flux-lora serve --port 8000
flux-lora serve --service-time 2-6 --concurrency 3 --rate 10/min
flux-lora serve --fault submit:503:first=2 --fault download:cut:5%
"""

Undeclared = Literal["drop", "refuse"]


def span(text: Any) -> tuple[float, float]:
    """The seconds of ``0.5``, ``2-6`` or ``30s-2m``, from and to."""
    low, _, high = str(text).partition("-")
    try:
        first, last = (0.0 if end == "0" else duration(end) for end in (low, high or low))
    except typer.BadParameter:
        first, last = 1.0, 0.0
    if first > last:
        raise bad(text, "a valid service time", "write 0.5, or 2-6 (seconds)")
    return first, last


@dataclass
class SandboxOptions:
    """How the sandbox behaves; the names are those of ``Sandbox``."""

    port: Annotated[
        int, option("--port", "PORT", "Port to listen on; 0 (default) picks a free one.", count(65_535, 0))
    ] = 0
    service_time: Annotated[
        Any, option("--service-time", "S[-S]", "How long a task takes: 0.5, or 2-6 (seconds).", span)
    ] = "0.6-1.2"
    faults: Annotated[list[str] | None, option("--fault", "SPEC", "Make requests fail; see above. Repeatable.")] = None
    state: Annotated[Path | None, option("--state", "FILE", "Keep tasks and charges in FILE.", Path)] = None
    rate: Annotated[float | None, advanced("--rate", "N/min", "Maximum rate of images; beyond it: 429.", rate)] = None
    concurrency: Annotated[
        int | None, advanced("--concurrency", "N", "Maximum number of tasks running at once.", count(100_000))
    ] = None
    price_per_image: Annotated[
        Decimal | None, advanced("--price-per-image", "USD", "Price per image, not the documented one.", money)
    ] = None
    balance: Annotated[Decimal | None, advanced("--balance", "USD", "Credit (default: unlimited).", money)] = None
    api_key: Annotated[str | None, advanced("--api-key", "KEY", "Accept this key only (default: any key).")] = None
    nsfw_rate: Annotated[
        float, advanced("--nsfw-rate", "SHARE", "Share of images that are flagged, 0 (default) to 1.", share)
    ] = 0.0
    undeclared: Annotated[
        Undeclared, advanced("--undeclared", "drop|refuse", "What to do with undeclared keys (default: drop).")
    ] = "drop"
    seed: Annotated[
        int, advanced("--seed", "N", "Seed of the sandbox's own randomness (default: 0).", count(2**63 - 1, 0))
    ] = 0


@command
def serve(options: SandboxOptions, console: Console) -> int:
    """Serve the API offline: the same endpoints and checks, with drawn pictures.

    The first line on standard output is the base URL. Any client whose base URL can be set works with it. Ctrl-C
    ends it.
    """

    def log(endpoint: str, request: Request) -> None:
        console.explain(f"{request.method} {request.path}")

    given = {**vars(options), "faults": options.faults or (), "rate": options.rate and options.rate * 60}
    try:
        with console.signals.stopping("", console.closed) as stop, Sandbox(on_request=log, **given) as sandbox:
            console.result(sandbox.base_url)
            console.record("serving", {"url": sandbox.base_url, "sandbox": True})
            console.info("Ctrl-C ends it")
            while stop.error is None:
                time.sleep(0.25)
            if isinstance(stop.error, OutputClosed):
                return int(stop.error.exit_code)
            stop.error.message = "the sandbox was stopped"
            raise stop.error
    except StateError as error:
        raise FolderError(str(error), "Name another file with --state.") from None
    except ValueError as error:
        raise UsageError(str(error), "See: flux-lora serve --help") from None
    except OSError as error:
        raise UsageError(
            f"port {options.port}: {reason(error)}", "Choose another --port, or 0 for a free one."
        ) from None


serve.__doc__ = f"""{(serve.__doc__ or "").rstrip()}

    Faults are ENDPOINT:KIND[=VALUE], each time, or followed by :first=N, :every=N or :P%. Endpoints:
    {", ".join(ENDPOINTS)}. Kinds:

    {"; ".join(f"{kind}: {what}" for kind, what in KINDS.items())}.
    """
