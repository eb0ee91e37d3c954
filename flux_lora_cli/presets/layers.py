"""A preset and all that it extends, merged into one document before anything is checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flux_lora_cli.presets.keys import MERGED, SECTIONS
from flux_lora_cli.presets.language import PRESET_FILE
from flux_lora_cli.presets.lists import decode
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.read import read_yaml
from flux_lora_cli.presets.shapes import Checking, Fields
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.text import quoted

#: Files that one preset may pull in, all told, and how far down.
MAX_FILES = 100
MAX_LEVELS = 20


@dataclass
class Layer:
    source: Source
    root: Node


class Layers:
    """Reads a preset with its ``extends``; every file is read once, its problems are noted once."""

    def __init__(self, files: Files, problems: Problems) -> None:
        self._files = files
        self._problems = problems
        self._read: dict[str, Layer | None] = {}

    def read(self, source: Source, data: bytes) -> list[Layer]:
        """The files in the order in which they apply, this one last; those that cannot be read are left out."""
        found: list[Layer] = []
        self._visit(source, data, (), found)
        return found

    def _visit(self, source: Source, data: bytes, chain: tuple[str, ...], found: list[Layer]) -> None:
        identity = source.real or source.name
        if identity not in self._read:
            self._read[identity] = self._layer(source, data)
        layer = self._read[identity]
        if layer is None:
            return
        extends = layer.root.get("extends")
        for node in extends.items if extends is not None else ():
            if isinstance(node.value, str) and re.fullmatch(PRESET_FILE, node.value):  # else the checker says so
                self._base(layer, node, (*chain, identity), found)
        if layer not in found:
            found.append(layer)

    def _base(self, layer: Layer, node: Node, chain: tuple[str, ...], found: list[Layer]) -> None:
        try:
            base, data = self._files.beside(node.value, layer.source, "preset")
        except Refused as error:
            return self._problems.add(node, "extends", f"{quoted(node.value)}: {error}")
        if base.real in chain:
            names = [real.replace("\\", "/").rpartition("/")[2] for real in chain[chain.index(base.real) :]]
            circle = " → ".join((*names, names[0]))
            message = f"{quoted(node.value)}: presets that extend each other in a circle: {circle}"
            return self._problems.add(node, "extends", message)
        if len(chain) >= MAX_LEVELS or len(self._read) >= MAX_FILES:
            message = f"more than {MAX_LEVELS} levels or {MAX_FILES} files that extend each other"
            return self._problems.add(node, "extends", message)
        return self._visit(base, data, chain, found)

    def _layer(self, source: Source, data: bytes) -> Layer | None:
        text = decode(data, source, self._problems)
        root = read_yaml(text, source, self._problems) if text is not None else None
        if root is None:
            return None
        if not isinstance(root.value, dict):
            message = "a preset is a mapping: version, defaults, jobs, …; a list of prompts is a .txt file"
            self._problems.add(root, "", message)
            return None
        if not any(name in root.entries for name in SECTIONS):
            self._problems.add(root, "", "a preset without jobs, and with nothing for others to extend")
        return Layer(source, root)


def merge(layers: list[Layer], language: Fields, on: Checking) -> Node:
    """One document of several: sections of names key by key, of everything else the last."""
    last = layers[-1].root
    merged: dict[str, tuple[int, int, Node]] = {}
    for layer in layers:
        for name, entry in layer.root.entries.items():
            before = merged.get(name)
            if before is None or name not in MERGED:
                if before is not None and name in ("version", "extends"):
                    language.fields[name].check(before[2], name, on)
                merged[name] = entry
            elif not isinstance(before[2].value, dict):
                language.fields[name].check(before[2], name, on)
                merged[name] = entry
            elif isinstance(entry[2].value, dict):
                node = entry[2]
                both = {**before[2].entries, **node.entries}
                merged[name] = (entry[0], entry[1], Node(both, node.source, node.line, node.column))
            else:
                merged[name] = entry
    return Node(merged, last.source, last.line, last.column)
