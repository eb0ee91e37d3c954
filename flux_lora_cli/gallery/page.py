"""The gallery: one HTML page, self-contained, that asks no host for anything.

The images are linked where they lie, not copied and not shrunk: the browser loads and decodes
only those near the viewport. Everything else is inside the page. Styles and script are allowed
by their hashes alone, so text from a prompt cannot become either.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import FolderError, UsageError
from flux_lora_cli.gallery.page_data import page_data
from flux_lora_cli.gallery.paths import new_beside
from flux_lora_cli.gallery.run import Run

PAGE = "index.html"
#: By this the program knows a page of its own, which it may replace.
MARK = '<meta name="generator" content="flux-lora gallery'

#: In the order in which they make up the page's one script.
SCRIPTS = ("1-data.js", "2-parts.js", "3-views.js", "4-dialogs.js", "5-main.js")


def write_page(runs: Sequence[Run], page_folder: Path) -> Path:
    """Write ``index.html`` into ``page_folder``, replacing an earlier one of ours.

    Raises:
        FolderError: the folder cannot be written.
        UsageError: it holds an ``index.html`` that this program did not write.
    """
    target = page_folder / PAGE
    text = build_page(runs, page_folder)
    if _is_foreign(target):
        raise UsageError(f"{target} is no page of flux-lora, and is left alone", "name a folder with -o")
    try:
        temporary = new_beside(target)
        try:
            temporary.write_bytes(text.encode("utf-8"))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def build_page(runs: Sequence[Run], page_folder: Path) -> str:
    """The page's text; its links are relative to ``page_folder``."""
    style = _resource("style.css")
    script = '"use strict";\n{\n' + "".join(_resource(name) for name in SCRIPTS) + "}\n"
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        # 'self' does not cover file: pages in every browser.
        "img-src 'self' file: data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    fields = {
        "policy": policy,
        "version": __version__,
        "style": style,
        "script": script,
        "data": safe_json(page_data(runs, page_folder)),
    }
    text = _resource("page.html")
    # One pass over the template: what a field holds is never looked at again.
    pieces = text.split("@@")
    return "".join(fields[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def safe_json(data: Any) -> str:
    """JSON that cannot end a ``<script>`` element, nor open a comment in one."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode()


def _is_foreign(target: Path) -> bool:
    if target.is_symlink() or (target.exists() and not target.is_file()):
        return True
    try:
        with target.open("rb") as stream:
            return MARK.encode() not in stream.read(4096)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def _resource(name: str) -> str:
    return (resources.files("flux_lora_cli") / "resources" / "gallery" / name).read_text(encoding="utf-8")
