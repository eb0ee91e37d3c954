"""What the use cases need of the world, as small Protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from flux_lora_cli.domain.events import Event
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.domain.task import Task

#: Receives every event of a run.
Observer = Callable[[Event], None]


class Clock(Protocol):
    """Time, handed in."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; never jumps."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Service(Protocol):
    """The API, one try a call. Raises the leaves of ``errors.ServiceError`` and ``errors.AuthError``."""

    def submit(self, model: str, request_input: Mapping[str, Any]) -> Task:
        """Submit a task."""

    def result(self, task_id: str) -> Task:
        """Look at a task."""

    def predictions(
        self,
        *,
        page: int = 1,
        page_size: int = 100,
        model: str | None = None,
        created_after: datetime | None = None,
    ) -> Sequence[Task]:
        """One page of the account's recent tasks, newest first."""

    def price(self, model: str, request_input: Mapping[str, Any]) -> Decimal | None:
        """USD for the whole request; None where the service does not say."""

    def balance(self) -> Decimal | None:
        """USD left; None where the service does not say."""

    def upload(self, path: str, media_type: str) -> str:
        """The URL under which the service reads a local file."""


class Saved(Protocol):
    """A whole image in a temporary file, checked, hashed and flushed."""

    @property
    def temp(self) -> str:
        """Path of the temporary file, relative to the folder."""

    @property
    def sha256(self) -> str:
        """Lower-case hex."""

    @property
    def bytes(self) -> int:
        """Size of the file."""

    @property
    def width(self) -> int:
        """Pixels."""

    @property
    def height(self) -> int:
        """Pixels."""

    @property
    def media_type(self) -> str:
        """By content, ``image/png``."""

    @property
    def extension(self) -> str:
        """By content, without a dot."""


class Store(Protocol):
    """The folder's files. Paths are relative to the folder, with ``/``."""

    def fetch(self, output: str) -> Saved:
        """Save an output (URL, data URI, bare base64) to a temporary file.

        Raises ImageError, ServiceError, FolderError.
        """

    def publish(self, temp: str, final: str) -> None:
        """Give a temporary file its final name. Raises FileExistsError where that is taken."""

    def replace(self, temp: str, final: str) -> None:
        """As ``publish``, over a damaged image of ours."""

    def sync_dirs(self, paths: Iterable[str]) -> None:
        """Make the names of these files durable."""

    def stat(self, path: str) -> tuple[int, int] | None:
        """Size and mtime_ns of a file of ours; None where there is none (links and folders are none)."""

    def hash(self, path: str) -> str | None:
        """SHA-256 of a file of ours; None where there is none."""

    def discard(self, temp: str) -> None:
        """Remove a temporary file."""


class Records(Protocol):
    """The ledger, as far as a run writes it."""

    def save(self, records: Iterable[JobRecord]) -> None:
        """Write records in one transaction that is durable on return."""


class Workers(Protocol):
    """Runs blocking calls elsewhere."""

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work`` soon, on some thread."""


class Inbox(Protocol):
    """Where workers leave what they found."""

    def put(self, item: Callable[[], None]) -> None:
        """Leave an item; from any thread, and from signal handlers."""

    def get(self, timeout: float | None) -> Callable[[], None] | None:
        """Take an item, waiting up to ``timeout`` seconds (None: for ever); None where none came."""
