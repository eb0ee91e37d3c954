"""Every kind of fault, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STAGES: Final = ("received", "accepted", "half", "answered")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Args:
        about: what it does, for the documentation.
        default: its value where none is given.
        low, high: the value is a number between these.
        choices: the value is one of these.
        both: it may happen before the request is carried out, or after.
        before: which of the two, unless the fault says.
        endpoints: those that it is for; none for all.
    """

    about: str
    default: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    both: bool = False
    before: bool = False
    endpoints: tuple[str, ...] = ()


_TASKS: Final = ("submit", "look")

KINDS: Final[dict[str, Kind]] = {
    # Connections.
    "status": Kind("an HTTP status", "500", 100, 599, both=True, before=True),
    "envelope": Kind("HTTP 200 with another code in its envelope", "500", 0, 9999, both=True, before=True),
    "refuse": Kind("the request is answered, then the port is closed for SECONDS", "3", 0, 3600),
    "reset": Kind("the connection is reset", both=True, before=True),
    "eof": Kind("the connection ends without an answer", both=True, before=True),
    "stall": Kind("silence for SECONDS, then the connection ends", "3600", 0, 86400, both=True, before=True),
    "slow": Kind("the right answer, SECONDS late", "2", 0, 86400, both=True),
    "trickle": Kind("a body without end, one byte each SECONDS", "1", 0.001, 3600, both=True),
    "redirect": Kind("a redirect to location=URL, else to the same URL", "302", 300, 399, both=True, before=True),
    "cut": Kind("half of the body, less than Content-Length says"),
    "short": Kind("half of the body, without Content-Length"),
    # Bodies.
    "html": Kind("a page of HTML", both=True),
    "empty": Kind("an empty body", both=True),
    "broken-json": Kind("JSON that ends too early", both=True),
    "list": Kind("a JSON list", both=True),
    "no-data": Kind("an envelope without data", both=True),
    "huge": Kind("valid JSON of MEGABYTES", "2", 0, 1024, both=True),
    "bomb": Kind("gzip that unpacks to MEGABYTES", "64", 0, 4096, both=True),
    "deep": Kind("JSON nested N levels deep", "100000", 1, 10_000_000, both=True),
    "big-number": Kind("JSON with a number of N digits", "100000", 1, 10_000_000, both=True),
    "echo-key": Kind(
        "an error with this status that repeats the Authorization header",
        "400",
        200,
        599,
        both=True,
        before=True,
    ),
    # Predictions.
    "no-id": Kind("a prediction without id", endpoints=_TASKS),
    "bad-id": Kind("a prediction with this text for an id", "../../etc/passwd", endpoints=_TASKS),
    "foreign-url": Kind("urls.get names another host", endpoints=_TASKS),
    "unknown-status": Kind("a status that nobody documented", "pondering", endpoints=_TASKS),
    "stuck": Kind("the task never ends; on look: still processing", endpoints=_TASKS),
    "failed": Kind("the task fails with this code", "1200", 0, 99999, endpoints=_TASKS),
    "ended": Kind(
        "the task ends in this status",
        "cancelled",
        choices=("cancelled", "timeout", "deleted"),
        endpoints=_TASKS,
    ),
    "no-outputs": Kind("completed, without outputs", endpoints=("look",)),
    "no-flags": Kind("has_nsfw_contents is missing", endpoints=("look",)),
    "few-flags": Kind("one NSFW flag too few", endpoints=("look",)),
    "many-flags": Kind("one NSFW flag too many", endpoints=("look",)),
    "bare-base64": Kind("base64 outputs without the data URI's head", endpoints=("look",)),
    "file-url": Kind("outputs under a file: URL", endpoints=("look",)),
    "no-inputs": Kind("items do not echo their inputs", endpoints=("list",)),
    "input-name": Kind("inputs are echoed under the name input", endpoints=("list",)),
    # Images.
    "wrong-type": Kind("HTML that is called an image", endpoints=("download",)),
    "other-file": Kind("a PDF that is called an image", endpoints=("download",)),
    "damaged": Kind("one bit in the middle is flipped", endpoints=("download",)),
    "too-large": Kind("an image of MEGABYTES, without Content-Length", "101", 1, 100_000, endpoints=("download",)),
    "long-length": Kind("Content-Length says MEGABYTES", "101", 1, 100_000_000, endpoints=("download",)),
    # The client.
    "kill": Kind("the client's process is killed at this stage", "received", choices=STAGES),
}
