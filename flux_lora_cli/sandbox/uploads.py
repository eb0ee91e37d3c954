"""Input images: uploads taken and given back, and what is wrong with an image that cannot be used."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from .catalogue import body
from .listener import Answer, Refusal, Request
from .store import Fate, Store

if TYPE_CHECKING:
    from .api import Api

MAX_BYTES: Final = 50_000_000
"""Limit of one upload; the service's own is 200 MB (official SDK)."""
_UPLOADED: Final = re.compile(r"https?://[^/]+/uploads/([0-9a-f]{32})(?:/[^?#]*)?")
_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")


def ticket(api: Api, request: Request) -> Answer:
    """Where to PUT the bytes."""
    wanted = body("upload", request.json())
    media_type = wanted["content_type"]
    url = _keep(api, request, wanted["filename"], media_type, None, wanted["size"])
    headers = {"Content-Type": media_type}
    return Answer.data({"upload": {"method": "PUT", "url": url, "headers": headers}, "download_url": url})


def put(api: Api, request: Request, file_id: str) -> Answer:
    """The bytes for a ticket, of the size that it names."""
    known = api.store.file(file_id)
    if known is None:
        raise Refusal(404, "no such upload")
    if len(request.body) != known[1]:
        raise Refusal(400, f"{len(request.body)} bytes, where the ticket says {known[1]}")
    with api.store.writing():
        api.store.keep_file(file_id, known[0], request.body, known[1], api.clock())
    return Answer(media_type="text/plain")


def binary(api: Api, request: Request) -> Answer:
    """The older upload: one multipart request with a field ``file``."""
    head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n".encode("latin-1", "replace")
    for part in message_from_bytes(head + request.body, policy=policy.HTTP).iter_parts():
        if part.get_param("name", header="content-disposition") == "file":
            data, name = part.get_payload(decode=True), part.get_filename() or "file"
            url = _keep(api, request, name, part.get_content_type(), data, len(data))
            kind = part.get_content_maintype()
            return Answer.data({"type": kind, "download_url": url, "filename": name, "size": len(data)})
    raise Refusal(400, "multipart/form-data with a field file is expected")


def give(api: Api, request: Request, file_id: str) -> Answer:
    """The bytes of an upload."""
    known = api.store.file(file_id)
    if known is None or known[2] is None:
        raise Refusal(404, "no such upload")
    return Answer(200, known[2], known[0] if known[0].startswith("image/") else "application/octet-stream")


def _keep(api: Api, request: Request, name: str, media_type: str, data: Any, size: int) -> str:
    """Keep an upload, or a place for one; returns its URL."""
    file_id = secrets.token_hex(16)
    with api.store.writing():
        api.store.keep_file(
            file_id, re.sub(r"[^\w/+.-]", "", media_type[:100], flags=re.ASCII), data, size, api.clock()
        )
    return f"{request.origin}/uploads/{file_id}/{re.sub('[^A-Za-z0-9._-]+', '_', name)[-80:]}"


def input_images(values: Mapping[str, Any]) -> list[str]:
    """Every image that a request starts from."""
    given = [values.get("image"), values.get("mask_image"), *(values.get("images") or ())]
    return [image for image in given if image]


def image_bytes(image: str, store: Store) -> bytes | None:
    """The bytes of an input image; None for one on another host, which is never fetched.

    Raises:
        ValueError: it cannot be had, or is not an image.
    """
    if match := _UPLOADED.fullmatch(image):
        data = (store.file(match[1]) or (None,))[-1]
    elif image.startswith(("http://", "https://")):
        return None
    elif image.startswith("data:") and not image.partition(",")[0].endswith(";base64"):
        data = unquote_to_bytes(image.partition(",")[2])
    else:
        data = base64.b64decode(image.rpartition(",")[2], validate=True)
    if data is None or not data.startswith(_MAGIC):
        raise ValueError("its bytes are not there, or are not an image's")
    return bytes(data)


def input_fate(values: Mapping[str, Any], store: Store) -> Fate:
    """How a task with these inputs ends: one whose image cannot be used fails with code 1402 (documentation)."""
    try:
        for image in input_images(values):
            image_bytes(image, store)
    except ValueError as error:
        return Fate("failed", 1402, f"an input image cannot be used: {error}")
    return Fate()
