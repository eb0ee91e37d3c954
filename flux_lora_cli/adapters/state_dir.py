"""Where the program keeps what belongs to the user rather than to a folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Folders remembered for "which tasks are already some ledger's"; the newest last.
_MOST_FOLDERS = 200


def state_dir(env: Mapping[str, str] = os.environ) -> Path:
    """``FLUX_LORA_STATE_DIR``, else the platform's place for state. Not made here."""
    named = env.get("FLUX_LORA_STATE_DIR")
    if named:
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(env.get("LOCALAPPDATA") or home / "AppData" / "Local") / "flux-lora"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "flux-lora"
    # XDG Base Directory Specification 0.8: relative paths are to be ignored.
    xdg = env.get("XDG_STATE_HOME", "")
    base = Path(xdg) if xdg.startswith("/") else home / ".local" / "state"
    return base / "flux-lora"


def user_ledger_dir(service: str, env: Mapping[str, str] = os.environ) -> Path:
    """The folder of the user's ledger for one service (an origin, or ``sandbox``)."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", service).strip("-") or "service"
    return state_dir(env) / "tasks" / name


class Notes:
    """Small JSON files that only make things better: what cannot be read or written is left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> Any:
        """The note's content; None where there is none of use."""
        try:
            data = (self._folder / f"{name}.json").read_bytes()
            return json.loads(data) if len(data) < 1 << 20 else None
        except (OSError, ValueError, RecursionError):
            return None

    def write(self, name: str, value: Any) -> None:
        """Replace a note."""
        temporary = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=self._folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(value, file)
            Path(temporary).replace(self._folder / f"{name}.json")
        except OSError:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()

    def folders(self) -> list[Path]:
        """Output folders that runs of this user have used, as far as they are remembered."""
        known = self.read("folders")
        return [Path(name) for name in known if isinstance(name, str)] if isinstance(known, list) else []

    def remember_folder(self, folder: Path) -> None:
        """Add an output folder."""
        name = str(folder)
        others = [str(known) for known in self.folders() if str(known) != name]
        self.write("folders", [*others, name][-_MOST_FOLDERS:])
