"""What several tests of this folder do."""

from __future__ import annotations

import os

from tests.support.fake import Exchange, Fault
from tests.support.stage import Stage

BATCH = "batch jobs.jsonl -o out"


def unhurried(seconds: float) -> float:
    """A limit in seconds for a machine of its own; more where others keep the processors busy."""
    return seconds * max(1.0, 1.5 * os.getloadavg()[0] / (os.cpu_count() or 1))


def kill_client(stage: Stage, when: str) -> Fault:
    """The server kills its client: on receiving a request, after carrying it out, in the answer, after the answer."""

    def kill() -> None:
        stage.running[-1].kill()
        stage.running[-1].wait(timeout=10)

    def fault(exchange: Exchange) -> None:
        if when == "received":
            return kill()
        raw = exchange.carried().encoded()
        if when == "half":
            exchange.send(raw[: len(raw) - len(raw) // 3])
        elif when == "answered":
            exchange.send(raw)
        return kill()

    return fault
