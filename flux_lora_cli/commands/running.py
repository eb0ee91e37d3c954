"""What every command that talks to the service shares: a client, a run that is watched and can be stopped, its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from flux_lora_cli.commands.console import Console, open_now, reason
from flux_lora_cli.commands.options import SaveOptions, ServiceOptions, SpendOptions
from flux_lora_cli.errors import PRECEDENCE, ExitCode, FolderError, UsageError
from flux_lora_cli.text import counted, printable

if TYPE_CHECKING:
    from flux_lora_cli.commands.progress import Reporter
    from flux_lora_cli.engine.assemble import Result, Settings, Stop
    from flux_lora_cli.service.client import Client

#: Seconds between two Progress events: on a terminal they are drawn, elsewhere each is a line.
_LIVE, _PLAIN = 0.5, 30.0
#: More images than this are asked about, where somebody can answer. [CONTRACT: command line]
_ASK_ABOVE = 100


# ---- the service -----------------------------------------------------------------------------


def check(options: ServiceOptions, console: Console) -> None:
    """Refuse what cannot be meant, before any work; what is written on the command line wins over the environment."""
    if options.sandbox and options.base_url is not None and "base_url" in console.given:
        if "sandbox" in console.given:
            raise UsageError("--sandbox and --base-url exclude each other", "The sandbox has an address of its own.")
        options.sandbox = False
        console.warn("FLUX_LORA_SANDBOX is set, but --base-url wins: this is not the sandbox", "sandbox")
    console.summary["sandbox"] = options.sandbox
    _ = options.name


@contextmanager
def connected(options: ServiceOptions, console: Console) -> Iterator[tuple[Client, str]]:
    """A client, and whom it talks to; with ``--sandbox`` also the sandbox, for as long as the context is open.

    Raises MissingKey; UsageError: the base URL is not valid or not for the key, or the log file cannot be written.
    """
    from flux_lora_cli.service.hosts import DEFAULT_BASE_URL, load_key

    with ExitStack() as stack:
        log = None if console.log_file is None else _request_log(console.log_file)
        key, base_url, env = "sandbox", options.base_url or DEFAULT_BASE_URL, {}
        if options.sandbox:
            base_url = _sandbox(console, stack)
        else:
            key, env = load_key(os.environ, options.api_key_file), dict(os.environ)
        from flux_lora_cli.service.client import connect  # not before the key is there: it takes long

        own_host = options.allow_custom_host
        client = connect(key=key, base_url=base_url, allow_custom_host=own_host, env=env, log=log)
        yield stack.enter_context(closing(client)), options.name


def _sandbox(console: Console, stack: ExitStack) -> str:
    """The base URL of a sandbox on a port of its own, whose state outlives it."""
    from flux_lora_cli.folder.state import state_dir
    from flux_lora_cli.sandbox import Sandbox

    if "sandbox" not in console.given:
        console.warn("FLUX_LORA_SANDBOX is set: images come from the offline sandbox", "sandbox")
    try:
        return stack.enter_context(Sandbox(state=state_dir() / "sandbox.sqlite3")).base_url
    except OSError as error:
        raise FolderError(str(error), "Choose another folder with FLUX_LORA_STATE_DIR.") from error


def _request_log(path: str) -> Callable[[str], None]:
    """``--log-file``: appends one line per request with the time; its owner alone can read the file."""
    try:
        file = open(path, "ab", buffering=0, opener=open_now)  # noqa: SIM115 - open until the program ends
    except (OSError, ValueError) as error:
        raise UsageError(f"--log-file {path}: {reason(error)}") from error

    def write(line: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with suppress(OSError):  # a full disk or pipe must not stop a run for the sake of its log
            file.write(f"{stamp} {printable(line)}\n".encode("utf-8", "backslashreplace"))  # whole: O_APPEND

    return write


# ---- a run -----------------------------------------------------------------------------------


def run_settings(options: SaveOptions, console: Console, parts: int = 1) -> Settings:
    """The options of the same names; one of several parts takes its share."""
    from flux_lora_cli.engine.assemble import Settings

    names = {field.name for field in fields(Settings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    given["concurrency"] = max(1, options.concurrency // parts)
    given |= {name: given[name] / parts for name in ("rate", "max_cost") if name in given}
    return Settings(**given, download=not options.no_download, progress_every=_LIVE if console.live else _PLAIN)


@dataclass
class Running:
    """What a run is handed: the client and whom it talks to, who watches, and how it is stopped."""

    client: Client
    service: str
    observer: Reporter
    stop: Stop


@contextmanager
def running(
    service: ServiceOptions, console: Console, *, hint: str = "", what: str = "job", end: str = "done"
) -> Iterator[Running]:
    """Connect, and show what happens until the context ends: how many ``what`` are ``end``; ``hint`` if interrupted."""
    from flux_lora_cli.commands.progress import Reporter

    with (
        connected(service, console) as (client, name),
        console.signals.stopping(hint, console.closed) as stop,
        Reporter(console, what, end) as observer,
    ):
        yield Running(client, name, observer, stop)


def confirmed(images: int, cost: Decimal | None, options: SpendOptions, console: Console, how: str = "") -> bool:
    """Whether a submission may go ahead: a large one, or one at an unknown price, is asked about at a terminal.

    ``how`` the number of images comes about: ``2 × 40 × 12 = 960 images``.
    """
    from flux_lora_cli.engine.budget import dollars

    if options.yes or not console.interactive or (images <= _ASK_ABOVE and cost is not None):
        return True
    price = dollars(cost) if cost is not None else "at an unknown price"
    return console.ask(f"To submit: {how or counted(images, 'image')}, {price}. Submit?")


def tell_end(result: Result, console: Console) -> int:
    """Say every reason why the exit code is not 0, the deciding one first; returns the code."""
    from flux_lora_cli.engine.budget import plain
    from flux_lora_cli.folder.manifest import summary

    charged = None if result.charged is None or console.sandbox else plain(result.charged)
    console.summary.update(summary(result.records), submitted=result.submitted, charged_usd=charged)
    for code in sorted(result.reasons, key=PRECEDENCE.index):
        error = result.reasons[code]
        if code is not ExitCode.CLOSED_OUTPUT or error.tasks:  # else it is as `| head` wants it
            console.error(error)
    return int(result.exit_code)
