"""What can go wrong, as data: a new fault is one line.

``wrong`` is what the sandbox does (``flux-lora serve --help``: Faults), or raw answers by a part of the request line.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stage import Wrong, bytes_of, endless

BATCH = "batch jobs.jsonl -o out"
SUBMIT = "submit -p 'a cat'"
WAIT = "wait {id} -o out"
STATUS = "status {id}"

#: For hosts behind which nobody answers, see ``test_rows``.
CLOSED, NO_NAME, SILENT, NOT_TLS, STRANGER = ("closed", "no-name", "silent", "not-tls", "stranger")


@dataclass(frozen=True)
class Row:
    """One fault, and what is expected of the program.

    Attributes:
        id: of the test.
        wrong: fault specs, separated by spaces (``_`` stands for a space inside one).
        code: exit code.
        charges: tasks that the service charges for; the folder's images are as many, if ``files`` says nothing.
        says, never: what standard error has to say, and what it must not; without regard to case.
        command: ``{id}`` is a task that was there before.
        jobs: how many lines ``jobs.jsonl`` has.
        raw: raw answers by a part of the request line; ``carried``: after the request was carried out.
        at: a place where nobody is, in place of the service.
        service: options of the sandbox.
        scale: how much faster than real the program's clock is.
        requests: most requests, of all kinds.
        files: images under a final name.
        seconds, megabytes: most real time, most memory.
    """

    id: str
    wrong: str
    code: int
    charges: int
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    command: str = BATCH
    jobs: int = 1
    raw: Mapping[str, Wrong] = field(default_factory=dict)
    carried: bool = False
    at: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    service: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 20.0
    requests: int = 30
    files: int | None = None
    seconds: float = 40.0
    megabytes: float = 96.0
    slow: bool = False


def http(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """An answer of HTTP/1.1 that says of itself what it is told to."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


UNKNOWN = ("cat1", "unknown", "not paid for again")
HOLD = f"{BATCH} --on-unknown hold"
POST = "POST /api/v2/wavespeed"
LOOK = "GET /api/v2/predictions"
IMAGE = "GET /outputs"
LIST = "POST /api/v3/predictions"
PRICE = "POST /api/v3/model"
BALANCE = "GET /api/v3/balance"
TASK = b'{"code":200,"data":{"id":"t1","status":"created"}}'
#: Fast enough for the three minutes in which a submit of unknown outcome is looked for.
SEARCH = 200.0

# fmt: off
# ---- submit: never sent, refused, throttled ----------------------------------------------------

SUBMITS = [
    Row("nobody-there", "", 5, 0, ("cannot connect", "refused", "nothing was sent"), at=CLOSED),
    Row("no-such-host", "", 5, 0, ("cannot connect", "name is not known"), at=NO_NAME),
    Row("connect-time-out", "", 5, 0, ("cannot connect", "no answer in time"), at=SILENT),
    Row("submit-nobody-there", "", 5, 0, ("cannot connect",), command=SUBMIT, at=CLOSED),
    Row("tls-nonsense", "", 5, 0, ("tls",), at=NOT_TLS),
    Row("unknown-certificate", "", 5, 0, ("could not prove", "nothing was sent"), at=STRANGER),
    Row("refused-for-a-moment", "balance:refuse=0.1", 0, 1, scale=1),
    Row("status-500", "submit:500-before", 13, 0, UNKNOWN, scale=SEARCH),
    Row("status-502", "submit:502-before", 13, 0, UNKNOWN, command=HOLD),
    Row("status-503", "submit:503-before", 13, 0, UNKNOWN, command=HOLD),
    Row("status-504", "submit:504-before", 13, 0, UNKNOWN, command=HOLD),
    Row("status-408", "submit:408-before", 13, 0, UNKNOWN, command=HOLD),
    Row("status-503-accepted", "submit:503-after:1", 0, 1, ("found",), requests=12),
    Row("status-504-accepted-held", "submit:504-after", 13, 1, UNKNOWN, command=HOLD, files=0),
    Row("reset-before", "submit:reset-before", 13, 0, UNKNOWN, command=HOLD),
    Row("reset-after", "submit:reset-after:1", 0, 1, ("found",)),
    Row("end-before", "submit:eof-before", 13, 0, UNKNOWN, command=HOLD),
    Row("end-after", "submit:eof-after:1", 0, 1, ("found",)),
    Row("silence", "submit:stall-before", 13, 0, ("did not answer in time",), command=HOLD, scale=60),
    Row("silence-accepted", "submit:stall-after:1", 0, 1, ("found",), scale=60),
    Row("late-answer", "submit:slow=1:1", 0, 1, scale=10),
    Row("trickle", "submit:trickle-after=0.1:1", 0, 1, ("found",), scale=60),
    Row("cut-answer", "submit:cut:1", 0, 1, ("found",)),
    Row("short-answer", "submit:short:1", 0, 1, ("found",)),
    Row("html", "submit:html-before", 13, 0, ("web page", *UNKNOWN), command=HOLD),
    Row("html-accepted", "submit:html-after:1", 0, 1, ("found",)),
    Row("empty", "submit:empty-after:1", 0, 1, ("found",)),
    Row("broken-json", "submit:broken-json-after:1", 0, 1, ("found",)),
    Row("a-list", "submit:list-after:1", 0, 1, ("found",)),
    Row("no-data", "submit:no-data-after:1", 0, 1, ("found",)),
    Row("no-id", "submit:no-id:1", 0, 1, ("found",)),
    Row("path-for-id", "submit:bad-id:1", 0, 1, ("found",), ("passwd",)),
    Row("long-id", f"submit:bad-id={'a' * 300}:1", 0, 1, ("found",), ("aaaa",)),
    Row("control-id", "submit:bad-id=a\x1b[31m:1", 0, 1, ("found",)),
    Row("bomb", "submit:bomb=100:1", 0, 1, ("found",)),
    Row("huge", "submit:huge=8:1", 0, 1, ("found",)),
    Row("deep", "submit:deep-after:1", 0, 1, ("found",)),
    Row("big-number", "submit:big-number-after:1", 0, 1, ("found",)),
    Row("not-found-again", "submit:503-before list:503", 13, 0, ("cannot be read", *UNKNOWN), scale=SEARCH),
    # One search of three minutes: at most 14 readings of the list, of two pages each, and the few requests around it.
    Row("no-inputs-in-list", "submit:503-after:1 list:no-inputs", 13, 1, ("candidates",), scale=SEARCH, files=0,
        requests=2 * 14 + 4),
    Row("inputs-by-another-name", "submit:503-after:1 list:input-name", 0, 1, ("found",)),
    Row("asked-to-resubmit", "submit:503-before:1", 0, 1, ("submitted once more",),
        command=f"{BATCH} --on-unknown resubmit", scale=SEARCH),
    # Two searches of three minutes, each of at most 14 readings of the list, and the few requests around them.
    Row("resubmitted-once-only", "submit:503-before", 13, 0, ("submitted once more",), scale=SEARCH,
        command=f"{BATCH} --on-unknown resubmit", requests=2 * 14 + 4),
    Row("throttled-seconds", "submit:429:1:retry-after=2", 0, 1, ("slow down",)),
    Row("throttled-date", "submit:429:1:retry-after=date+3", 0, 1, ("slow down",)),
    Row("throttled-without", "submit:429:2", 0, 1, ("slow down",)),
    Row("throttled-nonsense", "submit:429:1:retry-after=soon", 0, 1, ("slow down",)),
    Row("throttled-in-envelope", "submit:envelope-before=429:1", 0, 1, ("slow down",)),
    Row("throttled-for-an-hour", "submit:429:after=1:retry-after=3600", 9, 1, ("60 minutes", "same command"),
        jobs=3, command=f"{BATCH} --rate 1/s"),
    Row("throttled-over-the-deadline", "submit:429:retry-after=100", 9, 0, ("same command",),
        command=f"{BATCH} --timeout 60"),
    Row("bad-request", "submit:400-before:message=prompt_is_too_rude", 6, 0, ("cat1", "prompt is too rude")),
    Row("not-found", "submit:404-before", 6, 0, ("cat1", "refused the request")),
    Row("unprocessable", "submit:422-before", 6, 0, ("cat1", "refused the request")),
    Row("gone", "submit:410-before", 6, 0, ("cat1", "refused the request")),
    Row("one-of-three-refused", "submit:400-before:nth=2", 6, 2, ("failed",), jobs=3),
    Row("envelope-400", "submit:envelope-before=400", 6, 0, ("cat1", "refused the request")),
    Row("envelope-500", "submit:envelope-after=500:1", 0, 1, ("found",)),
    Row("ten-refused-alike", "submit:400-before", 6, 0, ("first 10", "alike", "--retry-failed"), jobs=60, requests=50),
    Row("ten-refused-after-one", "submit:400-before:after=1", 6, 1, ("failed",), ("alike",), jobs=14),
    Row("key-refused", "submit:401-before", 4, 0, ("refused the api key", "wavespeed_api_key"), jobs=40, requests=40),
    Row("key-forbidden", "submit:403-before", 4, 0, ("refused the api key",), jobs=40, requests=40),
    Row("key-refused-in-envelope", "submit:envelope-before=401", 4, 0, ("refused the api key",)),
    Row("key-refused-midway", "submit:401-before:after=4", 4, 4, ("refused the api key",), jobs=40, requests=60,
        service={"service_time": (60.0, 60.0)}, files=0),
    Row("no-credit-402", "submit:402-before:after=2", 8, 2, ("no credit", "top up"), jobs=8),
    Row("no-credit-words", "submit:400-before:after=2:message=Insufficient_credits._Please_top_up.", 8, 2,
        ("no credit", "top up"), jobs=8),
    Row("no-credit-real", "", 8, 3, ("no credit", "the plan costs"), jobs=5, service={"balance": "0.050"}),
    Row("redirect-302", "submit:redirect-before:location=https://portal.example/login", 5, 0,
        ("portal.example", "never followed"), jobs=10, requests=20),
    Row("redirect-307", "submit:redirect-before=307:location=http://127.0.0.1:9/x", 5, 0, ("redirects",)),
    Row("redirect-308-home", "submit:redirect-before=308", 5, 0, ("redirects",)),
    Row("status-304", "submit:304-before", 5, 0, ("redirects",)),
    Row("status-600", "", 13, 0, (), command=HOLD, raw={POST: bytes_of(http(b"{}", "600 What"))}),
    Row("submit-unknown", "submit:503-before", 13, 0, ("not known",), command=f"{SUBMIT} --on-unknown hold"),
    Row("submit-found", "submit:reset-after:1", 0, 1, ("found",), command=SUBMIT, files=0),
    Row("submit-key", "submit:401-before", 4, 0, ("refused the api key",), command=SUBMIT),
    Row("submit-refused", "submit:400-before:message=no_such_size", 6, 0, ("no such size",), command=SUBMIT),
    Row("submit-credit", "submit:402-before", 8, 0, ("no credit",), command=SUBMIT),
    Row("submit-v3", "submit:eof-after:1", 0, 1, ("found",), command=f"{SUBMIT} --api-version v3", files=0),
]

# ---- submit and look: answers that are hardly HTTP -----------------------------------------------

RAW = [
    Row("raw-garbage", "", 13, 0, UNKNOWN, command=HOLD, raw={POST: bytes_of(b"\x00\xff\x16\x03garbage\r\n\r\n")}),
    Row("raw-http-0.9", "", 13, 0, UNKNOWN, command=HOLD, raw={POST: bytes_of(b"<html>hello</html>")}),
    Row("raw-header-garbage", "", 0, 1, ("found",), carried=True,
        raw={POST: bytes_of(b"HTTP/1.1 200 OK\r\n\x89\x11#\r\n\r\n")}),
    Row("raw-status-word", "", 13, 0, UNKNOWN, command=HOLD, raw={POST: bytes_of(b"HTTP/1.1 OK OK\r\n\r\n{}")}),
    Row("raw-head-cut", "", 0, 1, ("found",), raw={POST: bytes_of(b"HTTP/1.1 200 OK\r\nContent-Le")}, carried=True),
    Row("raw-head-reset", "", 0, 1, ("found",), raw={POST: bytes_of(b"HTTP/1.1 20", then="reset")}, carried=True),
    Row("raw-longer-than-sent", "", 0, 1, ("found",), raw={POST: bytes_of(http(TASK, length=500))}, carried=True),
    Row("raw-shorter-than-sent", "", 0, 1, ("found",), raw={POST: bytes_of(http(TASK, length=20))}, carried=True),
    Row("raw-length-negative", "", 0, 1, ("found",), raw={POST: bytes_of(http(b"", length=-5))}, carried=True),
    Row("raw-length-a-lie", "", 0, 1, ("found",), carried=True, scale=60,
        raw={POST: bytes_of(http(TASK, length=10**15), then="hold")}),
    Row("raw-chunk-broken", "", 0, 1, ("found",), carried=True,
        raw={POST: bytes_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}")}),
    Row("raw-chunk-cut", "", 0, 1, ("found",), carried=True,
        raw={POST: bytes_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + TASK)}),
    Row("raw-many-headers", "", 0, 1, ("found",), carried=True,
        raw={POST: bytes_of(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n{}")}),
    Row("raw-endless-header", "", 0, 1, ("found",), carried=True,
        raw={POST: endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 4096)}),
    Row("raw-endless-body", "", 0, 1, ("found",), carried=True,
        raw={POST: endless(b'HTTP/1.1 200 OK\r\n\r\n{"data":"', b"a b " * 4096)}),
    Row("raw-endless-base64", "", 0, 1, ("found",), carried=True, megabytes=170,
        raw={POST: endless(b'HTTP/1.1 200 OK\r\n\r\n{"data":"', b"a" * 65536)}),
    Row("raw-continue-for-ever", "", 0, 1, ("found",), carried=True, scale=60,
        raw={POST: endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02)}),
    Row("raw-gzip-cut", "", 0, 1, ("found",), carried=True,
        raw={POST: bytes_of(http(zlib.compress(TASK * 99)[:40], "200 OK", "Content-Encoding: gzip"))}),
    Row("raw-brotli", "", 0, 1, ("found",), carried=True,
        raw={POST: bytes_of(http(TASK, "200 OK", "Content-Encoding: br"))}),
    Row("raw-many-values", "", 0, 1, ("found",), carried=True, raw={POST: bytes_of(http(b"[" + b"[]," * 300_000))}),
    Row("raw-utf8-broken", "", 0, 1, ("found",), carried=True, raw={POST: bytes_of(http(b'{"data":{"id":"\xff"}}'))}),
    Row("raw-code-is-text", "", 0, 1, ("found",), carried=True,
        raw={POST: bytes_of(http(b'{"code":"fine","data":{"id":"t1"}}'))}),
    Row("raw-id-is-number", "", 0, 1, ("found",), carried=True, raw={POST: bytes_of(http(b'{"data":{"id":7}}'))}),
    Row("raw-id-is-list", "", 0, 1, ("found",), carried=True, raw={POST: bytes_of(http(b'{"data":{"id":["t"]}}'))}),
]

# ---- look ----------------------------------------------------------------------------------------

LOOKS = [
    Row("look-500", "look:500:3", 0, 1),
    Row("look-503-once", "look:503:nth=1", 0, 1),
    Row("look-429", "look:429:2:retry-after=1", 0, 1),
    Row("look-429-date", "look:429:1:retry-after=date+2", 0, 1),
    Row("look-429-hour", "look:429:retry-after=3600", 9, 1, ("60 minutes",), files=0),
    Row("look-reset", "look:reset:3", 0, 1),
    Row("look-end", "look:eof:3", 0, 1),
    Row("look-silence", "look:stall:1", 0, 1, scale=30),
    Row("look-trickle", "look:trickle=0.1:1", 0, 1, scale=30),
    Row("look-html", "look:html:3", 0, 1),
    Row("look-empty", "look:empty:3", 0, 1),
    Row("look-broken", "look:broken-json:2 look:cut:2 look:short:2", 0, 1),
    Row("look-list", "look:list:3", 0, 1),
    Row("look-bomb", "look:bomb=100:1", 0, 1),
    Row("look-huge", "look:huge=8:1", 0, 1),
    Row("look-deep", "look:deep:1", 0, 1),
    Row("look-big-number", "look:big-number:1", 0, 1),
    Row("look-another-task", "look:bad-id=t99:2", 0, 1),
    Row("look-envelope-500", "look:envelope=500:2", 0, 1),
    Row("look-400", "look:400:2", 0, 1),
    Row("look-500-for-ever", "look:500", 5, 1, ("cat1", "could not be looked at", "paid for"), ("lost",),
        files=0, scale=SEARCH),
    Row("look-nonsense-for-ever", "look:html", 5, 1, ("web page",), ("lost",), files=0, scale=SEARCH),
    Row("look-404-for-ten-seconds", "look:404:2", 0, 1, never=("lost", "failed")),
    Row("look-404-for-ever", "look:404", 6, 1, ("cat1", "does not know task"), files=0, scale=60),
    Row("look-410-for-ever", "look:410", 6, 1, ("does not know task",), files=0, scale=60),
    Row("look-401", "look:401", 4, 1, ("refused the api key",), files=0),
    Row("look-302", "look:redirect:location=https://portal.example/", 5, 1, ("portal.example",), files=0),
    Row("look-unknown-status", "look:unknown-status:2", 0, 1),
    Row("look-foreign-url", "look:foreign-url submit:foreign-url", 0, 1, never=("elsewhere",)),
    Row("stuck", "submit:stuck", 9, 1, ("cat1", "not finished", "30 minutes"), files=0, scale=600, requests=120),
    Row("stuck-status", "look:unknown-status", 9, 1, ("not finished", "5 minutes"), files=0, scale=SEARCH,
        requests=80, command=f"{BATCH} --task-timeout 5m"),
    Row("deadline-of-the-run", "submit:stuck", 9, 1, ("--timeout", "same command"), files=0,
        command=f"{BATCH} --timeout 20"),
    Row("task-failed", "submit:failed", 6, 1, ("cat1", "content moderation"), files=0),
    Row("task-failed-5004", "submit:failed=5004", 6, 1, ("ran out of time",), files=0),
    Row("task-cancelled", "submit:ended", 6, 1, ("cat1",), files=0),
    Row("task-timeout", "submit:ended=timeout", 6, 1, ("cat1",), files=0),
    Row("task-deleted", "submit:ended=deleted", 6, 1, ("cat1",), files=0),
    Row("no-outputs", "look:no-outputs", 6, 1, ("cat1", "without any output"), files=0),
    Row("no-flags", "look:no-flags", 0, 1, command=f"{BATCH} --fail-on-nsfw"),
    Row("few-flags", "look:few-flags", 0, 1, command=f"{BATCH} --fail-on-nsfw", params={"num_images": 3}, files=3),
    Row("many-flags", "look:many-flags", 0, 1, command=f"{BATCH} --fail-on-nsfw"),
    Row("flagged", "", 12, 1, ("--fail-on-nsfw",), command=f"{BATCH} --fail-on-nsfw", service={"nsfw_rate": 1.0}),
    Row("flagged-kept", "", 0, 1, ("flagged",), service={"nsfw_rate": 1.0}),
    Row("flagged-skipped", "", 0, 1, command=f"{BATCH} --nsfw skip", service={"nsfw_rate": 1.0}, files=0),
    Row("flagged-quarantined", "", 12, 1, service={"nsfw_rate": 1.0},
        command=f"{BATCH} --nsfw quarantine --fail-on-nsfw"),
    Row("base64-outputs", "", 0, 1, command=f"{BATCH} --api-version v3", params={"enable_base64_output": True}),
    Row("bare-base64", "look:bare-base64", 0, 1, command=f"{BATCH} --api-version v3",
        params={"enable_base64_output": True}),
    Row("file-url", "look:file-url", 6, 1, ("cat1", "not https"), ("root:",), files=0),
]


def outputs(*urls: str) -> Wrong:
    """A look that says: completed, with these outputs. The id is left out, which is allowed."""
    listed = ",".join(f'"{url}"' for url in urls)
    return bytes_of(http(f'{{"code":200,"data":{{"status":"completed","outputs":[{listed}]}}}}'.encode()))


HTML_64 = base64.b64encode(b"<html>" * 100).decode()
MISSING = ("cat1", "image 0", "missing")

DOWNLOADS = [
    Row("download-403", "download:403", 6, 1, (*MISSING, "any more"), files=0),
    Row("download-404", "download:404", 6, 1, (*MISSING, "7 days"), files=0),
    Row("download-410", "download:410", 6, 1, MISSING, files=0),
    Row("download-404-then-fresh", "download:404:1", 0, 1),
    Row("download-404-of-four", "download:404:4", 0, 1, params={"num_images": 4}, files=4),
    Row("download-cut", "download:cut:2", 0, 1),
    Row("download-cut-for-ever", "download:cut", 6, 1, (*MISSING, "cut short"), files=0, scale=60),
    Row("download-short", "download:short:2", 0, 1),
    Row("download-short-for-ever", "download:short", 6, 1, (*MISSING, "cut"), files=0, scale=60),
    Row("download-html", "download:html", 6, 1, (*MISSING, "page of text"), files=0, scale=60),
    Row("download-html-called-image", "download:wrong-type", 6, 1, (*MISSING, "page of text"), files=0, scale=60),
    Row("download-pdf", "download:other-file", 6, 1, MISSING, files=0, scale=60),
    Row("download-empty", "download:empty", 6, 1, MISSING, files=0, scale=60),
    Row("download-damaged", "download:damaged:1", 0, 1),
    Row("download-damaged-for-ever", "download:damaged", 6, 1, MISSING, files=0, scale=60),
    Row("download-too-large", "download:too-large=101", 6, 1, (*MISSING, "100 mb"), files=0, scale=60, slow=True),
    Row("download-length-a-lie", "download:long-length=100000000:1", 0, 1, scale=40),
    Row("download-500", "download:500:2", 0, 1),
    Row("download-429", "download:429:1:retry-after=2", 0, 1),
    Row("download-429-hour", "download:429:retry-after=3600", 6, 1, MISSING, files=0, scale=SEARCH),
    Row("download-reset", "download:reset:2", 0, 1),
    Row("download-silence", "download:stall:1", 0, 1, scale=40),
    Row("download-trickle", "download:trickle=0.05:1", 0, 1, scale=40),
    Row("download-redirect-file", "download:redirect:location=file:///etc/passwd", 6, 1, ("not https",), files=0),
    Row("download-redirect-http", "download:redirect:location=http://example.com/x", 6, 1, ("not https",), files=0),
    Row("download-redirect-circle", "download:redirect", 6, 1, ("circles",), files=0),
    Row("output-http-elsewhere", "", 6, 1, ("not https",), files=0, raw={LOOK: outputs("http://example.com/a.png")}),
    Row("output-javascript", "", 6, 1, ("not https",), files=0, raw={LOOK: outputs("javascript:alert(1)")}),
    Row("output-empty", "", 6, 1, ("no address",), files=0, raw={LOOK: outputs("")}),
    Row("output-with-user", "", 6, 1, ("broken",), files=0, raw={LOOK: outputs("https://a:b@example.com/a")}),
    Row("output-html-in-data-uri", "", 6, 1, MISSING, files=0, scale=60,
        raw={LOOK: outputs(f"data:image/png;base64,{HTML_64}")}),
    Row("output-broken-base64", "", 6, 1, MISSING, files=0, scale=60,
        raw={LOOK: outputs("data:image/png;base64,AAAAA")}),
    Row("output-newline-in-url", "", 6, 1, ("broken",), files=0,
        raw={LOOK: outputs("https://example.com/a\\n::error::x")}),
]

# ---- price, balance, list, upload ------------------------------------------------------------------

REST = [
    Row("price-500", "price:500", 0, 1, scale=60),
    Row("price-404", "price:404", 0, 1),
    Row("price-html", "price:html", 0, 1, scale=60),
    Row("price-huge", "price:huge=8", 0, 1, scale=60),
    Row("price-bomb", "price:bomb=100", 0, 1, scale=60),
    Row("price-deep", "price:deep", 0, 1, scale=60),
    Row("price-big-number", "price:big-number", 0, 1, scale=60),
    Row("price-silence", "price:stall:1", 0, 1, scale=40),
    Row("price-429", "price:429:1:retry-after=1", 0, 1),
    Row("price-401", "price:401", 4, 0, ("refused the api key",), requests=1),
    Row("price-302", "price:redirect:location=https://portal.example/", 5, 0, ("portal.example",), requests=1),
    Row("price-unknown-but-limited", "price:404", 8, 0, ("price", "--price"), command=f"{BATCH} --max-cost 1"),
    Row("price-null", "", 8, 0, ("--price",), command=f"{BATCH} --max-cost 1",
        raw={PRICE: bytes_of(http(b'{"code":200,"data":{"price":null}}'))}),
    Row("price-nan", "", 8, 0, ("--price",), command=f"{BATCH} --max-cost 1",
        raw={PRICE: bytes_of(http(b'{"code":200,"data":{"price":NaN}}'))}),
    Row("price-negative", "", 8, 0, ("--price",), command=f"{BATCH} --max-cost 1",
        raw={PRICE: bytes_of(http(b'{"code":200,"data":{"price":-0.01}}'))}),
    Row("price-in-euro", "", 8, 0, ("--price",), command=f"{BATCH} --max-cost 1",
        raw={PRICE: bytes_of(http(b'{"code":200,"data":{"price":0.01,"currency":"EUR"}}'))}),
    Row("over-budget", "", 8, 0, ("--max-cost",), command=f"{BATCH} --max-cost 0.01"),
    Row("balance-500", "balance:500", 0, 1, scale=60),
    Row("balance-html", "balance:html", 0, 1, scale=60),
    Row("balance-404", "balance:404", 0, 1),
    Row("balance-401", "balance:401", 4, 0, ("refused the api key",)),
    Row("balance-big-number", "balance:big-number", 0, 1, scale=60),
    Row("list-bomb", "submit:503-after:1 list:bomb=100:2", 0, 1, ("found",), scale=60, megabytes=200),
    Row("list-huge", "submit:503-after:1 list:huge=70:1", 0, 1, ("found",), scale=60, megabytes=300, slow=True),
    Row("list-html", "submit:503-after:1 list:html:3", 0, 1, ("found",), scale=60),
    Row("list-401", "submit:503-after:1 list:401", 4, 1, ("refused the api key",), files=0),
    Row("list-404", "submit:503-after:1 list:404", 13, 1, ("cannot be read",), files=0, scale=SEARCH),
    Row("list-429-hour", "submit:503-after:1 list:429:retry-after=3600", 13, 1, files=0, scale=SEARCH),
]

STATUSES = [
    Row("status-fine", "", 0, 0, command=STATUS),
    Row("status-404", "look:404", 3, 0, ("knows no task",), command=STATUS, requests=4, scale=1),
    Row("status-404-for-a-moment", "look:404:1", 0, 0, command=STATUS),
    Row("status-look-503", "look:503:2", 0, 0, command=STATUS),
    Row("status-look-503-for-ever", "look:503", 5, 0, ("error of its own",), command=STATUS, scale=SEARCH, requests=11),
    Row("status-look-401", "look:401", 4, 0, ("refused the api key",), command=STATUS, requests=1),
    Row("status-look-html", "look:html", 5, 0, ("web page",), command=STATUS, scale=SEARCH, requests=11),
    Row("status-look-302", "look:redirect:location=https://portal.example/", 5, 0, ("portal.example",), command=STATUS,
        requests=1),
    Row("status-look-429-hour", "look:429:retry-after=3600", 9, 0, ("60 minutes",), command=STATUS, requests=1),
    Row("status-nobody", "", 5, 0, ("cannot connect",), command=STATUS, at=CLOSED),
    Row("status-failed-task", "look:failed", 0, 0, command=STATUS),
    Row("status-recent-503", "list:503", 5, 0, ("error of its own",), command="status", scale=SEARCH),
    Row("status-recent-401", "list:401", 4, 0, ("refused the api key",), command="status"),
    Row("status-recent-404", "list:404", 0, 0, command="status", requests=2),
    Row("status-recent-html", "list:html", 5, 0, ("web page",), command="status", scale=SEARCH),
    Row("status-recent-bomb", "list:bomb=70", 5, 0, ("length",), command="status", scale=3, megabytes=400,
        slow=True),
    Row("status-bad-id", "", 3, 0, ("no task id",), command="status ../../etc", requests=0),
    Row("wait-fine", "", 0, 0, command=WAIT, files=1),
    Row("wait-404", "look:404", 6, 0, ("does not know task", "for a minute"), command=WAIT, scale=60),
    Row("wait-401", "look:401", 4, 0, ("refused the api key",), command=WAIT, requests=1),
    Row("wait-stuck", "look:stuck", 9, 0, ("{id}", "not finished"), command=f"{WAIT} --task-timeout 1m", scale=60,
        requests=60),
    Row("wait-timeout", "look:stuck", 9, 0, ("--timeout",), command=f"{WAIT} --timeout 20"),
    Row("wait-html-image", "download:html", 6, 0, ("image 0", "page of text"), command=WAIT, scale=60),
    Row("wait-failed", "look:failed", 6, 0, ("{id}", "content moderation"), command=WAIT),
    Row("wait-nobody", "", 5, 0, ("cannot connect",), command=WAIT, at=CLOSED, scale=SEARCH),
    Row("doctor-fine", "", 0, 0, command="doctor"),
    Row("doctor-401", "balance:401", 4, 0, command="doctor"),
    Row("doctor-503", "balance:503", 5, 0, command="doctor"),
    Row("doctor-html", "balance:html", 5, 0, command="doctor"),
    Row("doctor-302", "balance:redirect:location=https://portal.example/", 5, 0, command="doctor"),
    Row("doctor-reset", "balance:reset", 5, 0, command="doctor"),
    Row("doctor-silence", "balance:stall", 5, 0, command="doctor", scale=30),
    Row("doctor-nobody", "", 5, 0, command="doctor", at=CLOSED),
    Row("doctor-no-name", "", 5, 0, command="doctor", at=NO_NAME),
    Row("doctor-bomb", "balance:bomb=100", 5, 0, command="doctor"),
]

PHOTO = f"{BATCH} -i photo.png"
UPLOADS = [
    Row("upload-fine", "", 0, 1, command=PHOTO),
    Row("upload-503", "upload:503:2", 0, 1, command=PHOTO),
    Row("upload-503-for-ever", "upload:503", 5, 0, ("cat1", "could not be uploaded", "same command"), ("failed",),
        command=PHOTO, scale=SEARCH),
    Row("upload-401", "upload:401", 4, 0, ("refused the api key",), command=PHOTO),
    Row("upload-400", "upload:400", 6, 0, ("cat1", "refused the request"), command=PHOTO),
    Row("upload-html", "upload:html:2", 0, 1, command=PHOTO),
    Row("upload-reset", "upload:reset:2", 0, 1, command=PHOTO),
    Row("upload-429", "upload:429:1:retry-after=1", 0, 1, command=PHOTO),
    Row("upload-429-hour", "upload:429:retry-after=3600", 9, 0, ("60 minutes",), command=PHOTO),
    Row("upload-302", "upload:redirect:location=https://portal.example/", 5, 0, ("portal.example",), command=PHOTO),
    Row("upload-402", "upload:402", 8, 0, ("no credit",), command=PHOTO),
]

#: Variants of what another row shows: with the slow tests only, or the suite would take minutes.
SELDOM = {
    name
    for line in """
    submit-nobody-there status-502 status-503 status-504 end-before cut-answer html empty a-list no-data long-id
    control-id deep big-number huge inputs-by-another-name resubmitted-once-only throttled-nonsense not-found gone
    unprocessable ten-refused-after-one key-forbidden key-refused-in-envelope redirect-307 redirect-308-home status-304
    submit-refused submit-credit submit-v3 late-answer short-answer status-504-accepted-held no-credit-402
    raw-http-0.9 raw-status-word raw-head-reset raw-shorter-than-sent raw-length-negative raw-chunk-cut raw-brotli
    raw-utf8-broken raw-code-is-text raw-id-is-number raw-id-is-list raw-many-values raw-endless-header
    raw-continue-for-ever raw-endless-base64 status-600
    look-503-once look-429 look-end look-trickle look-empty look-list look-huge look-deep look-big-number
    look-another-task look-envelope-500 look-400 look-nonsense-for-ever look-410-for-ever task-failed-5004
    task-timeout task-deleted many-flags flagged-kept bare-base64 stuck-status look-foreign-url look-404-for-ten-seconds
    download-403 download-410 download-cut download-short download-html-called-image download-pdf download-empty
    download-damaged download-500 download-reset download-trickle output-javascript output-with-user
    output-broken-base64 output-newline-in-url download-404-of-four download-429-hour
    price-404 price-html price-huge price-deep price-big-number price-silence price-429 price-null price-negative
    price-in-euro balance-html balance-404 balance-401 balance-big-number list-html list-429-hour list-401
    status-404-for-a-moment status-look-503 status-look-html status-look-302 status-nobody status-recent-401
    status-recent-html wait-timeout wait-html-image wait-failed wait-nobody doctor-html doctor-302 doctor-reset
    doctor-no-name doctor-bomb upload-401 upload-400 upload-html upload-reset upload-429 upload-302 upload-402
    """.splitlines()
    for name in line.split()
}

ROWS = [*SUBMITS, *RAW, *LOOKS, *DOWNLOADS, *REST, *STATUSES, *UPLOADS]
