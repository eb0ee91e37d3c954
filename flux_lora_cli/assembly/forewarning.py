"""What may not suffice for a plan, said before the first submit; none of it is a reason to refuse."""

from __future__ import annotations

import random
from pathlib import Path

from flux_lora_cli.domain.backoff import Policy
from flux_lora_cli.domain.budget import dollars
from flux_lora_cli.domain.events import Warned
from flux_lora_cli.errors import FluxLoraError, KeyRefused
from flux_lora_cli.workflow.asking import ask
from flux_lora_cli.workflow.batch import TYPICAL_BYTES
from flux_lora_cli.workflow.ports import Clock, Observer, Service
from flux_lora_cli.workflow.pricing import Priced


def warn_of_room(free_bytes: int | None, images: int, folder: Path, observer: Observer) -> None:
    """Say that the disk may be too small. What images take is a guess: 10 KB, or 5 MB."""
    need = images * TYPICAL_BYTES
    if free_bytes is not None and free_bytes < need:
        observer(
            Warned(
                "disk",
                f"{folder} has {free_bytes / 1e6:,.0f} MB left, and {images} images may take {need / 1e6:,.0f} MB: "
                "submits will stop when the disk is full",
            )
        )


def warn_of_balance(priced: Priced, service: Service, clock: Clock, observer: Observer) -> None:
    """Say before the first submit that the credit does not suffice. Raises KeyRefused."""
    if not priced.total:
        return
    try:
        balance = ask(service.balance, clock, random.random, Policy(2, 1.0, 2.0))
    except KeyRefused:
        raise
    except FluxLoraError:
        return
    if balance is not None and balance < priced.total:
        observer(
            Warned(
                "balance",
                f"the account has {dollars(balance)}, and the plan costs {dollars(priced.total)}: submits will stop "
                "when the credit is used up",
            )
        )
