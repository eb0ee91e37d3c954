"""An output folder in use: ledger, manifest and images, which vouch for each other."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import FolderBusy, FolderError, ManifestDamaged, NotFoundError, OtherFolder, OtherService
from flux_lora_cli.folder.combine import caught_up, newer
from flux_lora_cli.folder.files import explained
from flux_lora_cli.folder.images import ImageStore, forget_file
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger, Row
from flux_lora_cli.folder.locks import LockFile
from flux_lora_cli.folder.manifest import MANIFEST_NAME, Manifest, Source, read_manifest, scan, write_manifest
from flux_lora_cli.folder.names import FINGERPRINT_DIGITS, IMAGE_ENDINGS
from flux_lora_cli.folder.reading import EntryError, loads, record_of
from flux_lora_cli.folder.records import JobRecord, iso
from flux_lora_cli.text import counted, printable

LOCK_NAME, WRITE_LOCK_NAME = ".flux-lora.lock", ".flux-lora-write.lock"
#: Seconds that a batch tries before it calls the folder busy; it has to say so within 2 s.
BATCH_PATIENCE = 0.5
#: Seconds that a write of the manifest waits for another: one of 100,000 jobs takes about two.
WRITE_PATIENCE = 30.0
_MAX_FILES = 200_000  # that are looked at for images without a ledger

_HEX = re.compile(rf"(?<![0-9a-f])[0-9a-f]{{{FINGERPRINT_DIGITS}}}(?![0-9a-f])")
_DEFAULT_NAME = re.compile(rf".*-[0-9a-f]{{{FINGERPRINT_DIGITS}}}-\d+(?:-\d+)?\.(?:{'|'.join(IMAGE_ENDINGS)})")


class OutputFolder:
    """A folder that this process reads and writes; a context manager. ``open`` makes one.

    Attributes:
        read_only: nothing can be written, which a finished folder does not need.
        records: all jobs of the folder, by key.
        rebuilt: jobs that the manifest showed further on than the ledger; they were taken over from it.
    """

    @classmethod
    def open(
        cls,
        path: Path,
        service: str,
        *,
        exclusive: bool,
        sources: Sequence[tuple[str, str]] = (),
        fingerprints: Collection[str] = (),
        confirm_orphans: Callable[[list[str]], bool] = lambda names: False,
    ) -> OutputFolder:
        """Open a folder, which is made where it is missing.

        Args:
            service: origin of the base URL, or ``sandbox``, that the folder has to belong to.
            exclusive: as the one batch in it; otherwise (``wait``) beside one, locking for each write only.
            sources: (path, SHA-256) of the preset files of this run; those of earlier runs are kept.
            fingerprints: of this run's jobs, by which images without a ledger are recognised; by their names' form
                where there are none.
            confirm_orphans: asked about the images of a folder without ledger and manifest; True goes on.

        Raises:
            FolderBusy: another batch is using it.
            FolderError and its leaves: it cannot be used.
        """
        path = _absolute(path)
        read_only = path.is_dir() and _cannot_be_written(path)
        images = ImageStore(path, read_only=read_only)
        with ExitStack() as undo:
            if not read_only:
                images.check_writable()
                if exclusive:
                    _lock(undo, path)
            head, entries = _shown(path)
            if head is not None and head.service not in ("", service):
                raise _of_another_service(path, head.service, service)
            if head is None and not os.path.lexists(path / LEDGER_NAME):
                _check_orphans(images, fingerprints, confirm_orphans)
            ledger = _opened(path, service, head, read_only)
            undo.callback(ledger.close)
            _check_identity(path, head, ledger)
            if exclusive and not read_only:
                ledger.take_hold()
            folder = cls(path, ledger, images)
            if head is not None:
                folder._take_over(entries)
            if not read_only:
                folder._add_sources(head.sources if head is not None else [], sources)
            if exclusive and not read_only:
                temps = (output.temp for record in folder.records.values() for output in record.outputs)
                images.sweep(temp for temp in temps if temp is not None)
            folder._undo = undo.pop_all()
        return folder

    def __init__(self, path: Path, ledger: Ledger, images: ImageStore) -> None:
        self.path = path
        self.read_only = images.read_only
        self.ledger = ledger
        self.images = images
        self.rebuilt: list[JobRecord] = []
        self.records = {record.key: record for record in ledger.records()}
        self._last_order = max((record.order for record in self.records.values()), default=-1)
        self._undo = ExitStack()

    def next_order(self) -> int:
        """A manifest position after all that this process has given out or read."""
        self._last_order += 1
        return self._last_order

    def row(self, record: JobRecord) -> Row:
        """The record as it is now, for ``save``; touches no file."""
        return self.ledger.row(record)

    def save(self, rows: Iterable[Row]) -> None:
        """Make rows durable; blocking.

        Raises:
            FolderBusy: another batch took the folder over.
            FolderMoved: it is not where it was.
            DiskFull, FolderError: it cannot be written.
        """
        if self.read_only:
            raise FolderError(
                f"{printable(str(self.path))} cannot be written, and there is something to save",
                "Change its permissions, or choose another folder with -o.",
            )
        self.ledger.save(rows)

    def write_manifest(self) -> None:
        """Replace the manifest by what the ledger holds now, those jobs too that others added; blocking.

        Nothing is done where the folder is read-only. Raises FolderMoved, DiskFull, FolderError.
        """
        if self.read_only:
            return
        self.ledger.check_place()
        now = iso(datetime.now(UTC))
        service = self.ledger.service
        head = Manifest(service, service == "sandbox", self.ledger.created_at, now, __version__, self._sources())
        try:
            with LockFile(self.path / WRITE_LOCK_NAME, WRITE_PATIENCE), explained(self.path / MANIFEST_NAME):
                write_manifest(self.path, head, self.ledger.entries())
        except FolderBusy as error:
            raise FolderError(error.message, error.hint) from error

    def close(self) -> None:
        """Close the ledger and let go of the folder, leaving no side file. Never raises."""
        self._undo.close()

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- ledger and manifest vouch for each other ----

    def _take_over(self, entries: Iterable[object]) -> None:
        """What the manifest shows as bought and the ledger does not, is bought: an older copy was put back."""
        known = {hash(text) for _, text in self.ledger.entries()}
        for number, value in enumerate(entries):
            if isinstance(value, str) and hash(value) in known:
                continue
            try:
                shown = value if isinstance(value, JobRecord) else record_of(_decoded(value), f"jobs[{number}]", number)
            except EntryError:
                continue  # the ledger knows of this job
            mine = self.records.get(shown.key)
            if mine is None or newer(shown, mine):
                self._confirm_files(shown)
                self.records[shown.key] = shown if mine is None else caught_up(mine, shown)
                self.records[shown.key].order = self.next_order() if mine is None else mine.order
                self.rebuilt.append(self.records[shown.key])
        if self.rebuilt and not self.read_only:
            self.save(map(self.row, self.rebuilt))

    def _confirm_files(self, record: JobRecord) -> None:
        """A file that a manifest calls saved counts only where every byte of it matches."""
        for output in record.outputs:
            if output.file is None:
                continue
            found = self.images.stat(output.file)
            if found is not None and self.images.sha256(output.file) == output.sha256:
                output.bytes, output.mtime_ns = found
            else:
                forget_file(output)

    def _sources(self) -> list[Source]:
        try:
            pairs = json.loads(self.ledger.meta("sources") or "[]")
            return [Source(str(path), str(digest)) for path, digest in pairs]
        except (ValueError, TypeError):
            return []

    def _add_sources(self, shown: Sequence[Source], ours: Sequence[tuple[str, str]]) -> None:
        known = {source.path: source.sha256 for source in self._sources()}
        merged = {source.path: source.sha256 for source in shown} | known | dict(ours)
        if merged != known:
            self.ledger.set_meta("sources", json.dumps(list(merged.items())))


def read_records(path: Path, service: str) -> dict[str, JobRecord]:
    """What a folder knows, by key, without a lock and without changing anything in it (for a dry run).

    Raises:
        FolderError and its leaves: it cannot be used.
    """
    path = _absolute(path)
    head, entries = _shown(path)
    if head is not None and head.service not in ("", service):
        raise _of_another_service(path, head.service, service)
    try:
        with Ledger.open(path / LEDGER_NAME, service, create=False, read_only=True) as ledger:
            _check_identity(path, head, ledger)
            folder = OutputFolder(path, ledger, ImageStore(path, read_only=True))
            folder._take_over(entries)
            return folder.records
    except NotFoundError:
        return {record.key: record for record in read_manifest(path).records} if head is not None else {}


def _check_identity(path: Path, head: Manifest | None, ledger: Ledger) -> None:
    if head is not None and head.created_at not in ("", ledger.created_at):
        raise OtherFolder(
            f"the ledger and the manifest of {printable(str(path))} belong to different folders",
            f"Put back {LEDGER_NAME} or {MANIFEST_NAME}, whichever is foreign, or choose another with -o.",
        )


def _of_another_service(path: Path, owner: str, wanted: str) -> OtherService:
    return OtherService(
        f"{printable(str(path))} belongs to {printable(owner)}, and this run is for {wanted}",
        "Choose another folder with -o: the jobs of a folder all come from one service.",
    )


def _cannot_be_written(path: Path) -> bool:
    """Whether a folder with a ledger or a manifest cannot be written (without them it is of no use)."""
    has_records = os.path.lexists(path / LEDGER_NAME) or os.path.lexists(path / MANIFEST_NAME)
    mounted_so = False
    with suppress(OSError, AttributeError):
        mounted_so = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return has_records and (mounted_so or not os.access(path, os.W_OK | os.X_OK))


def _lock(undo: ExitStack, path: Path) -> None:
    try:
        undo.enter_context(LockFile(path / LOCK_NAME, BATCH_PATIENCE))
    except FolderBusy as busy:
        holder = None
        with suppress(FolderError, NotFoundError), Ledger.open(path / LEDGER_NAME, None, read_only=True) as ledger:
            holder = ledger.holder
        raise holder.busy(path) if holder is not None else busy from None


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:
        raise FolderError("the working directory was deleted", "Change to another, or name a folder with -o.") from None


def _decoded(value: object) -> object:
    return loads(value) if isinstance(value, str) else value


def _shown(path: Path) -> tuple[Manifest | None, Iterable[object]]:
    """The manifest, if there is one, and its jobs.

    With a ledger beside it, of a damaged one what can be read; without, every part of it has to be sound.
    """
    try:
        if not os.path.lexists(path / LEDGER_NAME):
            manifest = read_manifest(path)
            return manifest, manifest.records
        return scan(path / MANIFEST_NAME, tolerant=True)
    except NotFoundError:
        return None, ()
    except ManifestDamaged:
        if not (path / MANIFEST_NAME).is_file() or not os.path.lexists(path / LEDGER_NAME):
            raise
        return None, ()


def _opened(path: Path, service: str, head: Manifest | None, read_only: bool) -> Ledger:
    if not read_only:
        return Ledger.open(path / LEDGER_NAME, service, created_at=head.created_at if head is not None else None)
    try:
        return Ledger.open(path / LEDGER_NAME, service, read_only=True)
    except NotFoundError:
        raise FolderError(
            f"{printable(str(path))} cannot be written, and has no ledger",
            "Change its permissions, or choose another folder with -o.",
        ) from None


def _check_orphans(images: ImageStore, fingerprints: Collection[str], confirm: Callable[[list[str]], bool]) -> None:
    """A ledger and manifest that were deleted leave the images: to begin anew would be to pay for them again."""
    ours = {fingerprint[:FINGERPRINT_DIGITS] for fingerprint in fingerprints}

    def is_ours(name: str) -> bool:
        if not ours:
            return _DEFAULT_NAME.fullmatch(name.rpartition("/")[2]) is not None
        return name.rpartition(".")[2].lower() in IMAGE_ENDINGS and not ours.isdisjoint(_HEX.findall(name))

    names = [name for name in islice(images.all_files(), _MAX_FILES) if is_ours(name)]
    if names and not confirm(names):
        raise OtherFolder(
            f"{printable(str(images.folder))} holds {counted(len(names), 'image')} of such jobs, but neither ledger nor"
            f" manifest: {printable(names[0])}",
            f"Restore {LEDGER_NAME} or {MANIFEST_NAME} from a backup; to buy anew, choose another folder with -o.",
        )
