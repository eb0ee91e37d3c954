"""What belongs to the user: the ledger of ``submit``, remembered folders, and what was charged this month."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from flux_lora_cli.errors import FluxLoraError, FolderBusy, FolderError, LedgerDamaged, NotFoundError
from flux_lora_cli.folder import files
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger
from flux_lora_cli.folder.records import JobRecord, PastTask, State, purchases
from flux_lora_cli.text import slug

T = TypeVar("T")

VARIABLE = "FLUX_LORA_STATE_DIR"
#: Tasks of ``submit`` that are remembered; of more, those of earlier months that have ended are forgotten.
MAX_TASKS = 20_000
#: Output folders that are remembered, the newest last.
MAX_FOLDERS = 5_000
_MAX_NOTE, _MAX_RESERVATION = 4 << 20, 64 << 20  # bytes
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
    path = state_dir() / "tasks" / slug(service, 100) / LEDGER_NAME
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
    with suppress(OSError, FolderError, FolderBusy), lock("folders", 2.0):
        others = [known for known in remembered_folders() if known != path.absolute()]
        write_note("folders", [files.as_written(str(each)) for each in (*others, path.absolute())][-MAX_FOLDERS:])


def from_folders(folders: Iterable[Path], service: str | None, read: Callable[[Ledger], T]) -> Iterator[tuple[Path, T]]:
    """What ``read`` makes of the ledger of each folder, but for those that cannot be read or are not of the service."""
    for folder in folders:
        with suppress(FluxLoraError, OSError):
            with Ledger.open(folder / LEDGER_NAME, service, create=False, read_only=True) as ledger:
                found = read(ledger)
            yield folder, found


def claimed_tasks(service: str, besides: Path | None = None) -> set[str]:
    """Every task of the user's own ledger and of the folders that are remembered, as far as they can be read.

    Args:
        besides: a folder whose ledger is open, and not to be opened again.
    """
    ids = set[str]()
    with suppress(FluxLoraError), open_user_ledger(service, create=False) as own:
        ids |= own.task_ids()
    others = [folder for folder in remembered_folders() if folder != besides]
    return ids.union(*(found for _, found in from_folders(others, None, Ledger.task_ids)))


def read_note(name: str) -> Any:
    """What ``write_note`` kept; None where there is nothing of use. Its content may come from anywhere."""
    try:
        return json.loads(files.read_regular_file(state_dir() / f"{name}.json", _MAX_NOTE))
    except (OSError, ValueError, RecursionError, FolderError):
        return None


def write_note(name: str, data: object) -> None:
    """Keep something small, under a ``lock``. Raises OSError."""
    files.write_atomically(state_dir() / f"{name}.json", json.dumps(data).encode())


# ---- what the user was charged in this month ----
# A run with a monthly limit reserves each submission of its plan by a name, so that one that is charged meanwhile does
# not count twice. A reservation ends with its run, or with the run's process.


def submission(folder: Path | None, record: JobRecord, number: int | None = None) -> str:
    """The name of a record's submission, in a folder or (None) the user's own ledger; without a number, the next."""
    if number is None:  # one of unknown outcome becomes history when it is sent once more
        number = len(record.history) + (record.state in (State.UNKNOWN, State.SUBMITTING))
    text = f"{folder and os.path.realpath(folder)}\0{record.key}\0{number}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def charged(service: str, per_image: Decimal | None, folder: Path | None) -> Decimal | None:
    """USD of this month, less refunds, with what living runs have reserved; None where a price is not known.

    Args:
        per_image: USD, for submissions whose price is not known.
        folder: counts beside those that are remembered.

    Raises:
        FolderError: the user's own ledger cannot be read. A folder that cannot counts as its last run left it.
    """
    reserved = dict(_reserved(service))  # before the ledgers, for what is charged meanwhile moves from here to there
    noted = _noted(service)
    tasks = dict[str, Decimal | None]()
    for place, identity, records in _books(service, folder):
        noted.pop(identity, None)
        for record in records:
            for name, task in _submissions(place, record):
                reserved.pop(name, None)
                net = per_image * record.images_asked if task.net is None and per_image is not None else task.net
                # ``wait`` and ``merge`` copy records: of copies counts the one that knows most of price and refund.
                known = [usd for usd in (net, tasks.get(task.task_id or name)) if usd is not None]
                tasks[task.task_id or name] = min(known, default=None)
    counted = [*tasks.values(), *reserved.values(), *map(Decimal, noted.values())]
    return None if None in counted else sum(filter(None, counted), Decimal(0))


def reserve(service: str, parts: Mapping[str, Decimal], check: Callable[[], None]) -> Callable[[], None]:
    """Set submissions (name: USD) aside, unless ``check`` raises; returns what ends that. Raises FolderError."""
    place = _place(service)
    with lock(f"month-{place.name}", patience=60.0), ExitStack() as undo:
        check()
        path = place / f"{secrets.token_hex(16)}.json"
        with naming_the_variable(), files.explained(path):
            files.make_folders(place)
            undo.enter_context(files.locked(path.with_suffix(".lock"), 0))
            files.write_atomically(path, json.dumps({name: str(usd) for name, usd in parts.items()}).encode())
        undo.callback(files.remove, path)
        return undo.pop_all().close


def note_charges(service: str, ledger: Ledger, records: Iterable[JobRecord], instead_of: Collection[str] = ()) -> None:
    """Keep what a folder was charged this month, for the case that it is deleted. Never raises.

    Args:
        instead_of: identities of folders whose charges it has now, too.
    """
    nets = [task.net or Decimal(0) for record in records for _, task in _submissions(None, record)]
    with suppress(FluxLoraError, OSError), lock("charged", 0.5):
        noted = {name: usd for name, usd in _noted(service).items() if name not in instead_of}
        folders = {**noted, ledger.created_at: str(sum(nets, Decimal(0)))}
        write_note(f"charged-{_place(service).name}", {"month": month(), "folders": folders})


def _noted(service: str) -> dict[str, str]:
    note = read_note(f"charged-{_place(service).name}")
    return dict(note.get("folders") or {}) if isinstance(note, dict) and note.get("month") == month() else {}


def _books(service: str, folder: Path | None) -> Iterator[tuple[Path | None, str, list[JobRecord]]]:
    """(folder, its identity, records) of the user's own ledger (None) and of each folder that can be read."""
    with suppress(NotFoundError), open_user_ledger(service, create=False) as own:
        yield None, own.created_at, list(own.records())
    folders = {Path(os.path.realpath(path)) for path in (*remembered_folders(), folder) if path is not None}
    for path, (identity, records) in from_folders(folders, service, lambda it: (it.created_at, list(it.records()))):
        yield path, identity, records


def _submissions(folder: Path | None, record: JobRecord) -> Iterator[tuple[str, PastTask]]:
    """What a record may have been charged for this month, by name; not what ``wait`` found or a folder left."""
    for number, task in enumerate(purchases(record)):
        is_copy = number == len(record.history) and (not record.attempts or record.state is State.SKIPPED)
        if not is_copy and (task.intent_at or month()).startswith(month()):
            yield submission(folder, record, number), task


def _reserved(service: str) -> Iterator[tuple[str, Decimal]]:
    """What living runs have set aside, by name."""
    for path in _place(service).glob("*.json"):
        try:
            with files.locked(path.with_suffix(".lock"), 0):
                files.remove(path)  # its run has ended
        except FolderBusy:
            with suppress(OSError, ValueError, AttributeError, ArithmeticError):
                parts = json.loads(files.read_regular_file(path, _MAX_RESERVATION))
                yield from [(name, Decimal(usd)) for name, usd in parts.items()]


def _place(service: str) -> Path:
    return state_dir() / "month" / slug(service, 100)
