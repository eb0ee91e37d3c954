"""The endpoints: a request in, an answer out. No sockets; it waits in synchronous mode alone."""

from __future__ import annotations

import base64
import functools
import math
import random
import re
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from sqlite3 import Row
from typing import TYPE_CHECKING, Any, Final

from . import uploads
from .catalogue import PUBLISHED, Table, body, table
from .listener import Answer, Refusal, Request, wrong
from .store import KEPT_SECONDS, NANOS, Fate, Store, Task

if TYPE_CHECKING:
    from .server import Options

_UNLIMITED: Final = 1_000_000 * NANOS
_SYNC_SECONDS: Final = 90.0
"""Synchronous mode answers after so long in any case (official SDK)."""
_BODY_BYTES: Final = 32_000_000
_STATUS: Final = "CASE WHEN start > ? THEN 'created' WHEN finish > ? OR fate = 'stuck' THEN 'processing' ELSE fate END"
_LOOPBACK: Final = re.compile(r"(localhost|[a-z0-9-]+\.localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.I)


class Api:
    """Everything the service does. Thread-safe; several processes may share the store's file."""

    def __init__(self, options: Options, store: Store, clock: Callable[[], float]) -> None:
        self._options, self.store, self.clock = options, store, clock
        self._image = functools.lru_cache(maxsize=16)(self._drawn)
        self._full_at = 0.0  # when the rate's whole minute is free again
        self.stopping = threading.Event()

    def endpoint(self, request: Request) -> str:
        """The endpoint's name; ``other`` for what the service does not have."""
        return _found(request)[0]

    def body_limit(self, request: Request) -> int:
        """The largest body that is read, in bytes."""
        return uploads.MAX_BYTES + 10_000 if self.endpoint(request) == "upload" else _BODY_BYTES

    def check_host(self, request: Request) -> None:
        """A web page can reach this machine's ports under a name of its own (DNS rebinding): only loopback names.

        Raises:
            Refusal: 421.
        """
        if not _LOOPBACK.fullmatch(request.headers.get("Host", "")):
            raise Refusal(421, "the sandbox answers to loopback names only (Host: localhost or 127.0.0.1)")

    def answer(self, request: Request) -> Answer:
        """The answer to a request, refusals included."""
        _, action, found = _found(request)
        try:
            if action is None:
                raise Refusal(404, "no such endpoint")
            if action not in _WITHOUT_KEY:
                self._check_key(request)
            return action(self, request, *found)
        except Refusal as refusal:
            return refusal.answer
        except Exception as error:
            if self.stopping.is_set():
                return Answer(silent="close")
            return Answer.refusal(500, f"the sandbox failed: {type(error).__name__}: {error}")

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip() or self._options.api_key not in (None, key.strip()):
            raise Refusal(401, "Unauthorized: invalid or missing API key")

    # ---- submit --------------------------------------------------------------------------------

    def _submit(self, request: Request, version: str, model: str) -> Answer:
        known = table(model, version)
        given = known.checked(request.json(), self._options.undeclared)
        fate = request.fate or uploads.input_fate(given, self.store)
        with self.store.writing():
            task = self._accept(known, version, given, fate)
        if not given.get("enable_sync_mode"):
            return Answer.data(self._shown(task, version, request, now=-math.inf))
        self.stopping.wait(max(0.0, min(task.finish - self.clock(), _SYNC_SECONDS)))
        item = self._shown(task, version, request, inline=True)
        if item["status"] == "processing":
            item |= {"code": 5004, "error": "Sync mode timed out; the task goes on."}
        return Answer.data(item)

    def _accept(self, known: Table, version: str, given: dict[str, Any], fate: Fate) -> Task:
        store, options, now = self.store, self._options, self.clock()
        values = known.filled(given)
        images, seed = int(values.get("num_images", 1)), int(values.get("seed", -1))
        nanos = int(self._price(known, images) * NANOS)
        self._check_rate(images, now)
        if options.balance is not None and store.charged(now) + nanos > options.balance * NANOS:
            raise Refusal(400, "Insufficient credits. Please top up.")
        number = store.next_number()
        lots = random.Random(f"{options.seed}/{number}")  # noqa: S311 - service times, not secrets
        seconds, drawn = lots.uniform(*options.span), lots.randrange(2**31)
        nsfw = "nsfw" in str(values.get("prompt", "")).lower()
        flags = sum(1 << place for place in range(images) if lots.random() < options.nsfw_rate or nsfw)
        start = store.free_slot(now, options.concurrency)
        task = Task(
            number, secrets.token_hex(16), known.model, version, now, start, start + seconds, fate.status, fate.code,
            fate.error, images - fate.few, flags, drawn if seed == -1 else seed, nanos, fate.charges, False, given,
        )  # fmt: skip
        store.add(task)
        return task

    def _check_rate(self, images: int, now: float) -> None:
        """A minute's worth of images at once, which refills at the rate."""
        if (rate := self._options.rate) is None:
            return
        full = max(self._full_at, now) + min(images, rate) * 60 / rate
        if full - now > 60 + 1e-6:
            wait = str(math.ceil(full - now - 60))
            raise Refusal(429, "Rate limit exceeded, please slow down.", (("Retry-After", wait),))
        self._full_at = full

    # ---- results -------------------------------------------------------------------------------

    def _known(self, task_id: str) -> Task:
        """The task, unless it is unknown, deleted or too old."""
        kept_since = self.clock() - KEPT_SECONDS
        for task in self.store.tasks("id = ? AND deleted = 0 AND created > ?", [task_id, kept_since]):
            return task
        raise Refusal(404, f"prediction {task_id[:64]} not found")

    def _result(self, request: Request, version: str, task_id: str) -> Answer:
        task = self._known(task_id)
        if request.fate is not None and request.fate.status == "stuck":
            task = task._replace(fate="stuck")
        elif request.fate is not None:
            self.store.doom(task, request.fate, self.clock())
            task = self._known(task_id)
        return Answer.data(self._shown(task, version, request, inline=True))

    def _shown(
        self, task: Task, version: str, request: Request, *, now: float | None = None, inline: bool = False
    ) -> dict[str, Any]:
        """One prediction; ``inline``: with base64 outputs, where the task asked for them."""
        status, origin = task.status(self.clock() if now is None else now), request.origin
        numbers = range(task.images) if status == "completed" else range(0)
        ended = status not in ("created", "processing")
        spent = round((task.finish - task.start) * 1000) if ended else 0
        if inline and task.inputs.get("enable_base64_output"):
            outputs = [base64.b64encode(self._image(task.id, number)).decode() for number in numbers]
        else:
            outputs = [f"{origin}/outputs/{task.id}/{number + 1}.{_format(task)}" for number in numbers]
        return {
            "id": task.id,
            "model": task.model,
            "outputs": outputs,
            "urls": {"get": f"{origin}/api/{version}/predictions/{task.id}/result"},
            "has_nsfw_contents": [bool(task.flags >> number & 1) for number in numbers],
            "status": status,
            "created_at": _iso(task.created),
            "error": task.error if ended else "",
            **({"executionTime": spent} if version == "v2" else {"timings": {"inference": spent}}),
            **({"code": task.code} if ended and task.code else {}),
        }

    def _list(self, request: Request, version: str) -> Answer:
        wanted, now = body("list", request.json()), self.clock()
        where, values = _conditions(
            ("deleted = ?", 0),
            ("created > ?", now - KEPT_SECONDS),
            ("model = ?", wanted.get("model")),
            ("created >= ?", _moment(wanted, "created_after")),
            ("created <= ?", _moment(wanted, "created_before")),
        )
        if status := wanted.get("status"):
            where += f" AND {_STATUS} = ?"
            values += [now, now, status]
        items = []
        for task in self.store.tasks(f"{where} ORDER BY seq DESC {_page(wanted)}", values):
            item = self._shown(task, version, request, now=now)
            items.append({**item, "inputs": task.inputs} if wanted.get("include_inputs") is True else item)
        return Answer.data({"page": wanted["page"], "items": items})

    def _delete(self, request: Request, task_id: str) -> Answer:
        self._known(task_id)
        return Answer.data({"deleted": self.store.delete([task_id])})

    def _delete_many(self, request: Request) -> Answer:
        return Answer.data({"deleted": self.store.delete(body("delete", request.json())["ids"])})

    # ---- money ---------------------------------------------------------------------------------

    def _price(self, known: Table, images: int) -> Decimal:
        return (self._options.price_per_image if self._options.price_per_image is not None else known.price) * images

    def _quote(self, request: Request, form: str) -> Answer:
        wanted = body("price", request.json())
        known = table(wanted["model_id"], "v3")
        images = wanted["inputs"].get("num_images", 1) if "num_images" in known.properties else 1
        name = "unit_price" if form == "pricing" else "price"
        return Answer.data({"model_id": known.model, name: float(self._price(known, images)), "currency": "USD"})

    def _balance(self, request: Request) -> Answer:
        balance = self._options.balance
        credit = _UNLIMITED if balance is None else int(balance * NANOS)
        return Answer.data({"balance": max(0, credit - self.store.charged(self.clock())) / NANOS})

    def _models(self, request: Request) -> Answer:
        return Answer.data(PUBLISHED)

    def _bill(self, request: Request) -> Answer:
        """What tasks were charged and refunded, newest first."""
        wanted, now = body("bill", request.json()), self.clock()
        where, values = _conditions(
            ("at <= ?", now),
            ("kind = ?", wanted.get("billing_type")),
            ("model = ?", wanted.get("model_uuid")),
            ("at >= ?", _moment(wanted, "start_time")),
            ("at <= ?", _moment(wanted, "end_time")),
        )
        if (ids := wanted.get("prediction_uuids")) is not None:
            where += f" AND id IN ({','.join('?' * len(ids))})"
            values += ids
        size = wanted["page_size"]
        records = self.store.bill(where, values, _page(wanted, more=1))
        items = [_billed(record, now) for record in records[:size]]
        return Answer.data({"page": wanted["page"], "has_more": len(records) > size, "items": items})

    # ---- files ---------------------------------------------------------------------------------

    def _download(self, request: Request, task_id: str, number: str) -> Answer:
        task = self._known(task_id)
        if int(number) > task.images or task.status(self.clock()) != "completed":
            raise Refusal(404, "no such output")
        data, media_type = self._image(task.id, int(number) - 1), f"image/{_format(task)}"
        match = re.fullmatch(r"bytes=(\d{1,15})-", request.headers.get("Range", ""))
        begin = int(match[1]) if match else 0
        if not begin:
            return Answer(200, data, media_type, (("Accept-Ranges", "bytes"),))
        if begin >= len(data):
            return Answer(416, b"", media_type, (("Content-Range", f"bytes */{len(data)}"),))
        span = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        return Answer(206, data[begin:], media_type, (("Content-Range", span),))

    def _drawn(self, task_id: str, number: int) -> bytes:
        """The picture of an output, numbered from 0: drawn when it is asked for, never stored."""
        from .pictures import render  # Pillow takes a while to load

        task = self._known(task_id)
        values = table(task.model, task.version).filled(task.inputs)
        try:
            image = next((uploads.image_bytes(image, self.store) for image in uploads.input_images(values)), None)
        except ValueError:  # no longer kept
            image = None
        width, height = map(int, str(values.get("size") or "1024*1024").split("*"))
        return render(values, task.seed + number, (width, height), _format(task), task.model, image)


# Method, path, the endpoint's name in faults, what answers.
_ROUTES: Final[list[tuple[str, str, str, Callable[..., Answer]]]] = [
    ("GET", r"/api/(v2|v3)/predictions/([^/]+)(?:/result)?", "result", Api._result),
    ("GET|HEAD", r"/outputs/([0-9a-f]{32})/([1-9])\.(?:png|jpeg|webp)", "download", Api._download),
    ("POST", r"/api/(v2|v3)/predictions", "list", Api._list),
    ("POST", r"/api/v[23]/predictions/delete", "delete", Api._delete_many),
    ("DELETE", r"/api/v[23]/predictions/([^/]+)", "delete", Api._delete),
    ("POST", r"/api/v[23]/model/(price|pricing)", "price", Api._quote),
    ("GET", r"/api/v[23]/balance", "balance", Api._balance),
    ("GET", r"/api/v[23]/models", "models", Api._models),
    ("POST", r"/api/v[23]/billings/search", "bill", Api._bill),
    ("POST", r"/api/v[23]/media/uploads", "upload", uploads.ticket),
    ("POST", r"/api/v[23]/media/upload/binary", "upload", uploads.binary),
    ("PUT", r"/uploads/([0-9a-f]{32})/[^/]*", "upload", uploads.put),
    ("GET", r"/uploads/([0-9a-f]{32})/[^/]*", "other", uploads.give),
    ("POST", r"/api/(v2|v3)/([^/]+/.+)", "submit", Api._submit),
]
_WITHOUT_KEY: Final = (Api._download, uploads.put, uploads.give)


def _found(request: Request) -> tuple[str, Callable[..., Answer] | None, tuple[str, ...]]:
    """Endpoint, action and what the path says."""
    for methods, pattern, endpoint, action in _ROUTES:
        if request.method in methods.split("|") and (match := re.fullmatch(pattern, request.path)):
            return endpoint, action, match.groups()
    return "other", None, ()


def _format(task: Task) -> str:
    return str(task.inputs.get("output_format") or "jpeg") if task.version == "v3" else "png"


def _iso(seconds: float) -> str:
    """UTC with milliseconds, as the service writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(wanted: dict[str, Any], name: str) -> float | None:
    """Seconds since the epoch, from an ISO 8601 time; None where there is none."""
    if name not in wanted:
        return None
    try:
        moment = datetime.fromisoformat(wanted[name])
    except ValueError as error:
        raise wrong(name, "must be an ISO 8601 time") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _conditions(*pairs: tuple[str, Any]) -> tuple[str, list[Any]]:
    """A WHERE clause of the conditions that have a value, and the values."""
    asked = [(condition, value) for condition, value in pairs if value is not None]
    return " AND ".join(condition for condition, _ in asked), [value for _, value in asked]


def _page(wanted: dict[str, Any], more: int = 0) -> str:
    """The page that is asked for, and ``more`` records after it."""
    size = int(wanted["page_size"])
    return f"LIMIT {size + more} OFFSET {(int(wanted['page']) - 1) * size}"


def _billed(record: Row, now: float) -> dict[str, Any]:
    status = "processing" if record["fate"] == "stuck" or now < record["finish"] else record["fate"]
    return {
        "uuid": f"bill-{record['number']}",
        "billing_type": record["kind"],
        "price": record["nanos"] / NANOS,
        "created_at": _iso(record["at"]),
        "access_key_name": "sandbox",
        "prediction": {"uuid": record["id"], "model_uuid": record["model"], "status": status},
    }
