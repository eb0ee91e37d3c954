"""Replies made wrong. Pure: a right reply in, a wrong one out."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, Final

from .faults import Fault
from .messages import Reply, Request, as_json

_MEGABYTE: Final = 1_000_000
_HTML: Final = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"
_PDF: Final = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
_ELSEWHERE: Final = "https://elsewhere.invalid/api/v3/predictions/other/result"


def mangled(fault: Fault, reply: Reply, request: Request) -> Reply:
    """The wrong reply. A reply that has not what the fault would change is handed on."""
    if fault.kind in _WHOLE:
        return _WHOLE[fault.kind](fault, reply, request)
    change = _PREDICTION.get(fault.kind)
    if change is None or reply.status != 200 or not reply.media_type.endswith("json"):
        return reply
    envelope = json.loads(reply.body)
    data = envelope.get("data")
    for item in data.get("items", [data]):
        change(fault, item)
    return Reply(200, as_json(envelope))


def _json(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(status, as_json(value), headers=headers)


def _retry_after(fault: Fault) -> tuple[tuple[str, str], ...]:
    text = fault.retry_after
    if text.startswith("date"):
        text = formatdate(time.time() + float(text[4:] or 0), usegmt=True)
    return (("Retry-After", text),) if text else ()


# ---- the whole reply --------------------------------------------------------------------------


def _status(fault: Fault, reply: Reply, request: Request) -> Reply:
    status = int(fault.value)
    if status < 200 or status in (204, 304):
        return Reply(status, b"", "")
    return _json({"code": status, "message": fault.message or f"injected fault {status}"}, status, _retry_after(fault))


def _envelope(fault: Fault, reply: Reply, request: Request) -> Reply:
    code = int(fault.value)
    return _json({"code": code, "message": fault.message or f"injected fault {code}"}, 200, _retry_after(fault))


def _redirect(fault: Fault, reply: Reply, request: Request) -> Reply:
    return Reply(int(fault.value), b"", "text/plain", (("Location", fault.location or request.path),))


def _echo_key(fault: Fault, reply: Reply, request: Request) -> Reply:
    header = request.headers.get("authorization", "")
    said = {
        "code": int(fault.value),
        "message": f"bad request with header Authorization: {header}",
        "key": header,
    }
    return _json(said, int(fault.value))


def _gzip_bomb(fault: Fault, reply: Reply, request: Request) -> Reply:
    packed = gzip.compress(b'{"code":200,"data":"' + b"0" * int(fault.number * _MEGABYTE) + b'"}', 9)
    return Reply(200, packed, headers=(("Content-Encoding", "gzip"),))


def _half(fault: Fault, reply: Reply, request: Request) -> Reply:
    return Reply(200, reply.body[: len(reply.body) // 2] or b'{"code":200,"data":{"id":"', reply.media_type)


def _damaged(fault: Fault, reply: Reply, request: Request) -> Reply:
    body = bytearray(reply.body)
    if body:
        body[len(body) // 2] ^= 1
    return Reply(reply.status, bytes(body), reply.media_type)


def _body(body: bytes | Callable[[Fault], bytes], media_type: str = "application/json") -> _Whole:
    return lambda fault, reply, request: Reply(200, body if isinstance(body, bytes) else body(fault), media_type)


_Whole = Callable[[Fault, Reply, Request], Reply]
_WHOLE: Final[dict[str, _Whole]] = {
    "status": _status,
    "envelope": _envelope,
    "redirect": _redirect,
    "echo-key": _echo_key,
    "bomb": _gzip_bomb,
    "broken-json": _half,
    "damaged": _damaged,
    "html": _body(_HTML, "text/html"),
    "empty": _body(b""),
    "list": _body(b"[]"),
    "no-data": _body(b'{"code":200,"message":"success"}'),
    "huge": _body(lambda fault: b'{"code":200,"data":"' + b"x" * int(fault.number * _MEGABYTE) + b'"}'),
    "deep": _body(lambda fault: b"[" * int(fault.number) + b"]" * int(fault.number)),
    "big-number": _body(lambda fault: b'{"code":200,"data":' + b"9" * int(fault.number) + b"}"),
    "wrong-type": _body(_HTML, "image/png"),
    "other-file": _body(_PDF, "image/png"),
}

# ---- one prediction ---------------------------------------------------------------------------


def _foreign_url(fault: Fault, item: dict[str, Any]) -> None:
    item["urls"] = {"get": fault.location or _ELSEWHERE}


def _ended(status: str, fault: Fault, item: dict[str, Any]) -> None:
    done = status not in ("processing", "created")
    item.update(status=status, outputs=[], has_nsfw_contents=[], error=_why(fault, status) if done else "")
    if fault.kind == "failed":
        item["code"] = int(fault.value)


def _why(fault: Fault, status: str) -> str:
    return fault.message or f"injected fault: {status}"


def why(fault: Fault) -> str:
    """The ``error`` of a task that the fault ends."""
    return _why(fault, fault.kind if fault.kind == "failed" else fault.value)


def _flags(step: int) -> Callable[[Fault, dict[str, Any]], None]:
    def change(fault: Fault, item: dict[str, Any]) -> None:
        flags = item.get("has_nsfw_contents")
        if flags:
            item["has_nsfw_contents"] = flags[:step] if step < 0 else [*flags, *[False] * step]

    return change


def _outputs(turn: Callable[[str], str]) -> Callable[[Fault, dict[str, Any]], None]:
    def change(fault: Fault, item: dict[str, Any]) -> None:
        item["outputs"] = [turn(output) for output in item.get("outputs", [])]

    return change


def _rename_inputs(fault: Fault, item: dict[str, Any]) -> None:
    if "inputs" in item:
        item["input"] = item.pop("inputs")


_PREDICTION: Final[dict[str, Callable[[Fault, dict[str, Any]], Any]]] = {
    "no-id": lambda fault, item: item.pop("id", None),
    "bad-id": lambda fault, item: item.update(id=fault.value),
    "foreign-url": _foreign_url,
    "unknown-status": lambda fault, item: _ended(fault.value, fault, item) or item.update(error=""),  # type: ignore[func-returns-value]
    "stuck": lambda fault, item: _ended("processing", fault, item),
    "failed": lambda fault, item: _ended("failed", fault, item),
    "ended": lambda fault, item: _ended(fault.value, fault, item),
    "no-outputs": lambda fault, item: item.update(outputs=[]),
    "no-flags": lambda fault, item: item.pop("has_nsfw_contents", None),
    "few-flags": _flags(-1),
    "many-flags": _flags(1),
    "bare-base64": _outputs(lambda output: output.partition(";base64,")[2] or output),
    "file-url": _outputs(lambda output: "file:///etc/passwd"),
    "no-inputs": lambda fault, item: item.pop("inputs", None),
    "input-name": _rename_inputs,
}
