"""The process at the other end of a loopback connection, found by Linux's tables, to be killed."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

_PROC = Path("/proc")


def kill_peer(connection: socket.socket, pid: int | None) -> bool:
    """Kills ``pid``, or else whoever holds the other end. False where nobody was found."""
    found = pid if pid is not None else peer_pid(connection)
    if found is None:
        return False
    try:
        os.kill(found, signal.SIGKILL)
    except OSError:
        return False
    return True


def peer_pid(connection: socket.socket) -> int | None:
    """The process that holds the other end of a connection on this machine; None where it cannot be found."""
    try:
        mine, theirs = connection.getsockname()[1], connection.getpeername()[1]
    except OSError:
        return None
    inode = _inode(local=theirs, remote=mine)
    return None if inode is None else _holder(f"socket:[{inode}]")


def _inode(local: int, remote: int) -> str | None:
    ends = (f":{local:04X}", f":{remote:04X}")
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (_PROC / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
                return fields[9]
    return None


def _holder(link: str) -> int | None:
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            try:
                if any(str(entry.readlink()) == link for entry in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:
                continue  # it ended, or is another user's
    return None
