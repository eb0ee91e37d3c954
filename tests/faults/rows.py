"""What can go wrong, as data: a new fault is one line. ``wrong`` is a text of ``tests.support.wrong``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.fake import Answer

BATCH = "batch jobs.jsonl -o out"
HOLD = f"{BATCH} --on-unknown hold"
RESUBMIT = f"{BATCH} --on-unknown resubmit"
LIMITED = f"{BATCH} --max-cost 1"
SUBMIT = "submit -p 'a cat'"
WAIT = "wait {id} -o out"
STATUS = "status {id}"
#: Fast enough for the three minutes in which a submission of unknown outcome is looked for.
SEARCH = 200.0


@dataclass(frozen=True)
class Row:
    """One fault, and what is expected of the program.

    Attributes:
        code: exit code; ``charges``: tasks that the service charges for.
        says, never: what standard error has to say, and what it must not; without regard to case.
        command: ``{id}`` is a task that was there before; ``jobs``: how many lines ``jobs.jsonl`` has.
        raw: bytes as the answer to each submission, which is carried out; ``end``: ``close``, ``hold`` or ``reset``;
            ``repeat``: sent over and over.
        at: a place where nobody is, in place of the service.
        service: options of the fake service; ``params``: of each job.
        scale: how much faster than real the program's waits are.
        posts: submissions that the service gets; None for any number up to ``requests``.
        requests: most requests of all kinds.
        files: images under a final name; by default as many as charges, in a batch.
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
    raw: bytes = b""
    end: str = "close"
    repeat: float | None = None
    at: str = ""
    service: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 20.0
    posts: int | None = None
    requests: int = 30
    files: int | None = None
    seconds: float = 40.0
    megabytes: float = 160.0
    slow: bool = False


def slow(row: Row) -> Row:
    """A variant of what another row shows: with the slow tests only."""
    return replace(row, slow=True)


def http(body: bytes, *headers: str, status: int = 200, length: int | None = None) -> bytes:
    """An answer of HTTP/1.1 that says of itself what it is told to."""
    return Answer(status, body, headers).encoded(length=length)


TASK = b'{"code":200,"data":{"id":"t1","status":"created"}}'

# ---- submissions -----------------------------------------------------------------------------------

#: Nothing tells whether the service took it: held, where nobody looks; found, where it was taken.
UNCERTAIN = ["500", "502", "503", "504", "408", "520", "reset", "end", "html", "empty", "broken-json", "a-list",
             "envelope=500", "deep", "big-number", "bomb=100", "huge=8"]  # fmt: skip
TAKEN = [*(f"{k.partition('=')[0]}-after{k[k.find('=') :] if '=' in k else ''}" for k in UNCERTAIN), "cut", "short",
         "half", "no-data", "no-id", "bad-id=../../etc/passwd", "bad-id=aESC[31m", f"bad-id={'a' * 300}"]  # fmt: skip
_OFTEN = {"503", "reset", "html", "reset-after", "end-after", "no-id", "bad-id=../../etc/passwd", "bomb-after=100"}
#: Refused: nothing was charged, and this job alone fails.
REFUSED = ["400=prompt~is~too~rude", "404", "422", "410", "413", "451", "envelope=400", "firewall"]

SUBMISSIONS = [
    *(Row(f"held-{k[:20]}", f"submit:{k}", 13, 0, ("cat1",), command=HOLD, posts=1, slow=k not in _OFTEN)
      for k in UNCERTAIN),
    *(Row(f"found-{k[:20]}", f"submit:{k}:1", 0, 1, never=("passwd", "aaaa"), posts=1, slow=k not in _OFTEN)
      for k in TAKEN),
    *(Row(f"refused-{k[:20]}", f"submit:{k}:nth=2", 6, 2, ("cat2",), ("api key",), jobs=3, posts=3,
          command=f"{BATCH} --concurrency 1",           slow=not k.startswith(("400", "fire"))) for k in REFUSED),
    Row("held-and-named", "submit:503", 13, 0, ("cat1", "--adopt", "--on-unknown resubmit"), scale=SEARCH, posts=1),
    Row("silence", "submit:stall", 13, 0, ("cat1",), command=HOLD, scale=60, posts=1),
    Row("silence-accepted", "submit:stall-after:1", 0, 1, scale=60, posts=1),
    slow(Row("trickle", "submit:trickle=0.1:1", 0, 1, scale=60, posts=1)),
    slow(Row("late-answer", "submit:slow=1:1", 0, 1, scale=10, posts=1)),
    Row("accepted-and-held", "submit:504-after", 13, 1, ("cat1",), command=HOLD, files=0, posts=1),
    Row("asked-to-resubmit", "submit:503:1", 0, 1, ("once more",), command=RESUBMIT, scale=SEARCH, posts=2),
    Row("resubmit-finds", "submit:reset-after:1", 0, 1, command=RESUBMIT, posts=1),
    slow(Row("resubmitted-once-only", "submit:503", 13, 0, ("once more",), command=RESUBMIT, scale=SEARCH, posts=2,
             requests=60)),
    Row("resubmit-throttled", "submit:503:nth=1 submit:429=2:nth=2", 0, 1, command=RESUBMIT, scale=SEARCH, posts=3),
    Row("resubmit-key-refused", "submit:503:nth=1 submit:401:after=1", 4, 0, ("cat1",), command=RESUBMIT, scale=SEARCH,
        posts=2),
    slow(Row("resubmit-refused", "submit:503:nth=1 submit:400=too~rude:after=1", 13, 0, ("cat1", "too rude"),
             command=RESUBMIT, scale=SEARCH, posts=2)),
    Row("list-without-inputs", "submit:503-after:1 list:no-inputs", 13, 1, ("cat1", "--adopt"), files=0, scale=SEARCH,
        posts=1, requests=60),
    Row("resubmit-never-beside-a-candidate", "submit:503-after:1 list:no-inputs", 13, 1, ("cat1",), command=RESUBMIT,
        files=0, scale=SEARCH, posts=1, requests=60),
    Row("list-respells", "submit:503-after:1 list:respelled", 0, 1, posts=1),
    slow(Row("list-calls-it-input", "submit:503-after:1", 0, 1, posts=1, service={"echo": "input"})),
    Row("clock-behind", "submit:reset-after:1", 0, 1, posts=1, service={"skew": -1200.0}),
    slow(Row("clock-ahead", "submit:reset-after:1", 0, 1, posts=1, service={"skew": 1200.0})),
    Row("no-list-to-search", "submit:503-after:1 list:404", 13, 1, ("cat1",), files=0, scale=1, seconds=10, posts=1),
    Row("no-list-resubmit", "submit:503:1 list:403", 0, 1, ("could be checked",), command=RESUBMIT, scale=1,
        seconds=15, posts=2),
    Row("search-cut-short", "submit:503-after:1 list:stall", 13, 1, ("cat1", "--timeout"), ("resubmit",), files=0,
        command=f"{BATCH} --timeout 30", posts=1),
    Row("list-never-answers", "submit:503 list:503", 13, 0, ("cat1",), scale=SEARCH, posts=1, requests=120),
    Row("list-429-hour", "submit:503-after:1 list:429=3600", 13, 1, ("cat1", "60 min"), files=0, scale=SEARCH, posts=1,
        requests=6),
    slow(Row("list-bomb", "submit:503-after:1 list:bomb=100:2", 0, 1, scale=60, megabytes=300, posts=1)),
    Row("list-401", "submit:503-after:1 list:401", 4, 1, ("cat1",), files=0, posts=1),
    # never sent
    Row("nobody-there", "", 5, 0, ("refused",), at="closed"),
    Row("no-such-host", "", 5, 0, at="no-name"),
    Row("connect-time-out", "", 5, 0, at="silent"),
    Row("tls-nonsense", "", 5, 0, ("tls",), at="not-tls"),
    Row("unknown-certificate", "", 5, 0, ("certificate",), at="stranger", scale=1, seconds=8),
    # throttled
    *(Row(f"throttled-{value or 'bare'}", f"submit:{value}:1", 0, 1, posts=2, slow=value in ("429=soon", "425"))
      for value in ("429=2", "429=date+3", "429", "429=soon", "425", "envelope=429")),
    Row("throttled-for-an-hour", "submit:429=3600:after=1", 9, 1, ("60 min",), jobs=3,
        command=f"{BATCH} --rate 1/s"),
    Row("unavailable-for-an-hour", "submit:503=3600:after=1", 13, 1, ("60 min",), jobs=9, posts=2,
        command=f"{HOLD} --rate 1/s"),
    slow(Row("throttled-over-the-deadline", "submit:429=100", 9, 0, command=f"{BATCH} --timeout 60", requests=40)),
    # refusals that stop the run
    Row("ten-refused-alike", "submit:400", 6, 0, ("alike", "--retry-failed"), jobs=60, requests=60),
    slow(Row("ten-refused-after-one", "submit:400:after=1", 6, 1, (), ("alike",), jobs=14)),
    Row("key-refused", "submit:401", 4, 0, ("wavespeed_api_key",), jobs=40, requests=40),
    Row("key-forbidden", "submit:403", 4, 0, ("api key",), jobs=40, requests=40),
    Row("key-refused-midway", "submit:401:after=4", 4, 4, ("not collected yet: cat",), jobs=40, requests=80, files=0,
        service={"service_time": 60.0}),
    Row("no-credit-402", "submit:402:after=2", 8, 2, ("credit",), jobs=8, slow=True),
    Row("no-credit-words", "submit:400=Insufficient~credits.~Please~top~up.:after=2", 8, 2, ("credit",), jobs=8),
    Row("redirect-302", "submit:redirect=portal", 5, 0, ("portal.example",), jobs=10, requests=40),
    *(Row(f"redirect-{code}", f"submit:redirect{code}={where}", 5, 0, slow=True)
      for code, where in ((301, "http"), (307, "local"), (308, "home"), (304, "home"))),
    Row("submit-held", "submit:503", 13, 0, command=f"{SUBMIT} --on-unknown hold", posts=1),
    Row("submit-found", "submit:reset-after:1", 0, 1, command=SUBMIT, files=0, posts=1),
    slow(Row("submit-v3", "submit:end-after:1", 0, 1, command=f"{SUBMIT} --api-version v3", files=0, posts=1)),
    Row("submit-refused", "submit:400=no~such~size", 6, 0, ("no such size",), command=SUBMIT, posts=1),
]  # fmt: skip


def raw(name: str, data: bytes, **more: Any) -> Row:
    """A submission that was carried out, and whose answer is hardly HTTP."""
    return Row(f"raw-{name}", "", 0, 1, raw=data, posts=1, slow=more.pop("slow", True), **more)


OK = b"HTTP/1.1 200 OK\r\n"
RAW = [
    raw("garbage", b"\x00\xff\x16\x03garbage\r\n\r\n", slow=False),
    raw("header-garbage", OK + b"\x89\x11#\r\n\r\n"),
    raw("head-cut", OK + b"Content-Le", slow=False),
    raw("head-reset", b"HTTP/1.1 20", end="reset"),
    raw("longer-than-sent", http(TASK, length=500), slow=False),
    raw("shorter-than-sent", http(TASK, length=20)),
    raw("length-negative", http(b"", length=-5)),
    raw("length-a-lie", http(TASK, length=10**15), end="hold", scale=60),
    raw("chunk-broken", OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", slow=False),
    raw("endless-header", OK + b"X-A: " + b"a" * 4096, repeat=0.0, slow=False),
    raw("endless-body", OK + b'\r\n{"data":"' + b"a b " * 4096, repeat=0.0, slow=False),
    raw("continue-for-ever", b"HTTP/1.1 100 Continue\r\n\r\n", repeat=0.02, scale=60),
    raw("many-values", http(b"[" + b"[]," * 300_000)),
]

# ---- polls -----------------------------------------------------------------------------------------

#: A poll that failed is never a task that failed.
PASSING = ["500:3", "429=1:2", "429=date+2:1", "reset:3", "end:3", "html:3", "empty:3", "broken-json:2", "cut:2",
           "short:2", "a-list:3", "bomb=100:1", "huge=8:1", "deep:1", "big-number:1", "bad-id=t99:2", "envelope=500:2",
           "404:2", "unknown-status:2", "foreign-url", "no-flags", "many-flags"]  # fmt: skip
_SEEN_OFTEN = {"500:3", "reset:3", "html:3", "404:2", "unknown-status:2", "bad-id=t99:2"}
ENDED = ["cancelled", "canceled", "timeout", "deleted", "error", "rejected", "expired"]

POLLS = [
    *(Row(f"poll-{k}", f"look:{k}", 0, 1, never=("lost", "elsewhere"), slow=k not in _SEEN_OFTEN) for k in PASSING),
    Row("poll-silence", "look:stall:1", 0, 1, scale=30),
    slow(Row("poll-trickle", "look:trickle=0.1:1", 0, 1, scale=30)),
    Row("poll-429-hour", "look:429=3600", 9, 1, ("60 min", "cat1"), files=0),
    Row("poll-503-hour", "look:503=3600", 9, 1, ("60 min", "cat1"), files=0),
    Row("poll-500-for-ever", "look:500", 5, 1, ("cat1",), ("lost",), files=0, scale=SEARCH),
    slow(Row("poll-nonsense-for-ever", "look:html", 5, 1, ("cat1",), ("lost",), files=0, scale=SEARCH)),
    Row("poll-404-for-ever", "look:404", 6, 1, ("cat1",), ("again with",), files=0, scale=60),
    Row("poll-401", "look:401", 4, 1, ("cat1",), files=0),
    Row("stuck", "look:stuck", 9, 1, ("cat1", "30 min"), files=0, scale=600, requests=120),
    slow(Row("stuck-unknown-status", "look:unknown-status", 9, 1, ("cat1",), files=0, scale=SEARCH, requests=80,
             command=f"{BATCH} --task-timeout 5m")),
    Row("deadline-of-the-run", "look:stuck", 9, 1, ("cat1",), files=0, command=f"{BATCH} --timeout 20"),
    Row("task-failed", "submit:failed=1200", 6, 1, ("cat1", "moderation"), files=0),
    *(Row(f"task-{k}", f"submit:ended={k}", 6, 1, ("cat1",), files=0, slow=k not in ("canceled", "error"))
      for k in ENDED),
    Row("task-succeeded", "look:ended=succeeded", 0, 1, slow=True, files=1),
    Row("no-outputs", "look:no-outputs", 6, 1, ("cat1", "output"), files=0),
    Row("few-outputs", "look:few", 6, 1, ("cat1",), params={"num_images": 4}, files=1),
    Row("outputs-are-objects", "look:objects", 0, 1, files=1),
    Row("few-flags", "look:few-flags", 0, 1, command=f"{BATCH} --fail-on-nsfw", params={"num_images": 3}, files=3),
    Row("no-flags", "look:no-flags", 0, 1, command=f"{BATCH} --fail-on-nsfw", slow=True),
    Row("flagged", "", 12, 1, ("--fail-on-nsfw",), command=f"{BATCH} --fail-on-nsfw", service={"nsfw": True}),
    Row("flagged-kept", "", 0, 1, service={"nsfw": True}),
    Row("flagged-skipped", "", 0, 1, command=f"{BATCH} --nsfw skip", service={"nsfw": True}, files=0),
    Row("flagged-quarantined", "", 12, 1, service={"nsfw": True}, command=f"{BATCH} --nsfw quarantine --fail-on-nsfw"),
    Row("bare-base64", "look:bare-base64", 0, 1, files=1),
]  # fmt: skip

# ---- downloads -------------------------------------------------------------------------------------

MISSING = ("cat1", "image")
RETRIED = ["cut:2", "half:2", "short:2", "damaged:1", "500:2", "429=2:1", "reset:2", "html:1", "404:1", "403:3",
           "long:1", "no-length:1", "encoding=none", "encoding=UTF-8", "encoding=aws-chunked", "damaged-label",
           "non-authoritative", "jpeg", "other-format"]  # fmt: skip
_FETCHED_OFTEN = {"damaged-label", "cut:2", "short:2", "403:3", "encoding=none", "jpeg", "other-format"}
LOST = ["404", "403", "410", "cut", "html", "html-called-image", "empty", "damaged", "too-large"]
_LOST_OFTEN = {"404", "html", "damaged"}
NEVER_FETCHED = ["outputs=httpCOLON//example.com/a.png", "outputs=javascriptCOLONalert(1)", "outputs=",
                 "outputs=fileCOLON///etc/passwd", "outputs=httpsCOLON//aCOLONb@example.com/a",
                 "outputs=dataCOLONimage/png;base64,PGh0bWw+", "outputs=dataCOLONimage/png;base64,AAAAA"]  # fmt: skip

DOWNLOADS = [
    *(Row(f"image-{k}", f"image:{k}", 0, 1, posts=1, scale=40, slow=k not in _FETCHED_OFTEN) for k in RETRIED),
    *(Row(f"image-lost-{k}", f"image:{k}", 6, 1, MISSING, files=0, scale=150, posts=1, requests=60,
          slow=k not in _LOST_OFTEN) for k in LOST),
    *(Row(f"output-{n}", f"look:{k}", 6, 1, MISSING, ("root:",), files=0, scale=60, slow=n not in (0, 3))
      for n, k in enumerate(NEVER_FETCHED)),
    *(Row(f"image-redirect-{where}", f"image:redirect={where}", 6, 1, MISSING, ("root:",), files=0,
          slow=where != "file") for where in ("file", "http", "circle")),
    Row("images-late-of-four", "image:404:4", 0, 1, params={"num_images": 4}, files=4, slow=True),
    Row("image-429-hour", "image:429=3600", 9, 1, ("60 min", *MISSING), files=0, scale=SEARCH),
    Row("image-silence", "image:stall:1", 0, 1, scale=40),
    slow(Row("image-trickle", "image:trickle=0.05:1", 0, 1, scale=40, requests=60)),
    Row("image-breaks-each-time", "image:piece=300000", 0, 1, service={"picture_bytes": 1_500_000}, scale=60),
    Row("image-range-refused", "image:half:1 image:no-range:after=1", 0, 1, service={"picture_bytes": 400_000}),
    slow(Row("image-breaks-no-range", "image:half:2", 0, 1, service={"picture_bytes": 400_000, "ranges": False})),
]  # fmt: skip

# ---- price, balance, uploads, single tasks -----------------------------------------------------------

PRICES = ['{"price":null}', '{"price":NaN}', '{"price":-0.01}', '{"price":"free"}', '{"price":0.01,"currency":"EUR"}',
          '{"price":1e400}', "{}"]  # fmt: skip
#: Prices that contradict themselves, or are hardly any: whatever is made of them, the limit holds.
STRANGE_PRICES = ['{"price":0.015,"discounted_price":0}', '{"price":0}', '{"price":1e-13}', '{"price":true}']
PHOTO = f"{BATCH} -i photo.png"

REST = [
    *(Row(f"price-{k}", f"price:{k}", 0, 1, scale=60, slow=k != "500")
      for k in ("500", "404", "html", "huge=8", "bomb=100", "deep", "big-number", "429=1:1", "stall:1")),
    Row("price-unknown-but-limited", "", 8, 0, ("--price",), command=LIMITED, service={"price": None}, posts=0),
    Row("price-given", "", 0, 1, command=f"{LIMITED} --price 0.015", service={"price": None}),
    Row("price-401", "price:401", 4, 0, posts=0, requests=2, slow=True),
    Row("price-302", "price:redirect=portal", 5, 0, ("portal.example",), posts=0, requests=2, slow=True),
    Row("over-budget", "", 8, 0, ("--max-cost",), command=f"{BATCH} --max-cost 0.01", posts=0),
    *(Row(f"balance-{k}", f"balance:{k}", 0, 1, scale=60, slow=k != "500")
      for k in ("500", "html", "404", "big-number")),
    Row("balance-too-low", "", 0, 2, ("$0.01",), jobs=2, service={"balance": "0.01"}),
    Row("upload", "", 0, 1, command=PHOTO),
    *(Row(f"upload-{k}", f"upload:{k}", 0, 1, command=PHOTO, slow=not k.startswith("503"))
      for k in ("503:2", "html:2", "reset:2", "429=1:1")),
    *(Row(f"upload-{k}-for-ever", f"upload:{k}", code, 0, says, command=PHOTO, scale=SEARCH, posts=0,
          slow=k not in ("503", "401"))
      for k, code, says in (("503", 5, ("cat1",)), ("401", 4, ()), ("400", 6, ("cat1",)), ("402", 8, ("credit",)),
                            ("429=3600", 9, ("60 min",)), ("redirect=portal", 5, ("portal.example",)))),
    Row("uploads-429-hour", "upload:429=3600", 9, 0, ("60 min",), command=PHOTO, jobs=200, posts=0, requests=120),
    Row("status", "", 0, 0, command=STATUS),
    Row("status-404", "look:404", 3, 0, command=STATUS, requests=8, scale=1, seconds=12),
    Row("status-404-for-a-moment", "look:404:1", 0, 0, command=STATUS, slow=True),
    *(Row(f"status-{k}", f"look:{k}", code, 0, command=STATUS, scale=SEARCH, requests=11, slow=k != "503")
      for k, code in (("503:2", 0), ("503", 5), ("401", 4), ("html", 5), ("redirect=portal", 5), ("429=3600", 9),
                      ("failed", 0))),
    *(Row(f"recent-{k}", f"list:{k}", code, 0, command="status", scale=SEARCH, slow=k != "503")
      for k, code in (("503", 5), ("401", 4), ("404", 0), ("html", 5))),
    Row("status-no-id", "", 3, 0, command="status ../../etc", requests=0),
    Row("wait", "", 0, 0, command=WAIT, files=1),
    Row("wait-no-such-task", "look:404", 3, 0, ("{id}",), command=WAIT, scale=1, seconds=15),
    *(Row(f"wait-{k}", f"look:{k}", code, 0, says, command=f"{WAIT} {more}", scale=60, requests=60, slow=k != "stuck")
      for k, code, says, more in (("stuck", 9, ("{id}",), "--task-timeout 1m"), ("failed", 6, ("{id}",), ""),
                                  ("401", 4, (), ""))),
    Row("wait-timeout", "look:stuck", 9, 0, ("{id}",), command=f"{WAIT} --timeout 20"),
    slow(Row("wait-html-image", "image:html", 6, 0, ("image",), command=WAIT, scale=60)),
    Row("doctor", "", 0, 0, command="doctor"),
    *(Row(f"doctor-{k}", f"balance:{k}", code, 0, command="doctor", scale=30, slow=k not in ("401", "html"))
      for k, code in (("401", 4), ("503", 5), ("html", 5), ("redirect=portal", 5), ("reset", 5), ("stall", 5),
                      ("bomb=100", 5))),
]  # fmt: skip

#: Prices that are none: refused where a limit is set.
REST += [
    Row(f"price-no-{n}", f"price:body={text.replace(':', 'COLON').replace(' ', '')}", 8, 0, ("--price",),
        command=LIMITED, posts=0, slow=n not in (1, 4))
    for n, text in enumerate(PRICES)
]  # fmt: skip

ROWS = [*SUBMISSIONS, *RAW, *POLLS, *DOWNLOADS, *REST]
