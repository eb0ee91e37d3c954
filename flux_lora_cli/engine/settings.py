"""How a run behaves, and how it is stopped from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from flux_lora_cli.errors import FluxLoraError
from flux_lora_cli.folder.records import OutputRecord


@dataclass(frozen=True)
class Settings:
    """How a run behaves. Durations are in seconds, money in USD.

    Attributes:
        concurrency: tasks in flight, those in the service's queue included.
        poll_interval: least seconds between two polls of one task.
        timeout: of the whole run; None for none.
        task_timeout: of one task, from its submission.
        rate: images per second; None for no limit.
        max_cost: limit on what the folder is charged in all.
        max_month: limit on what this user is charged at the service in a calendar month (UTC), over all folders.
        price: per image, where the service does not report one.
        filename: template of image names; None for the default.
        follow: wait for the tasks and save their images.
        progress_every: seconds between two ``Progress`` events.
    """

    concurrency: int = 16
    poll_interval: float = 2.0
    timeout: float | None = None
    task_timeout: float = 1800.0
    rate: float | None = None
    max_cost: Decimal | None = None
    max_month: Decimal | None = None
    price: Decimal | None = None
    on_unknown: Literal["reconcile", "hold", "resubmit"] = "reconcile"
    nsfw: Literal["keep", "quarantine", "skip"] = "keep"
    fail_on_nsfw: bool = False
    download: bool = True
    filename: str | None = None
    follow: bool = True
    progress_every: float = 30.0

    def leaves_out(self, output: OutputRecord) -> bool:
        """Whether an image is not asked for."""
        return not self.download or (self.nsfw == "skip" and output.nsfw is True)


class Stop:
    """Ends a run from outside: from a signal handler, or from another thread.

    The run then sends no further submission, waits a moment for the answers of those in flight, saves its state and
    returns within 2 seconds; ``error`` becomes its reason.
    """

    def __init__(self) -> None:
        self.error: FluxLoraError | None = None
        self._listener: Callable[[FluxLoraError], object] = lambda error: None

    def request(self, error: FluxLoraError) -> None:
        """End the run; the first request counts."""
        if self.error is None:
            self.error = error
            self._listener(error)

    def listen(self, listener: Callable[[FluxLoraError], object]) -> None:
        """Call ``listener`` (thread-safe) at the request, or at once where it has come already."""
        self._listener = listener
        if self.error is not None:
            listener(self.error)
