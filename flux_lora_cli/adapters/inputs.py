"""Local input images on their way to the service."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.errors import NotFoundError

if TYPE_CHECKING:
    from flux_lora_cli.adapters.client import Client

#: Bytes up to which a local image goes inside the request; larger ones are uploaded. [CONTRACT: money]
INLINE_BYTES = 1_000_000


def image_reference(client: Client, path: str, media_type: str) -> str:
    """What a request's ``image`` says for a local file: a data URI, or the URL of an upload.

    Raises:
        NotFoundError: the file cannot be read any more.
        ServiceError, AuthError: of the upload.
    """
    file = Path(path)
    try:
        data = file.read_bytes() if file.stat().st_size <= INLINE_BYTES else None
    except OSError as error:
        raise NotFoundError(f"cannot read the input image {path}: {error.strerror}") from None
    if data is None:
        return client.upload(file, media_type)
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
