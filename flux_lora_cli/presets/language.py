"""The values of the preset language: parameters, LoRAs, variables; the forms of names, and limits.

Described once, as shapes: the checker, the JSON Schema, the defaults and the README's table come from them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from flux_lora_cli.presets.nodes import Node
from flux_lora_cli.presets.shapes import BAD, Checking, Fields, Shape, Text, shown
from flux_lora_cli.service.models import Parameter, check_value, lora_path_problem, value_of_text
from flux_lora_cli.service.values import check_lora

#: Of one job; more is a slip of the keyboard, not a plan.
MAX_REPEATS = 100_000
#: Of ``sample_seed``: what every JSON reader keeps exact.
MAX_SAMPLE_SEED = 2**53 - 1
MAX_ID = 120
#: Limits of ``loras[].scale`` on every model [ordered page].
LORA_SCALE = (0, 4)

#: Names, and IDs of jobs: nothing that a shell, a glob or a path takes for its own.
VAR_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
STACK_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
JOB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
_DOMAINS = "|".join(
    "".join(f"[{c.upper()}{c}]" for c in end) for end in ["ai", "app", "cloud", "co", "com", "dev", "io", "net", "org"]
)
_WEIGHTS = "|".join(
    "".join(f"[{c.upper()}{c}]" for c in end) for end in ["safetensors", "pt", "pth", "ckpt", "bin", "gguf"]
)
#: ``owner/name``, as on Hugging Face, or with a file of the repository after it; neither an address without its
#: https:// nor a file in a folder. Agrees with ``service.values``, which words why a path is refused.
LORA_NAME = (
    rf"(?!([A-Za-z0-9-]+\.)+({_DOMAINS})/)(?![^/]+/[^/]+\.({_WEIGHTS})$)"
    r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)+"
)
LORA_URL = r"[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@]+(@[^\s/?#@]+)?([/?#]\S*)?"
#: Files that are opened as presets, and as text files that hold prompts; nothing else is.
PRESET_FILE = r"[\s\S]*\.([Yy][Aa]?[Mm][Ll]|json)"
PROMPTS_FILE = r"[\s\S]*\.([Tt][Xx][Tt]|text|md|prompts?)"

_TEXTS = ("string", "size", "image", "url")


@dataclass(frozen=True, kw_only=True)
class Param(Shape):
    """A request parameter, by the table of its model."""

    row: Parameter

    @property
    def words(self) -> str:
        return self.row.allowed

    def check(self, node: Node, key: str, on: Checking) -> Any:
        row = self.row
        if node.style == "cell":
            return self._cell(node, key, on)
        if node.value is None:
            return on.refuse(node, key, self.words)
        if row.type == "size" and isinstance(node.value, list):
            return on.bad(node, key, check_value(row, node.plain())[1].message)  # type: ignore[union-attr]
        if row.type in (*_TEXTS, "integer", "number", "boolean") and isinstance(node.value, (list, dict)):
            hint = "; to try several, list them under matrix" if isinstance(node.value, list) else ""
            return on.refuse(node, key, self.words + hint)
        if row.type == "images" and isinstance(node.value, list):
            found = [on.image(item, f"{key}[{n}]") for n, item in enumerate(node.items) if isinstance(item.value, str)]
            if BAD in found or len(found) != len(node.items):
                return BAD if BAD in found else on.refuse(node, key, self.words)
            value, problem = check_value(row, [item.value for item in node.items])
            return on.bad(node, key, problem.message) if problem else found
        value, problem = check_value(row, node.value if isinstance(node.value, str) else node.plain())
        if problem is not None:
            return on.bad(node, key, problem.message + self._hint(node))
        return on.image(node, key) if row.type == "image" and value else value

    def _hint(self, node: Node) -> str:
        if self.row.type == "boolean" and str(node.value).lower() in ("yes", "no", "on", "off"):
            return " (yes and no are text in YAML 1.2)"
        return ""

    def _cell(self, node: Node, key: str, on: Checking) -> Any:
        if self.row.type in ("integer", "number") and re.fullmatch(r"\s*[-+]?[0-9.,]+[eE]\+?[0-9]+\s*", node.text):
            why = f"{node.text.strip()} is how a spreadsheet shortens a long number, its last digits are lost"
            return on.bad(node, key, f"{why}; format the column as text, and write them all")
        value, problem = value_of_text(on.model, self.row.name, node.text)
        if problem is not None:
            return on.bad(node, key, problem.message)
        if self.row.type == "image" and value:
            return on.image(node, key)
        return value


@dataclass(frozen=True, kw_only=True)
class Loras(Shape):
    """A list of LoRAs; ``most`` None where the model is not known."""

    most: int | None

    @property
    def words(self) -> str:
        return "a list of LoRAs: - {path: owner/name, scale: 1}"

    def check(self, node: Node, key: str, on: Checking) -> Any:
        if node.style == "cell":
            value, problem = value_of_text(on.model, "loras", node.text)
            return on.bad(node, key, problem.message) if problem else value
        if not isinstance(node.value, list):
            return on.refuse(node, key, self.words)
        found = [_lora(item, f"{key}[{number}]", on) for number, item in enumerate(node.items)]
        if self.most is not None and len(found) > self.most:
            many = f"{len(found)} LoRAs are too many; allowed: at most {self.most} on {on.model.short}"
            return on.bad(node, key, many)
        return BAD if BAD in found else found


def _lora(node: Node, key: str, on: Checking) -> Any:
    if not isinstance(node.value, dict):
        if isinstance(node.value, str):
            return on.bad(node, key, check_lora(node.value)[2])
        return on.refuse(node, key, "{path: owner/name, scale: 1}")
    checked = LORA.check(node, key, on)
    return BAD if checked is BAD else {"path": checked["path"], "scale": checked.get("scale", 1)}


@dataclass(frozen=True, kw_only=True)
class LoraPath(Text):
    """``owner/name`` or a URL."""

    def check(self, node: Node, key: str, on: Checking) -> Any:
        value = Text.check(Text(what=self.what), node, key, on)
        if value is BAD or re.fullmatch(f"{LORA_NAME}|{LORA_URL}", value):
            return value
        return on.bad(node, key, lora_path_problem(value) or f"{shown(node)} is not a LoRA path; allowed: {self.what}")


@dataclass(frozen=True, kw_only=True)
class Scale(Shape):
    """The weight of a LoRA."""

    @property
    def words(self) -> str:
        return f"a number from {LORA_SCALE[0]} to {LORA_SCALE[1]}"

    def check(self, node: Node, key: str, on: Checking) -> Any:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return on.refuse(node, key, self.words)
        if not LORA_SCALE[0] <= value <= LORA_SCALE[1]:
            return on.bad(node, key, f"{shown(node)} is out of range; allowed: {self.words}")
        return int(value) if float(value).is_integer() else value


@dataclass(frozen=True, kw_only=True)
class VarValue(Shape):
    """What a variable is: text, or a number as it was written."""

    @property
    def words(self) -> str:
        return "text or a number"

    def check(self, node: Node, key: str, on: Checking) -> Any:
        value = node.value
        if isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return node.text
        return Text(what=self.words).check(node, key, on)


LORA = Fields(
    name="lora",
    what="{path: owner/name, scale: 1}",
    required=("path",),
    fields={
        "path": LoraPath(
            doc="owner/name as on Hugging Face, or a URL.", what="owner/name (as on Hugging Face) or a URL"
        ),
        "scale": Scale(doc="Weight of the LoRA.", default=1),
    },
)
