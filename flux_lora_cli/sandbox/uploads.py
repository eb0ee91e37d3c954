"""Input images: uploads taken and given back, and what is wrong with an image that cannot be used."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from .messages import Refusal, Reply, Request, answer, read_object
from .routes import Route
from .store import Fate, Store

MAX_BYTES: Final = 200 * 1024 * 1024
"""Limit of an upload (official SDK)."""
_UPLOADED: Final = re.compile(r"https?://[^/]+/uploads/([0-9a-f]{32})(?:/[^?#]*)?")
_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM")
_SAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def take(route: Route, request: Request, store: Store, now: float, origin: str) -> Reply:
    """One of: a ticket for an upload, the upload by PUT, the older upload in one multipart request."""
    if route.form == "put":
        if not store.fill_upload(route.name, request.body):
            raise Refusal(404, "no such upload")
        return Reply(200, b"", "text/plain")
    if route.form == "binary":
        return _binary(request, store, now, origin)
    wanted = read_object(request.body)
    name, size = wanted.get("filename"), wanted.get("size")
    if not isinstance(name, str) or not name:
        raise Refusal(400, "invalid parameter filename: required")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_BYTES:
        raise Refusal(400, f"invalid parameter size: 0 to {MAX_BYTES} is expected")
    media_type = str(wanted.get("content_type") or "application/octet-stream")
    url = _open(name, media_type, store, now, origin)
    headers = {"Content-Type": media_type}
    return answer({"upload": {"method": "PUT", "url": url, "headers": headers}, "download_url": url})


def give(upload_id: str, store: Store) -> Reply:
    """The bytes of an upload."""
    found = store.upload(upload_id)
    if found is None:
        raise Refusal(404, "no such upload")
    return Reply(200, found[1], found[0] if found[0].startswith("image/") else "application/octet-stream")


def _open(name: str, media_type: str, store: Store, now: float, origin: str) -> str:
    upload_id = secrets.token_hex(16)
    store.open_upload(upload_id, media_type[:100], now)
    return f"{origin}/uploads/{upload_id}/{_SAFE.sub('_', name)[-80:]}"


def _binary(request: Request, store: Store, now: float, origin: str) -> Reply:
    name, media_type, data = _part(request)
    url = _open(name, media_type, store, now, origin)
    store.fill_upload(url.split("/")[4], data)
    kind = media_type.partition("/")[0]
    return answer({"type": kind, "download_url": url, "filename": name, "size": len(data)})


def _part(request: Request) -> tuple[str, str, bytes]:
    """File name, media type and bytes of the multipart field ``file``."""
    match = re.search(r'boundary="?([^";,]+)"?', request.headers.get("content-type", ""))
    if match is None:
        raise Refusal(400, "multipart/form-data with a field file is expected")
    for piece in request.body.split(b"--" + match.group(1).encode("latin-1")):
        head, gap, data = piece.partition(b"\r\n\r\n")
        text = head.decode("utf-8", "replace")
        if gap and re.search(r'\bname="?file"?', text):
            name = re.search(r'filename="([^"]*)"', text)
            kind = re.search(r"(?i)content-type:\s*([^\s;]+)", text)
            return (name.group(1) if name else "file") or "file", kind.group(1) if kind else "", data[:-2]
    raise Refusal(400, "multipart field file is missing")


# ---- images as inputs -------------------------------------------------------------------------


def image_bytes(image: str, store: Store) -> bytes | None:
    """The bytes of an input image; None for one on another host, which is never fetched.

    Raises:
        ValueError: it cannot be had, or it is no image.
    """
    match = _UPLOADED.fullmatch(image)
    if match:
        found = store.upload(match.group(1))
        if found is None:
            raise ValueError("the uploaded file is not there")
        return _image(found[1])
    if image.startswith(("http://", "https://")):
        return None
    if image.startswith("data:"):
        head, comma, data = image.partition(",")
        if not comma:
            raise ValueError("a data URI without data")
        return _image(_decoded(data) if head.endswith(";base64") else unquote_to_bytes(data))
    return _image(_decoded(image))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("neither a URL nor base64") from error


def _image(data: bytes) -> bytes:
    if data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return data
    raise ValueError("the bytes are no image")


def input_problem(values: dict[str, Any], store: Store) -> Fate | None:
    """The fate of a task whose input image cannot be used: code 1402 (documentation)."""
    for name in ("image", "mask_image"):
        if values.get(name):
            try:
                image_bytes(values[name], store)
            except ValueError as error:
                return Fate("failed", 1402, f"input {name} cannot be used: {error}")
    return None
