"""What the service says of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Statuses after which a task does not change any more. [API page; the last three: official SDK source]
TERMINAL = frozenset({"completed", "failed", "cancelled", "timeout", "deleted"})


@dataclass(frozen=True, slots=True)
class Task:
    """One answer about a task, decoded.

    Attributes:
        id: a plain token (letters, digits, ``-`` and ``_``).
        model: as the service names it; None where it did not say.
        status: as sent. A status that is not in TERMINAL means "not finished yet".
        outputs: URLs, or data URIs / bare base64 as the service sent them.
        nsfw: one entry an output; None where the service did not say.
        created_at: ISO timestamp as sent.
        execution_ms: milliseconds (``executionTime`` on v2, ``timings.inference`` on v3).
        error: the reason of a failure, "" where there is none.
        inputs: the request as the predictions list echoes it; None where it does not.
    """

    id: str
    status: str
    model: str | None = None
    outputs: tuple[str, ...] = ()
    nsfw: tuple[bool | None, ...] = ()
    created_at: str | None = None
    execution_ms: int | None = None
    error: str = ""
    inputs: Mapping[str, Any] | None = None

    @property
    def terminal(self) -> bool:
        """Whether the task will not change any more."""
        return self.status in TERMINAL

    @property
    def completed(self) -> bool:
        """Whether the task ended well."""
        return self.status == "completed"
