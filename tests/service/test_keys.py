"""The key: where it may lie, in which form, and to whom it may go."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.folder import files
from flux_lora_cli.service.client import connect
from flux_lora_cli.service.hosts import DEFAULT_BASE_URL as BASE
from flux_lora_cli.service.hosts import load_key

SECRET = "wsk-SECRET-1"


@pytest.mark.parametrize(
    "data",
    [
        *(b"wsk-SECRET-1\n", b"wsk-SECRET-1\r\n", b"  wsk-SECRET-1 \n\n"),
        *(b"\xef\xbb\xbfwsk-SECRET-1\n", "wsk-SECRET-1\u00a0\n".encode()),
    ],
)
def test_a_key_file_is_read_before_the_environment(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(data)
    assert load_key({"WAVESPEED_API_KEY": "other"}, tmp_path / "key") == SECRET


@pytest.mark.parametrize(
    "data",
    [
        *("wsk-SECRET-1\r\n".encode("utf-16"), b'"wsk-SECRET-1"\n', b"'SECRET'", "\u201cwsk-SECRET-1\u201d".encode()),
        *(b"WAVESPEED_API_KEY=wsk-SECRET-1\n", b"export KEY = 'wsk-SECRET-1'\n", b"Bearer wsk-SECRET-1\n"),
        *(b"# my key\nwsk-SECRET-1\n", b"wsk-SECRET -1", "wsk-SECRET-ё".encode(), b"\0\1\2SECRET", b"SECRET" * 1000),
    ],
)
def test_what_is_not_a_key_alone_is_refused_and_not_shown(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(errors.MissingKey, match="key does not hold an API key") as caught:
        load_key({}, tmp_path / "key")
    assert "SECRET" not in caught.value.message + caught.value.hint


def test_the_environment_is_checked_alike() -> None:
    assert load_key({"WAVESPEED_API_KEY": f" {SECRET}\n"}) == SECRET
    with pytest.raises(errors.MissingKey, match="WAVESPEED_API_KEY does not hold"):
        load_key({"WAVESPEED_API_KEY": f'"{SECRET}"'})


def test_a_pipe_is_read_and_one_without_a_writer_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: subprocess.run(["sh", "-c", f"echo {SECRET} > {pipe}"], check=True))
    writer.start()
    assert load_key({}, pipe) == SECRET
    writer.join()
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.1)
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
