"""Faults carried out: on replies, on the connection, on the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .faults import Fault
from .listener import Listener, Wire, head_of
from .mangle import mangled, why
from .messages import Reply, Request
from .peer import kill_peer
from .routes import SUBMIT, Route
from .store import Fate

_BLOCK: Final = b"\0" * 65536
_MEGABYTE: Final = 1_000_000
_SILENT: Final = ("reset", "eof", "stall")

Carry = Callable[[Fate | None], Reply]
"""Carries the request out, in earnest."""
Note = Callable[[int, bool], None]
"""Told once: the status answered (0 for none), and whether the request was carried out with success."""


def sabotage(
    fault: Fault, wire: Wire, request: Request, target: Route, carry: Carry, note: Note, listener: Listener
) -> bool:
    """Does one request wrongly. Returns whether the connection goes on."""
    if fault.kind == "kill":
        return _kill(fault, wire, carry, note)
    reply = Reply(200, b"{}") if fault.before else carry(_fate(fault, target))
    done = not fault.before and reply.status == 200
    if fault.kind in _SILENT:
        note(0, done)
        return _fall_silent(fault, wire)
    if fault.kind == "slow":
        wire.pause(fault.number)
        reply = carry(None) if fault.before else reply
        done = reply.status == 200
    elif not (target.endpoint == SUBMIT and fault.kind in _FATES):
        reply = mangled(fault, reply, request)
    note(reply.status, done)
    return _send(fault, wire, reply, listener)


_FATES: Final = ("stuck", "failed", "ended")


def _fate(fault: Fault, target: Route) -> Fate | None:
    """A task is doomed at its submit; a look alone is only lied to."""
    if target.endpoint != SUBMIT or fault.kind not in _FATES:
        return None
    if fault.kind == "stuck":
        return Fate("stuck")
    if fault.kind == "failed":
        return Fate("failed", int(fault.value), why(fault))
    return Fate(fault.value, 0, why(fault))


def _fall_silent(fault: Fault, wire: Wire) -> bool:
    if fault.kind == "reset":
        wire.reset()
    elif fault.kind == "stall":
        wire.pause(fault.number)
    return False


def _send(fault: Fault, wire: Wire, reply: Reply, listener: Listener) -> bool:
    half = reply.body[: len(reply.body) // 2]
    if fault.kind == "cut":
        wire.send_bytes(head_of(reply, len(reply.body)) + half)
    elif fault.kind == "short":
        wire.send_bytes(head_of(reply, None) + half)
    elif fault.kind == "trickle":
        _trickle(fault, wire, reply)
    elif fault.kind == "too-large":
        _too_large(fault, wire, reply)
    elif fault.kind == "long-length":
        wire.send_bytes(head_of(reply, int(fault.number * _MEGABYTE)) + reply.body)
    else:
        wire.send(reply)
        if fault.kind == "refuse":
            listener.refuse_for(fault.number)
        return fault.kind != "refuse"
    return False


def _trickle(fault: Fault, wire: Wire, reply: Reply) -> None:
    """White space before the body: a reader that waits for the end, waits for ever."""
    wire.send_bytes(head_of(reply, None))
    while not wire.pause(fault.number):
        wire.send_bytes(b" ")


def _too_large(fault: Fault, wire: Wire, reply: Reply) -> None:
    """A PNG that begins well, and goes on with one endless chunk."""
    size = int(fault.number * _MEGABYTE)
    begin = reply.body[:33] + (min(size, 2**31 - 1)).to_bytes(4, "big") + b"IDAT"
    wire.send_bytes(head_of(reply, None) + begin)
    for _ in range(size // len(_BLOCK) + 1):
        wire.send_bytes(_BLOCK)


def _kill(fault: Fault, wire: Wire, carry: Carry, note: Note) -> bool:
    if fault.value == "received":
        note(0, False)
        kill_peer(wire.socket, fault.pid)
        return False
    reply = carry(None)
    note(0 if fault.value == "accepted" else reply.status, reply.status == 200)
    if fault.value == "half":
        whole = head_of(reply, len(reply.body)) + reply.body
        wire.send_bytes(whole[: len(whole) - len(reply.body) + len(reply.body) // 2])
        wire.pause(0.05)  # the client reads what there is before it dies
    elif fault.value == "answered":
        wire.send(reply)
    kill_peer(wire.socket, fault.pid)
    return False
