"""Nodes into typed values, each problem at its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..job import LocalImage
from ..loras import lora_path_problem, lora_scale_problem, parse_lora
from ..parameter_checks import check_value, is_remote_image
from ..parameters import Model, Parameter, as_parameter_value, table, unknown_key
from ..suggest import kind, nearest, show
from .nodes import CELL, Entry, Map, Node, Scalar, Seq, plain
from .problems import FileRefused, Problems
from .scalars import DATE, HUGE, OTHER_BASE, why_not_number, why_not_text

#: What ``read`` methods return for a value that is wrong; the problem is noted.
BAD: Any = object()

_NOTHING = "there is nothing here (null)"
_TEXTS = frozenset({"string", "size", "image", "url"})
_NUMBERS = frozenset({"integer", "number"})

#: What a preset may not decide, for it may come from a stranger; and who decides instead.
_NOT_IN_PRESETS = {
    **dict.fromkeys(("base_url", "host", "url", "service", "endpoint", "api_url"), "--base-url"),
    **dict.fromkeys(("api_key", "key", "token", "api_key_file", "authorization"), "WAVESPEED_API_KEY"),
    **dict.fromkeys(("output", "output_dir", "folder", "out", "dir"), "--output"),
    **dict.fromkeys(("filename", "filename_template"), "--filename"),
    "max_jobs": "--max-jobs",
    "max_cost": "--max-cost",
    "budget": "--max-cost",
    "price": "--price",
    "rate": "--rate",
    "concurrency": "--concurrency",
    "timeout": "--timeout",
    "task_timeout": "--task-timeout",
    "poll_interval": "--poll-interval",
    "allow_path": "--allow-path",
    "allow_custom_host": "--allow-custom-host",
    "api_version": "--api-version",
}


class Origin:
    """A file whose nodes are read: its name in messages, and how it finds its images."""

    __slots__ = ("file", "image", "problems")

    def __init__(self, file: str, problems: Problems, image: Callable[[str], LocalImage]) -> None:
        self.file = file
        self.problems = problems
        self.image = image

    def bad(self, node: Node, key: str, message: str) -> Any:
        """Note a problem at a value; BAD."""
        self.problems.add(self.file, node.line, node.column, key, message)
        return BAD

    def bad_key(self, entry: Entry, key: str, message: str) -> Any:
        """Note a problem at a key; BAD."""
        self.problems.add(self.file, entry[0], entry[1], key, message)
        return BAD


def unknown(origin: Origin, entry: Entry, name: str, prefix: str, known: Any) -> None:
    """Note a key that nothing knows, with the nearest name, or who decides what it means."""
    path = f"{prefix}{name[:80]}"
    option = _NOT_IN_PRESETS.get(name.lower().replace("-", "_"))
    if option:
        why = f"a preset cannot set this: it may come from a stranger; use {option}"
        origin.bad_key(entry, path, why)
        return
    near = nearest(name, known)
    message = "unknown key" + (f'; did you mean "{near}"?' if near else "; known: " + ", ".join(known))
    origin.bad_key(entry, path, message)


def text_of(origin: Origin, node: Node, key: str) -> Any:
    """A text, or BAD."""
    if not isinstance(node, Scalar):
        return origin.bad(node, key, f"{show(plain(node))} is not allowed; allowed: text")
    if not isinstance(node.value, str) or node.trap == DATE or node.trap == HUGE:
        return origin.bad(node, key, f"{why_not_text(node.value, node.text, node.trap)} (allowed: text)")
    return node.value


def whole_number(origin: Origin, node: Node, key: str, low: int, high: int) -> Any:
    """A whole number in a range, or BAD."""
    allowed = f"allowed: a whole number from {low} to {high}"
    value: Any = node.value if isinstance(node, Scalar) else None
    if isinstance(node, Scalar) and node.trap == CELL:
        value, problem = as_parameter_value("seed", node.text)
        if problem is not None:
            return origin.bad(node, key, f"{show(node.text)} is text; {allowed}")
    elif isinstance(node, Scalar) and node.trap and node.trap != OTHER_BASE:
        return origin.bad(node, key, f"{why_not_number(value, node.text, node.trap)}; {allowed}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        shown = plain(node)
        if shown is None:
            return origin.bad(node, key, f"{_NOTHING}; {allowed}")
        return origin.bad(node, key, f"{show(shown)} is {_kind_or_not(shown)}; {allowed}")
    if not low <= value <= high:
        return origin.bad(node, key, f"{show(value)} is out of range; {allowed}")
    return value


def _kind_or_not(value: Any) -> str:
    noun = kind(value)
    return "not allowed here" if noun == show(value) or isinstance(value, float) else noun


def boolean(origin: Origin, node: Node, key: str) -> Any:
    """True or false, or BAD."""
    if isinstance(node, Scalar):
        if isinstance(node.value, bool):
            return node.value
        if node.trap == CELL and node.text.strip().lower() in ("true", "yes", "false", "no"):
            return node.text.strip().lower() in ("true", "yes")
    shown = plain(node)
    why = _NOTHING if shown is None else f"{show(shown)} is {_kind_or_not(shown)}"
    return origin.bad(node, key, f"{why}; allowed: true or false")


class ParameterReader:
    """Reads request parameters by the table of one model."""

    def __init__(self, model: Model | None, api_version: str) -> None:
        self.model = model
        self.api_version = api_version
        self.rows: Mapping[str, Parameter] = table(model, api_version)

    def read(self, origin: Origin, name: str, entry: Entry, prefix: str) -> Any:
        """The typed value of a parameter that the table knows, or BAD; a local image as LocalImage."""
        return self.value(origin, self.rows[name], entry[2], prefix + name)

    def unknown(self, origin: Origin, entry: Entry, name: str, prefix: str, others: Any = ()) -> Any:
        """A key outside the table: BAD, or its plain value where the model is unknown."""
        if self.model is None:
            return plain(entry[2])
        if name in _OTHER_VERSION_NAMES:
            problem = unknown_key(name, self.rows, self.api_version)
            return origin.bad_key(entry, prefix + name, problem.message)
        unknown(origin, entry, name, prefix, [*self.rows, *others])
        return BAD

    def value(self, origin: Origin, row: Parameter, node: Node, key: str) -> Any:
        """The typed value, or BAD."""
        if row.type == "loras" and not (isinstance(node, Scalar) and node.trap == CELL):
            return self.loras(origin, node, key)
        if not isinstance(node, Scalar):
            hint = "; to try several, list them under matrix" if isinstance(node, Seq) else ""
            return origin.bad(node, key, f"{show(plain(node))} is not allowed here; allowed: {row.allowed}{hint}")
        if node.value is None and row.type not in _TEXTS:
            return origin.bad(node, key, f"{_NOTHING}; allowed: {row.allowed}")
        if node.trap:
            if node.trap == CELL:
                value, problem = as_parameter_value(row.name, node.text, self.model, self.api_version)
                if problem is not None:
                    return origin.bad(node, key, problem.message)
                return self._image(origin, row, value, node, key)
            why = self._trapped(row, node)
            if why:
                return origin.bad(node, key, f"{why}; allowed: {row.allowed}")
        elif row.type in _TEXTS and not isinstance(node.value, str):
            why = why_not_text(node.value, node.text, node.trap)
            return origin.bad(node, key, f"{why} (allowed: {row.allowed})")
        value, problem = check_value(row, node.value)
        if problem is not None:
            return origin.bad(node, key, problem.message)
        return self._image(origin, row, value, node, key)

    def _image(self, origin: Origin, row: Parameter, value: Any, node: Node, key: str) -> Any:
        if row.type != "image" or is_remote_image(value):
            return value
        try:
            return origin.image(value)
        except FileRefused as error:
            return origin.bad(node, key, f"{show(value)}: {error}")

    @staticmethod
    def _trapped(row: Parameter, node: Scalar) -> str:
        if row.type in _TEXTS:
            if isinstance(node.value, str) and node.trap not in (DATE, HUGE):
                return ""
            return why_not_text(node.value, node.text, node.trap)
        if row.type in _NUMBERS and node.trap != OTHER_BASE:
            return why_not_number(node.value, node.text, node.trap)
        return ""

    # ---- LoRAs --------------------------------------------------------------------------------

    def loras(self, origin: Origin, node: Node, key: str) -> Any:
        """A list of ``{path, scale}`` with the scales filled in, or BAD."""
        if not isinstance(node, Seq):
            hint = "write a list: - path: owner/name"
            return origin.bad(node, key, f"{show(plain(node))} is not allowed here; allowed: a list; {hint}")
        found = [self._lora(origin, item, f"{key}[{number}]") for number, item in enumerate(node.items)]
        most = self.model.max_loras if self.model else None
        if most is not None and len(found) > most:
            return origin.bad(node, key, f"{len(found)} LoRAs are too many; allowed: at most {most} on this model")
        return BAD if any(lora is BAD for lora in found) else found

    def _lora(self, origin: Origin, node: Node, key: str) -> Any:
        if not isinstance(node, Map):
            return origin.bad(node, key, self._not_a_lora(node))
        lora: dict[str, Any] = {"path": BAD, "scale": 1}
        if "path" not in node.entries:
            origin.bad(node, key, 'the key "path" is missing: owner/name (as on Hugging Face) or a URL')
        for name, entry in node.entries.items():
            if name == "path":
                lora[name] = self._path(origin, entry[2], f"{key}.path")
            elif name == "scale":
                lora[name] = self._scale(origin, entry[2], f"{key}.scale")
            else:
                unknown(origin, entry, name, f"{key}.", ("path", "scale"))
                lora["path"] = BAD
        return BAD if BAD in lora.values() else lora

    @staticmethod
    def _not_a_lora(node: Node) -> str:
        allowed = "allowed: {path: owner/name, scale: 1}"
        if isinstance(node, Scalar) and isinstance(node.value, str):
            try:
                lora = parse_lora(node.value)
            except ValueError:
                pass
            else:
                return f"{show(node.value)} is text; write {{path: {lora['path']}, scale: {lora['scale']}}}"
        return f"{show(plain(node))} is not allowed here; {allowed}"

    @staticmethod
    def _path(origin: Origin, node: Node, key: str) -> Any:
        path = text_of(origin, node, key)
        if path is BAD:
            return BAD
        why = lora_path_problem(path)
        return origin.bad(node, key, why) if why else path

    @staticmethod
    def _scale(origin: Origin, node: Node, key: str) -> Any:
        value = plain(node)
        why = lora_scale_problem(value) if value is not None else f"{_NOTHING}; allowed: a number from 0 to 4"
        if isinstance(node, Scalar) and node.trap and node.trap != OTHER_BASE:
            why = f"{why_not_number(node.value, node.text, node.trap)}; allowed: a number from 0 to 4"
        return origin.bad(node, key, why) if why else value


_OTHER_VERSION_NAMES = frozenset(
    {"mask_image", "output_format", "enable_base64_output", "enable_sync_mode", "enable_safety_checker"}
)
