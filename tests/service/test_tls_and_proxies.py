"""TLS against a real server with certificates of our own making, and every sort of proxy."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.service.client import connect
from flux_lora_cli.service.hosts import proxy_for
from tests.conftest import KEY, Certificates
from tests.service.conftest import answer, says
from tests.support.fake import Exchange, Fake, read_request

CREATED = answer(b'{"code":200,"data":{"id":"t1","status":"created"}}')
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture
def server(certificates: Certificates) -> Iterator[Fake]:
    with Fake(always=says(CREATED), context=certificates.context) as server:
        yield server


def submit(url: str, **env: str) -> str:
    return connect(key=KEY, base_url=url, allow_custom_host=True, env=env).submit("m/x", {"prompt": "p"}).id


# ---- TLS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_usual_variables_name_an_authority(variable: str, server: Fake, certificates: Certificates) -> None:
    client = connect(key=KEY, base_url=f"https://localhost:{server.port}", env={variable: str(certificates.ca)})
    assert [client.submit("m/x", {}).id for _ in range(3)] == ["t1"] * 3
    assert server.connections == 1


@pytest.mark.parametrize(("host", "known"), [("localhost", False), ("127.0.0.1", True)])
def test_an_unknown_authority_or_name_stops_before_anything_is_sent(
    host: str, known: bool, server: Fake, certificates: Certificates
) -> None:
    with pytest.raises(errors.InsecureConnection, match="could not prove"):
        submit(f"https://{host}:{server.port}", **({"SSL_CERT_FILE": str(certificates.ca)} if known else {}))
    assert server.raw == []


@pytest.mark.parametrize("content", [None, "not a pem"])
def test_authorities_that_cannot_be_read_are_named(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(errors.InsecureConnection, match="REQUESTS_CA_BUNDLE"):
        submit("https://localhost:1", REQUESTS_CA_BUNDLE=str(file))


# ---- proxies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_serves_http_targets(scheme: str, certificates: Certificates) -> None:
    with Fake(always=says(CREATED), context=certificates.context if scheme == "https" else None) as proxy:
        env = {"http_proxy": f"{scheme}://user:PASS@localhost:{proxy.port}", "SSL_CERT_FILE": str(certificates.ca)}
        client = connect(key=KEY, base_url="http://service.example/a%2fb", allow_custom_host=True, env=env)
        assert [client.submit("m/x", {}).id for _ in range(2)] == ["t1", "t1"]
    assert proxy.raw[0].startswith(b"POST http://service.example/a%2fb/api/v2/m/x HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic" in proxy.raw[0]
    assert proxy.connections == 1


def test_a_proxy_serves_https_targets(certificates: Certificates) -> None:
    inner: list[bytes] = []

    def tunnel(x: Exchange) -> None:
        x.connection.sendall(ESTABLISHED)
        with certificates.context.wrap_socket(x.connection, server_side=True) as secure, secure.makefile("rb") as file:
            while passed := read_request(file):
                inner.append(passed.raw)
                secure.sendall(CREATED)

    with Fake(always=tunnel) as proxy:
        env = {"HTTPS_PROXY": f"http://user:PASS@127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(certificates.ca)}
        assert submit("https://service.example", **env) == "t1"
    assert proxy.raw[0].startswith(b"CONNECT service.example:443 ")
    assert b"roxy-" in proxy.raw[0] and KEY.encode() not in proxy.raw[0]
    assert inner[0].startswith(b"POST /api/v2/m/x ") and b"roxy-" not in inner[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_a_proxy_passed_on_may_have_arrived(scheme: str, certificates: Certificates) -> None:
    """The connection ends after the request: the proxy is not to blame, and nothing may be sent again."""
    inner: list[bytes] = []

    def tunnel(x: Exchange) -> None:
        if scheme == "https":
            x.connection.sendall(ESTABLISHED)
            secure = certificates.context.wrap_socket(x.connection, server_side=True)
            with secure, secure.makefile("rb") as file:  # the client goes on as soon as it is closed
                passed = read_request(file)
                inner.append(passed.raw if passed else b"")
        else:
            inner.append(x.request.raw)
        x.send(b"")

    with Fake(always=tunnel) as proxy, pytest.raises(errors.Uncertain):
        env = {f"{scheme}_proxy": f"http://127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(certificates.ca)}
        submit(f"{scheme}://service.example", **env)
    assert b"/api/v2/m/x " in inner[0]


def test_a_proxy_with_tls_serves_https_targets(server: Fake, certificates: Certificates) -> None:
    def tunnel(x: Exchange) -> None:
        x.connection.sendall(ESTABLISHED)
        target = socket.create_connection(("127.0.0.1", server.port))
        threading.Thread(target=copy, args=(target, x.connection), daemon=True).start()
        copy(x.connection, target)

    def copy(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)

    with Fake(always=tunnel, context=certificates.context) as proxy:
        env = {"HTTPS_PROXY": f"https://localhost:{proxy.port}", "SSL_CERT_FILE": str(certificates.ca)}
        assert submit("https://service.example", **env) == "t1"
        with pytest.raises(errors.InsecureConnection, match="the proxy could not prove"):
            submit("https://service.example", HTTPS_PROXY=env["HTTPS_PROXY"])
    assert len(server.raw) == 1


def test_a_proxy_that_wants_a_password_for_http_targets() -> None:
    with Fake(always=says(answer(b"", "407 Wanted"))) as proxy, pytest.raises(errors.ProxyFailed, match="ALL_PROXY"):
        submit("http://service.example", ALL_PROXY=f"127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("proxy", ["http://user:PASS@127.0.0.1:1", "127.0.0.1:1", " http://127.0.0.1:1 "])
def test_a_proxy_that_cannot_be_reached_is_named(scheme: str, proxy: str) -> None:
    with pytest.raises(errors.ProxyFailed, match="connection refused") as caught:
        submit(f"{scheme}://service.example", HTTPS_PROXY=proxy, HTTP_PROXY=proxy)
    assert "_PROXY" in caught.value.message and "_PROXY" in caught.value.hint
    assert "PASS" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "value",
    [
        *("socks5://127.0.0.1:9", "ftp://127.0.0.1:9", '"http://127.0.0.1:9"', "http://", "http://[::1"),
        *("http://user:PRO@127.0.0.1#PASS@127.0.0.1:9", "http://user:PASS@WORD@127.0.0.1:9"),
        *("http://user:PASS@127.0.0.1:99999", "http://user:PASS@127.0.0.1:port", "http://127.0.0.1:9/path"),
    ],
)
def test_a_proxy_address_that_cannot_be_meant_names_its_variable(value: str) -> None:
    with pytest.raises(errors.ProxyFailed) as caught:
        submit("https://service.example", HTTPS_PROXY=value)
    assert "HTTPS_PROXY" in caught.value.message
    assert not re.search("PASS|PRO", (caught.value.message + caught.value.hint).replace("_PROXY", ""))


@pytest.mark.parametrize(
    ("host", "no_proxy", "bypassed"),
    [
        *(("a.h.example", form, True) for form in (".h.example", "h.example", "*.h.example", "other, h.example", "*")),
        ("ah.example", "h.example", False),
        ("h.example", "h.example:443", True),
        ("h.example", "h.example:8443", False),
        ("10.1.2.3", "10.0.0.0/8,::1,[::1],*.local", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        *((host, "", True) for host in ("localhost", "127.1.2.3", "[::1]")),
    ],
)
def test_which_hosts_are_asked_directly(host: str, no_proxy: str, bypassed: bool) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        proxy = proxy_for(f"https://{host}/", {"ALL_PROXY": "p:1", name: no_proxy})
        assert (proxy is None) is bypassed


@pytest.mark.parametrize(
    ("url", "env", "variable"),
    [
        ("https://h.example", {"https_proxy": "p:1", "HTTPS_PROXY": "q:1"}, "https_proxy"),
        ("https://h.example", {"HTTPS_PROXY": "", "all_proxy": "p:1"}, "all_proxy"),
        ("https://h.example", {"http_proxy": "p:1"}, None),
    ],
)
def test_which_variable_names_the_proxy(url: str, env: dict[str, str], variable: str | None) -> None:
    proxy = proxy_for(url, env)
    assert (proxy and proxy.variable) == variable
