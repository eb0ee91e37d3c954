"""The key goes to the base URL's origin, and nowhere else; whatever a server does with it."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from rows import http
from stage import KEY, Front, Stage, Wrong, bytes_of, check_text, key_forms, read_request

from flux_lora_cli.sandbox.pictures.plain import plain_png

IMAGE = plain_png({"size": "512*512"}, 1, 1, 0)
#: How a server may spell what it was sent.
SPELT = {
    "raw": KEY,
    "url": quote(KEY, safe=""),
    "json": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "basic": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "header": f"Authorization: Bearer {KEY}",
}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, scale=60)
    stage.jobs(1)
    yield stage
    stage.close()


def netrc(stage: Stage) -> dict[str, str]:
    """An environment full of temptations: .netrc, proxies, cookies."""
    home = stage.folder / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login n password wrong\nmachine localhost login n password w\n")
    (home / ".netrc").chmod(0o600)
    return {"HOME": str(home), "NETRC": str(home / ".netrc")}


def test_only_the_origin_of_the_base_url_gets_the_key(stage: Stage) -> None:
    """Images, uploads and redirects lead to other hosts and ports; a proxy stands ready."""
    elsewhere = Front(stage.base_url, {"GET /": bytes_of(http(IMAGE)), "PUT /": bytes_of(http(b""))})
    proxy = Front(stage.base_url, {"": bytes_of(http(b"", "502 Bad"))})
    port = elsewhere.url.rpartition(":")[2]
    sent_away = f"http://localhost:{port}/moved.png"
    hop = Front(stage.base_url, {"GET /": bytes_of(http(b"", "302 Found", f"Location: {sent_away}"))})
    outputs = [f"{elsewhere.url}/a.png?signature=s3cret", f"http://localhost:{port}/b.png", f"{hop.url}/c.png"]
    data = {"status": "completed", "outputs": outputs, "urls": {"get": f"{elsewhere.url}/look"}}
    ticket = {"upload": {"method": "PUT", "url": f"http://localhost:{port}/put"}, "download_url": f"{elsewhere.url}/i"}
    front = Front(
        stage.base_url,
        {
            "GET /api/v2/predictions": bytes_of(http(json.dumps({"code": 200, "data": data}).encode())),
            "POST /api/v3/media": bytes_of(http(json.dumps({"code": 200, "data": ticket}).encode())),
            "POST /api/v2/": bytes_of(
                http(json.dumps({"data": {"id": "t1", "urls": {"get": f"{elsewhere.url}/l"}}}).encode())
            ),
        },
    )
    (stage.folder / "photo.png").write_bytes(plain_png({"size": "512*512"}, 2, 1, 1_100_000))
    env = {**netrc(stage), "HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url, "ALL_PROXY": proxy.url}
    ended = stage.run("batch jobs.jsonl -o out -i photo.png -v --log-file log.txt", base_url=front.url, env=env)
    assert ended.code == 0, ended.err
    assert len([p for p in stage.pictures() if p.parent.name != "inputs"]) == 3
    assert proxy.seen == []
    others = [*elsewhere.seen, *hop.seen]
    assert len(others) == 5  # three images, one of them by way of a redirect, and the upload
    for request in others:
        assert b"uthorization" not in request
        assert b"ookie" not in request
        assert not any(form in request for form in key_forms())
    for request in front.seen:
        assert f"Authorization: Bearer {KEY}\r\n".encode() in request
    log = (stage.folder / "log.txt").read_text()
    assert "s3cret" not in log + ended.err + ended.out
    assert "/a.png" in log
    stage.check_secret(ended)


@pytest.mark.parametrize("spelt", SPELT)
def test_a_server_that_says_the_key_back(stage: Stage, spelt: str) -> None:
    said = SPELT[spelt]
    text = json.dumps({"code": 400, "message": f"bad: {said}", "data": {"error": said}}).replace("\\\\/", "\\/")
    headers = (f"X-Echo: {said}", f"Set-Cookie: key={said}", f"Location: https://x.example/?k={said}")
    answers = {
        "POST /api/v2/": bytes_of(http(text.encode(), "400 Bad", *headers)),
        "GET /api/v3/balance": bytes_of(http(text.encode(), "500 Bad", *headers)),
    }
    front = Front(stage.base_url, answers)
    for command in ("batch jobs.jsonl -o out -v --log-file log.txt", "batch jobs.jsonl -o out2 --json", "doctor"):
        ended = stage.run(command, base_url=front.url, env={"FLUX_LORA_DEBUG": "1"})
        check_text(ended)
        assert ended.code in (5, 6)
        stage.check_secret(ended)


@pytest.mark.parametrize("spelt", SPELT)
def test_a_task_that_says_the_key_back(stage: Stage, spelt: str) -> None:
    """In its error, its model, the addresses of its images; then on the gallery's page."""
    said = SPELT[spelt]
    failed = {"status": "failed", "error": f"worker saw {said}", "model": said, "created_at": said}
    done = {"status": "completed", "model": said, "outputs": [f"http://localhost:9/{said}.png?k={said}"]}
    for data in (failed, done):
        body = json.dumps({"code": 200, "data": data}).encode()
        listed = json.dumps({"code": 200, "data": {"items": [{"id": "t1", **data}]}}).encode()
        answers = {"GET /api/v2/predictions": bytes_of(http(body)), "POST /api/v3/predi": bytes_of(http(listed))}
        front = Front(stage.base_url, answers)
        task = stage.task()
        for command in ("status", f"status {task} --json", f"wait {task} -o out -v --log-file log.txt", "gallery out"):
            ended = stage.run(command, base_url=front.url)
            check_text(ended)
            stage.check_secret(ended)


def test_redirects_of_api_calls_do_not_carry_the_key_off(stage: Stage) -> None:
    elsewhere = Front(stage.base_url, {})
    target = f"Location: {elsewhere.url.replace('127.0.0.1', 'localhost')}/api/v2/x"
    for status in ("301 Moved", "302 Found", "307 Temporary", "308 Permanent"):
        front = Front(stage.base_url, {"POST /api/v2/": bytes_of(http(b"", status, target))})
        ended = stage.run(f"batch jobs.jsonl -o out-{status[:3]}", base_url=front.url)
        assert ended.code == 5
    assert elsewhere.seen == []


def test_the_process_list_and_the_files_of_a_run_do_not_show_it(stage: Stage) -> None:
    seen: list[bytes] = []

    def look_around(connection: socket.socket, _: bytes) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.append(path.read_bytes())
        seen.extend(path.read_bytes() for path in stage.folder.rglob("*") if path.is_file())
        connection.sendall(http(b"", "500 Bad"))

    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc")
    wrong: dict[str, Wrong] = {"POST /api/v2/": look_around}
    stage.run("batch jobs.jsonl -o out --on-unknown hold", base_url=Front(stage.base_url, wrong).url)
    assert any(b"jobs.jsonl" in text for text in seen)
    assert not any(form in text for text in seen for form in key_forms())


def test_ledger_and_manifest_are_their_owners_alone(stage: Stage) -> None:
    assert stage.run("batch jobs.jsonl -o out --log-file log.txt").code == 0
    for path in (stage.out / "manifest.json", stage.out / "ledger.sqlite3", stage.folder / "log.txt"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_proxy_that_the_environment_names_is_used_for_other_hosts(stage: Stage) -> None:
    """It sees the name of the host, through a tunnel, and not the key."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                seen.append(read_request(connection))
                connection.sendall(b"HTTP/1.1 503 No\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with listener:
        ended = stage.run(
            "status t1 --allow-custom-host", base_url="https://api.example", env={"HTTPS_PROXY": proxy}, timeout=60
        )
    assert ended.code == 5
    assert "proxy" in ended.err
    assert seen
    assert all(request.startswith(b"CONNECT api.example:443") for request in seen)
    assert not any(form in request for request in seen for form in key_forms())
