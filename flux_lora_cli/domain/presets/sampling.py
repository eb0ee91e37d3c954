"""Deterministic drawing of some of very many combinations, without making the others.

SHA-256 in counter mode, and not ``random``: the same preset must give the same jobs
on every machine and Python version, for as long as presets are kept.
"""

from __future__ import annotations

from hashlib import sha256


class HashStream:
    """Uniform whole numbers from a seed. The n-th number depends on the seed and n alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._counter = 0

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1, each equally likely (draws that would be unfair are dropped)."""
        bits = limit.bit_length()
        while True:
            value = self._bits(bits)
            if value < limit:
                return value

    def _bits(self, count: int) -> int:
        blocks = b"".join(self._block() for _ in range((count + 255) // 256))
        return int.from_bytes(blocks, "big") >> (len(blocks) * 8 - count)

    def _block(self) -> bytes:
        self._counter += 1
        return sha256(f"flux-lora sample 1/{self._seed}/{self._counter}".encode()).digest()


def sample(total: int, count: int, seed: int) -> list[int]:
    """Draw ``count`` different indices below ``total``, in ascending order (Floyd's algorithm: O(count))."""
    if count >= total:
        return list(range(total))
    stream = HashStream(seed)
    chosen: set[int] = set()
    for top in range(total - count, total):
        drawn = stream.below(top + 1)
        chosen.add(top if drawn in chosen else drawn)
    return sorted(chosen)
