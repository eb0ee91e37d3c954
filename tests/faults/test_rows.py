"""Every row of ``rows``: the real command against a server that really does it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.faults.rows import PHOTO, ROWS, Row
from tests.support.fake import Exchange, Fake, png
from tests.support.stage import Stage


def serve_nonsense(stack: ExitStack) -> str:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def hang_up() -> None:
        with suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    accepting = threading.Thread(target=hang_up, daemon=True)
    accepting.start()
    stack.callback(accepting.join)  # before its socket is closed, whose number the next listener may get
    stack.callback(listener.shutdown, socket.SHUT_RDWR)
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


def nobody(at: str, stack: ExitStack, request: pytest.FixtureRequest) -> str:
    """A base URL behind which no service is."""
    match at:
        case "closed":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                return f"http://127.0.0.1:{listener.getsockname()[1]}"
        case "no-name":
            return "http://nobody.localhost.invalid:8000"
        case "silent":
            return serve_silence(stack)
        case "not-tls":
            return serve_nonsense(stack)
    assert at == "stranger"  # whose certificate nobody vouches for; a second connection would be a second try
    stranger = stack.enter_context(Fake(context=request.getfixturevalue("certificates").context))
    stack.callback(lambda: check_once(stranger))
    return f"https://localhost:{stranger.port}"


def check_once(stranger: Fake) -> None:
    assert stranger.connections == 1


def answer_raw(row: Row, exchange: Exchange) -> None:
    """Answer a submission with the row's bytes."""
    exchange.carried()
    exchange.send(row.raw)
    while row.repeat is not None:
        exchange.send(row.raw[-4096:] if len(row.raw) > 4096 else row.raw)
        time.sleep(row.repeat)
    if row.end == "hold":
        exchange.hold()
    elif row.end == "reset":
        exchange.reset()


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id, marks=[pytest.mark.slow] * row.slow) for row in ROWS])
def test_fault(row: Row, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with ExitStack() as stack:
        play(row, tmp_path, stack, request)


def play(row: Row, folder: Path, stack: ExitStack, request: pytest.FixtureRequest) -> None:
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
    where = nobody(row.at, stack, request) if row.at else None
    more = " --allow-custom-host" if where and "127.0.0.1" not in where and "localhost:" not in where else ""

    limits = {"timeout": row.seconds + 30, "most_megabytes": row.megabytes, "code": row.code, "charges": row.charges}
    ended = stage.run(row.command.format(id=task) + more, base_url=where, **limits)
    said = (ended.err + (ended.out if row.command == "doctor" else "")).lower()
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
