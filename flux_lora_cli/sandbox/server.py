"""The sandbox as others use it: start it, talk to its base URL, look at what it counted, stop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Any

from .faults import Fault, FaultBook
from .journal import Journal, Seen
from .listener import Listener, Wire
from .messages import Reply, Request, as_json
from .options import SandboxOptions
from .routes import STATS, Route, route
from .service import NANOS, Service
from .store import Fate

__all__ = ["Sandbox", "SandboxOptions"]


class Sandbox:
    """The service, offline, on a port of this machine.

    Args:
        options: how it behaves.
        clock: seconds since the epoch; tests hand in one that they move.
        observer: is told of each request when it was answered (from the connection's thread).

    Raises:
        ValueError: a fault is not understood, or the state file is not a sandbox's.
        OSError: the port cannot be had.
    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        clock: Callable[[], float] = time.time,
        observer: Callable[[Seen], None] | None = None,
    ) -> None:
        self.options = options or SandboxOptions()
        self.faults = FaultBook(self.options.faults, self.options.seed)
        self.service = Service(self.options, clock)
        self.journal = Journal(observer)
        self._listener: Listener | None = None

    def start(self) -> str:
        """Listens, in threads of its own, and returns the base URL."""
        self._listener = Listener(self.options.host, self.options.port, self._serve)
        self._listener.start()
        return self.base_url

    def stop(self) -> None:
        """Ends all connections and closes the state. Once is enough, twice does no harm."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
            self.service.close()

    @property
    def base_url(self) -> str:
        """``http://host:port``, once it was started."""
        if self._listener is None:
            raise RuntimeError("the sandbox was not started")
        host, port = self._listener.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stats(self) -> dict[str, Any]:
        """What was received (by this process) and charged (in this state)."""
        tasks, images, nanos = self.service.store.charged()
        return {
            **self.journal.counts(),
            "charged_tasks": tasks,
            "charged_images": images,
            "charged_usd": _dollars(nanos),
            "balance_usd": _dollars(self.service.balance_nanos()),
        }

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serve(self, wire: Wire, request: Request) -> bool:
        target = route(request)
        if target.endpoint == STATS:
            wire.send(Reply(200, as_json(self.stats())))
            return True
        return self._serve_api(wire, request, target)

    def _serve_api(self, wire: Wire, request: Request, target: Route) -> bool:
        fault = self.faults.meeting(target.endpoint)
        if fault is not None:
            return self._serve_wrongly(fault, wire, request, target)
        reply = self.service.reply(target, request)
        self.journal.note(target, request, reply.status, "")
        wire.send(reply, head_only=request.method == "HEAD")
        return True

    def _serve_wrongly(self, fault: Fault, wire: Wire, request: Request, target: Route) -> bool:
        from .sabotage import sabotage  # only those that misbehave need it

        def carry(fate: Fate | None) -> Reply:
            return self.service.reply(target, request, fate)

        def note(status: int, accepted: bool) -> None:
            self.journal.note(target, request, status, fault.spec, accepted)

        if self._listener is None:
            return False
        return sabotage(fault, wire, request, target, carry, note, self._listener)


def _dollars(nanos: int) -> str:
    return format((Decimal(nanos) / NANOS).normalize(), "f")
