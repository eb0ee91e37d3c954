"""The key: where it may lie, in which form, and to whom it may go."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.service import hosts
from flux_lora_cli.service.client import connect, load_key
from flux_lora_cli.service.hosts import DEFAULT_BASE_URL as BASE

SECRET = "wsk-SECRET-1"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *((data, None) for data in (b"wsk-SECRET-1\n", b"wsk-SECRET-1\r\n", b"  wsk-SECRET-1 \n\n")),
        *((data, None) for data in (b"\xef\xbb\xbfwsk-SECRET-1\n", "wsk-SECRET-1\u00a0\n".encode())),
        ("wsk-SECRET-1\r\n".encode("utf-16"), "UTF-16"),
        *((data, "quotes") for data in (b'"wsk-SECRET-1"\n', b"'SECRET'", "\u201cwsk-SECRET-1\u201d".encode())),
        *((data, ".env") for data in (b"WAVESPEED_API_KEY=wsk-SECRET-1\n", b"export KEY = 'wsk-SECRET-1'\n")),
        (b"Bearer wsk-SECRET-1\n", "Bearer"),
        (b"# my key\nwsk-SECRET-1\n", "more than one line"),
        *((data, "one word") for data in (b"wsk-SECRET -1", "wsk-SECRET-ё".encode(), b"\0\1\2SECRET")),
        (b"SECRET" * 1000, "too long"),
    ],
)
def test_a_key_file_is_read_or_refused_with_the_reason(data: bytes, reason: str | None, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(data)
    file.chmod(0o600)
    if reason is None:
        assert load_key({}, file) == hosts.Key(SECRET)
        return
    with pytest.raises(errors.MissingKey, match=reason) as caught:
        load_key({}, file)
    assert "SECRET" not in caught.value.message + caught.value.hint


def test_the_environment_is_checked_alike() -> None:
    assert load_key({"WAVESPEED_API_KEY": f" {SECRET}\n"}).value == SECRET
    with pytest.raises(errors.MissingKey, match="quotes"):
        load_key({"WAVESPEED_API_KEY": f'"{SECRET}"'})


def test_a_key_file_comes_before_the_environment_and_should_be_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file")
    file.chmod(0o600)
    assert load_key({"WAVESPEED_API_KEY": "from-env"}, file) == hosts.Key("from-file")
    file.chmod(0o644)
    key = load_key({}, file)
    assert "chmod 600" in key.warning and "from-file" not in repr(key)


def test_key_files_that_are_not_there_or_not_files(tmp_path: Path) -> None:
    places = {tmp_path / "none": errors.NotFoundError, tmp_path: errors.MissingKey}
    for place, expected in {**places, "/dev/zero": errors.MissingKey, "/dev/null": errors.MissingKey}.items():
        with pytest.raises(expected):
            load_key({}, Path(place))


def test_a_pipe_is_read_and_one_without_a_writer_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: subprocess.run(["sh", "-c", f"echo {SECRET} > {pipe}"], check=True))
    writer.start()
    assert load_key({}, pipe).value == SECRET
    writer.join()
    monkeypatch.setattr(hosts, "PIPE_SECONDS", 0.1)
    with pytest.raises(errors.MissingKey):
        load_key({}, pipe)


FINE = [
    *(BASE, f"{BASE}:443/", "https://API.wavespeed.ai"),
    *("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"),
]
#: What needs --allow-custom-host; what not even that allows.
CUSTOM = [
    *("https://api.wavespeed.ai.evil.example", "https://api.wavespeed.ai:8443", "https://proxy.corp"),
    *("http://api.wavespeed.ai", "http://localhost.evil.example", "https://127.0.0.1.evil.example"),
]
NEVER = [
    *("https://user:pass@api.wavespeed.ai", f"https://{SECRET}@api.wavespeed.ai", f"{SECRET}@api.wavespeed.ai"),
    *(f"{BASE}?key={SECRET}", f"{BASE}/#{SECRET}", SECRET, "ftp://api.wavespeed.ai", "api.wavespeed.ai"),
    *("https://", "https://a:99999", "https://a:0", "https://[::1", "https://a\u202eb"),
]


@pytest.mark.parametrize("url", [*FINE, *CUSTOM, *NEVER])
@pytest.mark.parametrize("allowed", [False, True])
def test_which_host_may_get_the_key(url: str, allowed: bool) -> None:
    if url in FINE or (allowed and url in CUSTOM):
        assert connect(key=SECRET, base_url=url, allow_custom_host=allowed, env={}).base_url == url.rstrip("/")
        return
    with pytest.raises(errors.UsageError) as caught:
        connect(key=SECRET, base_url=url, allow_custom_host=allowed, env={})
    assert "SECRET" not in caught.value.message + caught.value.hint + str(caught.value)
    assert "pass@" not in caught.value.message
