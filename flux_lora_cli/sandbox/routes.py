"""Which endpoint a request means. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from .messages import Request

SUBMIT: Final = "submit"
LOOK: Final = "look"
LIST: Final = "list"
PRICE: Final = "price"
BALANCE: Final = "balance"
UPLOAD: Final = "upload"
DOWNLOAD: Final = "download"
MODELS: Final = "models"
DELETE: Final = "delete"
OTHER: Final = "other"
STATS: Final = "stats"

ENDPOINTS: Final = (SUBMIT, LOOK, LIST, PRICE, BALANCE, UPLOAD, DOWNLOAD, MODELS, DELETE)
"""Endpoints on which a fault can be asked for; ``any`` means all of them."""

_RESERVED: Final = {"predictions", "media", "model", "models", "balance"}


class Route(NamedTuple):
    """An endpoint, with what its path says: version and model, an id, a form of the endpoint."""

    endpoint: str
    version: str = ""
    name: str = ""
    form: str = ""


def route(request: Request) -> Route:
    """The endpoint of a request; ``other`` for what the service does not have."""
    parts = [part for part in request.path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api" and parts[1] in ("v2", "v3"):
        return _api(request.method, parts[1], parts[2:])
    if len(parts) in (2, 3) and parts[0] == "predictions":
        return _api(request.method, "v3", parts)
    if len(parts) == 3 and parts[0] == "outputs":
        return Route(DOWNLOAD, name=parts[1], form=parts[2])
    if len(parts) >= 2 and parts[0] == "uploads":
        return (
            Route(UPLOAD, name=parts[1], form="put")
            if request.method == "PUT"
            else Route(OTHER, "", parts[1], "uploaded")
        )
    if parts == ["sandbox", "stats"]:
        return Route(STATS)
    return Route(OTHER)


def _api(method: str, version: str, rest: list[str]) -> Route:
    if rest[0] == "predictions":
        return _predictions(method, version, rest[1:])
    if method == "POST":
        found = _POSTS.get("/".join(rest))
        if found:
            return Route(found[0], version, form=found[1])
        if len(rest) >= 2 and rest[0] not in _RESERVED:
            return Route(SUBMIT, version, "/".join(rest))
    elif method == "GET" and len(rest) == 1:
        if rest[0] == "balance":
            return Route(BALANCE, version)
        if rest[0] == "models":
            return Route(MODELS, version)
    return Route(OTHER)


_POSTS: Final = {
    "media/uploads": (UPLOAD, "ticket"),
    "media/upload/binary": (UPLOAD, "binary"),
    "model/price": (PRICE, "price"),
    "model/pricing": (PRICE, "pricing"),
}


def _predictions(method: str, version: str, rest: list[str]) -> Route:
    if method == "POST" and not rest:
        return Route(LIST, version)
    if method == "POST" and rest == ["delete"]:
        return Route(DELETE, version)
    if method == "GET" and (len(rest) == 1 or (len(rest) == 2 and rest[1] == "result")):
        return Route(LOOK, version, rest[0])
    return Route(OTHER)
