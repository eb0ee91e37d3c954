"""How a sandbox behaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

DOCUMENTED_PRICE: Final = Decimal("0.015")
"""Price of flux-dev-lora in dollars an image (documentation)."""


@dataclass(slots=True)
class SandboxOptions:
    """How a sandbox behaves.

    Args:
        port: 0 picks a free one.
        host: the address to listen on.
        service_time: shortest and longest time that a task takes, in seconds.
        rate: images a minute that are accepted; None for no limit.
        concurrency: tasks worked on at once, the others wait in line; None for no limit.
        price_per_image: dollars.
        balance: dollars of credit; None for a credit that does not run out.
        api_key: the one key that is accepted; None for any key.
        nsfw_rate: share of the images that are flagged, 0 to 1. A prompt that says nsfw is flagged always.
        faults: what goes wrong, see ``faults.fault_help``.
        seed: of the sandbox's own randomness.
        state: file that keeps the state; None keeps it in memory.
        pictures: ``scene`` draws them; ``plain`` sends one colour, for load tests.
        picture_bytes: plain pictures are padded to this size.
    """

    port: int = 0
    host: str = "127.0.0.1"
    service_time: tuple[float, float] = (0.3, 1.2)
    rate: float | None = None
    concurrency: int | None = None
    price_per_image: Decimal = DOCUMENTED_PRICE
    balance: Decimal | None = None
    api_key: str | None = None
    nsfw_rate: float = 0.0
    faults: list[str] = field(default_factory=list)
    seed: int = 0
    state: Path | None = None
    pictures: str = "scene"
    picture_bytes: int = 0

    def __post_init__(self) -> None:
        low, high = self.service_time
        if not 0 <= low <= high:
            raise ValueError(f"service time {low} to {high}: shortest first, none below 0")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate {self.rate}: above 0 images a minute is expected")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"concurrency {self.concurrency}: at least 1 is expected")
        if not 0 <= self.nsfw_rate <= 1:
            raise ValueError(f"NSFW rate {self.nsfw_rate}: 0 to 1 is expected")
        if self.price_per_image < 0:
            raise ValueError(f"price {self.price_per_image}: none below 0")
        if self.pictures not in ("scene", "plain"):
            raise ValueError(f"pictures {self.pictures}: scene or plain is expected")
