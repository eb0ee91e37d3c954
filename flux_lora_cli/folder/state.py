"""What belongs to the user rather than to a folder: the ledger of ``submit``, remembered folders, small notes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs

from flux_lora_cli.errors import FolderBusy, FolderError, LedgerDamaged
from flux_lora_cli.folder import files
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger

VARIABLE = "FLUX_LORA_STATE_DIR"
#: Tasks of ``submit`` that are remembered; of more, those of earlier months that have ended are forgotten.
MAX_TASKS = 20_000
#: Output folders that are remembered, the newest last.
MAX_FOLDERS = 5_000
_MAX_NOTE = 4 << 20  # bytes
_WAY_OUT = f"set {VARIABLE} to a folder that can be written."


def state_dir() -> Path:
    """``FLUX_LORA_STATE_DIR``, else the platform's place for state; absolute, not made here.

    Raises FolderError: there is no home folder, or the working directory was deleted.
    """
    named = os.environ.get(VARIABLE)
    path = Path()
    with suppress(OSError, RuntimeError):
        path = Path(named).expanduser().absolute() if named else Path(platformdirs.user_state_dir("flux-lora", False))
    if not path.is_absolute():  # "~" stays where there is no home folder
        raise FolderError("there is no home folder in which to keep the program's state", f"Make one, or {_WAY_OUT}")
    return path


def open_user_ledger(service: str, *, create: bool = True) -> Ledger:
    """The ledger of the tasks that ``submit`` made at a service (an origin, or ``sandbox``).

    Without ``create``, one that cannot be written is read.
    Raises NotFoundError: there is none; FolderError: it cannot be used; the hint names ``FLUX_LORA_STATE_DIR``.
    """
    name = re.sub(r"[^A-Za-z0-9.]+", "-", service).strip("-.") or "service"
    path = state_dir() / "tasks" / name[:100] / LEDGER_NAME
    read_only = not create and not os.access(path.parent, os.W_OK)
    with naming_the_variable():
        if create:
            files.make_folders(path.parent, 0o700)
        ledger = Ledger.open(path, service, create=create, read_only=read_only)
        if create:
            ledger.forget(MAX_TASKS, month())
        return ledger


def month() -> str:
    """The calendar month (UTC): ``2026-11``."""
    return f"{datetime.now(UTC):%Y-%m}"


@contextmanager
def naming_the_variable() -> Iterator[None]:
    """Errors inside propose another place for the state, not ``-o``."""
    try:
        yield
    except FolderError as error:
        error.hint = f"Check its permissions and its disk, or {_WAY_OUT}"
        if isinstance(error, LedgerDamaged):
            error.hint = (
                "Restore it from a backup, or move it away: `flux-lora status ID` and `wait ID` then find the tasks of"
                f" earlier submissions by their IDs only. Or {_WAY_OUT}"
            )
        raise


@contextmanager
def lock(name: str, patience: float = 10.0) -> Iterator[None]:
    """A lock among this user's processes (``patience`` in seconds). Raises FolderBusy; FolderError: no place for it."""
    with naming_the_variable():
        files.make_folders(state_dir(), 0o700)
        with files.locked(state_dir() / f".{name}.lock", patience):
            yield


def remembered_folders() -> list[Path]:
    """Output folders that this user's runs have used, the newest last, as far as they are remembered."""
    known = read_note("folders")
    names = known if isinstance(known, list) else []
    return [Path(files.on_disk(name)) for name in names if isinstance(name, str) and "\0" not in name]


def remember_folder(path: Path) -> None:
    """Add an output folder. Never raises: it is a convenience."""
    with suppress(OSError, FolderError, FolderBusy), lock("folders", patience=2.0):
        others = [known for known in remembered_folders() if known != path.absolute()]
        write_note("folders", [files.as_written(str(each)) for each in (*others, path.absolute())][-MAX_FOLDERS:])


def read_note(name: str) -> Any:
    """What ``write_note`` kept; None where there is nothing of use. Its content may come from anywhere."""
    try:
        return json.loads(files.read_regular_file(state_dir() / f"{name}.json", _MAX_NOTE))
    except (OSError, ValueError, RecursionError, FolderError):
        return None


def write_note(name: str, data: object) -> None:
    """Keep something small that only makes things better. Never raises."""
    with suppress(OSError, FolderError):
        folder = state_dir()
        files.make_folders(folder, 0o700)
        files.write_atomically(folder / f"{name}.json", json.dumps(data).encode())
