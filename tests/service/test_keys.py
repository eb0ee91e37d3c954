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

SECRET = "wsk-SECRET-1"
FILES = {
    "newline": (b"wsk-SECRET-1\n", None),
    "windows": (b"wsk-SECRET-1\r\n", None),
    "spaces": (b"  wsk-SECRET-1 \n\n", None),
    "byte order mark": (b"\xef\xbb\xbfwsk-SECRET-1\n", None),
    "no-break space": ("wsk-SECRET-1\u00a0\n".encode(), None),
    "utf-16": ("wsk-SECRET-1\r\n".encode("utf-16"), "UTF-16"),
    "quotes": (b'"wsk-SECRET-1"\n', "quotes"),
    "single quotes": (b"'wsk-SECRET-1'\n", "quotes"),
    "smart quotes": ("\u201cwsk-SECRET-1\u201d".encode(), "quotes"),
    "env": (b"WAVESPEED_API_KEY=wsk-SECRET-1\n", ".env"),
    "export": (b"export KEY = 'wsk-SECRET-1'\n", ".env"),
    "bearer": (b"Bearer wsk-SECRET-1\n", "Bearer"),
    "comment": (b"# my key\nwsk-SECRET-1\n", "more than one line"),
    "two words": (b"wsk-SECRET -1", "one word"),
    "cyrillic": ("wsk-SECRET-ё".encode(), "one word"),
    "binary": (b"\0\1\2SECRET", "one word"),
    "long": (b"SECRET" * 1000, "too long"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_key_file_is_read_or_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    data, reason = FILES[name]
    file = tmp_path / "key"
    file.write_bytes(data)
    file.chmod(0o600)
    if reason is None:
        assert load_key({}, file) == hosts.Key(SECRET)
        return
    with pytest.raises(errors.UsageError, match=reason) as caught:
        load_key({}, file)
    assert "SECRET" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("env", [{}, {"WAVESPEED_API_KEY": ""}, {"WAVESPEED_API_KEY": " \n"}])
def test_without_a_key_both_ways_on_are_named(env: dict[str, str]) -> None:
    with pytest.raises(errors.MissingKey) as caught:
        load_key(env)
    assert "WAVESPEED_API_KEY" in caught.value.hint and "--sandbox" in caught.value.hint


def test_the_environment_is_checked_alike() -> None:
    assert load_key({"WAVESPEED_API_KEY": f" {SECRET}\n"}).value == SECRET
    with pytest.raises(errors.UsageError, match="quotes"):
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
    with pytest.raises(errors.NotFoundError):
        load_key({}, tmp_path / "none")
    with pytest.raises(errors.MissingKey):
        load_key({}, tmp_path)
    with pytest.raises(errors.UsageError):
        load_key({}, Path("/dev/zero"))
    with pytest.raises(errors.MissingKey):
        load_key({}, Path("/dev/null"))


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


BASE = "https://api.wavespeed.ai"


@pytest.mark.parametrize(
    ("url", "custom", "fine"),
    [
        (BASE, False, True),
        (BASE + ":443/", False, True),
        ("https://API.wavespeed.ai", False, True),
        ("http://127.0.0.1:8000", False, True),
        ("http://localhost:8000", False, True),
        ("http://[::1]:8000", False, True),
        ("https://api.wavespeed.ai.evil.example", False, False),
        ("https://api.wavespeed.ai:8443", False, False),
        ("https://proxy.corp", False, False),
        ("https://proxy.corp", True, True),
        ("http://api.wavespeed.ai", False, False),
        ("http://api.wavespeed.ai", True, True),
        ("http://localhost.evil.example", False, False),
        ("https://127.0.0.1.evil.example", False, False),
        ("https://user:pass@api.wavespeed.ai", True, False),
        (f"https://{SECRET}@api.wavespeed.ai", True, False),
        (f"{SECRET}@api.wavespeed.ai", True, False),
        (f"https://api.wavespeed.ai?key={SECRET}", True, False),
        (f"https://api.wavespeed.ai/#{SECRET}", True, False),
        (SECRET, True, False),
        ("ftp://api.wavespeed.ai", True, False),
        ("api.wavespeed.ai", True, False),
        ("https://", True, False),
        ("https://a:99999", True, False),
        ("https://a:0", True, False),
        ("https://[::1", True, False),
        ("https://a\u202eb", True, False),
    ],
)
def test_which_host_may_get_the_key(url: str, custom: bool, fine: bool) -> None:
    if fine:
        assert connect(key=SECRET, base_url=url, allow_custom_host=custom, env={}).base_url == url.rstrip("/")
        return
    with pytest.raises(errors.UsageError) as caught:
        connect(key=SECRET, base_url=url, allow_custom_host=custom, env={})
    assert "SECRET" not in caught.value.message + caught.value.hint + str(caught.value)
    assert "pass@" not in caught.value.message
