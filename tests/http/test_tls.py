"""TLS against a real server with certificates of our own making."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from raw_server import RawServer, answer, says

from flux_lora_cli import errors
from flux_lora_cli.adapters.client import Client
from flux_lora_cli.adapters.clock import SystemClock
from flux_lora_cli.adapters.http import Transport
from flux_lora_cli.domain.wire import Api
from tests.conftest import require_tool

CREATED = answer(b'{"code":200,"data":{"id":"t1","status":"created"}}')


@dataclass
class Certificates:
    ca: Path
    context: ssl.SSLContext


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run([require_tool("openssl"), *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    openssl(
        folder,
        *["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA", "-days", "2"],
        *authority,
    )
    openssl(folder, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        folder,
        *["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"],
        *["-out", "server.pem", "-days", "2", "-extfile", "names"],
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return Certificates(folder / "ca.pem", context)


@pytest.fixture
def server(certificates: Certificates) -> Iterator[RawServer]:
    with RawServer(says(CREATED), certificates.context) as server:
        yield server


@pytest.fixture(autouse=True)
def no_authorities_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def client_of(url: str) -> Client:
    return Client(Transport(url, "canary-key", SystemClock()), Api(url))


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_usual_variables_name_an_authority(
    variable: str, server: RawServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(certificates.ca))
    client = client_of(f"https://localhost:{server.port}")
    for _ in range(3):
        assert client.submit("m/x", {}).id == "t1"
    assert server.connections == 1


def test_an_unknown_authority_stops_before_anything_is_sent(server: RawServer) -> None:
    with pytest.raises(errors.InsecureConnection) as caught:
        client_of(f"https://localhost:{server.port}").submit("m/x", {})
    assert "could not prove" in caught.value.message
    assert server.requests == []


def test_a_certificate_for_another_name_stops_too(
    server: RawServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    with pytest.raises(errors.InsecureConnection):
        client_of(f"https://127.0.0.1:{server.port}").submit("m/x", {})
    assert server.requests == []


def test_a_server_without_tls_was_never_sent_anything() -> None:
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            received.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    with listener, pytest.raises(errors.NeverSent):
        client_of(f"https://localhost:{listener.getsockname()[1]}").submit("m/x", {})
    assert b"canary-key" not in b"".join(received)


def test_authorities_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(errors.InsecureConnection, match="REQUESTS_CA_BUNDLE"):
        client_of("https://localhost:1").submit("m/x", {})


def test_the_authorities_are_read_once_for_all_connections(
    server: RawServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    made: list[object] = []
    original = ssl.SSLContext.__new__

    def counted(cls: type[ssl.SSLContext], *args: object, **kwargs: object) -> ssl.SSLContext:
        made.append(cls)
        return original(cls, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLContext, "__new__", counted)
    client = client_of(f"https://localhost:{server.port}")
    held = [client.download(f"https://localhost:{server.port}/{n}", 1000) for n in range(4)]
    for pieces in held:
        next(iter(pieces))
    assert server.connections >= 1
    assert len(made) == 1
