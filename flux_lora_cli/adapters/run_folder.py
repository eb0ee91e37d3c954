"""An output folder, opened for a batch: locked, checked, its records in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from flux_lora_cli._version import __version__
from flux_lora_cli.adapters.folder_lock import FolderLock, write_lock
from flux_lora_cli.adapters.image_store import Fetch, ImageStore
from flux_lora_cli.adapters.ledger import LEDGER_NAME, Ledger
from flux_lora_cli.adapters.manifest_keeper import ManifestKeeper
from flux_lora_cli.adapters.rebuild import check_owner, rebuild
from flux_lora_cli.domain.manifest import Head, Source
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.workflow.context import iso
from flux_lora_cli.workflow.ports import Clock

#: Seconds after which a temporary file was left behind by a kill: downloads take 10 minutes at most.
_STALE = 3600.0


class RunFolder:
    """A folder that this process may write: the only batch in it.

    Args:
        service: origin of the base URL, or ``sandbox``.
        sources: (path, SHA-256) of the preset files of this run; those of earlier runs are kept.
        fetch: see ``ImageStore``.
        check: raises where this run must not use the folder; asked before anything in it is changed.

    Raises:
        FolderBusy: another batch is using it.
        FolderError and its leaves: it cannot be used.
        What ``check`` raises.
    """

    def __init__(
        self,
        folder: Path,
        service: str,
        clock: Clock,
        *,
        fetch: Fetch | None = None,
        sources: Sequence[tuple[str, str]] = (),
        exclusive: bool = True,
        check: Callable[[Ledger], None] = lambda ledger: None,
    ) -> None:
        self.folder = folder
        self.store = ImageStore(folder, fetch)
        self._last_order: int | None = None
        with ExitStack() as undo:
            self.store.check_writable()
            if exclusive:
                undo.enter_context(FolderLock(folder))
            if not (folder / LEDGER_NAME).exists():
                check_owner(folder, service)  # before a new ledger says that the folder is ours
            self.ledger = Ledger.open(folder, service)
            undo.callback(self.ledger.close)
            check(self.ledger)
            self._rebuild(folder, service)
            self.records: dict[str, JobRecord] = {record.key: record for record in self.ledger.jobs()}
            self.keeper = self._keeper(service, clock, sources)
            if exclusive:
                self.store.sweep(clock.now().timestamp() - _STALE, self._temps())
            self._undo = undo.pop_all()

    def _rebuild(self, folder: Path, service: str) -> None:
        """Somebody deleted the ledger: what the manifest shows as done is never paid for again.

        An empty ledger is no better than none: a kill may have come before it was filled.
        """
        if not self._empty():
            return
        records = rebuild(folder, service)
        with write_lock(folder):  # another command may be at the same, and already further
            if records and self._empty():
                self.ledger.save(records)

    def _empty(self) -> bool:
        return next(self.ledger.jobs(), None) is None

    def _keeper(self, service: str, clock: Clock, sources: Sequence[tuple[str, str]]) -> ManifestKeeper:
        def timestamp() -> str:
            return iso(clock.now())

        created = self.ledger.meta("created_at")
        if created is None:
            created = timestamp()
            self.ledger.set_meta("created_at", created)
        known = json.loads(self.ledger.meta("sources") or "[]")
        merged = dict(known) | dict(sources)
        changed = list(merged.items()) != [tuple(pair) for pair in known]
        if changed:
            self.ledger.set_meta("sources", json.dumps(list(merged.items())))
        head = Head(
            service,
            service == "sandbox",
            __version__,
            created,
            created,
            [Source(path, digest) for path, digest in merged.items()],
        )
        keeper = ManifestKeeper(self.folder, head, self.ledger, self.records, clock.monotonic, timestamp)
        if changed:
            keeper.keep([])
        return keeper

    def next_order(self) -> int:
        """A manifest position after all that this process has given out or read."""
        if self._last_order is None:
            self._last_order = max((record.order for record in self.records.values()), default=-1)
        self._last_order += 1
        return self._last_order

    def taken_names(self, case_key: Callable[[str], str]) -> set[str]:
        """Names that belong to images of this folder."""
        return {
            case_key(name)
            for record in self.records.values()
            for output in record.awake().outputs
            for name in (output.file, output.writing)
            if name is not None
        }

    def _temps(self) -> set[str]:
        """Whole images under their temporary names, of which a kill leaves some. Records at rest have none."""
        awake = (record for record in self.records.values() if record.resting is None)
        return {output.temp for record in awake for output in record.outputs if output.temp}

    def close(self) -> None:
        """Remove what was left half done, close the ledger and give the lock back."""
        self.store.abandon(self._temps())
        self._undo.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
