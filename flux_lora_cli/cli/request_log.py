"""``--log-file``: a line a request, with the time, and nothing secret."""

from __future__ import annotations

import os
import threading
from datetime import datetime, timezone

from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import UsageError


class RequestLog:
    """Appends lines to a file that only its owner can read. Safe to use from several threads."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UsageError(f"--log-file {path}: {error.strerror}") from error
        self._file = os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def write(self, line: str) -> None:
        """One line; a full disk must not end a run for the sake of its log."""
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with self._lock:
            try:
                self._file.write(f"{stamp} {printable(line)}\n")
            except OSError:
                return
