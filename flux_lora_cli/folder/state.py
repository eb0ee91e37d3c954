"""What belongs to the user rather than to a folder: the ledger of ``submit``, remembered folders, small notes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from flux_lora_cli.errors import FolderBusy, FolderError, LedgerDamaged, NotFoundError
from flux_lora_cli.folder import files
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger
from flux_lora_cli.folder.locks import LockFile
from flux_lora_cli.text import printable

VARIABLE = "FLUX_LORA_STATE_DIR"
#: Tasks of ``submit`` that are remembered; beyond so many, the oldest that have ended are forgotten.
MAX_TASKS = 20_000
#: Output folders that are remembered, the newest last.
MAX_FOLDERS = 5_000
_MAX_NOTE = 4 << 20  # bytes
_WAY_OUT = f"set {VARIABLE} to a folder that can be written"


def state_dir(env: Mapping[str, str] | None = None) -> Path:
    """``FLUX_LORA_STATE_DIR``, else the platform's place for state; absolute, not made here.

    Raises:
        FolderError: there is no such place: no home folder, or a working directory that was deleted.
    """
    named = (os.environ if env is None else env).get(VARIABLE)
    try:
        path = Path(named).expanduser().absolute() if named else Path(platformdirs.user_state_dir("flux-lora", False))
    except (OSError, RuntimeError):
        path = Path()
    if not path.is_absolute():  # "~" stays where there is no home folder
        raise FolderError(
            "there is no home folder in which to keep the program's state", f"{_WAY_OUT[:1].upper()}{_WAY_OUT[1:]}."
        )
    return path


def open_user_ledger(service: str, *, create: bool = True) -> Ledger | None:
    """The ledger of the tasks that ``submit`` made at a service (an origin, or ``sandbox``).

    Args:
        create: make one where there is none, and be able to write it; otherwise one that cannot be written is read.

    Returns:
        None where there is none and it is not to be made.

    Raises:
        FolderError and its leaves: it cannot be used; the hint names ``FLUX_LORA_STATE_DIR``.
    """
    name = re.sub(r"[^A-Za-z0-9.]+", "-", service).strip("-.") or "service"
    path = state_dir() / "tasks" / name[:100] / LEDGER_NAME
    try:
        if create:
            _make(path.parent)
        read_only = not create and not os.access(path.parent, os.W_OK)
        return Ledger.open(path, service, create=create, read_only=read_only, max_records=MAX_TASKS, way_out=_WAY_OUT)
    except NotFoundError:
        return None
    except LedgerDamaged as error:
        raise LedgerDamaged(
            error.message,
            f"Restore it from a backup, or move it away: the tasks of earlier submissions are then forgotten, and"
            f" `flux-lora status ID` and `wait ID` find them by their IDs only. Or {_WAY_OUT}.",
        ) from error


def lock(name: str, patience: float = 10.0) -> LockFile:
    """A lock among this user's processes, for a ``with`` statement (``patience`` in seconds).

    Raises:
        FolderError: there is no place for it; on entering also FolderBusy.
    """
    folder = state_dir()
    _make(folder)
    return LockFile(folder / f".{_file_name(name)}.lock", patience, _WAY_OUT)


def remembered_folders() -> list[Path]:
    """Output folders that this user's runs have used, the newest last, as far as they are remembered."""
    known = read_note("folders")
    return (
        [Path(name) for name in known if isinstance(name, str) and "\0" not in name] if isinstance(known, list) else []
    )


def remember_folder(path: Path) -> None:
    """Add an output folder. Never raises: it is a convenience."""
    with suppress(OSError, FolderError, FolderBusy):
        name = str(path.absolute())
        with lock("folders", patience=2.0):
            others = [str(known) for known in remembered_folders() if str(known) != name]
            write_note("folders", [*others, name][-MAX_FOLDERS:])


def read_note(name: str) -> Any:
    """What ``write_note`` kept; None where there is nothing of use. Its content may come from anywhere."""
    try:
        return json.loads(files.read_regular_file(state_dir() / f"{_file_name(name)}.json", _MAX_NOTE))
    except (OSError, ValueError, RecursionError, FolderError):
        return None


def write_note(name: str, data: object) -> None:
    """Keep something small that only makes things better. Never raises."""
    with suppress(OSError, FolderError):
        folder = state_dir()
        _make(folder)
        files.write_atomically(folder / f"{_file_name(name)}.json", json.dumps(data).encode())


def _make(folder: Path) -> None:
    """Make a folder that only its owner can read, with its parents. Raises FolderError."""
    if folder.is_dir():
        return
    _make(folder.parent)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        reason = printable(error.strerror or "something is in the way")
        raise FolderError(
            f"cannot make the folder {printable(str(folder))}: {reason}", f"{_WAY_OUT[:1].upper()}{_WAY_OUT[1:]}."
        ) from error


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:100] or "note"
