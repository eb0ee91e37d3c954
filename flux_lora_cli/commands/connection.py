"""From the service options to a client: the real service, a custom one, or a sandbox in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.options import ServiceOptions
from flux_lora_cli.errors import FolderError, MissingKey, UsageError
from flux_lora_cli.text import printable

if TYPE_CHECKING:
    from flux_lora_cli.service.client import Client

#: What the sandbox is called in manifests and ledgers, whatever port it has.
SANDBOX = "sandbox"


@dataclass
class Connection:
    """A client and whom it talks to. ``service``: the base URL's origin, or ``sandbox``."""

    client: Client
    service: str


@contextmanager
def connected(options: ServiceOptions, console: Console) -> Iterator[Connection]:
    """A client for these options; with ``--sandbox`` also the sandbox, for as long as the context is open.

    Raises:
        MissingKey: there is no key, and it is not the sandbox.
        UsageError: the base URL is not valid, or the key may not go there.
    """
    from flux_lora_cli.service.client import connect

    check(options, console)
    log = None if console.log_file is None else RequestLog(console.log_file).write
    if options.sandbox:
        with _sandbox(console) as base_url:
            client = connect(key="sandbox", base_url=base_url, env={}, log=log)
            try:
                yield Connection(client, SANDBOX)
            finally:
                client.close()
        return
    from flux_lora_cli.service.hosts import origin_text

    base_url = _base_url(options)
    client = connect(
        key=_key(options, console),
        base_url=base_url,
        allow_custom_host=options.allow_custom_host,
        env=os.environ,
        log=log,
    )
    try:
        yield Connection(client, origin_text(base_url))
    finally:
        client.close()


def check(options: ServiceOptions, console: Console) -> None:
    """Refuse what cannot be meant, before any work; what is written on the command line wins over the environment.

    Raises:
        UsageError: options that exclude each other, or a base URL that the key may not go to.
    """
    if options.sandbox and options.base_url is not None and "base_url" in console.given:
        if "sandbox" in console.given:
            raise UsageError("--sandbox and --base-url exclude each other", "The sandbox has an address of its own.")
        options.sandbox = False
        console.warn("FLUX_LORA_SANDBOX is set, but --base-url wins: this is not the sandbox", "sandbox")
    console.summary["sandbox"] = options.sandbox
    if not options.sandbox:
        _base_url(options)


def service_name(options: ServiceOptions) -> str:
    """Whom a folder that is made under these options belongs to, without a connection. Raises UsageError."""
    if options.sandbox:
        return SANDBOX
    from flux_lora_cli.service.hosts import origin_text

    return origin_text(_base_url(options))


def default_folder(options: ServiceOptions, name: str = "") -> Path:
    """Where images go without ``-o``; apart for the sandbox."""
    ending = "-sandbox" if options.sandbox else ""
    return Path("flux-lora-output") / f"{name}{ending}" if name else Path(f"flux-lora-output{ending}")


def service_words(options: ServiceOptions) -> list[str]:
    """The options that another command needs to reach the same service."""
    words = ["--sandbox"] if options.sandbox else []
    if options.base_url is not None and not options.sandbox:
        words += ["--base-url", options.base_url]
        words += ["--allow-custom-host"] if options.allow_custom_host else []
    words += ["--api-version", options.api_version] if options.api_version else []
    return words + (["--api-key-file", str(options.api_key_file)] if options.api_key_file else [])


def _base_url(options: ServiceOptions) -> str:
    from flux_lora_cli.service.hosts import DEFAULT_BASE_URL, checked_base_url

    return checked_base_url(options.base_url or DEFAULT_BASE_URL, allow_custom_host=options.allow_custom_host)


def _key(options: ServiceOptions, console: Console) -> str:
    from flux_lora_cli.service.client import load_key

    try:
        key = load_key(os.environ, options.api_key_file)
    except MissingKey as error:
        raise MissingKey(
            error.message,
            "Set WAVESPEED_API_KEY or add --api-key-file FILE; or try it offline, without a key: --sandbox.",
        ) from None
    if key.warning:
        console.warn(key.warning, "key_file")
    return key.value


@contextmanager
def _sandbox(console: Console) -> Iterator[str]:
    """A sandbox on a port of its own, whose state outlives it."""
    from flux_lora_cli.folder.state import state_dir
    from flux_lora_cli.sandbox import Sandbox

    if "sandbox" not in console.given:
        console.warn("FLUX_LORA_SANDBOX is set: images come from the offline sandbox", "sandbox")
    folder = state_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sandbox = Sandbox.for_command(folder)
        base_url = sandbox.start()
    except OSError as error:
        raise FolderError(
            f"the sandbox cannot keep its state in {folder}: {(error.strerror or str(error)).lower()}",
            "Choose another folder with FLUX_LORA_STATE_DIR.",
        ) from error
    if sandbox.notice:
        console.warn(sandbox.notice, "sandbox")
    try:
        yield base_url
    finally:
        sandbox.stop()


class RequestLog:
    """``--log-file``: one line per request with the time, appended by any thread; its owner alone can read it.

    A FIFO that nobody reads, and a disk that is full, must not stop a run for the sake of its log.

    Raises:
        UsageError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)
        try:
            self._handle = os.open(path, flags, 0o600)
        except (OSError, ValueError) as error:
            why = "nobody reads this pipe" if getattr(error, "errno", None) == 6 else _reason(error)  # ENXIO
            raise UsageError(f"--log-file {path}: {why}") from error

    def write(self, line: str) -> None:
        """Append a line."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        data = f"{stamp} {printable(line)}\n".encode("utf-8", "backslashreplace")
        with self._lock:
            try:
                os.write(self._handle, data)
            except OSError:
                return


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
