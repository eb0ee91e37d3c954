"""The service itself: a request in, a reply out. No sockets, no waiting but in synchronous mode."""

from __future__ import annotations

import json
import math
import random
import re
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from . import catalogue, outputs, predictions, uploads
from .checks import checked
from .messages import Refusal, Reply, Request, answer, read_object
from .options import SandboxOptions
from .routes import (
    BALANCE,
    DELETE,
    DOWNLOAD,
    LIST,
    LOOK,
    MODELS,
    OTHER,
    PRICE,
    SUBMIT,
    UPLOAD,
    Route,
)
from .store import Fate, Store, Task

NANOS: Final = 1_000_000_000
_UNLIMITED: Final = 1_000_000
_SYNC_SECONDS: Final = 100.0
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")


class Service:
    """Everything the API does. Thread-safe; several processes may share the store's file."""

    def __init__(
        self,
        options: SandboxOptions,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.options = options
        self.clock = clock
        self.store = Store(options.state, clock())
        self.pictures = outputs.Pictures(self.store, options.pictures, options.picture_bytes)
        self._sleep = sleep
        self._random = random.Random(options.seed)  # noqa: S311 - service times, not secrets
        self._luck = threading.Lock()
        self._price = int(options.price_per_image * NANOS)
        self._endpoints: dict[str, Callable[[Route, Request], Reply]] = {
            LOOK: self._look,
            LIST: self._list,
            PRICE: self._quote,
            BALANCE: self._balance,
            UPLOAD: self._upload,
            DOWNLOAD: self._download,
            MODELS: lambda route, request: answer(catalogue.models(options.price_per_image)),
            DELETE: self._delete,
            OTHER: self._other,
        }

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    def reply(self, route: Route, request: Request, fate: Fate | None = None) -> Reply:
        """The answer to a request, refusals included."""
        try:
            if _needs_key(route):
                self._check_key(request)
            if route.endpoint == SUBMIT:
                return self._submit(route, request, fate)
            return self._endpoints[route.endpoint](route, request)
        except Refusal as refusal:
            return refusal.reply()

    # ---- submit --------------------------------------------------------------------------

    def _submit(self, route: Route, request: Request, fate: Fate | None) -> Reply:
        inputs = read_object(request.body)
        values = checked(route.name, route.version, inputs)
        fate = fate or uploads.input_problem(values, self.store) or Fate("completed")
        task = self._accept(route, inputs, values, fate)
        if values.get("enable_sync_mode"):
            self._sleep(max(0.0, min(task.finish - self.clock(), _SYNC_SECONDS)))
            return self._shown(task, route.version, request)
        return answer(predictions.shown(task, route.version, -math.inf, self.origin(request), None))

    def _accept(self, route: Route, inputs: dict[str, Any], values: dict[str, Any], fate: Fate) -> Task:
        images = values["num_images"]
        with self._luck:
            seconds = self._random.uniform(*self.options.service_time)
            lots = [self._random.random() for _ in range(images)]
            drawn = self._random.randrange(2**31)
        nsfw = "nsfw" in values["prompt"].lower()
        flags = sum(1 << place for place, lot in enumerate(lots) if nsfw or lot < self.options.nsfw_rate)
        with self.store.writing():
            now = self.clock()
            self._check_rate(images, now)
            self._charge(images)
            start = self.store.free_slot(now, self.options.concurrency)
            task = Task(
                0, secrets.token_hex(16), route.name, route.version, now, start, start + seconds, fate.status,
                fate.code, fate.error, images, flags, drawn if values["seed"] == -1 else values["seed"],
                images * self._price, json.dumps(inputs, separators=(",", ":")),
            )  # fmt: skip
            self.store.add(task)
        return task

    def _check_rate(self, images: int, now: float) -> None:
        """A bucket that holds a minute's worth of images and fills at the rate."""
        rate = self.options.rate
        if rate is None:
            return
        stamp = self.store.number("rate.stamp")
        tokens = self.store.number("rate.tokens")
        level = rate if tokens is None or stamp is None else min(rate, tokens + max(0, now - stamp) * rate / 60)
        wanted = min(images, rate)
        if level + 1e-9 < wanted:
            seconds = math.ceil((wanted - level) * 60 / rate)
            raise Refusal(429, "Rate limit exceeded, please slow down.", (("Retry-After", str(seconds)),))
        self.store.keep_number("rate.stamp", now)
        self.store.keep_number("rate.tokens", level - wanted)

    def _charge(self, images: int) -> None:
        cost = images * self._price
        charged = int(self.store.number("charged") or 0)
        if self.options.balance is not None and charged + cost > int(self.options.balance * NANOS):
            raise Refusal(400, "Insufficient credits. Please top up.")
        self.store.keep_number("charged", charged + cost)

    # ---- looking -------------------------------------------------------------------------

    def _look(self, route: Route, request: Request) -> Reply:
        task = self.store.task(route.name, self.clock())
        if task is None:
            raise Refusal(404, f"prediction {route.name[:64]} not found")
        return self._shown(task, route.version, request)

    def _shown(self, task: Task, version: str, request: Request) -> Reply:
        return answer(predictions.shown(task, version, self.clock(), self.origin(request), self.pictures))

    def _list(self, route: Route, request: Request) -> Reply:
        wanted = read_object(request.body)
        listing = predictions.listing(wanted)
        now = self.clock()
        items = []
        for task in self.store.page(listing, now):
            item = predictions.shown(task, route.version, now, self.origin(request), None)
            if wanted.get("include_inputs") is True:
                item["inputs"] = self.store.inputs(task)
            items.append(item)
        return answer({"page": listing.page, "items": items})

    def _delete(self, route: Route, request: Request) -> Reply:
        ids = read_object(request.body).get("ids")
        if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
            raise Refusal(400, "invalid parameter ids: an array of strings is expected")
        self.store.delete(ids)
        return answer({"deleted": len(ids)})

    # ---- money ---------------------------------------------------------------------------

    def _quote(self, route: Route, request: Request) -> Reply:
        wanted = read_object(request.body)
        return answer(catalogue.quote(wanted, self.options.price_per_image, route.form))

    def _balance(self, route: Route, request: Request) -> Reply:
        return answer({"balance": float(self.balance_nanos() / NANOS)})

    def balance_nanos(self) -> int:
        """What is left, in billionths of a dollar; without ``--balance`` a million dollars to start with."""
        start = _UNLIMITED * NANOS if self.options.balance is None else int(self.options.balance * NANOS)
        with self.store.writing():
            return max(0, start - int(self.store.number("charged") or 0))

    # ---- files ---------------------------------------------------------------------------

    def _upload(self, route: Route, request: Request) -> Reply:
        return uploads.take(route, request, self.store, self.clock(), self.origin(request))

    def _download(self, route: Route, request: Request) -> Reply:
        task = self.store.task(route.name, self.clock())
        number = outputs.number_of(route.form)
        if task is None or number is None or number > task.images or task.status(self.clock()) != "completed":
            raise Refusal(404, "no such output")
        picture = self.pictures.picture(task, number)
        return Reply(200, picture.data, picture.media_type)

    def _other(self, route: Route, request: Request) -> Reply:
        if route.form == "uploaded":
            return uploads.give(route.name, self.store)
        raise Refusal(404, "no such endpoint")

    # ---- who asks, and where -------------------------------------------------------------

    def origin(self, request: Request) -> str:
        """URLs are built on the host and port that the request came to."""
        host = request.headers.get("host", "")
        return f"http://{host if _HOST.fullmatch(host) else self.options.host}"

    def _check_key(self, request: Request) -> None:
        if not request.key or (self.options.api_key is not None and request.key != self.options.api_key):
            raise Refusal(401, "Unauthorized: invalid or missing API key")


def _needs_key(route: Route) -> bool:
    if route.endpoint == UPLOAD:
        return route.form != "put"
    return route.endpoint not in (DOWNLOAD, OTHER)
