"""Faults by short texts, so that a row of a table can name them: ``ENDPOINT:KIND[-after][=VALUE][:WHICH]``.

``-after``: the request is carried out first (a submission is charged). WHICH is ``N`` (the first N requests),
``nth=N``, ``after=N`` or ``every=N``. KIND is a status, or a name of the table below. In a VALUE ``~`` stands for a
space and ``COLON`` for a colon.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from PIL import Image

from tests.support.fake import Answer, Exchange, Fake, Fault, png

#: Where redirects lead.
PLACES = {
    "portal": "https://portal.example/login",
    "http": "http://example.com/x",
    "file": "file:///etc/passwd",
    "local": "http://127.0.0.1:9/x",
}
HTML = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"


def add(fake: Fake, text: str) -> None:
    """Let a fault of these texts, separated by spaces, happen."""
    for each in text.split():
        endpoint, kind, *which = each.split(":")
        name, _, number = which[0].partition("=") if which else ("first", "", "1000000000")
        if name.isdecimal():
            name, number = "first", name
        fake.on(endpoint, _fault(kind), **{name: int(number)})


def _fault(text: str) -> Fault:
    kind, _, value = text.partition("=")
    carry = kind.endswith("-after")
    kind, value = kind.removesuffix("-after"), value.replace("~", " ").replace("COLON", ":")
    if kind in ALTERED:
        return lambda x: ALTERED[kind](x, x.carried(), value)

    def fault(x: Exchange) -> None:
        if carry:
            x.carried()
        if kind.isdecimal():
            _refuse(x, int(kind), value)
        elif kind.startswith("redirect"):
            x.answer(Answer(int(kind[8:] or 302), b"", (f"Location: {PLACES.get(value, x.request.path)}",)))
        else:
            INSTEAD[kind](x, value)

    return fault


def _refuse(x: Exchange, status: int, value: str) -> None:
    headers = []
    if status in (429, 503) and value:
        asked = formatdate(time.time() + float(value[5:]), usegmt=True) if value.startswith("date") else value
        headers, value = [f"Retry-After: {asked}"], ""
    x.answer(x.fake.refusal(status, value or f"injected {status}"), *headers)


def _changed(change: Callable[[dict[str, Any], Exchange, str], object]) -> Callable[[Exchange, Answer, str], None]:
    """A fault that alters the task in the right answer."""

    def act(x: Exchange, good: Answer, value: str) -> None:
        document = json.loads(good.body)
        change(document["data"], x, value)
        x.answer(Answer(good.status, json.dumps(document).encode()))

    return act


def _fate(status: str | None) -> Callable[[Exchange, Answer, str], None]:
    """A fault that decides how the task of a submission ends (or one that is looked at)."""

    def act(x: Exchange, good: Answer, value: str) -> None:
        data = json.loads(good.body)["data"]
        task = x.fake.tasks[data["id"]]
        task.fate = value if status == "ended" else status
        task.error = {"1200": "Content moderation failed", "5004": "Request timed out"}.get(value, "task failed")
        x.answer(good if x.request.endpoint == "submit" else x.fake.data(x.fake.view(task)))

    return act


def _trickle(x: Exchange, good: Answer, value: str) -> None:
    data = good.encoded()
    for place in range(len(data)):
        x.send(data[place : place + 1])
        time.sleep(float(value))


def _later(x: Exchange, good: Answer, value: str) -> None:
    time.sleep(float(value))
    x.answer(good)


def _damage(x: Exchange, good: Answer, part: bytes) -> None:
    """Bytes of one chunk of a PNG are others than its CRC says."""
    place = good.body.index(part) + len(part) + 2
    x.answer(Answer(200, good.body[:place] + b"\0\1" + good.body[place + 2 :], (), "image/png"))


def _respell(inputs: dict[str, Any] | None) -> None:
    """The same request as another program would write it."""
    if inputs:
        inputs.update(seed=str(inputs["seed"]), prompt=f" {inputs['prompt']}\n", size=inputs["size"].replace("*", "x"))


#: Kinds that alter the right answer, and so need the request carried out.
ALTERED: dict[str, Callable[[Exchange, Answer, str], Any]] = {
    "slow": _later,
    "trickle": _trickle,
    "cut": lambda x, good, value: x.send(good.encoded()[: -max(1, len(good.body) // 2)]),
    "half": lambda x, good, value: (x.send(good.encoded()[: -max(1, len(good.body) // 2)]), x.reset()),
    "short": lambda x, good, value: x.send(Answer(200, good.body[:-20], (), good.media_type).encoded()),
    "long": lambda x, good, value: x.send(good.encoded(length=10**12)),
    "no-length": lambda x, good, value: x.send(good.encoded().replace(b"Content-Length:", b"X-Length:")),
    "damaged": lambda x, good, value: _damage(x, good, b"IDAT"),
    "damaged-label": lambda x, good, value: _damage(x, good, b"Comment"),
    "piece": lambda x, good, value: x.send(good.encoded()[: len(good.encoded()) - len(good.body) + int(value)]),
    "no-range": lambda x, good, value: x.answer(x.fake.refusal(416) if "range" in x.request.headers else good),
    "encoding": lambda x, good, value: x.answer(
        Answer(good.status, good.body, (f"Content-Encoding: {value}",), "image/png")
    ),
    "non-authoritative": lambda x, good, value: x.answer(Answer(203, good.body, (), "image/png")),
    # the task in the answer
    "no-id": _changed(lambda data, x, value: data.pop("id")),
    "bad-id": _changed(lambda data, x, value: data.update(id=value.replace("ESC", "\x1b"))),
    "no-data": lambda x, good, value: x.answer(Answer(200, b'{"code":200,"message":"success"}')),
    "unknown-status": _changed(lambda data, x, value: data.update(status="pondering", outputs=[])),
    "foreign-url": _changed(lambda data, x, value: data["urls"].update(get="http://elsewhere.example/x")),
    "no-outputs": _changed(lambda data, x, value: data.update(outputs=[])),
    "no-flags": _changed(lambda data, x, value: data.pop("has_nsfw_contents")),
    "few-flags": _changed(lambda data, x, value: data.update(has_nsfw_contents=[False])),
    "many-flags": _changed(lambda data, x, value: data.update(has_nsfw_contents=[False] * 9)),
    "few": _changed(lambda data, x, value: data.update(outputs=data["outputs"][:1])),
    "outputs": _changed(lambda data, x, value: data.update(outputs=[value])),
    "bare-base64": _changed(lambda data, x, value: data.update(outputs=[base64.b64encode(png("inline")).decode()])),
    "objects": _changed(lambda data, x, value: data.update(outputs=[{"url": url} for url in data["outputs"]])),
    "no-inputs": _changed(lambda data, x, value: [item.pop("inputs", None) for item in data["items"]]),
    "respelled": _changed(lambda data, x, value: [_respell(item.get("inputs")) for item in data["items"]]),
    "stuck": _fate(None),
    "failed": _fate("failed"),
    "ended": _fate("ended"),
}


def _body(make: Callable[[str], bytes], *headers: str, media_type: str = "application/json") -> Any:
    return lambda x, value: x.answer(Answer(200, make(value), headers, media_type))


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, "JPEG")
    return out.getvalue()


#: Kinds that answer in place of the service.
INSTEAD: dict[str, Callable[[Exchange, str], Any]] = {
    "reset": lambda x, value: x.reset(),
    "end": lambda x, value: x.send(b""),
    "stall": lambda x, value: x.hold(float(value or 60)),
    "html": _body(lambda value: HTML, media_type="text/html"),
    "html-called-image": _body(lambda value: HTML, media_type="image/png"),
    "firewall": lambda x, value: x.answer(Answer(403, HTML, ("Server: cloudfront",), "text/html")),
    "body": _body(lambda value: b'{"code":200,"data":' + value.encode() + b"}"),
    "empty": _body(lambda value: b""),
    "broken-json": _body(lambda value: b'{"code":200,"data":{"id":'),
    "a-list": _body(lambda value: b"[1,2,3]"),
    "deep": _body(lambda value: b"[" * 100_000 + b"]" * 100_000),
    "big-number": _body(lambda value: b'{"code":200,"data":{"id":1' + b"0" * 5000 + b"}}"),
    "huge": _body(lambda value: b'{"data":"' + b"a" * (int(value) << 20) + b'"}'),
    "bomb": _body(lambda value: gzip.compress(b" " * (int(value) << 20), 6), "Content-Encoding: gzip"),
    "envelope": _body(
        lambda value: json.dumps({"code": int(value), "message": f"injected {value}", "data": None}).encode()
    ),
    "jpeg": _body(lambda value: _jpeg(), media_type="image/png"),
    "other-format": _body(lambda value: b"\0\0\0\x1cftypavif" + b"\0" * 400, media_type="image/avif"),
    "too-large": lambda x, value: x.send(Answer(200, b"", (), "image/png").encoded(length=101 << 20) + png()),
}
