"""SQLite's log beside the ledger (``-wal``): whether it still holds every commit.

SQLite takes the first bad frame for the end of the log, and a log that is gone for an empty one. After a
crash that is right. After a flipped bit or a file that was cut, it silently takes commits away, and
with them tasks that were paid for. Format: https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

#: Bytes of the log's header.
HEADER = 32
_FRAME_HEADER = 24
_INDEX_HEADER = 48
_READS = 5


def lost_commits(path: Path, accepted: int) -> bool:
    """Return whether the log of a ledger holds commits that SQLite does not see.

    SQLite takes a bad frame for the end of the log: right after a crash, which can tear only the last
    commit, and wrong for a flipped bit, which silently takes all later commits away, and with them tasks
    that were paid for. Ours are written with ``psow=0``, which repeats the last frame of a commit; so a
    commit with another frame behind it was complete.

    Args:
        path: the ledger.
        accepted: frames that SQLite accepts.
    """
    try:
        with path.with_name(path.name + "-wal").open("rb") as log:
            return _lost(log.read(HEADER), log, accepted)
    except FileNotFoundError:
        return False


def _lost(header: bytes, log: BinaryIO, accepted: int) -> bool:
    if len(header) < HEADER:
        return False
    magic, _, page, _, salt_1, salt_2, sum_1, sum_2 = struct.unpack(">8I", header)
    if magic & ~1 != 0x377F0682 or _checksum(header[:24], ">2I" if magic & 1 else "<2I") != (sum_1, sum_2):
        return True
    size = _FRAME_HEADER + page
    commit_before = False
    number = 0
    while len(frame := log.read(size)) >= _FRAME_HEADER:
        number += 1
        _, commit, frame_1, frame_2 = struct.unpack(">4I", frame[:16])
        if number <= accepted or (frame_1, frame_2) != (salt_1, salt_2):
            continue
        if commit_before:
            return True
        commit_before = commit_before or commit != 0
    return False


def _checksum(data: bytes, words: str) -> tuple[int, int]:
    # https://www.sqlite.org/fileformat2.html#checksum_algorithm
    one = two = 0
    for first, second in struct.iter_unpack(words, data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def log_cut(path: Path) -> bool:
    """Return whether the log is shorter than its index says, or is another one.

    Only while this process does not have the ledger open: closing the index drops SQLite's locks on it.

    The index (``-shm``) counts a commit only once it is in the log for good, and outlives a killed process;
    where it is not whole, as after a power cut, it tells nothing.
    """
    for _ in range(_READS):
        before = _index(path)
        cut = before is not None and _shorter(path, before)
        if not cut:
            return False
        if before == _index(path):  # else another process is writing, and the two reads do not belong together
            return True
    return False


class _Index(NamedTuple):
    page: int
    frames: int
    folded: int  # of these, into the ledger
    salts: bytes


def _index(path: Path) -> _Index | None:
    try:
        with path.with_name(path.name + "-shm").open("rb") as file:
            data = file.read(2 * _INDEX_HEADER + 4)
    except OSError:
        return None
    first = data[:_INDEX_HEADER]
    if len(data) < 2 * _INDEX_HEADER + 4 or first != data[_INDEX_HEADER : 2 * _INDEX_HEADER]:
        return None
    if _checksum(first[:40], "=2I") != struct.unpack("=2I", first[40:]):
        return None
    page, frames = struct.unpack("=HI", first[14:20])
    (folded,) = struct.unpack("=I", data[-4:])
    return _Index(65536 if page == 1 else page, frames, folded, first[32:40])


def _shorter(path: Path, index: _Index) -> bool:
    if index.folded >= index.frames:
        return False
    log = path.with_name(path.name + "-wal")
    try:
        with log.open("rb") as file:
            header = file.read(HEADER)
        size = HEADER + index.frames * (_FRAME_HEADER + index.page)
        return log.stat().st_size < size or header[16:24] != index.salts
    except OSError:
        return True
