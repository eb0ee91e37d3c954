"""The request inside PNG, JPEG and WebP files: copies of a folder's images that carry it, and reading it back.

XMP holds the whole request as JSON, and says in IPTC's words that a model made the image. What web UIs read, the
``parameters`` text as AUTOMATIC1111 writes it, lies in a PNG's text chunk, in a JPEG's or WebP's EXIF UserComment.
No pixel is decoded or encoded; everything else that a file holds is kept. The folder itself is never altered.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, unescape

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import BadImage, FolderError, ImageError
from flux_lora_cli.folder.files import explained, read_regular_file
from flux_lora_cli.folder.verify import input_files
from flux_lora_cli.gallery.pictures import (
    OTHER_FOLDER,
    Picture,
    check_apart,
    is_image,
    no_job,
    opened,
    place_for,
    read_pictures,
    shown,
    write_file,
)
from flux_lora_cli.text import mask_secrets, masked

#: Larger files are not read for a request. Bytes; the tool itself saves none above 100 MB.
READ_LIMIT = 128 << 20
#: IPTC NewsCodes: "created by an algorithm trained on sampled content".
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
#: XMP name space of the request. A name, not a page.
_NAMESPACE = b"urn:flux-lora:request:1"
_SOURCE = f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>".encode()
#: In the order in which A1111 writes them.
_TEXT_KEYS = {
    "num_inference_steps": "Steps", "guidance_scale": "CFG scale", "seed": "Seed", "size": "Size",
    "strength": "Denoising strength",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of an image, new or there already, byte for byte; with a ``problem`` there is none."""

    path: Path
    file: str
    new: bool = False
    problem: str = ""


def embed_images(folder: Path, target: Path, *, only: Collection[str] | None = None) -> Iterator[Copy]:
    """Copy each saved image of ``folder`` into ``target`` under its own name, with its request inside.

    Args:
        only: job IDs (or aliases); None: all.

    Raises:
        NotFoundError: there is no such folder, or it has no job of an ID in ``only``.
        UsageError: ``target`` is the folder, or lies in it.
        FolderError: ``folder`` cannot be read; ``target`` cannot be written, or holds another file of that name.
    """
    check_apart(target, folder)
    pictures = read_pictures(folder)
    for picture in pictures if only is None else _chosen(pictures, only, folder):
        file = picture.output.file
        if file is None:
            continue
        try:
            filled = _filled(picture)
        except ImageError as error:
            yield Copy(target / file, file, problem=error.message)
            continue
        for name in input_files(picture.record):  # so that the copies can be replayed by themselves
            if is_image(folder, name) and not (target / name).exists():
                _write_new(target, name, read_image(folder / name, follow=False))
        yield Copy(target / file, file, new=_write_new(target, file, filled))


def _chosen(pictures: list[Picture], only: Collection[str], folder: Path) -> list[Picture]:
    names = [{p.record.name, *p.record.aliases} for p in pictures]
    known = set[str]().union(*names)
    if unknown := [name for name in only if name not in known]:
        raise no_job(folder, unknown[0], known)
    return [p for p, own in zip(pictures, names, strict=True) if not own.isdisjoint(only)]


def _filled(picture: Picture) -> bytes:
    if picture.path is None:
        raise ImageError("the file is gone")
    data = read_image(picture.path, follow=False)
    if hashlib.sha256(data).hexdigest() != picture.output.sha256:
        raise ImageError("the file is not the one that the manifest describes")
    return insert(data, request_json(picture), parameters_text(picture))


def read_image(path: Path, *, follow: bool = True) -> bytes:
    """The bytes of an image. Raises BadImage: it is larger than READ_LIMIT, or cannot be read."""
    try:
        return read_regular_file(path, READ_LIMIT, follow=follow)
    except OSError as error:
        raise BadImage(f"{path} cannot be read: {error.strerror or error}") from error


def _write_new(target: Path, relative: str, data: bytes) -> bool:
    """Write a file under a name that is free; False where these very bytes stand there."""
    path = place_for(target, relative)
    if not os.path.lexists(path):
        write_file(path, data)
        return True
    with explained(path):
        if path.is_symlink() or not path.is_file() or path.read_bytes() != data:
            raise FolderError(f"{path} already exists and differs; nothing is ever overwritten", OTHER_FOLDER)
    return False


# ---- what is put in -----------------------------------------------------------------------


def request_json(picture: Picture) -> str:
    """The request of a picture and where it came from; secrets masked."""
    record, output = picture.record, picture.output
    document = {
        "version": 1, "tool": {"name": "flux-lora", "version": __version__}, "model": record.model,
        "api_version": record.api_version, "input": masked(record.input),
        "job": {"id": record.id, "preset": record.preset, "fingerprint": record.fingerprint},
        "task": {"id": record.task_id, "created_at": record.task_created_at},
        "output": {"index": output.index, "sha256": output.sha256},
        "service": masked(picture.manifest.service), "sandbox": picture.manifest.sandbox,
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def parameters_text(picture: Picture) -> str:
    """The ``parameters`` text: the prompt with its LoRAs, then one line of settings; secrets masked."""
    request = picture.input
    loras = "".join(f" <lora:{mask_secrets(path)}:{shown(scale)}>" for path, scale in picture.loras)
    known = {name: shown(request[key]).replace("*", "x") for key, name in _TEXT_KEYS.items() if key in request}
    known |= {"Model": (picture.record.model or "").rpartition("/")[2], "Version": f"flux-lora {__version__}"}
    settings = ", ".join(f"{name}: {value}" for name, value in known.items())
    return f"{mask_secrets(str(request.get('prompt', '')))}{loras}\n{settings}".encode("utf-8", "replace").decode()


def insert(data: bytes, request: str, parameters: str) -> bytes:
    """The file with the request in it; what it held of that kind is added to, or else replaced.

    Raises:
        BadImage: the file is none of the three kinds, or is damaged.
        ImageError: the request does not fit into a file of its kind.
    """
    try:
        with opened(io.BytesIO(data)) as image:
            packet = _xmp(request, image.info.get("xmp", b""))
            if image.format == "PNG":
                return _into_png(data, packet, parameters)
            exif = _exif(image.getexif(), parameters)
            return _into_jpeg(data, packet, exif) if image.format == "JPEG" else _into_webp(data, packet, exif, image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("only PNG, JPEG and WebP files can hold a request, and this is none") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them into
        raise BadImage(f"the image cannot be read: {error}") from error


def read_request(data: bytes) -> dict[str, Any] | None:
    """The request that a file carries; None where it carries none that can be read."""
    try:
        with opened(io.BytesIO(data)) as image:
            packet = image.info.get("xmp", b"").decode("utf-8", "replace")
        # Read as text, so that no XML trick has a parser to work on.
        match = re.search(r"<fluxlora:request>([^<]*)</fluxlora:request>", packet)
        request = json.loads(unescape(match[1])) if match else None
    except Exception:  # as above
        return None
    match request:
        case {"version": 1, "model": str(), "input": dict()}:
            return request
    return None


def _xmp(request: str, existing: bytes) -> bytes:
    """An XMP packet with source type and request; ``existing`` is added to, where that can be done."""
    # Half surrogates, which UTF-8 cannot hold, become JSON's own escapes.
    text = escape(request).encode("utf-8", "backslashreplace")
    source = b"" if b"DigitalSourceType" in existing else _SOURCE
    description = (
        b'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        b'xmlns:fluxlora="%b">%b<fluxlora:request>%b</fluxlora:request></rdf:Description></rdf:RDF>'
    ) % (_NAMESPACE, source, text)
    if existing.count(b"</rdf:RDF>") == 1 and _NAMESPACE not in existing:
        return existing.replace(b"</rdf:RDF>", description)
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%b</x:xmpmeta><?xpacket end="w"?>'
    ) % description


def _exif(exif: Image.Exif, text: str) -> bytes:
    """A TIFF block: what there was, and ``text`` as UserComment (UTF-16 in the block's byte order)."""
    order, codec = ("<", "utf-16-le") if exif.endian == "<" else (">", "utf-16-be")
    exif.endian = order
    # A JPEG segment holds 64 kB; what is cut here lies whole in the JSON.
    comment = b"UNICODE\0" + (text if len(text) < 15_000 else text[:15_000] + " …").encode(codec)
    exif[0x0131] = f"flux-lora {__version__}"  # Software
    exif[0x8769] = {**exif.get_ifd(0x8769), 0x9286: comment}  # ExifIFD, UserComment
    # The comment's type is UNDEFINED (7); Pillow writes any bytes as BYTE (1), of the same size.
    written, meant = (struct.pack(f"{order}HH", 0x9286, kind) for kind in (1, 7))
    return bytes(exif.tobytes()).removeprefix(b"Exif\0\0").replace(written, meant, 1)


def _into_png(data: bytes, xmp: bytes, parameters: str) -> bytes:
    info, added = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("parameters", parameters)
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    for kind, body, *_ in info.chunks:
        PngImagePlugin.putchunk(added, kind, body)
    replaced = re.compile(rb"....[tzi][ET]Xt(parameters|XML:com\.adobe\.xmp)\0", re.DOTALL)
    kept, at = [], 33  # after signature and header
    while at < len(data):
        chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4])]
        kept += [] if replaced.match(chunk) else [chunk]
        at += len(chunk)
    return b"".join([data[:33], added.getvalue(), *kept])


def _into_jpeg(data: bytes, xmp: bytes, exif: bytes) -> bytes:
    marks = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")
    segments, at = [], 2
    for body in (marks[0] + exif, marks[1] + xmp):
        if len(body) > 65_533:  # the length field counts itself, and has 16 bits
            raise ImageError("the request is too long for a JPEG file", "No model reads a prompt of that length.")
        segments.append(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    while data[at + 1] != 0xDA:  # start of scan: from here on there is nothing but the image
        segment = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
        segments += [] if segment[1] == 0xE1 and segment[4:].startswith(marks) else [segment]
        at += len(segment)
    return b"".join([data[:2], *segments, data[at:]])


def _into_webp(data: bytes, xmp: bytes, exif: bytes, image: Image.Image) -> bytes:
    # The extended header of a simple file: flags and, less one, width and height in 24 bits.
    flags = 0x10 if image.mode == "RGBA" else 0
    header = struct.pack("<I", flags) + b"".join((side - 1).to_bytes(3, "little") for side in image.size)
    kept, at = [], 12
    while at < len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        payload = data[at + 8 : at + 8 + length]
        if kind == b"VP8X":
            header = payload
        elif kind not in (b"EXIF", b"XMP "):
            kept.append(_riff(kind, payload))
        at += 8 + length + length % 2
    header = bytes([header[0] | 0x08 | 0x04]) + header[1:]  # there is EXIF, there is XMP
    chunks = [_riff(b"VP8X", header), *kept, _riff(b"EXIF", exif), _riff(b"XMP ", xmp)]
    return _riff(b"RIFF", b"WEBP" + b"".join(chunks))


def _riff(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
