"""Names for images: the template, and what makes a name safe on Linux, macOS and Windows alike."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from flux_lora_cli.errors import UsageError
from flux_lora_cli.text import nearest, printable

FIELDS = ("preset", "job", "slug", "seed", "index", "fingerprint", "task", "ext", "date")
DEFAULT = "{slug}-{fingerprint}-{index}.{ext}"
#: For a task that neither the folder nor the user's ledger knows.
TASK_DEFAULT = "{task}-{index}.{ext}"

#: Hex digits of the fingerprint in a name.
FINGERPRINT_DIGITS = 12
#: Bytes of UTF-8 in one component. File systems take 255; the rest is room for a number that tells names apart.
MAX_COMPONENT = 200
#: Endings of files that hold images; an image is never given another.
IMAGE_ENDINGS = ("png", "jpg", "jpeg", "webp", "gif", "avif", "heic", "jxl", "bmp", "tiff", "bin")

_MAX_LITERAL = 80  # bytes of a template's fixed text within one component
_MAX_DEPTH = 8
_LONG = frozenset({"preset", "job", "slug"})  # only these can be of any length
_MIN_LONG = 16

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_SPEC = re.compile(r"([a-z_]+)(?::0?([1-9]))?")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
# Device names of Windows, with any extension. [Microsoft, "Naming Files, Paths, and Namespaces"]
_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³]|CONIN\$|CONOUT\$)\s*(?:\.|$)", re.IGNORECASE)
_IMAGE_ENDING = re.compile(rf"\.(?:{'|'.join(IMAGE_ENDINGS)})$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    width: int = 0


_Component = tuple["str | _Field", ...]


class Template:
    """A checked ``--filename``. Make one with ``parse``."""

    def __init__(self, text: str, components: tuple[_Component, ...]) -> None:
        self.text = text
        self._components = components

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that it uses."""
        return frozenset(part.name for parts in self._components for part in parts if isinstance(part, _Field))

    @classmethod
    def parse(cls, text: str, several_presets: bool = False) -> Template:
        """Check a template.

        Args:
            several_presets: whether job IDs may repeat, in different presets.

        Raises:
            UsageError: an unknown field, a place outside the folder, or a template that could give two images one name.
        """
        components = _components(text)
        if len(components) > _MAX_DEPTH:
            raise _wrong(text, f"it has more than {_MAX_DEPTH - 1} folders")
        template = cls(text, (*components[:-1], _with_extension(text, components[-1])))
        by_job = "job" in template.fields and (not several_presets or "preset" in template.fields)
        if not by_job and not template.fields & {"fingerprint", "task"}:
            also = " With several presets, {job} needs {preset}, too." if several_presets else ""
            raise _wrong(text, "it could give two images one name", f"Add {{fingerprint}}, {{task}} or {{job}}.{also}")
        if "index" not in template.fields:
            raise _wrong(
                text, "it could give two images of one task one name", "Add {index}: it counts a task's images."
            )
        return template

    def render(self, fields: Mapping[str, str | int | None], attempt: int = 1) -> str:
        """A relative path, with ``/`` between its components.

        Args:
            fields: a value for each field; None where there is none (``task`` then stands in for ``fingerprint``
                and ``job``). ``fingerprint`` is cut to its first 12 digits.
            attempt: 2 and up add that number to the name, for where the one before belongs to another file.
        """
        last = len(self._components) - 1
        return "/".join(
            _render(component, fields, attempt if number == last else 1, is_file=number == last)
            for number, component in enumerate(self._components)
        )


def safe_component(text: str, limit: int = MAX_COMPONENT) -> str:
    """``text`` as one component of a path: never empty, never special on any system.

    At most ``limit`` bytes of UTF-8; normalised to NFC, so that macOS and Linux agree.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join("-" if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c for c in text)
        text = unicodedata.normalize("NFC", text)
    # Cut first: what the cut leaves at the end may be a dot or a space.
    name = _shorten(_FORBIDDEN.sub("-", text), limit - 1).strip(" ").rstrip(". ")
    if name[:1] in (".", "-", "~"):
        name = "_" + name[1:]
    if not name:
        return "_"
    return "_" + name if _RESERVED.match(name) else name


def case_key(path: str) -> str:
    """Equal for paths that some file system takes for the same: case, and composed or decomposed accents."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _components(text: str) -> list[_Component]:
    if not text:
        raise _wrong(text, "it is empty")
    if text.startswith("/") or "\\" in text or text[1:2] == ":":
        raise _wrong(text, "it leads out of the output folder", "Write a relative path with / between folders.")
    components: list[list[str | _Field]] = [[]]
    position = 0
    for found in _FIELD.finditer(text):
        _add_literal(components, text[position : found.start()])
        position = found.end()
        if found[0] in ("{{", "}}"):
            _add_literal(components, found[0][0])
        elif found[1] is None:
            raise _wrong(text, f"there is a single {found[0]}", "Write {{ or }} for a brace that is meant.")
        else:
            components[-1].append(_field(text, found[1]))
    _add_literal(components, text[position:])
    for component in components:
        _check_component(text, component)
    return [tuple(component) for component in components]


def _check_component(text: str, component: list[str | _Field]) -> None:
    literal = "".join(part for part in component if isinstance(part, str))
    if not component or (literal in (".", "..") and len(component) == 1):
        raise _wrong(text, "it has an empty, . or .. folder")
    if len(literal.encode("utf-8", "replace")) > _MAX_LITERAL:
        raise _wrong(text, f"its fixed text is over {_MAX_LITERAL} bytes long")
    if len(component) > 2 * len(FIELDS):
        raise _wrong(text, "it has too many fields")


def _add_literal(components: list[list[str | _Field]], literal: str) -> None:
    first, *others = literal.split("/")
    if first:
        components[-1].append(first)
    components += [[other] if other else [] for other in others]


def _field(text: str, inner: str) -> _Field:
    spec = _SPEC.fullmatch(inner)
    name = spec[1] if spec else inner
    if name not in FIELDS:
        near = nearest(name, FIELDS)
        meant = f"Did you mean '{near}'? " if near else ""
        raise _wrong(text, f"there is no field {{{printable(inner)[:60]}}}", f"{meant}Fields: {', '.join(FIELDS)}.")
    width = int(spec[2]) if spec and spec[2] else 0
    if width and name not in ("index", "seed"):
        raise _wrong(text, f"{{{inner}}}: only index and seed can be padded")
    return _Field(name, width)


def _with_extension(text: str, last: _Component) -> _Component:
    """The last component, ending in ``.{ext}``: the extension follows the content."""
    if len(last) > 1 and last[-1] == _Field("ext") and isinstance(last[-2], str) and last[-2].endswith("."):
        return last
    if isinstance(last[-1], str) and (ending := _IMAGE_ENDING.search(last[-1])):
        raise _wrong(text, f"it ends in {ending[0]}, but the extension follows the content", "End it in .{ext}.")
    return (*last, ".", _Field("ext"))


def _render(component: _Component, fields: Mapping[str, str | int | None], attempt: int, *, is_file: bool) -> str:
    suffix = f"-{attempt}" if attempt > 1 else ""
    texts = [part if isinstance(part, str) else _value(part, fields) for part in component]
    is_long = [isinstance(part, _Field) and part.name in _LONG for part in component]
    fixed = sum(len(text.encode()) for text, long in zip(texts, is_long, strict=True) if not long)
    room = max((MAX_COMPONENT - 8 - len(suffix) - fixed) // max(sum(is_long), 1), _MIN_LONG)
    texts = [_shorten(text, room) if long else text for text, long in zip(texts, is_long, strict=True)]
    if not is_file:
        return safe_component("".join(texts))
    # The ending is put on last, so that no cut and no clean-up can take it off.
    extension = "." + texts[-1]
    stem = "".join(texts[:-1])[:-1]
    return safe_component(stem + suffix, MAX_COMPONENT - len(extension)) + extension


def _value(part: _Field, fields: Mapping[str, str | int | None]) -> str:
    value = fields.get(part.name)
    if value is None and part.name in ("fingerprint", "job"):
        value = fields.get("task")
    elif part.name == "fingerprint" and isinstance(value, str):
        value = value[:FINGERPRINT_DIGITS]
    if value is None or value == "":
        return "none"
    if isinstance(value, int):
        return f"{value:0{part.width}d}" if part.width else str(value)
    text = _FORBIDDEN.sub("-", unicodedata.normalize("NFC", value))
    return text.encode("utf-8", "replace").decode().strip(" .")


def _shorten(text: str, limit: int) -> str:
    """At most ``limit`` bytes of UTF-8; what is cut ends in a hash of the whole, and so stays distinct."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    tag = "-" + hashlib.sha256(data).hexdigest()[:8]
    return data[: limit - len(tag)].decode("utf-8", "ignore") + tag


def _wrong(text: str, why: str, hint: str = "") -> UsageError:
    return UsageError(f"--filename {printable(text)[:200]!r}: {why}", hint)
