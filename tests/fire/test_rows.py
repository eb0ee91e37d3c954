"""Every row of ``rows``: the real command against a server that really does it."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from decimal import Decimal
from pathlib import Path

import pytest
from rows import CLOSED, NO_NAME, NOT_TLS, PHOTO, ROWS, SELDOM, SILENT, STRANGER, Row
from stage import Front, Stage, check_text

from flux_lora_cli.sandbox.pictures.plain import plain_png
from tests.conftest import require_tool

#: The suite is promised to have at least so many.
LEAST_ROWS = 80


OFTEN = [row for row in ROWS if not row.slow and row.id not in SELDOM]


def test_there_are_enough_rows_and_no_two_of_one_name() -> None:
    names = [row.id for row in ROWS]
    assert len(set(names)) == len(names)
    assert not SELDOM - set(names)
    assert len(OFTEN) >= LEAST_ROWS


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def stranger(folder: Path, stack: ExitStack) -> str:
    """A base URL whose certificate nobody vouches for; a second connection to it would be a second try."""
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key", "-out", "cert"]
    subprocess.run([require_tool("openssl"), "req", "-x509", *new, *name], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve_once() -> None:
        connection, _ = listener.accept()
        listener.close()
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(1)

    threading.Thread(target=serve_once, daemon=True).start()
    return f"https://localhost:{listener.getsockname()[1]}"


def address_of_nobody(at: str, folder: Path, stack: ExitStack) -> str:
    """A base URL behind which no service is."""
    if at == STRANGER:
        return stranger(folder, stack)
    if at == NO_NAME:
        return "http://nobody.localhost:8000"
    if at == CLOSED:
        return f"http://127.0.0.1:{closed_port()}"
    if at == NOT_TLS:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=_hang_up, args=(listener,), daemon=True).start()
        return f"https://localhost:{listener.getsockname()[1]}"
    assert at == SILENT
    # Nobody accepts, and the queue of connections is full: the next one gets no answer.
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(4):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _hang_up(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def play(row: Row, folder: Path, stack: ExitStack) -> None:
    """Play one row, and look at everything that it may have left."""
    options = {**row.service}
    if "balance" in options:
        options["balance"] = Decimal(options["balance"])
    stage = Stage(folder, row.scale, **options)
    stack.callback(stage.close)
    stage.jobs(row.jobs, **row.params)
    if row.command == PHOTO:
        (folder / "photo.png").write_bytes(plain_png({"size": "512*512", "prompt": "p"}, 1, 1, 1_100_000))
    task = stage.task() if "{id}" in row.command else ""
    for spec in row.wrong.split():
        stage.sandbox.faults.add(spec.replace("_", " ") if "message=" in spec else spec)
    base_url = address_of_nobody(row.at, folder, stack) if row.at else stage.base_url
    if row.raw:
        front = Front(stage.base_url, row.raw, row.carried)
        stack.callback(front.close)
        base_url = front.url

    ended = stage.run(row.command.format(id=task), base_url=base_url, timeout=row.seconds + 30)

    said = ended.err.lower()
    if row.command.startswith("doctor"):
        said += ended.out.lower()
    check_text(ended)
    assert ended.code == row.code, ended.err + ended.out
    assert stage.charges() == row.charges, ended.err
    for words in row.says:
        assert words.format(id=task).lower() in said, ended.err
    for words in row.never:
        assert words.lower() not in said, ended.err
    assert stage.requests() <= row.requests, stage.counts()
    files = row.files if row.files is not None else row.charges * row.command.startswith("batch")
    assert len([p for p in stage.pictures() if p.parent.name != "inputs"]) == files, ended.err
    stage.check_folder()
    stage.check_secret(ended)
    assert ended.seconds < row.seconds
    assert ended.megabytes < row.megabytes
    if os.environ.get("FLUX_LORA_SHOW"):
        print(f"{row.id}: {ended.seconds:.1f} s, {ended.megabytes:.0f} MB, {stage.requests()} requests\n{ended.err}")


@pytest.mark.parametrize("row", OFTEN, ids=lambda row: row.id)
def test_fault(row: Row, tmp_path: Path, stack: ExitStack) -> None:
    play(row, tmp_path, stack)


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ROWS if row not in OFTEN], ids=lambda row: row.id)
def test_another_fault(row: Row, tmp_path: Path, stack: ExitStack) -> None:
    play(row, tmp_path, stack)
