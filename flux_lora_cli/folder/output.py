"""An output folder in use: ledger, manifest and images, which vouch for each other."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from flux_lora_cli.errors import FolderBusy, FolderError, ManifestDamaged, NotFoundError, OtherFolder
from flux_lora_cli.folder.files import explained, held
from flux_lora_cli.folder.imagefile import IMAGE_ENDINGS
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger, of_another_service
from flux_lora_cli.folder.manifest import MANIFEST_NAME, Manifest, scan, write_manifest
from flux_lora_cli.folder.names import FINGERPRINT_DIGITS
from flux_lora_cli.folder.records import JobRecord, join
from flux_lora_cli.text import counted, printable

#: Seconds that a batch tries before it calls the folder busy; it has to say so within 2 s.
BATCH_PATIENCE = 0.5
_WRITES = 3  # of the manifest in a row, while other processes write to the ledger
_HEX = re.compile(rf"(?<![0-9a-f])[0-9a-f]{{{FINGERPRINT_DIGITS}}}(?![0-9a-f])")


class OutputFolder:
    """A folder that this process reads and writes; a context manager. ``open`` makes one.

    Attributes:
        read_only: nothing can be written, which a finished folder does not need.
        records: all jobs of the folder, by key.
        row, save: the ledger's.
    """

    @classmethod
    def open(
        cls, path: Path, service: str, *, exclusive: bool, sources: Sequence[tuple[str, str]] = ()
    ) -> OutputFolder:
        """Open a folder, which is made where it is missing.

        Args:
            service: that the folder has to belong to: an origin, or ``sandbox``.
            exclusive: as the one batch in it; otherwise (``wait``) beside one, locking for each write only.
            sources: (path, SHA-256) of the preset files of this run; those of earlier runs are kept.

        Raises FolderBusy: another batch is using it; FolderError: it cannot be used.
        """
        path = _absolute(path)
        read_only = os.path.lexists(path / LEDGER_NAME) and not os.access(path, os.W_OK | os.X_OK)
        images, exclusive = ImageStore(path, read_only=read_only), exclusive and not read_only
        with ExitStack() as undo:
            if not read_only:
                images.check_writable()
            if exclusive:
                _hold(undo, path)
            head, entries = _shown(path, service)
            created_at, earlier = (head.created_at, head.sources) if head is not None else (None, {})
            ledger = Ledger.open(path / LEDGER_NAME, service, created_at=created_at, read_only=read_only)
            undo.callback(ledger.close)
            if exclusive:
                ledger.take_hold()
            folder = cls(path, ledger, images)
            folder.take_over(entries)
            if not read_only:
                ledger.add_sources(earlier, dict(sources))
            if exclusive:
                images.sweep(output.temp for record in folder.records.values() for output in record.outputs)
            folder._undo = undo.pop_all()
        return folder

    def __init__(self, path: Path, ledger: Ledger, images: ImageStore) -> None:
        self.path = path
        self.read_only = images.read_only
        self.ledger = ledger
        self.row, self.save = ledger.row, ledger.save
        self.images = images
        self.records = {record.key: record for record in ledger.records()}
        self._last_order = max((record.order for record in self.records.values()), default=-1)
        self._undo = ExitStack()
        self._writing = threading.Lock()  # while the manifest is written
        self._closed = False

    def next_order(self) -> int:
        """A manifest position after all that this process has given out or read."""
        self._last_order += 1
        return self._last_order

    def write_manifest(self) -> None:
        """Replace the manifest by what the ledger holds now, those jobs too that others added; blocking.

        Nothing is done where the folder is read-only, or closed by now. Raises FolderMoved, DiskFull, FolderError.
        """
        with self._writing:
            for _ in range(_WRITES):
                if self.read_only or self._closed:
                    return
                self.ledger.check_place()
                version = self.ledger.version()
                with explained(self.path / MANIFEST_NAME):
                    write_manifest(self.path, self.ledger.head(), self.ledger.entries())
                if self.ledger.version() == version:  # otherwise, what another process wrote may be replaced
                    return

    def close(self) -> None:
        """Let go of the folder, leaving no side file. Never raises.

        A manifest that another thread is writing is waited for, and none is begun afterwards.
        """
        with self._writing:
            self._closed = True
        self._undo.close()

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take_over(self, entries: Iterable[JobRecord]) -> list[JobRecord]:
        """What the manifest shows as bought and the ledger does not, is bought: an older copy was put back.

        So is what a run left elsewhere whose folder went away. Returns what is new.
        """
        taken = []
        with suppress(ManifestDamaged):  # the ledger knows of the jobs that cannot be read
            for shown in entries:
                mine = self.records.get(shown.key)
                joined = shown if mine is None else join(mine, shown)
                if joined != mine:
                    if joined.outputs is shown.outputs:  # a file counts where every byte of it matches
                        self.images.recover(joined, every_byte=True)
                        for output in joined.outputs:
                            output.writing = None  # what does not match may be somebody else's
                    joined.order = self.next_order() if mine is None else mine.order
                    self.records[joined.key] = joined
                    taken.append(joined)
        if taken and not self.read_only:
            self.save(map(self.row, taken))
        return taken


def check_orphans(
    path: Path,
    records: Iterable[JobRecord],
    fingerprints: Iterable[str],
    confirm: Callable[[list[str]], bool],
) -> None:
    """Ask about images of jobs that would be bought (``fingerprints``) and nothing at hand knows as bought.

    ``records`` are what the folder knows: perhaps an older copy was put back. ``confirm`` gets the names of the images.
    Raises OtherFolder where it does not confirm.
    """
    ours = {fingerprint[:FINGERPRINT_DIGITS] for fingerprint in fingerprints}
    owned = {name for record in records for output in record.outputs for name in (output.file, output.writing)}
    names = [
        name
        for name in (ImageStore(path).all_files() if ours else ())
        if name.rpartition(".")[2].lower() in IMAGE_ENDINGS and name not in owned
        if not ours.isdisjoint(_HEX.findall(name))
    ]
    if names and not confirm(names):
        raise OtherFolder(
            f"{path} holds {counted(len(names), 'image')} that neither a ledger nor a manifest there"
            f" knows: {printable(names[0])}",
            f"Restore {LEDGER_NAME} or {MANIFEST_NAME} from a newer backup; to buy anew, choose another folder (-o).",
        )


def is_new(path: Path) -> bool:
    """Whether a folder has neither a ledger nor a manifest."""
    return not any(os.path.lexists(path / name) for name in (LEDGER_NAME, MANIFEST_NAME))


def read_records(path: Path, service: str, left: Iterable[JobRecord] = ()) -> dict[str, JobRecord]:
    """What a folder knows, by key, without a lock or a change of anything in it (for a dry run). Raises FolderError.

    ``left`` is what it would take over besides.
    """
    path = _absolute(path)
    head, entries = _shown(path, service)
    created_at = head.created_at if head is not None else None
    try:
        with Ledger.open(path / LEDGER_NAME, service, created_at=created_at, read_only=True) as ledger:
            folder = OutputFolder(path, ledger, ImageStore(path, read_only=True))
            folder.take_over(entries)
            folder.take_over(left)
            return folder.records
    except NotFoundError:
        return {record.key: record for record in (*entries, *left)}


def _shown(path: Path, service: str) -> tuple[Manifest | None, Iterable[JobRecord]]:
    """The manifest, if there is one, and its jobs. A damaged one beside a ledger is written anew."""
    file, is_alone = path / MANIFEST_NAME, not os.path.lexists(path / LEDGER_NAME)
    try:
        manifest, entries = scan(file)
        if is_alone:  # every part of it has to be sound
            entries = iter(list(entries))
    except NotFoundError:
        return None, ()
    except ManifestDamaged:
        if is_alone or not file.is_file():
            raise
        return None, ()
    if manifest.service != service:
        raise of_another_service(path, manifest.service, service)
    return manifest, entries


def _hold(undo: ExitStack, path: Path) -> None:
    try:
        undo.enter_context(held(path, BATCH_PATIENCE))
    except FolderBusy:
        with suppress(FolderError, NotFoundError), Ledger.open(path / LEDGER_NAME, None, read_only=True) as ledger:
            raise ledger.busy() from None  # which names the holder
        raise


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:
        raise FolderError("the working directory was deleted", "Change to another, or name a folder with -o.") from None
