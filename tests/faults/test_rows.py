"""Every row of ``rows``: the real command against a server that really does it."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.faults.rows import PHOTO, ROWS, Row
from tests.support.fake import Exchange, png
from tests.support.stage import Stage

#: The suite is promised to have at least so many rows in its default run.
LEAST_ROWS = 80


def test_there_are_enough_rows_and_no_two_of_one_name() -> None:
    names = [row.id for row in ROWS]
    assert len(set(names)) == len(names)
    assert sum(not row.slow for row in ROWS) >= LEAST_ROWS


def serve_nonsense(stack: ExitStack) -> str:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def hang_up() -> None:
        with suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=hang_up, daemon=True).start()
    return f"https://localhost:{listener.getsockname()[1]}"


def serve_stranger(folder: Path, stack: ExitStack) -> str:
    """A base URL whose certificate nobody vouches for; a second connection to it would be a second try."""
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key", "-out", "cert"]
    subprocess.run([require_tool("openssl"), "req", "-x509", *new, *name], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve_once() -> None:
        with suppress(OSError), listener.accept()[0] as connection:
            listener.close()
            with context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(1)

    threading.Thread(target=serve_once, daemon=True).start()
    return f"https://localhost:{listener.getsockname()[1]}"


def serve_silence(stack: ExitStack) -> str:
    """Nobody accepts, and the queue of connections is full: the next one gets no answer."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(4):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def serve_nothing() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def nobody(at: str, folder: Path, stack: ExitStack) -> str:
    """A base URL behind which no service is."""
    match at:
        case "closed":
            return serve_nothing()
        case "no-name":
            return "http://nobody.localhost.invalid:8000"
        case "silent":
            return serve_silence(stack)
        case "not-tls":
            return serve_nonsense(stack)
    assert at == "stranger"
    return serve_stranger(folder, stack)


def answer_raw(row: Row, exchange: Exchange) -> None:
    """Answer a submission with the row's bytes."""
    if row.carried:
        exchange.carried()
    exchange.send(row.raw)
    while row.repeat is not None:
        exchange.send(row.raw[-4096:] if len(row.raw) > 4096 else row.raw)
        time.sleep(row.repeat)
    if row.end == "hold":
        exchange.hold()
    elif row.end == "reset":
        exchange.reset()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def play(row: Row, folder: Path, stack: ExitStack) -> None:
    """Play one row, and look at everything that it may have left."""
    stage = Stage(folder, row.scale, **row.service)
    stack.callback(stage.close)
    stage.jobs(row.jobs, **row.params)
    if row.command == PHOTO:
        (folder / "photo.png").write_bytes(png("photo", 1_100_000))
    task = stage.task() if "{id}" in row.command else ""
    stage.wrong(row.wrong)
    if row.raw:
        stage.fake.on("submit", lambda exchange: answer_raw(row, exchange))
    where = nobody(row.at, folder, stack) if row.at else None
    more = " --allow-custom-host" if where and "127.0.0.1" not in where and "localhost:" not in where else ""

    ended = stage.run(
        row.command.format(id=task) + more,
        base_url=where,
        timeout=row.seconds + 30,
        most_megabytes=row.megabytes,
    )

    said = (ended.err + (ended.out if row.command == "doctor" else "")).lower()
    if os.environ.get("FLUX_LORA_SHOW"):
        print(f"{row.id}: {ended.seconds:.1f} s, {stage.fake.counts}\n{ended.err}")
    assert ended.code == row.code, ended.err + ended.out
    assert stage.fake.charged == row.charges, ended.err
    assert row.posts is None or stage.fake.count("submit") == row.posts, stage.fake.counts
    assert stage.fake.count() <= row.requests, stage.fake.counts
    for words in row.says:
        assert words.format(id=task).lower() in said, ended.err
    for words in row.never:
        assert words.lower() not in said, ended.err
    files = row.files if row.files is not None else row.charges * row.command.startswith("batch")
    assert len(stage.pictures()) == files, ended.err
    stage.check_folder()
    assert ended.seconds < row.seconds


@pytest.mark.parametrize("row", [row for row in ROWS if not row.slow], ids=lambda row: row.id)
def test_fault(row: Row, tmp_path: Path, stack: ExitStack) -> None:
    play(row, tmp_path, stack)


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ROWS if row.slow], ids=lambda row: row.id)
def test_variant_of_a_fault(row: Row, tmp_path: Path, stack: ExitStack) -> None:
    play(row, tmp_path, stack)
