"""A preset file and all that it extends, in the order in which they apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .files import PresetFiles, SourceFile
from .nodes import Map, Node, Scalar, Seq, plain
from .problems import FileRefused, Problems
from .spec import FILE_KEYS
from .text_readers import decode
from .values import BAD, Origin, text_of, unknown, whole_number
from .yaml_reader import read_yaml

#: Files that one preset may pull in, all told, and how far down.
MOST_FILES = 100
MOST_LEVELS = 20


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a preset, structure checked."""

    source: SourceFile
    origin: Origin
    root: Map


class LayerReader:
    """Reads a preset with its ``extends``. Every file is read once, its problems noted once."""

    def __init__(self, files: PresetFiles, problems: Problems) -> None:
        self._files = files
        self._problems = problems
        self._root_folder = ""
        self._read: dict[str, Layer | None] = {}

    def layers(self, source: SourceFile) -> list[Layer]:
        """The layers, the file itself last; those that cannot be read are left out (and noted)."""
        self._root_folder = source.folder
        found: list[Layer] = []
        self._visit(source, (), found)
        return found

    def _visit(self, source: SourceFile, chain: tuple[str, ...], found: list[Layer]) -> None:
        if source.real not in self._read:
            self._read[source.real] = self._layer(source)
        layer = self._read[source.real]
        if layer is None:
            return
        entry = layer.root.entries.get("extends")
        if entry is not None:
            for node in _paths(layer.origin, entry[2]):
                self._base(layer, node, (*chain, source.real), found)
        if layer not in found:
            found.append(layer)

    def _base(self, layer: Layer, node: Scalar, chain: tuple[str, ...], found: list[Layer]) -> None:
        try:
            base = self._files.beside(node.value, layer.source.folder, self._root_folder)
        except FileRefused as error:
            layer.origin.bad(node, "extends", f'"{node.value}": {error}')
            return
        if base.real in chain:
            names = [real.replace("\\", "/").rpartition("/")[2] for real in chain[chain.index(base.real) :]]
            circle = " → ".join((*names, names[0]))
            layer.origin.bad(node, "extends", f'"{node.value}": presets that extend each other in a circle: {circle}')
            return
        if len(chain) >= MOST_LEVELS or len(self._read) >= MOST_FILES:
            layer.origin.bad(
                node, "extends", f"more than {MOST_LEVELS} levels or {MOST_FILES} files that extend each other"
            )
            return
        self._visit(base, chain, found)

    def _layer(self, source: SourceFile) -> Layer | None:
        text = decode(source.data, source.path, self._problems)
        if text is None:
            return None
        node = read_yaml(text, source.path, self._problems)
        if node is None:
            return None
        origin = Origin(
            source.path,
            self._problems,
            lambda path: self._files.image(path, source.folder, self._root_folder),
        )
        if not isinstance(node, Map):
            origin.bad(node, "", "a preset is a mapping: version, defaults, jobs, …; a list of prompts is a .txt file")
            return None
        self._top(origin, node)
        return Layer(source, origin, node)

    def _top(self, origin: Origin, root: Map) -> None:
        for name, entry in root.entries.items():
            node = entry[2]
            if name not in FILE_KEYS:
                unknown(origin, entry, name, "", FILE_KEYS)
            elif name == "version":
                whole_number(origin, node, "version", 1, 1)
            elif name in ("name", "description"):
                text = text_of(origin, node, name)
                if text is not BAD and name == "name" and not (text.strip() and len(text) <= 200):
                    origin.bad(node, "name", "a name has 1 to 200 characters")
            elif name == "jobs" and not (isinstance(node, Seq) and node.items):
                words = "an empty list" if isinstance(node, Seq) else "no list"
                origin.bad(node, "jobs", f"{words} is not allowed here; allowed: a list of jobs, each - prompt: …")
        if not any(name in root.entries for name in FILE_KEYS[3:]):
            origin.bad(root, "", "a preset without jobs, and with nothing for others to extend")


def _paths(origin: Origin, node: Node) -> Sequence[Scalar]:
    items = node.items if isinstance(node, Seq) else [node]
    if isinstance(node, Seq) and not items:
        origin.bad(node, "extends", "an empty list is not allowed; allowed: a path, or a list of paths")
    good = []
    for item in items:
        if isinstance(item, Map):
            origin.bad(item, "extends", f"{plain(item)!r:.60} is not allowed; allowed: a path, or a list of paths")
        elif text_of(origin, item, "extends") is not BAD and isinstance(item, Scalar):
            good.append(item)
    return good
