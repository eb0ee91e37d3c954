"""A preset and all that it extends, merged into one document before anything is checked."""

from __future__ import annotations

import re

from flux_lora_cli.presets.check import Checker
from flux_lora_cli.presets.language import MERGED, PRESET_FILE, SECTIONS, Fields
from flux_lora_cli.presets.lists import decode
from flux_lora_cli.presets.nodes import Node, Problems, Source
from flux_lora_cli.presets.read import read_yaml
from flux_lora_cli.presets.sources import Files, Refused
from flux_lora_cli.text import quoted

#: Files that one preset may pull in, all told, and how far down.
MAX_FILES = 100
MAX_LEVELS = 20


def read_layers(source: Source, data: bytes, files: Files, problems: Problems) -> list[Node]:
    """The roots of a preset and of what it extends, in the order in which they apply, its own last.

    Every file is read once, and its problems are noted once; those that cannot be read are left out.
    """
    found: list[Node] = []
    seen: set[str] = set()

    def visit(source: Source, data: bytes, chain: tuple[str, ...]) -> None:
        identity = source.real or source.name
        if identity in seen:
            return
        seen.add(identity)
        root = _read(source, data, problems)
        if root is None:
            return
        extends = root.get("extends")
        for node in extends.items if extends is not None else ():
            if isinstance(node.value, str) and re.fullmatch(PRESET_FILE, node.value):  # else the checker says so
                why = follow(node, (*chain, identity))
                if why:
                    problems.add(node, "extends", why)
        found.append(root)

    def follow(node: Node, chain: tuple[str, ...]) -> str:
        """Read what a file extends; why that cannot be, or ""."""
        try:
            base, data = files.beside(node.value, node.source, "preset")
        except Refused as error:
            return f"{quoted(node.value)}: {error}"
        if base.real in chain:
            names = [
                real.replace("\\", "/").rpartition("/")[2] for real in (*chain[chain.index(base.real) :], base.real)
            ]
            return f"{quoted(node.value)}: presets that extend each other in a circle: {' → '.join(names)}"
        if len(chain) >= MAX_LEVELS or len(seen) >= MAX_FILES:
            return f"more than {MAX_LEVELS} levels or {MAX_FILES} files that extend each other"
        visit(base, data, chain)
        return ""

    visit(source, data, ())
    return found


def _read(source: Source, data: bytes, problems: Problems) -> Node | None:
    text = decode(data, source, problems)
    root = read_yaml(text, source, problems) if text is not None else None
    if root is None:
        return None
    if not isinstance(root.value, dict):
        message = "a preset is a mapping: version, defaults, jobs, …; a list of prompts is a .txt file"
        problems.add(root, "", message)
        return None
    if not any(name in root.entries for name in SECTIONS):
        problems.add(root, "", "a preset without jobs, and with nothing for others to extend")
    return root


def merge(roots: list[Node], language: Fields, checker: Checker) -> Node:
    """One document of several: sections of names key by key, of everything else the last.

    What another file's replaces whole is not seen again; where it could not stand there at all, that is said here.
    """
    merged: dict[str, tuple[int, int, Node]] = {}
    for root in roots:
        for name, (line, column, node) in root.entries.items():
            before = merged[name][2] if name in merged else None
            if before is not None and before.entries and name in MERGED and isinstance(node.value, dict):
                both = {**before.entries, **node.entries}
                node = Node(both, node.source, node.line, node.column)
            elif before is not None and name in ("version", "extends", *MERGED):
                checker.check(language.fields[name], before, name)
            merged[name] = (line, column, node)
    last = roots[-1]
    return Node(merged, last.source, last.line, last.column)
