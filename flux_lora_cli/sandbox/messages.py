"""What goes in and out of the sandbox: one request, one reply. No sockets here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Request:
    """One HTTP request, read to its end. Header names are lower case."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def key(self) -> str:
        """The API key, empty where none was sent."""
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""


@dataclass(slots=True)
class Reply:
    """One HTTP reply. Content-Length is added when it is sent."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def as_json(value: Any) -> bytes:
    """ASCII JSON: lone surrogates in a prompt survive as escapes instead of breaking the encoder."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def answer(data: Any) -> Reply:
    """The service's envelope around ``data``."""
    return Reply(200, as_json({"code": 200, "message": "success", "data": data}))


class Refusal(Exception):
    """The request is refused, and nothing is charged."""

    def __init__(self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers

    def reply(self) -> Reply:
        """As the service words it: the HTTP status again as ``code``."""
        return Reply(self.status, as_json({"code": self.status, "message": self.message}), headers=self.headers)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_object(body: bytes) -> dict[str, Any]:
    """The request's JSON object.

    Raises:
        Refusal: 400, where it is none.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"invalid JSON body: {error}") from error
    if not isinstance(value, dict):
        raise Refusal(400, "invalid JSON body: an object is expected")
    return value
