"""Names for images: the template, and what makes a name safe on Linux, macOS and Windows alike."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping

from flux_lora_cli.errors import UsageError
from flux_lora_cli.folder.imagefile import IMAGE_ENDINGS
from flux_lora_cli.text import nearest, printable, quoted

FIELDS = ("preset", "job", "slug", "seed", "index", "fingerprint", "task", "ext", "date")
DEFAULT = "{slug}-{fingerprint}-{index}.{ext}"
#: For a task that neither the folder nor the user's ledger knows.
TASK_DEFAULT = "{task}-{index}.{ext}"

#: Hex digits of the fingerprint in a name.
FINGERPRINT_DIGITS = 12
#: Bytes of UTF-8 in one component. File systems take 255; the rest is room for a number that tells names apart.
MAX_COMPONENT = 200
_MAX_VALUE = 120  # bytes of one field's value

#: A field, a brace that is meant, or one that is not.
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
# Device names of Windows, with any extension. [Microsoft, "Naming Files, Paths, and Namespaces"]
_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³]|CONIN\$|CONOUT\$)\s*(?:\.|$)", re.IGNORECASE)


class Template:
    """A ``--filename``.

    Args:
        several_presets: whether job IDs may repeat, in different presets.

    Raises UsageError: an unknown field, a place outside the folder, or it could give two images one name.
    """

    def __init__(self, text: str, several_presets: bool = False) -> None:
        self._components = text.removesuffix(".{ext}").split("/")  # every name gets that ending
        fields = set()
        for brace in _BRACES.finditer(text):
            if brace[0] in ("{", "}"):
                raise _wrong(text, "there is a single brace", "Write {{ or }} for a brace that is meant.")
            if (name := brace[1]) is None:
                continue
            if name not in FIELDS:
                near = nearest(name, FIELDS)
                meant = f"Did you mean '{near}'? " if near else ""
                hint = f"{meant}Fields: {', '.join(FIELDS)}."
                raise _wrong(text, f"there is no field {{{printable(name)[:60]}}}", hint)
            fields.add(name)
        ending = text.rpartition(".")[2]
        if ending.lower() in IMAGE_ENDINGS:
            raise _wrong(text, f"it ends in .{ending}, but the extension follows the content", "End it in .{ext}.")
        if "\\" in text or text[1:2] == ":" or not {"", ".", ".."}.isdisjoint(self._components):
            hint = "Write a path like {preset}/{job}-{index}."
            raise _wrong(text, "it is empty, or leads out of the output folder", hint)
        by_job = "job" in fields and (not several_presets or "preset" in fields)
        if "index" not in fields or not (by_job or fields & {"fingerprint", "task"}):
            also = "; with several presets, {job} needs {preset}, too" if several_presets else ""
            hint = f"Write {{index}}, which counts a task's images, and {{fingerprint}}, {{task}} or {{job}}{also}."
            raise _wrong(text, "it could give two images one name", hint)

    def render(self, fields: Mapping[str, str | int | None]) -> str:
        """A relative path, with ``/`` between its components.

        Args:
            fields: a value for each field; None where there is none (``task`` then stands in for ``fingerprint``
                and ``job``). ``fingerprint`` is cut to its first 12 digits.
        """
        task = fields.get("task")
        fingerprint = str(fields.get("fingerprint") or "")[:FINGERPRINT_DIGITS]
        values = {**fields, "job": fields.get("job") or task, "fingerprint": fingerprint or task}
        texts = {
            name: "none" if value in (None, "") else _shorten(str(value), _MAX_VALUE).strip(" .")
            for name, value in values.items()
        }
        *folders, stem = [component.format_map(texts) for component in self._components]
        # The ending is put on last, so that no cut and no clean-up can take it off.
        ending = f".{texts['ext']}"
        return "/".join([*map(safe_component, folders), safe_component(stem, MAX_COMPONENT - len(ending)) + ending])


def _wrong(text: str, why: str, hint: str) -> UsageError:
    return UsageError(f"--filename {quoted(text, 200)}: {why}", hint)


def safe_component(text: str, limit: int = MAX_COMPONENT) -> str:
    """``text`` as one component of a path: never empty, never special on any system.

    At most ``limit`` bytes of UTF-8; normalised to NFC, so that macOS and Linux agree.
    """
    text = "".join("-" if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c for c in text)
    text = _FORBIDDEN.sub("-", unicodedata.normalize("NFC", text))
    # Cut first: what the cut leaves at the end may be a dot or a space.
    name = _shorten(text, limit - 1).strip(" ").rstrip(". ")
    if name[:1] in (".", "-", "~"):
        name = "_" + name[1:]
    if not name or _RESERVED.match(name):
        return "_" + name
    return name


def case_key(path: str) -> str:
    """Equal for paths that some file system takes for the same: case, and composed or decomposed accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _shorten(text: str, limit: int) -> str:
    """At most ``limit`` bytes of UTF-8; what is cut ends in a hash of the whole, and so stays distinct."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    tag = "-" + hashlib.sha256(data).hexdigest()[:8]
    return data[: limit - len(tag)].decode("utf-8", "ignore") + tag
