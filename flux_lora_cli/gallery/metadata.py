"""What an embedded image says of its making, in the forms that other programs read.

Four forms: the ``parameters`` text that AUTOMATIC1111's web UI writes and most tools since
read; the request as JSON, which loses nothing; XMP with IPTC's digital source type; EXIF.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, unescape

from flux_lora_cli._version import __version__
from flux_lora_cli.gallery.facets import loras_of, number
from flux_lora_cli.gallery.run import Picture, Run, RunJob

if TYPE_CHECKING:
    from PIL import Image

#: Keyword of the PNG text chunk, and the version of the JSON in it.
KEYWORD = "flux-lora"
VERSION = 1
#: IPTC NewsCodes: "created by an algorithm trained on sampled content".
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
#: XMP name space of the request. A name, not a page.
NAMESPACE = "urn:flux-lora:request:1"
IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
#: The request longer than this lies compressed in XMP: a JPEG segment holds 65,533 bytes.
PLAIN_LIMIT = 40_000
#: No request is longer than this, compressed or not. Bytes; against bombs.
REQUEST_LIMIT = 4 << 20

# Short model names and keys of the parameters text, in the order in which A1111 writes them.
_TEXT_KEYS = (
    ("num_inference_steps", "Steps"),
    ("guidance_scale", "CFG scale"),
    ("seed", "Seed"),
    ("size", "Size"),
    ("strength", "Denoising strength"),
)


def request_record(run: Run, job: RunJob, picture: Picture) -> dict[str, Any]:
    """The request of a picture and where it came from, as it is embedded and read back."""
    return {
        "version": VERSION,
        "tool": {"name": "flux-lora", "version": __version__},
        "model": job.model,
        "input": dict(job.input),
        "job": {"id": job.id, "preset": job.preset, "fingerprint": job.fingerprint},
        "task": {"id": job.task, "created_at": job.created_at},
        "output": {"index": picture.index, "sha256": picture.sha256},
        "service": run.service,
        "sandbox": run.sandbox,
    }


def record_json(record: Mapping[str, Any]) -> str:
    """The record in ASCII, so that no container's text encoding can change it."""
    return json.dumps(record, ensure_ascii=True, separators=(",", ":"))


def parse_record(text: str) -> dict[str, Any] | None:
    """The record that ``record_json`` wrote; None where it is none, or of a later version."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        return None
    if not isinstance(record.get("model"), str) or not isinstance(record.get("input"), dict):
        return None
    return record


def parameters_text(job: RunJob) -> str:
    """The ``parameters`` text: the prompt with its LoRAs, then one line of settings."""
    prompt = str(job.input.get("prompt", ""))
    loras = "".join(f" <lora:{path}:{number(scale)}>" for path, scale in loras_of(job))
    settings = []
    for key, name in _TEXT_KEYS:
        value = job.input.get(key)
        if value is not None and not isinstance(value, (dict, list)):
            text = number(value).replace("*", "x") if key == "size" else number(value)
            settings.append(f"{name}: {_quoted(text)}")
    settings.append(f"Model: {_quoted(job.model.rsplit('/', 1)[-1])}")
    settings.append(f"Version: flux-lora {__version__}")
    return f"{prompt}{loras}\n{', '.join(settings)}".encode("utf-8", "replace").decode()


def _quoted(value: str) -> str:
    """As A1111 does: JSON where a value holds what separates values."""
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


# ---- XMP ----------------------------------------------------------------------------------

_END = b"</rdf:RDF>"


def xmp_packet(record: str, existing: bytes = b"") -> bytes:
    """An XMP packet with the source type and the record; ``existing`` is kept and added to.

    An existing packet that cannot be added to is replaced.
    """
    if existing.count(_END) == 1 and NAMESPACE.encode() not in existing:
        with_type = b"DigitalSourceType" not in existing
        return existing.replace(_END, _description(record, with_type).encode() + _END)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"{_description(record, True)}</rdf:RDF></x:xmpmeta>"
        '<?xpacket end="w"?>'
    ).encode()


def _description(record: str, with_type: bool) -> str:
    if len(record) > PLAIN_LIMIT:
        name, text = "packed", base64.b64encode(zlib.compress(record.encode(), 9)).decode()
    else:
        name, text = "request", escape(record)
    element = "Iptc4xmpExt:DigitalSourceType"
    source = f"<{element}>{SOURCE_TYPE}</{element}>" if with_type else ""
    return (
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{IPTC_EXT}" xmlns:fluxlora="{NAMESPACE}">'
        f"{source}<fluxlora:{name}>{text}</fluxlora:{name}></rdf:Description>"
    )


_FOUND = re.compile(r"<fluxlora:(request|packed)>([^<]*)</fluxlora:\1>")


def record_from_xmp(packet: bytes) -> dict[str, Any] | None:
    """The record in an XMP packet; read as text, so that no XML trick has a parser to work on."""
    found = _FOUND.search(packet.decode("utf-8", "replace"))
    if not found or NAMESPACE.encode() not in packet:
        return None
    kind, text = found.groups()
    if kind == "request":
        return parse_record(unescape(text))
    try:
        unpacked = inflate(base64.b64decode(text, validate=True))
    except ValueError:
        return None
    return None if unpacked is None else parse_record(unpacked.decode("utf-8", "replace"))


def inflate(data: bytes) -> bytes | None:
    """Decompress at most ``REQUEST_LIMIT`` bytes; None for more, or for what is not compressed."""
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data, REQUEST_LIMIT)
    except zlib.error:
        return None
    return plain if unpacker.eof else None


# ---- EXIF ---------------------------------------------------------------------------------


def exif_block(text: str, existing: bytes = b"") -> bytes:
    """A TIFF block with ``text`` as UserComment, without the ``Exif`` header; ``existing`` is added to.

    The comment is UTF-16 in the block's byte order, big-endian in a new one, as piexif writes it.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on what other programs wrote
        try:
            block = _with_comment(Image.Exif(), text, existing)
        except Exception:  # Pillow's readers raise whatever a damaged block leads them into
            block = _with_comment(Image.Exif(), text, b"")
    return _typed(block.removeprefix(b"Exif\0\0"))


def _with_comment(exif: Image.Exif, text: str, existing: bytes) -> bytes:
    exif.endian = ">"
    if existing:
        exif.load(existing if existing.startswith(b"Exif") else b"Exif\0\0" + existing)
    order = "utf-16-be" if exif.endian == ">" else "utf-16-le"
    exif[0x0131] = f"flux-lora {__version__}"  # Software
    comment = b"UNICODE\0" + text.encode(order, "replace")
    # ExifIFD and UserComment; set as a whole, for Pillow 10 does not write what is added to the inner one.
    exif[0x8769] = {**exif.get_ifd(0x8769), 0x9286: comment}
    return bytes(exif.tobytes())


#: ExifIFD tags of type UNDEFINED: versions, maker note, comment, file source, scene type.
_UNDEFINED_TAGS = frozenset({0x9000, 0x9101, 0x927C, 0x9286, 0xA000, 0xA300, 0xA301})


def _typed(block: bytes) -> bytes:
    """The block with those tags marked UNDEFINED (7): Pillow writes any bytes as BYTE (1), of the same size."""
    out = bytearray(block)
    order = "<" if block[:2] == b"II" else ">"

    def entries(at: int) -> Iterator[tuple[int, int]]:
        (count,) = struct.unpack_from(order + "H", out, at)
        for place in range(at + 2, at + 2 + 12 * count, 12):
            yield struct.unpack_from(order + "H", out, place)[0], place

    (first,) = struct.unpack_from(order + "I", out, 4)
    for tag, place in entries(first):
        if tag != 0x8769:
            continue
        for inner, at in entries(struct.unpack_from(order + "I", out, place + 8)[0]):
            if inner in _UNDEFINED_TAGS and struct.unpack_from(order + "H", out, at + 2)[0] == 1:
                struct.pack_into(order + "H", out, at + 2, 7)
    return bytes(out)
