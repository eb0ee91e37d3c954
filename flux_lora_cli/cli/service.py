"""From the service options to a client: the real service, a custom one, or a sandbox in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.option_values import choice
from flux_lora_cli.cli.options import ServiceOptions
from flux_lora_cli.errors import FolderError, UsageError

if TYPE_CHECKING:
    from flux_lora_cli.adapters.client import Client
    from flux_lora_cli.workflow.ports import Clock

#: Connections kept, and threads that call at once at most.
CALLERS = 32
#: What the sandbox is called in manifests and ledgers, whatever port it has.
SANDBOX = "sandbox"


@dataclass
class Connection:
    """A client and whom it talks to. ``service``: the base URL's origin, or ``sandbox``."""

    client: Client
    service: str
    sandbox: bool


@contextmanager
def connected(options: ServiceOptions, console: Console, clock: Clock) -> Iterator[Connection]:
    """A client for these options; in the sandbox, a server that lives as long as the context.

    Raises:
        MissingKey: there is no key, and none is needed only in the sandbox.
        UsageError: a base URL that the key may not go to.
    """
    check(options)
    console.summary["sandbox"] = options.sandbox
    if options.sandbox:
        with _sandbox(console) as base_url:
            yield _connect(options, console, clock, base_url, "sandbox")
        return
    from flux_lora_cli.adapters.client import load_key

    key = load_key(os.environ, options.api_key_file)
    if key.warning:
        console.warn(key.warning, "key_file")
    yield _connect(options, console, clock, options.base_url or _default_url(), key.value)


def check(options: ServiceOptions) -> None:
    """Refuse what cannot be meant, before anything else is done; what is typed wins over the environment."""
    choice("--api-version", options.api_version, ("v2", "v3"))
    if not options.sandbox or options.base_url is None or not typed("base_url"):
        return
    if typed("sandbox"):
        raise UsageError("--sandbox and --base-url exclude each other", "The sandbox has an address of its own.")
    options.sandbox = False
    console: Console = click.get_current_context().find_root().obj
    console.warn("FLUX_LORA_SANDBOX is set, and --base-url wins over it: this is not the sandbox", "sandbox")


def typed(parameter: str) -> bool:
    """Whether an option was written on the command line, rather than set in the environment."""
    return click.get_current_context().get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE


def service_name(options: ServiceOptions) -> str:
    """Whom a folder made under these options belongs to, without a connection."""
    if options.sandbox:
        return SANDBOX
    from flux_lora_cli.domain.wire import Api

    return _origin(Api(options.base_url or _default_url()).base_url)


def check_address(options: ServiceOptions) -> None:
    """Refuse a base URL that is none, or that the key may not go to, before the key is read. Raises UsageError."""
    if options.sandbox:
        return
    from flux_lora_cli.adapters.client import check_host
    from flux_lora_cli.domain.wire import Api

    check_host(Api(options.base_url or _default_url()).base_url, options.allow_custom_host)


def _connect(options: ServiceOptions, console: Console, clock: Clock, base_url: str, key: str) -> Connection:
    from flux_lora_cli.adapters.client import connect

    client = connect(
        key=key,
        clock=clock,
        base_url=base_url,
        version=options.api_version,  # type: ignore[arg-type]  # checked above
        allow_custom_host=options.allow_custom_host,
        pool_size=CALLERS,
        env=os.environ,
        log=request_log(console),
    )
    return Connection(client, SANDBOX if options.sandbox else _origin(base_url), options.sandbox)


def request_log(console: Console) -> Callable[[str], None] | None:
    """What becomes of the line that each request gets: the log file."""
    if console.log_file is None:
        return None
    from flux_lora_cli.cli.request_log import RequestLog

    return RequestLog(console.log_file).write


@contextmanager
def _sandbox(console: Console) -> Iterator[str]:
    from flux_lora_cli.adapters.state_dir import state_dir
    from flux_lora_cli.sandbox.server import Sandbox, SandboxOptions

    source = click.get_current_context().get_parameter_source("sandbox")
    if source is click.core.ParameterSource.ENVIRONMENT:
        console.warn("FLUX_LORA_SANDBOX is set: images come from the offline sandbox", "sandbox")
    folder = state_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sandbox = Sandbox(SandboxOptions(state=folder / "sandbox.sqlite3"))
        base_url = sandbox.start()
    except OSError as error:
        raise FolderError(
            f"the sandbox cannot keep its state in {folder}: {error.strerror or error}",
            "Name another folder with FLUX_LORA_STATE_DIR.",
        ) from error
    try:
        yield base_url
    finally:
        sandbox.stop()


def _default_url() -> str:
    from flux_lora_cli.domain.wire import DEFAULT_BASE_URL

    return DEFAULT_BASE_URL


def _origin(base_url: str) -> str:
    """Scheme, host and port as one text, the default port left out."""
    from flux_lora_cli.domain.hosts import origin

    scheme, host, port = origin(base_url)
    host = f"[{host}]" if ":" in host else host
    usual = {"https": 443, "http": 80}.get(scheme)
    return f"{scheme}://{host}" if port in (None, usual) else f"{scheme}://{host}:{port}"
