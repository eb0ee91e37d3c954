"""TLS against a real server with certificates of our own making, and every sort of proxy."""

from __future__ import annotations

import importlib.util
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli import errors
from flux_lora_cli.service.client import connect
from flux_lora_cli.service.hosts import proxy_for
from tests.conftest import KEY, require_tool
from tests.service.raw_server import RawServer, answer, read_request, says, says_and_ends

CREATED = answer(b'{"code":200,"data":{"id":"t1","status":"created"}}')


@dataclass
class Certificates:
    ca: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate for localhost and service.example, and the authority that signed it."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=DNS:localhost,DNS:service.example\n")

    def openssl(*arguments: str) -> None:
        subprocess.run([require_tool("openssl"), *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-days", "2", *authority)
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *sign)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return Certificates(folder / "ca.pem", context)


@pytest.fixture
def server(certificates: Certificates) -> Iterator[RawServer]:
    with RawServer(says(CREATED), certificates.context) as server:
        yield server


def submit(url: str, **env: str) -> str:
    return connect(key=KEY, base_url=url, allow_custom_host=True, env=env).submit("m/x", {"prompt": "p"}).id


# ---- TLS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_usual_variables_name_an_authority(variable: str, server: RawServer, certificates: Certificates) -> None:
    client = connect(key=KEY, base_url=f"https://localhost:{server.port}", env={variable: str(certificates.ca)})
    assert [client.submit("m/x", {}).id for _ in range(3)] == ["t1"] * 3
    assert server.connections == 1


def test_an_unknown_authority_stops_before_anything_is_sent(server: RawServer) -> None:
    with pytest.raises(errors.InsecureConnection, match="could not prove"):
        submit(f"https://localhost:{server.port}")
    assert server.requests == []


def test_a_certificate_for_another_name_stops_too(server: RawServer, certificates: Certificates) -> None:
    with pytest.raises(errors.InsecureConnection):
        submit(f"https://127.0.0.1:{server.port}", SSL_CERT_FILE=str(certificates.ca))
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
        submit(f"https://localhost:{listener.getsockname()[1]}")
    assert KEY.encode() not in b"".join(received)


@pytest.mark.parametrize("content", [None, "not a pem"])
def test_authorities_that_cannot_be_read_are_named(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(errors.InsecureConnection, match="REQUESTS_CA_BUNDLE"):
        submit("https://localhost:1", REQUESTS_CA_BUNDLE=str(file))


# ---- proxies ------------------------------------------------------------------------------------


def test_a_plain_http_proxy_serves_http_targets() -> None:
    with RawServer(says(CREATED)) as proxy:
        env = {"http_proxy": f"http://user:PROXYPASS@127.0.0.1:{proxy.port}"}
        client = connect(key=KEY, base_url="http://service.example", allow_custom_host=True, env=env)
        assert [client.submit("m/x", {}).id for _ in range(2)] == ["t1", "t1"]
    assert proxy.requests[0].startswith(b"POST http://service.example/api/v2/m/x HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic" in proxy.requests[0]
    assert proxy.connections == 1


def test_a_plain_http_proxy_serves_https_targets(certificates: Certificates) -> None:
    inner: list[bytes] = []

    def tunnel(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with certificates.context.wrap_socket(connection, server_side=True) as secure:
            while request := read_request(secure):
                inner.append(request)
                secure.sendall(CREATED)

    with RawServer(tunnel) as proxy:
        env = {"HTTPS_PROXY": f"http://user:PROXYPASS@127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(certificates.ca)}
        assert submit("https://service.example", **env) == "t1"
    assert proxy.requests[0].startswith(b"CONNECT service.example:443 ")
    assert b"roxy-" in proxy.requests[0] and KEY.encode() not in proxy.requests[0]
    assert inner[0].startswith(b"POST /api/v2/m/x ") and b"roxy-" not in inner[0]


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
def test_what_a_proxy_itself_answers_is_told_as_the_proxys(status: str) -> None:
    script = says_and_ends(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
    with RawServer(script) as proxy, pytest.raises(errors.ProxyFailed) as caught:
        submit("https://service.example", HTTPS_PROXY=f"http://user:PROXYPASS@127.0.0.1:{proxy.port}")
    shown = caught.value.message + caught.value.hint
    assert "HTTPS_PROXY" in shown and status[:3] in shown
    assert "PROXYPASS" not in shown


def test_a_proxy_that_wants_a_password_for_http_targets() -> None:
    with RawServer(says(answer(b"", "407 Wanted"))) as proxy, pytest.raises(errors.ProxyFailed, match="ALL_PROXY"):
        submit("http://service.example", ALL_PROXY=f"127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("url", ["https://service.example", "http://service.example"])
@pytest.mark.parametrize("proxy", ["http://user:PROXYPASS@127.0.0.1:1", "127.0.0.1:1", " http://127.0.0.1:1 "])
def test_a_proxy_that_cannot_be_reached_is_named(url: str, proxy: str) -> None:
    with pytest.raises(errors.ProxyFailed) as caught:
        submit(url, HTTPS_PROXY=proxy, HTTP_PROXY=proxy)
    assert "connection refused" in caught.value.message and "127.0.0.1:1" in caught.value.message
    assert "_PROXY" in caught.value.hint and "PROXYPASS" not in caught.value.message + caught.value.hint


NO_SOCKS = importlib.util.find_spec("socks") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(
            "socks5://127.0.0.1:9", "PySocks", marks=pytest.mark.skipif(not NO_SOCKS, reason="PySocks is here")
        ),
        ("socks://127.0.0.1:9/", "cannot be used, socks://"),
        ("ftp://127.0.0.1:9", "cannot be used, ftp://"),
        ("http://user:PRO@XY#PASS@127.0.0.1:9", "not a valid proxy address"),
        ("http://user:PASS@WORD@127.0.0.1:9", "not a valid proxy address"),
        ("http://user:PASS@127.0.0.1:99999", "not a valid proxy address"),
        ("http://user:PASS@127.0.0.1:port", "not a valid proxy address"),
        ('"http://127.0.0.1:9"', "not a valid proxy address"),
        ("http://", "not a valid proxy address"),
        ("http://127.0.0.1:9/path", "not a valid proxy address"),
        ("http://[::1", "not a valid proxy address"),
    ],
)
def test_a_proxy_address_that_cannot_be_meant_names_its_variable(value: str, words: str) -> None:
    with pytest.raises(errors.ProxyFailed) as caught:
        submit("https://service.example", HTTPS_PROXY=value)
    assert words in caught.value.message + caught.value.hint and "HTTPS_PROXY" in caught.value.message
    assert "PASS" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("host", "env", "variable"),
    [
        ("h.example", {"https_proxy": "p:1", "HTTPS_PROXY": "q:1"}, "https_proxy"),
        ("h.example", {"HTTPS_PROXY": "", "all_proxy": "p:1"}, "all_proxy"),
        ("h.example", {"http_proxy": "p:1"}, None),
        ("localhost", {"https_proxy": "p:1"}, None),
        ("127.1.2.3", {"ALL_PROXY": "p:1"}, None),
        ("h.example", {"https_proxy": "p:1", "NO_PROXY": "other, h.example"}, None),
        ("a.h.example", {"https_proxy": "p:1", "no_proxy": ".h.example"}, None),
        ("a.h.example", {"https_proxy": "p:1", "no_proxy": "h.example"}, None),
        ("a.h.example", {"https_proxy": "p:1", "no_proxy": "*.h.example"}, None),
        ("ah.example", {"https_proxy": "p:1", "no_proxy": "h.example"}, "https_proxy"),
        ("h.example", {"https_proxy": "p:1", "no_proxy": "h.example:443"}, None),
        ("h.example", {"https_proxy": "p:1", "no_proxy": "h.example:8443"}, "https_proxy"),
        ("h.example", {"https_proxy": "p:1", "no_proxy": "*"}, None),
        ("10.1.2.3", {"https_proxy": "p:1", "no_proxy": "10.0.0.0/8,::1,[::1],*.local"}, None),
        ("11.1.2.3", {"https_proxy": "p:1", "no_proxy": "10.0.0.0/8"}, "https_proxy"),
    ],
)
def test_which_proxy_serves_a_host(host: str, env: dict[str, str], variable: str | None) -> None:
    proxy = proxy_for(f"https://{host}/", env)
    assert (proxy and proxy.variable) == variable


def test_what_a_web_client_says_is_not_taken_for_a_proxy() -> None:
    env: dict[str, Any] = {"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}
    assert proxy_for("http://h.example/", env) is None


def test_loopback_is_asked_directly_whatever_the_proxy() -> None:
    with RawServer(says(CREATED)) as server:
        assert submit(server.url, HTTP_PROXY="http://127.0.0.1:1", ALL_PROXY="http://127.0.0.1:1") == "t1"
