"""Who holds a folder: a word in its ledger, which stays true whatever happens to lock files."""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from flux_lora_cli.errors import FolderBusy
from flux_lora_cli.text import printable


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a folder.

    Attributes:
        token: of this one opening.
        started: what tells the process from a later one of the same ID, "" where the system does not say.
        since: UTC ISO time.
    """

    token: str
    pid: int
    host: str
    started: str
    since: str

    @classmethod
    def here(cls, since: str) -> Holder:
        """This process."""
        return cls(secrets.token_hex(16), os.getpid(), socket.gethostname(), _started(os.getpid()) or "", since)

    @classmethod
    def read(cls, text: str | None) -> Holder | None:
        """A holder as ``text`` wrote it; None where it is not one."""
        try:
            values = json.loads(text or "")
            holder = cls(**values)
        except (ValueError, TypeError, RecursionError):
            return None
        wanted = (str, int, str, str, str)
        fits = all(type(value) is kind for value, kind in zip(asdict(holder).values(), wanted, strict=True))
        return holder if fits and 0 < holder.pid < 2**31 else None

    def text(self) -> str:
        """The holder as JSON."""
        return json.dumps(asdict(self))

    @property
    def alive(self) -> bool:
        """Whether the process still runs. Of another machine that cannot be told: it then counts as ended.

        Such a one notices at its next save that it is not the holder any more, and stops.
        """
        if self.host != socket.gethostname():
            return False
        started = _started(self.pid)
        if started is not None:
            return bool(started) and started == self.started
        if os.name == "nt":
            return False  # there the lock file of a living process cannot be removed
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass
        return True

    def busy(self, folder: Path) -> FolderBusy:
        """The error for whoever else wants the folder."""
        return FolderBusy(
            f"{printable(str(folder))} is in use by process {self.pid} on {printable(self.host)[:80]},"
            f" since {printable(self.since)[:30]}",
            "Wait until it has ended, then run the same command again.",
        )


def _started(pid: int) -> str | None:
    """Boot and start time of a process, "" where it has ended; None where the system does not tell. [proc(5)]"""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    try:
        # The name in parentheses may hold anything; state and start time are the 3rd and 22nd fields.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] in (b"Z", b"X") else f"{boot}:{int(fields[19])}"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, IndexError):
        return None
